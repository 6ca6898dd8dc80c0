package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/opscenter/opscenter/internal/ops"
)

// AuthorityChange is what becomes of a centre's certificate authority.
type AuthorityChange string

// The changes.
const (
	AuthorityAsItIs    AuthorityChange = ""
	AuthorityRotate    AuthorityChange = "rotate"
	AuthorityFinish    AuthorityChange = "finish"
	AuthorityFinishNow AuthorityChange = "finish-now"
)

// Authority is a centre's certificate authority.
type Authority struct {
	Pin  string    `json:"pin"`
	Ends time.Time `json:"ends"`
	// NextPin is that of the authority that replaces it, made at Since; empty = none.
	NextPin string    `json:"next_pin,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

const caLong = `Ca replaces the certificate authority of a centre on this machine (--tls auto),
which agents and ops login know by its pin, without cutting anybody off:

  ops ca rotate     makes the next one; then start the centre again
                    who has either pin is let in; agents learn the new one with
                    their next certificate, within a day
                    give services, people and browsers the new pin
  ops ca finish     ends the time of the old one; then start the centre again`

func (p *program) caCmd() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "ca", Short: "The certificate authority of the centre of this machine", Long: caLong,
		Args: func(_ *cobra.Command, args []string) error { return subVerb("ca", args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&data, "data", DefaultDataDir, "the centre's data `directory`")
	change := func(cmd *cobra.Command, what AuthorityChange) (a Authority, err error) {
		if p.Authority == nil {
			return a, ops.Errorf(ops.Invalid, "this ops is a client only: run it where the full program is")
		}
		if a, err = p.Authority(cmd.Context(), data, operator(), what); err != nil {
			return a, err
		}
		return a, p.printAuthority(a)
	}
	now := false
	finish := &cobra.Command{
		Use: "finish", Short: "Make the next authority the only one", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			what := AuthorityFinish
			if now {
				what = AuthorityFinishNow
			}
			_, err := change(cmd, what)
			if err == nil {
				p.note("start the centre again: from then on the old pin lets nobody in")
			}
			return err
		},
	}
	finish.Flags().BoolVar(&now, "now", false, "also before agents had a day to learn the new pin: the old key was stolen")
	cmd.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Show the pins", Args: atMost(0),
			RunE: func(cmd *cobra.Command, _ []string) error { _, err := change(cmd, AuthorityAsItIs); return err },
		},
		&cobra.Command{
			Use: "rotate", Short: "Make the next authority, beside the present one", Args: atMost(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				a, err := change(cmd, AuthorityRotate)
				if err == nil {
					p.note("start the centre again: it is then known by both pins. Give services OPS_CA_PIN=%s, then end it with `ops ca finish`, from tomorrow on", a.NextPin)
				}
				return err
			},
		},
		finish,
	)
	return cmd
}

func (p *program) printAuthority(a Authority) error {
	if p.json {
		return p.printJSON(a)
	}
	_, err := fmt.Fprintf(p.Stdout, "pin       %s\nends      %s\n", a.Pin, a.Ends.UTC().Format(time.RFC3339))
	if err == nil && a.NextPin != "" {
		_, err = fmt.Fprintf(p.Stdout, "next pin  %s\nsince     %s\n", a.NextPin, a.Since.UTC().Format(time.RFC3339))
	}
	return err
}
