package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// Control is something of the service's own that people may run from the
// centre: it appears there with a form, on the command line and in the API.
//
//	a.AddControl(agent.Control{
//		Name:        "kick-slow",
//		Description: "Close the connections of players whose queue is full",
//		Params:      []agent.Param{{Name: "pending", Type: agent.Int, Default: "100", Min: "1"}},
//		Func: func(ctx context.Context, args agent.Args) (any, error) {
//			return map[string]int{"kicked": hub.KickSlow(int(args.Int("pending")))}, nil
//		},
//	})
type Control struct {
	// Name is what it is called by: lower-case letters, digits, dot, underscore and
	// hyphen, at most 64.
	Name string
	// Description says in one sentence what it does.
	Description string
	// Params are its parameters, in the order in which a form shows them.
	Params []Param
	// ReadOnly says that it changes nothing. Unless it says so a control counts as
	// mutating: the centre asks for a reason and a confirmation, and puts it on
	// record before it runs.
	ReadOnly bool
	// Effect says what it does to the process and what it costs, Undo how it is
	// undone; both for people, both may be empty.
	Effect, Undo string
	// Timeout is when it is given up. 0 = 10 s; at most 5 min.
	Timeout time.Duration
	// Func does it. What it returns is shown as JSON; 64 KiB of it at most. It has
	// to end when ctx does; until it has ended it is not run again. A panic in it is
	// an error of the control.
	Func func(ctx context.Context, args Args) (any, error)
	// DryRun says what Func would do, without doing it. Nil = it cannot say.
	DryRun func(ctx context.Context, args Args) (any, error)
}

// LogLevel is a log level that can be changed: *slog.LevelVar is one. For
// another logger, map its levels onto slog's.
type LogLevel interface {
	Level() slog.Level
	Set(slog.Level)
}

// The bounds of controls.
const (
	maxControls        = 64
	maxControlParams   = 16
	maxControlName     = 64
	maxControlText     = 1000
	maxControlResult   = 64 << 10
	maxControlError    = 2000
	defaultControlTime = 10 * time.Second
	maxControlTime     = 5 * time.Minute
)

var controlName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// AddControl offers a control, instead of one of the service's own that had its
// name. It returns an error for one that cannot be right.
func (a *Agent) AddControl(c Control) error {
	if a == nil {
		return nil
	}
	if err := c.check(); err != nil {
		return fmt.Errorf("agent: control %.64q: %w", c.Name, err)
	}
	return a.controls.add(&c)
}

func (c *Control) check() error {
	switch {
	case !controlName.MatchString(c.Name) || len(c.Name) > maxControlName:
		return fmt.Errorf("the name is not valid: use up to %d lower-case letters, digits, dots, underscores and hyphens", maxControlName)
	case c.Func == nil:
		return errors.New("it has no Func")
	case c.Timeout < 0 || c.Timeout > maxControlTime:
		return fmt.Errorf("the timeout %v is out of range: use up to %v", c.Timeout, maxControlTime)
	case len(c.Params) > maxControlParams:
		return fmt.Errorf("%d parameters are too many: use at most %d", len(c.Params), maxControlParams)
	case len(c.Description) > maxControlText || len(c.Effect) > maxControlText || len(c.Undo) > maxControlText:
		return fmt.Errorf("a text is too long: keep each within %d bytes", maxControlText)
	}
	return checkParams(c.Params)
}

// controlRegistry holds what can be run.
type controlRegistry struct {
	builtin []*control // in order of their names; never changes after Start

	mu  sync.Mutex // guards own
	own map[string]*control
}

// control is a Control that is offered, built-in or the service's.
type control struct {
	Control
	builtin     bool
	set         *setting      // nil = it is none
	unavailable func() string // nil = always available
	// turn lets one run at a time: a control that hangs must not pile up.
	turn chan struct{}
}

func newControl(c Control) *control { return &control{Control: c, turn: make(chan struct{}, 1)} }

