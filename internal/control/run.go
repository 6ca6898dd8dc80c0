package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

// ActionRun is the record's verb for running a control.
const ActionRun = "control.run"

// Request asks for a control to be run.
type Request struct {
	Selection
	Name    string
	Args    map[string]string
	TTL     time.Duration // of a setting; 0 = it stays
	Revert  bool          // of a setting
	DryRun  bool
	Timeout time.Duration // of each call; 0 = the control's own
	Rollout Rollout

	// What the guard rails ask for; see guard.Request.
	Actor, Reason, Confirm, Key string
	Expect                      int
}

// rails is the request as the guard rails see it. Its body holds what was asked,
// not what it came to: a repetition must look the same though the fleet changed.
func (r Request) rails(p plan) (guard.Request, error) {
	args, private := maps.Clone(r.Args), ""
	for _, param := range p.control.Params {
		if v, given := args[param.Name]; given && param.Secret {
			args[param.Name] = audit.Masked
			private += fmt.Sprintf("%q=%q;", param.Name, v)
		}
	}
	body, err := json.Marshal(struct {
		Args      map[string]string `json:"args,omitempty"`
		TTL       string            `json:"ttl,omitempty"`
		Revert    bool              `json:"revert,omitempty"`
		Instances []ops.InstanceID  `json:"instances,omitempty"`
		All       bool              `json:"all,omitempty"`
		Batch     int               `json:"batch,omitempty"`
		Pause     string            `json:"pause,omitempty"`
		NoCanary  bool              `json:"no_canary,omitempty"`
		KeepGoing bool              `json:"keep_going,omitempty"`
	}{args, text(r.TTL), r.Revert, r.Instances, len(r.Instances) == 0, r.Rollout.Batch, text(r.Rollout.Pause), r.Rollout.NoCanary, r.Rollout.KeepGoing})
	return guard.Request{
		Actor: r.Actor, Action: ActionRun, Subject: r.Name, Project: p.instances[0].Project, Service: p.instances[0].Service,
		Instances: ids(p.instances), Mutating: p.control.Mutating, Record: true, DryRun: r.DryRun,
		Reason: r.Reason, Confirm: r.Confirm, Expect: r.Expect, Key: r.Key, Body: body, Private: private,
	}, err
}

func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func ids(list []ops.Instance) []ops.InstanceID {
	out := make([]ops.InstanceID, len(list))
	for n, i := range list {
		out[n] = i.ID
	}
	return out
}

// Preview is what a run would come to.
type Preview struct {
	Project   ops.ProjectName
	Service   ops.ServiceName
	Control   Offer
	Instances []ops.Instance
	Waves     [][]ops.InstanceID
	// Problems says of instances why they cannot take part.
	Problems map[ops.InstanceID]string
	Needs    guard.Needs
}

// Preview says whom a run would affect, in which order, and what it needs to be
// let through. It changes nothing and needs neither reason nor confirmation.
func (e *Engine) Preview(ctx context.Context, r Request) (Preview, error) {
	p, err := e.prepare(ctx, r)
	if err != nil {
		return Preview{}, err
	}
	out := Preview{
		Project: p.instances[0].Project, Service: p.instances[0].Service, Control: p.control, Instances: p.instances,
		Problems: p.problems, Needs: e.rails.Needs(p.rails),
	}
	for _, wave := range p.waves {
		out.Waves = append(out.Waves, ids(wave))
	}
	return out, nil
}

// Event is something that happens in a run; exactly one field is set.
type Event struct {
	Started  *Started
	Result   *Result
	Finished *Finished
}

// Started is the first event.
type Started struct {
	// Action is the run's place in the record.
	Action    audit.ID
	Instances []ops.InstanceID
	Waves     int
	// Replayed: a run under this key has ended before. Nothing is run; what follows
	// is its outcome.
	Replayed bool
}

// Result is how it went on one instance.
type Result struct {
	Instance ops.InstanceID `json:"instance"`
	// Result is Succeeded, Failed, Skipped, or Unknown: the connection or the
	// patience ended first, and it may have run.
	Result  audit.Result `json:"result"`
	Message string       `json:"message,omitempty"` // in words what happened, or what went wrong
	// Answer is what the control answered.
	Answer    json.RawMessage `json:"answer,omitempty"`
	Before    string          `json:"before,omitempty"` // of a setting
	After     string          `json:"after,omitempty"`
	RevertsAt time.Time       `json:"reverts_at,omitzero"` // on the instance's clock
	Took      time.Duration   `json:"took,omitempty"`
}

