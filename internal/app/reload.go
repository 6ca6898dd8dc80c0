package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/api"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/notify"
)

// checkConfig is what `ops config check` asks of the centre's parts: everything
// that a start would refuse, but for what only the machine can say.
func checkConfig(o cli.ServeOptions) error {
	var sec sections
	loaded, err := o.Load(sec.list())
	if err != nil {
		return err
	}
	loaded.Logger = slog.New(slog.DiscardHandler)
	_, err = prepare(loaded, sec, keptSources{})
	return err
}

// generation is everything of a configuration that a running centre can take,
// read and found right.
type generation struct {
	o       cli.ServeOptions
	sec     sections
	sources []discovery.Source
	kept    keptSources
	policy  guard.Policy
	health  fleet.HealthRules
	// channels are those that the file of notifications declares.
	channels []notify.Channel
}

// prepare reads the files that the configuration names. It changes nothing.
func prepare(o cli.ServeOptions, sec sections, kept keptSources) (g generation, err error) {
	g = generation{o: o, sec: sec, kept: kept}
	if g.sources, err = g.kept.sources(o, sec); err != nil {
		return g, err
	}
	if o.ControlPolicy != "" {
		if g.policy, err = guard.LoadPolicy(o.ControlPolicy); err != nil {
			return g, err
		}
	}
	if o.HealthFile != "" {
		if g.health, err = fleet.LoadHealth(o.HealthFile); err != nil {
			return g, err
		}
	}
	if o.NotifyFile != "" {
		if g.channels, err = notify.Load(o.NotifyFile); err != nil {
			return g, err
		}
	}
	return g, nil
}

// take makes a generation the one that counts. Who is connected, and every
// capture, goes on.
func (c *center) take(g generation) {
	c.projects.Declare(g.sec.Projects.declared(), g.o.UndeclaredProjects == cli.RefuseProjects, selfProject)
	if c.who.accounts != nil {
		c.who.accounts.Declare(g.sec.Projects.grants())
	}
	c.archive.SetRetention(g.sec.Projects.retention(g.o))
	c.archive.SetReserve(g.o.DiskReserveBytes)
	c.rails.SetPolicy(g.policy)
	c.fleet.SetHealth(g.health)
	c.fleet.Expect(g.sec.Projects.expect())
	c.sources.Replace(g.sources)
	c.notifier.Declare(g.channels)
	if set := g.o.SetLogLevel; set != nil {
		set(g.o.LogLevel)
	}
}

// reloader follows the configuration while the centre runs.
type reloader struct {
	center *center
	// started is the configuration that the centre was started with: what differs
	// from it and cannot be taken waits for the next start.
	started config.Effective
	hangup  chan os.Signal // nil = the process's SIGHUP

	mu      sync.Mutex // guards all below
	current generation
	loaded  time.Time
	problem string
	since   time.Time // of the problem
}

func (r *reloader) state() api.ConfigState {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.current.o.Config
	_, waiting := config.Changes(r.started, e)
	return api.ConfigState{File: e.File, Loaded: r.loaded, Problem: r.problem, Since: r.since, Waiting: waiting, Values: e.Values}
}

// run takes changes until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	if r.current.o.Load == nil {
		<-ctx.Done()
		return nil
	}
	if r.hangup == nil {
		r.hangup = make(chan os.Signal, 1)
		signal.Notify(r.hangup, syscall.SIGHUP)
		defer signal.Stop(r.hangup)
	}
	config.Watch{Ask: r.hangup, Logger: r.center.log, Files: r.files, Seen: r.current.o.Seen}.Run(ctx, func(asked bool) { r.reload(ctx, asked) })
	return nil
}

func (r *reloader) files() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.current.o.Files)
}

// reload reads the configuration and takes it, or says why it stays as it was.
func (r *reloader) reload(ctx context.Context, asked bool) {
	var sec sections
	before := r.current
	o, err := before.o.Load(sec.list())
	if err != nil {
		r.refuse(ctx, err)
		return
	}
	o.Load, o.Logger, o.Out, o.SetLogLevel = before.o.Load, before.o.Logger, before.o.Out, before.o.SetLogLevel
	next, err := prepare(o, sec, before.kept)
	if err != nil {
		r.refuse(ctx, err)
		return
	}
	now, waiting := config.Changes(before.o.Config, o.Config)
	act, err := r.record(ctx, now, waiting)
	if err != nil {
		r.refuse(ctx, err)
		return
	}
	r.center.take(next)
	r.mu.Lock()
	r.current, r.loaded, r.problem, r.since = next, time.Now(), "", time.Time{}
	r.mu.Unlock()
	r.center.log.Info("configuration taken", "file", o.Config.File, "changed", now, "asked", asked)
	message := ""
	if len(waiting) > 0 {
		message = "the next start takes " + strings.Join(waiting, ", ")
		r.center.log.Warn("part of the configuration waits for the next start", "keys", waiting)
	}
	if err := act.End(context.WithoutCancel(ctx), audit.Outcome{Result: audit.Succeeded, Message: message}); err != nil {
		r.center.log.Warn("that the configuration changed is not on record", "error", err)
	}
}

// record begins the action of a change.
func (r *reloader) record(ctx context.Context, now, waiting []string) (audit.Action, error) {
	body, err := json.Marshal(struct {
		Changed []string `json:"changed,omitempty"`
		Waiting []string `json:"waiting,omitempty"`
	}{now, waiting})
	if err != nil {
		return nil, err
	}
	return r.center.record.Begin(ctx, audit.Intent{Actor: "system", Action: "config.reload", Subject: r.current.o.Config.File, Mutating: true, Request: body})
}

// refuse keeps what there is, and says so once a reason.
func (r *reloader) refuse(ctx context.Context, why error) {
	r.mu.Lock()
	again := r.problem == why.Error()
	if !again {
		r.problem, r.since = why.Error(), time.Now()
	}
	r.mu.Unlock()
	if again || ctx.Err() != nil {
		return
	}
	r.center.log.Error("the configuration stays as it was: the file is wrong", "file", r.current.o.Config.File, "error", why)
	act, err := r.record(ctx, nil, nil)
	if err == nil {
		err = act.End(context.WithoutCancel(ctx), audit.Outcome{Result: audit.Failed, Message: why.Error()})
	}
	if err != nil {
		r.center.log.Warn("that the configuration was refused is not on record", "error", err)
	}
}