func (r *controlRegistry) add(c *Control) error {
	if slices.ContainsFunc(r.builtin, func(b *control) bool { return b.Name == c.Name }) {
		return fmt.Errorf("agent: control %q is built in: use another name", c.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.own == nil {
		r.own = map[string]*control{}
	}
	if r.own[c.Name] == nil && len(r.own) >= maxControls {
		return fmt.Errorf("agent: control %q: %d are offered already, which is the most", c.Name, maxControls)
	}
	r.own[c.Name] = newControl(*c)
	return nil
}

func (r *controlRegistry) list() []*control {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := make([]*control, 0, len(r.own))
	for _, c := range r.own {
		own = append(own, c)
	}
	slices.SortFunc(own, func(a, b *control) int { return strings.Compare(a.Name, b.Name) })
	return append(slices.Clone(r.builtin), own...)
}

func (r *controlRegistry) find(name string) (*control, error) {
	for _, c := range r.list() {
		if c.Name == name {
			return c, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "this instance has no control %.64q: list what it has", name)
}

// holds reports whether a control set what a setting is now.
func (r *controlRegistry) holds(name string) bool {
	c, err := r.find(name)
	if err != nil || c.set == nil {
		return false
	}
	_, setTo, _ := c.set.look()
	return setTo != ""
}

// close puts every setting back.
func (r *controlRegistry) close() {
	for _, c := range r.builtin {
		if c.set != nil {
			c.set.close()
		}
	}
}

// ListControls implements the protocol.
func (s *service) ListControls(ctx context.Context, _ *agentv1.ListControlsRequest) (resp *agentv1.ListControlsResponse, err error) {
	err = s.guard(ctx, "ListControls", func() error {
		if err := s.mayControl(); err != nil {
			return err
		}
		resp = &agentv1.ListControlsResponse{}
		for _, c := range s.agent.controls.list() {
			resp.Controls = append(resp.Controls, c.proto())
		}
		return nil
	})
	return resp, err
}

// mayControl: whoever can call the service's own port is not yet the centre that
// the service chose to dial.
func (s *service) mayControl() error {
	switch {
	case s.agent.cfg.noControls:
		return status.Error(codes.PermissionDenied, "controls are off in this process (OPS_CONTROLS or agent.Config.Controls)")
	case s.tunnel == nil && !s.agent.cfg.allowControls:
		return status.Error(codes.PermissionDenied, "controls are off on the port of this service: set agent.Config.AllowControls, or let the agent dial the centre")
	}
	return nil
}

// InvokeControl implements the protocol.
func (s *service) InvokeControl(ctx context.Context, req *agentv1.InvokeControlRequest) (resp *agentv1.InvokeControlResponse, err error) {
	err = s.guard(ctx, "InvokeControl", func() (err error) {
		if err := s.mayControl(); err != nil {
			return err
		}
		c, err := s.agent.controls.find(req.GetName())
		if err != nil {
			return err
		}
		resp, err = s.agent.invoke(ctx, c, req)
		return err
	})
	return resp, err
}

// invoke runs a control within its time.
func (a *Agent) invoke(ctx context.Context, c *control, req *agentv1.InvokeControlRequest) (*agentv1.InvokeControlResponse, error) {
	if c.unavailable != nil {
		if why := c.unavailable(); why != "" {
			return nil, status.Errorf(codes.FailedPrecondition, "%s cannot be used here: %s", c.Name, why)
		}
	}
	if c.set == nil && (req.GetTtl() != nil || req.GetRevert()) {
		return nil, status.Errorf(codes.InvalidArgument, "%s is not a setting: it takes no time to live and cannot be reverted", c.Name)
	}
	var args Args
	if !req.GetRevert() {
		var err error
		if args, err = parseArgs(c.Params, req.GetArgs()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "%s: %v", c.Name, err)
		}
	} else if len(req.GetArgs()) > 0 {
		return nil, status.Errorf(codes.InvalidArgument, "%s: to revert it takes no arguments", c.Name)
	}
	do := func(ctx context.Context, out *agentv1.InvokeControlResponse) error {
		return c.call(ctx, args, req.GetDryRun(), out)
	}
	if c.set != nil {
		change, err := c.set.plan(args, req)
		if err != nil {
			return nil, err
		}
		do = change
	} else if req.GetDryRun() && c.DryRun == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%s cannot say what it would do: it offers no dry run", c.Name)
	}
	if !c.ReadOnly && !req.GetDryRun() {
		a.log.Info("control", slog.String("name", c.Name), slog.String("actor", req.GetActor()), slog.Bool("revert", req.GetRevert()))
	}
	return a.bounded(ctx, c, req, do)
}

func (c *control) timeout() time.Duration {
	if c.Timeout == 0 {
		return defaultControlTime
	}
	return c.Timeout
}

// bounded runs do in a goroutine of its own and waits for it as long as the
// control may take. It takes the control's turn, which is given back when do has
// really ended.
func (a *Agent) bounded(ctx context.Context, c *control, req *agentv1.InvokeControlRequest, do func(context.Context, *agentv1.InvokeControlResponse) error) (*agentv1.InvokeControlResponse, error) {
	timeout := c.timeout()
	if d := req.GetTimeout().AsDuration(); d > 0 {
		timeout = min(timeout, d)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	began := time.Now()
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return nil, status.Errorf(codes.FailedPrecondition, "%s is still running from before: wait until it has ended", c.Name)
	}
	type ending struct {
		resp *agentv1.InvokeControlResponse
		err  error
	}
	ended := make(chan ending, 1)
	stop := context.AfterFunc(a.ctx, cancel)
	run := func() {
		defer cancel()
		defer stop()
		defer func() { <-c.turn }()
		out := &agentv1.InvokeControlResponse{}
		err := survivor(a, c.Name, func() error { return do(ctx, out) })
		ended <- ending{out, err}
	}
	if !a.spawn("control "+c.Name, run) {
		<-c.turn
		stop()
		cancel()
		return nil, errClosing()
	}
	select {
	case e := <-ended:
		return finished(c, e.resp, e.err, time.Since(began)), nil
	case <-ctx.Done():
	}
	select { // it may have ended with its context
	case e := <-ended:
		return finished(c, e.resp, e.err, time.Since(began)), nil
	default:
	}
	if a.ctx.Err() != nil {
		return nil, errClosing()
	}
	return nil, status.Errorf(codes.DeadlineExceeded, "%s did not end within %v and was given up: it may still go on", c.Name, timeout)
}

// finished makes the answer; what the control says went wrong is part of it.
func finished(c *control, out *agentv1.InvokeControlResponse, err error, took time.Duration) *agentv1.InvokeControlResponse {
	if err != nil {
		out.Error = clip(err.Error(), maxControlError)
		if out.Error == "" {
			out.Error = c.Name + " failed and does not say why"
		}
	}
	out.Took = durationpb.New(took)
	return out
}

// survivor turns a panic of fn into its error.
func survivor(a *Agent, name string, fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("a control panicked", slog.String("name", name), slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("the control panicked: %v", r)
		}
	}()
	return fn()
}

