package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

func (p *program) rulesCmd() *cobra.Command {
	list := p.rulesListCmd()
	cmd := p.rulesListCmd()
	cmd.Use, list.Use = "rules", "list"
	cmd.Long = `Rules are what instances watch themselves for: a condition, what to collect when it
holds, and how often that may be. They go on while the centre is away. The files
are in the directory of ` + "`ops serve --rules`" + `; docs/rules.md says what can be written.`
	cmd.Example = `  ops rules
  ops rules check my-rules.yaml
  ops rules enable stall
  ops rules history stall`
	cmd.AddCommand(list, p.rulesCheckCmd(), p.rulesHistoryCmd(), p.rulesEnableCmd(true), p.rulesEnableCmd(false))
	return cmd
}

func (p *program) rulesListCmd() *cobra.Command {
	return &cobra.Command{
		Short: "List the rules that instances watch themselves by, and how they stand",
		Args:  atMost(0),
		RunE: p.connected(func(ctx context.Context, c *client, _ []string) error {
			res, err := c.triggers.ListTriggers(ctx, connect.NewRequest(&apiv1.ListTriggersRequest{}))
			if err != nil {
				return err
			}
			var all []*apiv1.TriggerInfo
			for _, f := range res.Msg.GetFiles() {
				if f.GetError() != "" {
					p.note("%s", f.GetError())
				}
				all = append(all, f.GetRules()...)
			}
			for _, r := range all {
				r.Standings = slices.DeleteFunc(r.GetStandings(), func(s *apiv1.TriggerStanding) bool { return !p.inProject(s.GetProject()) })
			}
			if p.json {
				return p.printJSON(map[string]any{"rules": messages(all), "recorders": messages(res.Msg.GetRecorders())})
			}
			var cells [][]string
			for _, r := range all {
				state, fired, refused := ruleState(r)
				cells = append(cells, []string{r.GetName(), clean(r.GetWhen()), clean(strings.Join(r.GetDo(), ", ")), state, fmt.Sprint(fired), fmt.Sprint(refused)})
			}
			if err := table(p.Stdout, []string{"RULE", "WHEN", "DOES", "STATE", "FIRED", "REFUSED"}, cells); err != nil {
				return err
			}
			for _, r := range res.Msg.GetRecorders() {
				p.note("%s", recorderText(r))
			}
			return nil
		}),
	}
}

// recorderText says what an instance's flight recorder takes.
func recorderText(r *apiv1.FlightRecorder) string {
	who := fmt.Sprintf("flight recorder of %s/%s %s", clean(r.GetProject()), clean(r.GetService()), clean(r.GetInstanceId()))
	if !r.GetOn() {
		return who + " is refused: " + clean(r.GetRefused())
	}
	text := fmt.Sprintf("%s: keeps %v in at most %s", who, r.GetKeeps().AsDuration(), bytesText(r.GetMaxBytes()))
	if r.GetLastBytes() > 0 {
		text += fmt.Sprintf("; its last snapshot was %s and took %v", bytesText(r.GetLastBytes()), r.GetLastTook().AsDuration().Round(time.Millisecond))
	}
	return text
}

// takesPast reports whether a rule keeps the flight recorder on.
func (p *program) takesPast(ctx context.Context, c *client, name string) bool {
	res, err := c.triggers.ListTriggers(ctx, connect.NewRequest(&apiv1.ListTriggersRequest{}))
	if err != nil {
		return false // it is on; what it costs is told by the list too
	}
	for _, f := range res.Msg.GetFiles() {
		for _, r := range f.GetRules() {
			if r.GetName() == name {
				return slices.ContainsFunc(r.GetDo(), func(step string) bool { return strings.HasPrefix(step, "flight") })
			}
		}
	}
	return false
}

// ruleState sums up how a rule stands on its instances.
func ruleState(r *apiv1.TriggerInfo) (state string, fired, refused int64) {
	if !r.GetEnabled() {
		return "off", 0, 0
	}
	count := map[string]int{}
	var order []string
	for _, s := range r.GetStandings() {
		word := cmp.Or(clean(s.GetStanding()), "not told yet")
		if count[word]++; count[word] == 1 {
			order = append(order, word)
		}
		fired, refused = fired+s.GetFired(), refused+s.GetRefused()
	}
	for i, word := range order {
		order[i] = fmt.Sprintf("%d %s", count[word], word)
	}
	return cmp.Or(strings.Join(order, ", "), "no instance"), fired, refused
}

