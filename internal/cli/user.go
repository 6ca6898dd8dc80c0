package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opscenter/opscenter/internal/ops"
)

// Accounts are the users in a centre's data directory. Grants are written as
// "role" or "role@scope". By names who does it, for the record. A temporary password
// is changed by its user when they log in next.
type Accounts interface {
	Add(ctx context.Context, by, name, password string, grants []string, temporary bool) error
	List(ctx context.Context) ([]Account, error)
	SetPassword(ctx context.Context, by, name, password string, temporary bool) error
	Disable(ctx context.Context, by, name string, disabled bool) error
	Remove(ctx context.Context, by, name string) error
	Grant(ctx context.Context, by, holder, grant string) error
	Revoke(ctx context.Context, by, holder, grant string) error
	Close() error
}

// Account is a user, or another holder of roles.
type Account struct {
	Holder    string    `json:"holder"`
	Roles     []string  `json:"roles"`
	Disabled  bool      `json:"disabled,omitempty"`
	LastLogin time.Time `json:"last_login,omitzero"`
}

const userLong = `User changes who may log in, in the data directory of a centre on this machine,
whether it runs or not. Whoever may write there may do this; over the network it
is done on the account page by those who administer.

A role is viewer, operator, controller, auditor or admin, on everything or, as in
operator@color-game or viewer@color-game/user-*, on a project or a service.`

func (p *program) userCmd() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "user", Short: "Who may log in to the centre of this machine", Long: userLong,
		Args: func(_ *cobra.Command, args []string) error { return subVerb("user", args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&data, "data", DefaultDataDir, "the centre's data `directory`")
	// with opens the accounts for one change.
	with := func(fn func(ctx context.Context, a Accounts, args []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			if p.Accounts == nil {
				return ops.Errorf(ops.Invalid, "this ops is a client only: run it where the full program is")
			}
			a, err := p.Accounts(cmd.Context(), data)
			if err != nil {
				return err
			}
			err = fn(cmd.Context(), a, args)
			if cerr := a.Close(); err == nil {
				err = cerr
			}
			return err
		}
	}
	cmd.AddCommand(p.userAddCmd(with), p.userListCmd(with), p.userPasswordCmd(with))
	for _, c := range []struct {
		use, short string
		args       []string
		fn         func(ctx context.Context, a Accounts, args []string) error
	}{
		{"grant NAME ROLE", "Give a role to a user, or to group:NAME or oidc:NAME", []string{"NAME", "ROLE"}, func(ctx context.Context, a Accounts, args []string) error {
			return a.Grant(ctx, operator(), holder(args[0]), args[1])
		}},
		{"revoke NAME ROLE", "Take a role back", []string{"NAME", "ROLE"}, func(ctx context.Context, a Accounts, args []string) error {
			return a.Revoke(ctx, operator(), holder(args[0]), args[1])
		}},
		{"disable NAME", "Keep a user out, and end their sessions", []string{"NAME"}, func(ctx context.Context, a Accounts, args []string) error {
			return a.Disable(ctx, operator(), args[0], true)
		}},
		{"enable NAME", "Let a user in again", []string{"NAME"}, func(ctx context.Context, a Accounts, args []string) error {
			return a.Disable(ctx, operator(), args[0], false)
		}},
		{"remove NAME", "Delete a user with sessions, tokens and roles", []string{"NAME"}, func(ctx context.Context, a Accounts, args []string) error {
			return a.Remove(ctx, operator(), args[0])
		}},
	} {
		cmd.AddCommand(&cobra.Command{Use: c.use, Short: c.short, Args: takes(c.args...), RunE: with(c.fn)})
	}
	return cmd
}

type withAccounts func(func(context.Context, Accounts, []string) error) func(*cobra.Command, []string) error

func (p *program) userAddCmd(with withAccounts) *cobra.Command {
	var admin, generate bool
	var roles []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a user; asks for the password", Args: takes("NAME"),
		Example: `  ops user add ann --admin
  ops user add bob --role operator@color-game --role viewer
  ops user add ci-bot --role viewer --generate`,
		RunE: with(func(ctx context.Context, a Accounts, args []string) error {
			if admin {
				roles = append(roles, "admin")
			}
			if len(roles) == 0 {
				return ops.Errorf(ops.Invalid, "what may %s do? give --admin, or --role viewer (operator, controller, auditor), if need be on a project: --role operator@color-game", args[0])
			}
			password, err := p.newPassword(generate)
			if err != nil {
				return err
			}
			if err := a.Add(ctx, operator(), args[0], password, roles, generate); err != nil {
				return err
			}
			p.note("user %s can log in", args[0])
			return nil
		}),
	}
	cmd.Flags().BoolVar(&admin, "admin", false, "may do everything")
	cmd.Flags().StringArrayVar(&roles, "role", nil, "`role`, or role@project, or role@project/service (repeatable)")
	cmd.Flags().BoolVar(&generate, "generate", false, "make a password and print it, instead of asking; it is changed at the next login")
	return cmd
}

func (p *program) userPasswordCmd(with withAccounts) *cobra.Command {
	var generate bool
	cmd := &cobra.Command{
		Use: "password NAME", Short: "Give a user a new password, and end their sessions", Args: takes("NAME"),
		RunE: with(func(ctx context.Context, a Accounts, args []string) error {
			password, err := p.newPassword(generate)
			if err != nil {
				return err
			}
			return a.SetPassword(ctx, operator(), args[0], password, generate)
		}),
	}
	cmd.Flags().BoolVar(&generate, "generate", false, "make a password and print it, instead of asking; it is changed at the next login")
	return cmd
}

// newPassword asks twice at a terminal, and reads one line elsewhere.
func (p *program) newPassword(generate bool) (string, error) {
	if generate {
		password := rand.Text()
		_, err := fmt.Fprintln(p.Stdout, password)
		return password, err
	}
	in := bufio.NewReader(p.Stdin)
	first, err := p.readPassword(in, "New password: ")
	if err != nil || !isTerminal(p.Stdin) {
		return first, err
	}
	again, err := p.readPassword(in, "Once more: ")
	if err == nil && again != first {
		err = ops.Errorf(ops.Invalid, "the two passwords differ: begin again")
	}
	return first, err
}

func (p *program) userListCmd(with withAccounts) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List users and who holds which role", Args: atMost(0),
		RunE: with(func(ctx context.Context, a Accounts, _ []string) error {
			all, err := a.List(ctx)
			if err != nil {
				return err
			}
			if p.json {
				if all == nil {
					all = []Account{}
				}
				return p.printJSON(all)
			}
			var rows [][]string
			for _, x := range all {
				state, last := "", "never"
				if x.Disabled {
					state = "disabled"
				}
				if !x.LastLogin.IsZero() {
					last = x.LastLogin.Format(time.RFC3339)
				}
				if !strings.HasPrefix(x.Holder, "user:") {
					last = ""
				}
				rows = append(rows, []string{x.Holder, strings.Join(x.Roles, ", "), state, last})
			}
			return table(p.Stdout, []string{"WHO", "ROLES", "STATE", "LAST LOGIN"}, rows)
		}),
	}
}

// holder is a user unless it says otherwise.
func holder(name string) string {
	if strings.Contains(name, ":") {
		return name
	}
	return "user:" + name
}

// operator is who types, for the record.
func operator() string {
	name := "uid:" + fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return "local:" + name + " on the data directory"
}
