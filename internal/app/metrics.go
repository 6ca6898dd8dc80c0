package app

import (
	"context"

	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/metrics"
	"github.com/opscenter/opscenter/internal/ops"
)

func (c *center) newMetrics(o cli.ServeOptions) *metrics.Metrics {
	return metrics.New(metrics.Config{
		Version:   o.Version,
		Instances: func() []ops.Instance { return c.fleet.Instances(fleet.Filter{}) },
		Expected:  c.expected,
		Storage: func(ctx context.Context) (stored, free int64) {
			s := c.archive.Status(ctx)
			return s.StoredBytes, s.FreeBytes
		},
		Captures: c.captures.Subscribe, Capture: c.captured, Channels: c.notifier.Channels,
		Logger: o.Logger,
	})
}

func (c *center) expected() map[ops.ServiceKey]metrics.Expected {
	out := map[ops.ServiceKey]metrics.Expected{}
	for k, e := range c.fleet.Expectations() {
		out[k] = metrics.Expected{Count: e.Count}
	}
	for _, s := range c.fleet.Shortages() {
		out[s.Service] = metrics.Expected{Count: s.Count, Missing: s.Count - s.Up}
	}
	return out
}