func (p *program) rulesCheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Look for mistakes in files of rules, and say which instances each rule would be for",
		Args:  cobra.MinimumNArgs(1),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			for _, file := range args {
				text, err := os.ReadFile(file)
				if err != nil {
					return ops.Errorf(ops.Invalid, "%w", err)
				}
				res, err := c.triggers.CheckTriggers(ctx, connect.NewRequest(&apiv1.CheckTriggersRequest{Name: filepath.Base(file), Text: string(text)}))
				if err != nil {
					return err
				}
				if res.Msg.GetError() != "" {
					return ops.Errorf(ops.Invalid, "%s", clean(res.Msg.GetError()))
				}
				if p.json {
					if err := p.printJSON(map[string]any{"rules": messages(res.Msg.GetRules())}); err != nil {
						return err
					}
					continue
				}
				for _, r := range res.Msg.GetRules() {
					holds := 0
					for _, m := range r.GetMatches() {
						if m.GetHolds() {
							holds++
						}
					}
					fmt.Fprintf(p.Stdout, "%s: %s; for %s, holds now on %d\n", r.GetRule().GetName(), clean(r.GetRule().GetWhen()), count(len(r.GetMatches()), "instance", "instances"), holds)
				}
			}
			return nil
		}),
	}
}

func (p *program) rulesHistoryCmd() *cobra.Command {
	limit := int32(50)
	cmd := &cobra.Command{
		Use:   "history [RULE]",
		Short: "List what rules did and why they did nothing, newest first",
		Args:  atMost(1),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			req := &apiv1.ListTriggerHistoryRequest{Limit: limit}
			if p.projectName() != "" {
				req.Limit = 1000 // a project's own stand between others'
			}
			if limit < 0 {
				return ops.Errorf(ops.Invalid, "--limit %d is out of range: use 0 or more", limit)
			}
			if len(args) > 0 {
				req.Rule = args[0]
			}
			res, err := c.triggers.ListTriggerHistory(ctx, connect.NewRequest(req))
			if err != nil {
				return err
			}
			entries := slices.DeleteFunc(res.Msg.GetEntries(), func(e *apiv1.TriggerEntry) bool { return !p.inProject(e.GetProject()) })
			entries = entries[:min(len(entries), int(limit))]
			if p.json {
				return p.printJSON(map[string]any{"entries": messages(entries)})
			}
			var cells [][]string
			for _, e := range entries {
				why := e.GetReason()
				if e.GetKind() == "diagnosed" {
					why = cmp.Or(e.GetVerdict()["en"], "nothing found")
				}
				cells = append(cells, []string{e.GetAt().AsTime().Local().Format("2006-01-02 15:04:05"), clean(e.GetRule()), clean(e.GetProject() + "/" + e.GetService()), e.GetKind(), clean(why), e.GetCaptureId()})
			}
			return table(p.Stdout, []string{"TIME", "RULE", "SERVICE", "WHAT", "WHY", "CAPTURE"}, cells)
		}),
	}
	cmd.Flags().Int32Var(&limit, "limit", limit, "show at most `N`")
	return cmd
}

func (p *program) rulesEnableCmd(on bool) *cobra.Command {
	verb := map[bool]string{true: "enable", false: "disable"}[on]
	return &cobra.Command{
		Use:   verb + " RULE",
		Short: map[bool]string{true: "Switch a rule on", false: "Switch a rule off"}[on] + " in its file",
		Args:  takes("a RULE"),
		RunE: p.connected(func(ctx context.Context, c *client, args []string) error {
			if _, err := c.triggers.EnableTrigger(ctx, connect.NewRequest(&apiv1.EnableTriggerRequest{Name: args[0], Enabled: on})); err != nil {
				return err
			}
			p.note("rule %s is %sd: instances have it within seconds", args[0], verb)
			if on && p.takesPast(ctx, c, args[0]) {
				p.note("it keeps the flight recorder on: a few per cent of the CPU of a busy service and up to 16 MiB; goroutines that do nothing but hand over to each other run at about half the speed. `ops rules` says what it takes by now")
			}
			return nil
		}),
	}
}
