package app

import (
	"context"

	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
)

// tellOfRules tells people of rules that fired, where the rule says so. What the
// capture turned out to show is told as any other diagnosis.
func (c *center) tellOfRules(ctx context.Context) error {
	sub := c.rules.Subscribe()
	defer sub.Close()
	for {
		numbers, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			e, err := c.rules.Entry(n)
			if err != nil || e.Kind != ops.RuleFired || !e.Notify {
				continue // forgotten already, or nobody asked
			}
			about := notify.Event{
				Kind: notify.Rule, At: e.At, Severity: ops.Warning, Project: e.Project, Service: e.Service, Instance: e.Instance, Subject: e.Rule,
				Title:  ops.Text{EN: "Rule " + e.Rule + " fired on " + string(e.Service), ZH: "規則 " + e.Rule + " 在 " + string(e.Service) + " 觸發"},
				Detail: ops.Text{EN: e.Reason, ZH: e.Reason}, Path: "/rules?rule=" + e.Rule,
			}
			if inst, err := c.fleet.Instance(e.Instance); err == nil {
				about.Address = inst.Address
			}
			c.notifier.Tell(about)
		}
	}
}
