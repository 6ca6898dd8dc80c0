package cli

import (
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
)

func (p *program) sourcesCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "sources",
		Short: "List where instances are learned from, what is stale, and who is listed but away",
		Example: `  ops sources
  ops sources --json | jq -r '.absences[] | "\(.service) \(.address) since \(.since): \(.problem)"'`,
		Args: atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			res, err := c.discovery.ListSources(ctx, connect.NewRequest(&apiv1.ListSourcesRequest{}))
			if err != nil {
				return err
			}
			sources, absences := res.Msg.GetSources(), slices.DeleteFunc(res.Msg.GetAbsences(), func(a *apiv1.Absence) bool { return !p.inProject(a.GetProject()) })
			shortages := slices.DeleteFunc(res.Msg.GetShortages(), func(s *apiv1.Shortage) bool { return !p.inProject(s.GetProject()) })
			if p.json {
				return p.printJSON(map[string]any{"sources": messages(sources), "absences": messages(absences), "shortages": messages(shortages)})
			}
			if len(shortages) > 0 {
				var cells [][]string
				for _, s := range shortages {
					cells = append(cells, []string{s.GetProject(), s.GetService(), fmt.Sprintf("%d of %d", s.GetUp(), s.GetExpected()), ago(p.Now(), s.GetSince()), saysText(p, s)})
				}
				if err := table(p.Stdout, []string{"PROJECT", "SHORT", "UP", "FOR", "EXPECTED BY"}, cells); err != nil {
					return err
				}
				fmt.Fprintln(p.Stdout)
			}
			if len(sources)+len(absences) == 0 {
				p.note("no sources are configured: instances are those whose agents dial the centre; docs/discovery.md says how to add one")
				return nil
			}
			var cells [][]string
			for _, s := range sources {
				cells = append(cells, []string{s.GetName(), fmt.Sprint(s.GetTargets()), sourceText(p, s)})
			}
			if err := table(p.Stdout, []string{"SOURCE", "TARGETS", "STATE"}, cells); err != nil {
				return err
			}
			for _, s := range sources {
				if s.GetUnknown() != "" {
					p.note("%s: %s", s.GetName(), clean(s.GetUnknown()))
				}
			}
			if len(absences) == 0 {
				return nil
			}
			cells = nil
			for _, a := range absences {
				why := a.GetProblem()
				if a.GetComplaint() != "" {
					why += "; " + a.GetSource() + " says: " + a.GetComplaint()
				}
				cells = append(cells, []string{a.GetProject(), a.GetService(), a.GetAddress(), a.GetSource(), ago(p.Now(), a.GetSince()), clean(why)})
			}
			fmt.Fprintln(p.Stdout)
			return table(p.Stdout, []string{"PROJECT", "AWAY", "ADDRESS", "LISTED BY", "FOR", "WHY"}, cells)
		}),
	}
}

// saysText is who expects so many, and whether that may be over.
func saysText(p *program, s *apiv1.Shortage) string {
	if s.GetStaleSince() == nil {
		return clean(s.GetSays())
	}
	return clean(s.GetSays()) + " (not heard of for " + ago(p.Now(), s.GetStaleSince()) + ")"
}

// sourceText says how current a list is.
func sourceText(p *program, s *apiv1.Source) string {
	switch {
	case s.GetStaleSince() != nil && s.GetProblem() == "":
		return "of the last run, " + ago(p.Now(), s.GetStaleSince()) + " old"
	case s.GetStaleSince() != nil:
		return "stale for " + ago(p.Now(), s.GetStaleSince()) + ": " + clean(s.GetProblem())
	case s.GetProblem() != "":
		return "nothing heard yet: " + clean(s.GetProblem())
	case s.GetHeard() == nil:
		return "nothing heard yet"
	}
	if n := int(s.GetExpects()); n > 0 {
		return "current, expects instances of " + count(n, "service", "services")
	}
	return "current"
}
