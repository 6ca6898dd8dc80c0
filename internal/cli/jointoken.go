package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

func (p *program) joinTokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "join-token", Short: "Join tokens: what processes join with", Args: func(_ *cobra.Command, args []string) error { return subVerb("join-token", args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.joinTokenCreateCmd(), p.joinTokenListCmd(), p.joinTokenRevokeCmd())
	return cmd
}

func (p *program) joinTokenCreateCmd() *cobra.Command {
	var service string
	var networks []string
	uses := 1
	life := config.Duration(30 * time.Minute)
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token and show what a service needs to join with it", Args: atMost(0),
		Long: `Create makes a token with which processes of a service get a certificate for
themselves, and prints what they need in their environment. The secret is printed
once and kept nowhere.

One process may join within half an hour unless told otherwise. For a deployment,
whose processes come and go, use --uses 0 and --expires never, and say from which
networks.`,
		Example: `  ops join-token create --project color-game --service user-service
  ops join-token create --project color-game --service 'user-*' --cidr 10.0.0.0/8 --uses 0 --expires never`,
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			if p.projectName() == "" || service == "" {
				return ops.Errorf(ops.Invalid, "--project and --service say for whom the token is: give both; * stands for all")
			}
			req := &apiv1.CreateJoinTokenRequest{ProjectPattern: p.projectName(), ServicePattern: service, Networks: networks, Life: durationpb.New(time.Duration(life)), Uses: int32(uses)}
			switch {
			case uses < 0 || uses > 1<<30:
				return ops.Errorf(ops.Invalid, "--uses %d is no number of processes: give one, or 0 for as many as come", uses)
			case uses == 0:
				req.Uses = -1
			}
			if life <= 0 {
				req.Life = durationpb.New(-1)
			}
			res, err := c.join.CreateJoinToken(ctx, connect.NewRequest(req))
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(struct {
					joinTokenRow
					Secret string `json:"secret"`
					Pin    string `json:"pin"`
				}{joinTokenRowOf(res.Msg.GetToken(), p.Now()), res.Msg.GetSecret(), res.Msg.GetPin()})
			}
			return p.printJoinToken(c.base, res.Msg)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&service, "service", "", "`service` that may join; * and ? are wildcards")
	f.StringArrayVar(&networks, "cidr", nil, "`network` or address from which it may be used (repeatable)")
	f.IntVar(&uses, "uses", uses, "how many processes may join with it; 0 = as many as come")
	f.Var(neverDuration{&life}, "expires", "how long processes may join with it, such as 12h or 30d, or never")
	return cmd
}

// neverDuration also reads "never", as 0.
type neverDuration struct{ *config.Duration }

// Set implements pflag.Value.
func (d neverDuration) Set(s string) error {
	if s == "never" {
		*d.Duration = 0
		return nil
	}
	return d.Duration.Set(s)
}

// printJoinToken shows a service's environment, to be copied as it is.
func (p *program) printJoinToken(base string, m *apiv1.CreateJoinTokenResponse) error {
	t := m.GetToken()
	until := "for ever"
	if t.GetExpires() != nil {
		until = "until " + t.GetExpires().AsTime().Local().Format("2006-01-02 15:04")
	}
	who := "as many processes as come"
	if t.GetMaxUses() > 0 {
		who = plural(int(t.GetMaxUses()), "process", "processes")
	}
	p.note("join token %s lets %s of %s/%s join, %s; this is the only time that it is shown", t.GetId(), who, t.GetProjectPattern(), t.GetServicePattern(), until)
	name := func(key, pattern, instead string) string {
		if strings.ContainsAny(pattern, "*?") {
			return "# " + key + "=" + instead + " that fits " + pattern
		}
		return key + "=" + pattern
	}
	_, err := fmt.Fprintf(p.Stdout, `# The token, in a file that only the service may read:
umask 077; echo %s > ops-join.token
# The service's environment:
OPS_CENTER=%s
OPS_CA_PIN=%s
OPS_TOKEN_FILE=ops-join.token
%s
%s
`, m.GetSecret(), base, m.GetPin(), name("OPS_PROJECT", t.GetProjectPattern(), "a project"), name("OPS_SERVICE", t.GetServicePattern(), "a service"))
	return err
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// joinTokenRow is a token as --json shows it.
type joinTokenRow struct {
	ID       string   `json:"id"`
	Project  string   `json:"project"`
	Service  string   `json:"service"`
	Networks []string `json:"networks,omitempty"`
	Created  string   `json:"created"`
	By       string   `json:"by"`
	Expires  string   `json:"expires,omitempty"`
	Uses     int32    `json:"uses"`
	MaxUses  int32    `json:"max_uses,omitempty"`
	Used     string   `json:"used,omitempty"`
	From     string   `json:"from,omitempty"`
	State    string   `json:"state"`
}

func joinTokenRowOf(t *apiv1.JoinToken, now time.Time) joinTokenRow {
	at := func(x *timestamppb.Timestamp) string {
		if x == nil {
			return ""
		}
		return x.AsTime().Format(time.RFC3339)
	}
	r := joinTokenRow{
		ID: t.GetId(), Project: t.GetProjectPattern(), Service: t.GetServicePattern(), Networks: t.GetNetworks(), Created: at(t.GetCreated()), By: t.GetCreatedBy(),
		Expires: at(t.GetExpires()), Uses: t.GetUses(), MaxUses: t.GetMaxUses(), Used: at(t.GetLastUsed()), From: t.GetLastFrom(), State: "valid",
	}
	switch {
	case t.GetRevoked() != nil:
		r.State = "revoked"
	case t.GetMaxUses() > 0 && t.GetUses() >= t.GetMaxUses():
		r.State = "used up"
	case t.GetExpires() != nil && now.After(t.GetExpires().AsTime()):
		r.State = "expired"
	}
	return r
}

func (p *program) joinTokenListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List join tokens, the newest first", Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			res, err := c.join.ListJoinTokens(ctx, connect.NewRequest(&apiv1.ListJoinTokensRequest{}))
			if err != nil {
				return err
			}
			if why := res.Msg.GetNoneBecause(); why != "" {
				return ops.Errorf(ops.Conflict, "%s", why)
			}
			rows := []joinTokenRow{}
			var cells [][]string
			for _, t := range res.Msg.GetTokens() {
				r := joinTokenRowOf(t, p.Now())
				rows = append(rows, r)
				uses := fmt.Sprint(r.Uses)
				if r.MaxUses > 0 {
					uses += fmt.Sprintf(" of %d", r.MaxUses)
				}
				cells = append(cells, []string{r.ID, r.Project + "/" + r.Service, cmp.Or(strings.Join(r.Networks, " "), "everywhere"), cmp.Or(r.Expires, "never"), uses, cmp.Or(r.Used, "never"), r.State})
			}
			if p.json {
				return p.printJSON(map[string]any{"join_tokens": rows})
			}
			if len(cells) == 0 {
				p.note("there are no join tokens: make one with `ops join-token create`")
				return nil
			}
			return table(p.Stdout, []string{"TOKEN", "FOR", "FROM", "EXPIRES", "USES", "LAST USED", "STATE"}, cells)
		}),
	}
}

func (p *program) joinTokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN", Short: "End a token, the certificates it bought and their connections", Args: takes("TOKEN"),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			if _, err := c.join.RevokeJoinToken(ctx, connect.NewRequest(&apiv1.RevokeJoinTokenRequest{Id: args[0]})); err != nil {
				return err
			}
			p.note("join token %s is over, and so are the certificates that it bought", args[0])
			return nil
		}),
	}
}