// call runs a control that is no setting.
func (c *control) call(ctx context.Context, args Args, dry bool, out *agentv1.InvokeControlResponse) error {
	fn := c.Func
	if dry {
		fn = c.DryRun
	}
	result, err := fn(ctx, args)
	if result != nil {
		b, jerr := json.Marshal(result)
		switch {
		case jerr != nil:
			err = errors.Join(err, fmt.Errorf("its result cannot be shown as JSON: %w", jerr))
		case len(b) > maxControlResult:
			err = errors.Join(err, fmt.Errorf("it worked, but its result is %d bytes long, and more than %d are not sent", len(b), maxControlResult))
		default:
			out.ResultJson = string(b)
		}
	}
	return err
}

func (c *control) proto() *agentv1.Control {
	p := &agentv1.Control{
		Name: c.Name, Description: c.Description, Builtin: c.builtin, Mutating: !c.ReadOnly, Effect: c.Effect, Undo: c.Undo,
		DryRun: c.DryRun != nil || c.set != nil, Timeout: durationpb.New(c.timeout()),
	}
	for _, param := range c.Params {
		p.Params = append(p.Params, param.proto())
	}
	if c.unavailable != nil {
		p.Unavailable = c.unavailable()
	}
	p.Setting = c.set != nil
	if c.set != nil && p.Unavailable == "" {
		p.Value, p.SetTo, p.Original = c.set.look()
		if at := c.set.revertsAt(); !at.IsZero() {
			p.RevertsAt = timestamppb.New(at)
		}
	}
	return p
}