// Finished is the last event.
type Finished struct {
	Result  audit.Result
	Message string
	Counts  map[audit.Result]int
	// Unrecorded says why the outcome is not on record; empty = it is.
	Unrecorded string
}

// Run runs a control and tells fn what happens, in order and from one goroutine
// at a time. What goes wrong on an instance is a Result; an error says why
// nothing was run, or what fn returned, which ends the run as the end of ctx
// does: what has not begun is skipped.
func (e *Engine) Run(ctx context.Context, r Request, fn func(Event) error) error {
	select {
	case e.runs <- struct{}{}:
		defer func() { <-e.runs }()
	default:
		return ops.Errorf(ops.Exhausted, "%d controls are running, which is the most: try again in a moment", maxRuns)
	}
	p, err := e.prepare(ctx, r)
	if err != nil {
		return err
	}
	keepGoing := r.Rollout.KeepGoing || !p.control.Mutating || r.DryRun
	action, err := e.rails.Begin(ctx, p.rails)
	if err != nil {
		return err
	}
	if first, steps := action.First(); first != nil {
		return replay(action.ID(), p, *first, steps, fn)
	}
	run := &run{e: e, r: r, p: p, action: action, tell: fn, keepGoing: keepGoing, results: map[ops.InstanceID]Result{}}
	return run.run(ctx)
}

// replay tells the outcome of an earlier run.
func replay(id audit.ID, p plan, o audit.Outcome, steps []audit.Step, fn func(Event) error) error {
	var results []Result
	if err := json.Unmarshal(o.Answer, &results); err != nil { // it was too long to keep
		for _, s := range steps {
			results = append(results, Result{Instance: s.Instance, Result: s.Result, Message: s.Message})
		}
	}
	started := Started{Action: id, Waves: len(p.waves), Replayed: true}
	counts := map[audit.Result]int{}
	for _, r := range results {
		started.Instances = append(started.Instances, r.Instance)
		counts[r.Result]++
	}
	if err := fn(Event{Started: &started}); err != nil {
		return err
	}
	for _, r := range results {
		if err := fn(Event{Result: &r}); err != nil {
			return err
		}
	}
	return fn(Event{Finished: &Finished{Result: o.Result, Message: o.Message, Counts: counts}})
}

// run is a run in progress.
type run struct {
	e         *Engine
	r         Request
	p         plan
	action    audit.Action
	keepGoing bool

	mu      sync.Mutex // guards what follows, and is held while tell and the record are called: one thing after the other
	tell    func(Event) error
	results map[ops.InstanceID]Result
	deaf    error // nobody listens any more
	broken  error // it cannot be written down any more
	failed  bool
}

func (run *run) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run.say(Event{Started: &Started{Action: run.action.ID(), Instances: ids(run.p.instances), Waves: len(run.p.waves)}})
	// Who cannot take part shows before anything was changed.
	for _, i := range run.p.instances {
		if why := run.p.problems[i.ID]; why != "" {
			run.note(Result{Instance: i.ID, Result: audit.Failed, Message: why})
		}
	}
	for n, wave := range run.p.waves {
		if n > 0 {
			run.pause(ctx)
		}
		if run.over(ctx) {
			break
		}
		var g errgroup.Group
		g.SetLimit(maxCalls)
		for _, i := range wave {
			g.Go(func() error {
				if !run.over(ctx) && !run.note(run.one(ctx, i)) { // it may have waited for its turn
					cancel()
				}
				return nil // what goes wrong is in the results
			})
		}
		_ = g.Wait()
	}
	return run.end(ctx)
}

// over reports whether the rest must not run.
func (run *run) over(ctx context.Context) bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	return ctx.Err() != nil || run.deaf != nil || run.broken != nil || run.failed && !run.keepGoing
}

