package app

import (
	"cmp"
	"context"
	"path/filepath"
	"time"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
)

// newNotifier makes the notifier of the channels that the file declares and of
// those that people added.
func newNotifier(o cli.ServeOptions, declared []notify.Channel, url string) (*notify.Notifier, error) {
	return notify.New(notify.Config{
		BaseURL: cmp.Or(o.PublicURL, url), Channels: declared, File: filepath.Join(o.DataDir, "notify.json"),
		DialControl: discovery.GuardDial, Logger: o.Logger,
	})
}

// oldNews is how long after its end nobody wants to be told of a capture: what
// a centre finds undiagnosed when it starts again.
const oldNews = time.Hour

// tellOf tells of a capture that was diagnosed for the first time.
func (c *center) tellOf(capture ops.Capture, f ops.Findings) {
	if !capture.Imported {
		c.metrics.Diagnosed(capture, f)
	}
	if capture.Imported || time.Since(capture.Finished) > oldNews {
		return
	}
	events, err := notify.FromFindings(capture, f)
	if err != nil {
		c.log.Warn("nobody was told of a diagnosis", "capture", capture.ID, "error", err)
		return
	}
	for _, e := range events {
		c.notifier.Tell(e)
	}
}

// tellShort tells of a service that has had too few instances for a while.
func (c *center) tellShort(s fleet.Shortage) {
	if c.notifier != nil {
		c.notifier.Tell(notify.FromShortage(s.Service, s.Up, s.Count, s.Says))
	}
}

// expectedBySources is what the sources say there should be.
func (c *center) expectedBySources() map[ops.ServiceKey]ops.Expectation { return c.sources.Expected() }

// auditedChannels puts on record who changes whom the centre tells what.
type auditedChannels struct {
	*notify.Notifier
	record *audit.Log
}

func (a auditedChannels) recorded(ctx context.Context, action, name string, mutating bool, fn func() error) error {
	act, err := a.record.Begin(ctx, audit.Intent{Actor: auth.ActorOf(ctx).Name, Action: action, Subject: name, Mutating: mutating})
	if err != nil {
		return err
	}
	err = fn()
	out := audit.Outcome{Result: audit.Succeeded}
	if err != nil {
		out = audit.Outcome{Result: audit.Failed, Message: err.Error()}
	}
	_ = act.End(context.WithoutCancel(ctx), out) // that it is not on record is in the log
	return err
}

// Put implements api.Channels.
func (a auditedChannels) Put(ctx context.Context, ch notify.Channel) error {
	return a.recorded(ctx, "notify.put", ch.Name, true, func() error { return a.Notifier.Put(ch) })
}

// Delete implements api.Channels.
func (a auditedChannels) Delete(ctx context.Context, name string) error {
	return a.recorded(ctx, "notify.delete", name, true, func() error { return a.Notifier.Delete(name) })
}

// Test implements api.Channels.
func (a auditedChannels) Test(ctx context.Context, name, actor string) error {
	return a.recorded(ctx, "notify.test", name, false, func() error { return a.Notifier.Test(ctx, name, actor) })
}
