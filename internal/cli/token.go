package cli

import (
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/ops"
)

func (p *program) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "API tokens: what programs log in with", Args: func(_ *cobra.Command, args []string) error { return subVerb("token", args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.tokenCreateCmd(), p.tokenListCmd(), p.tokenRevokeCmd())
	return cmd
}

func subVerb(verb string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return ops.Errorf(ops.Invalid, "ops %s does not know what to do with %q: see `ops %s --help`", verb, args[0], verb)
}

func (p *program) tokenCreateCmd() *cobra.Command {
	var role, service string
	life := config.Duration(90 * 24 * time.Hour)
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token; its secret is printed once", Args: takes("NAME"),
		Long: `Create makes a token that can do what the role says, on one project or service if
asked, and never more than you can. The secret is printed on standard output and
kept nowhere. Programs give it as OPS_TOKEN, in a file named with --token-file, or
as "Authorization: Bearer …".`,
		Example: `  ops token create ci --role operator --project color-game --expires 30d`,
		RunE: func(cmd *cobra.Command, args []string) error {
			scope := p.projectName()
			if service != "" {
				if scope == "" {
					scope = "*"
				}
				scope += "/" + service
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			defer c.close()
			res, err := c.access.CreateToken(cmd.Context(), connect.NewRequest(&apiv1.CreateTokenRequest{
				Name: args[0], Grants: []*apiv1.RoleGrant{{Role: role, Scope: scope}}, Life: durationpb.New(time.Duration(life)),
			}))
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(struct {
					ID      string `json:"id"`
					Secret  string `json:"secret"`
					Expires string `json:"expires"`
				}{res.Msg.GetToken().GetId(), res.Msg.GetSecret(), res.Msg.GetToken().GetExpires().AsTime().Format(time.RFC3339)})
			}
			p.note("token %s can do what %s can until %s; this is the only time it is shown:", res.Msg.GetToken().GetId(), grantsText(res.Msg.GetToken().GetGrants()), res.Msg.GetToken().GetExpires().AsTime().Format(time.DateOnly))
			_, err = fmt.Fprintln(p.Stdout, res.Msg.GetSecret())
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "viewer", "`role`: viewer, operator, controller, auditor or admin")
	f.StringVar(&service, "service", "", "only this `service`; * and ? are wildcards")
	f.Var(&life, "expires", "how long it lasts, such as 12h or 30d; at most 366d")
	return cmd
}

func grantsText(grants []*apiv1.RoleGrant) string {
	var out []string
	for _, g := range grants {
		text := g.GetRole()
		if g.GetScope() != "*" && g.GetScope() != "" {
			text += "@" + g.GetScope()
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func (p *program) tokenListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List your tokens, or all of them for those who administer", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			defer c.close()
			res, err := c.access.ListTokens(cmd.Context(), connect.NewRequest(&apiv1.ListTokensRequest{}))
			if err != nil {
				return err
			}
			type row struct {
				ID      string `json:"id"`
				Name    string `json:"name"`
				Owner   string `json:"owner,omitempty"`
				Roles   string `json:"roles"`
				Expires string `json:"expires"`
				Used    string `json:"used,omitempty"`
				State   string `json:"state"`
			}
			rows := []row{}
			for _, t := range res.Msg.GetTokens() {
				r := row{ID: t.GetId(), Name: t.GetName(), Owner: t.GetOwner(), Roles: grantsText(t.GetGrants()), Expires: t.GetExpires().AsTime().Format(time.RFC3339), State: "valid"}
				if t.GetUsed() != nil {
					r.Used = t.GetUsed().AsTime().Format(time.RFC3339)
				}
				switch {
				case t.GetRevoked() != nil:
					r.State = "revoked"
				case p.Now().After(t.GetExpires().AsTime()):
					r.State = "expired"
				}
				rows = append(rows, r)
			}
			if p.json {
				return p.printJSON(rows)
			}
			var cells [][]string
			for _, r := range rows {
				cells = append(cells, []string{r.ID, r.Name, r.Owner, r.Roles, r.State, r.Expires, r.Used})
			}
			return table(p.Stdout, []string{"ID", "NAME", "OWNER", "ROLES", "STATE", "EXPIRES", "USED"}, cells)
		},
	}
}

func (p *program) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a token at once", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.client()
			if err != nil {
				return err
			}
			defer c.close()
			_, err = c.access.RevokeToken(cmd.Context(), connect.NewRequest(&apiv1.RevokeTokenRequest{Id: args[0]}))
			return err
		},
	}
}