// pause waits between two batches, unless it is over anyway.
func (run *run) pause(ctx context.Context) {
	if run.r.Rollout.Pause == 0 || run.over(ctx) {
		return
	}
	t := time.NewTimer(run.r.Rollout.Pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// one runs the control on one instance.
func (run *run) one(ctx context.Context, i ops.Instance) Result {
	res := Result{Instance: i.ID, Result: audit.Failed}
	c, err := run.e.fleet.Controllable(i.ID)
	if err != nil {
		res.Message = err.Error()
		return res
	}
	began := time.Now()
	a, err := c.Control(ctx, ops.ControlCall{
		Name: run.r.Name, Args: run.r.Args, TTL: run.r.TTL, Revert: run.r.Revert, DryRun: run.r.DryRun, Timeout: run.r.Timeout, Actor: run.r.Actor,
	})
	res.Took = time.Since(began)
	switch {
	case err != nil && mayHaveRun(err):
		res.Result, res.Message = audit.Unknown, err.Error()
		if ctx.Err() != nil {
			res.Message = "it was given up while it ran: it may have been carried out"
		}
	case err != nil:
		res.Message = err.Error()
	case a.Error != "":
		res.Message, res.Answer, res.Before, res.After = a.Error, a.Result, a.Before, a.After
	default:
		res.Result, res.Message, res.Answer = audit.Succeeded, a.Message, a.Result
		res.Before, res.After, res.RevertsAt = a.Before, a.After, a.RevertsAt
	}
	if a.Took > 0 {
		res.Took = a.Took
	}
	return res
}

// note keeps a result, on record first, and tells it. It is false when the run
// must not go on, whatever the result.
func (run *run) note(r Result) bool {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.results[r.Instance] = r
	run.failed = run.failed || r.Result != audit.Succeeded
	// What was done is written down though the caller may have left.
	if err := run.action.Step(context.Background(), audit.Step{Instance: r.Instance, Result: r.Result, Message: r.Message}); err != nil {
		run.broken = err
	}
	run.sayLocked(Event{Result: &r})
	return run.deaf == nil && run.broken == nil
}

func (run *run) say(e Event) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.sayLocked(e)
}

func (run *run) sayLocked(e Event) {
	if run.deaf == nil {
		run.deaf = run.tell(e)
	}
}

// end sums up, on record first.
func (run *run) end(ctx context.Context) error {
	all := make([]Result, 0, len(run.p.instances))
	counts := map[audit.Result]int{}
	why := "stopped at a failure"
	switch {
	case run.broken != nil:
		why = "stopped: " + run.broken.Error()
	case run.deaf != nil || ctx.Err() != nil:
		why = "stopped by the caller"
	}
	stopped := run.broken != nil || run.deaf != nil || ctx.Err() != nil
	for _, i := range run.p.instances {
		r, done := run.results[i.ID]
		if !done {
			r = Result{Instance: i.ID, Result: audit.Skipped, Message: why}
			run.say(Event{Result: &r})
		}
		all = append(all, r)
		counts[r.Result]++
	}
	f := Finished{Result: verdict(counts, len(all), stopped), Counts: counts}
	f.Message = summary(f, len(all), all)
	var answer json.RawMessage
	if run.p.control.Mutating || run.r.Key != "" { // what was only looked at is not kept
		if b, err := json.Marshal(all); err == nil {
			answer = b
		}
	}
	if err := run.action.End(context.WithoutCancel(ctx), audit.Outcome{Result: f.Result, Message: f.Message, Answer: answer}); err != nil {
		f.Unrecorded = err.Error()
	}
	run.say(Event{Finished: &f})
	return run.deaf
}

func verdict(counts map[audit.Result]int, n int, stopped bool) audit.Result {
	switch {
	case counts[audit.Succeeded] == n:
		return audit.Succeeded
	case counts[audit.Succeeded] > 0:
		return audit.Partial
	case counts[audit.Unknown] > 0:
		return audit.Unknown
	case stopped && counts[audit.Failed] == 0:
		return audit.Cancelled
	}
	return audit.Failed
}

// summary: "9 of 12 instances: ok; 1 failed, 2 skipped: no such room".
func summary(f Finished, n int, all []Result) string {
	if n == 1 {
		if all[0].Message != "" {
			return all[0].Message
		}
		return string(all[0].Result)
	}
	out := fmt.Sprintf("ok on %d of %d instances", f.Counts[audit.Succeeded], n)
	for _, r := range []audit.Result{audit.Failed, audit.Unknown, audit.Skipped} {
		if f.Counts[r] > 0 {
			out += fmt.Sprintf(", %d %s", f.Counts[r], r)
		}
	}
	if at := slices.IndexFunc(all, func(r Result) bool { return r.Result == audit.Failed || r.Result == audit.Unknown }); at >= 0 {
		out += ": " + strings.TrimSuffix(all[at].Message, ".")
	}
	return out
}
