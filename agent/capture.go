package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// capture is one window and what it collected. The agent runs the window, not
// the stream that asked for it: a stream may break and another fetch the rest.
type capture struct {
	plan    plan
	agent   *Agent
	why     keptWhy // of one that the process took by itself
	spool   *spool
	changed signal // anything below, or an artifact, changed

	ctx    context.Context // ends when the capture is dropped
	cancel context.CancelCauseFunc

	stopOnce sync.Once
	stopped  chan struct{} // stop early and keep

	mu        sync.Mutex // guards what follows
	artifacts []*artifact
	losses    []*agentv1.Loss
	activity  string
	begun     time.Time // the window's start; zero before it
	summary   *agentv1.Summary
	told      bool        // a stream has carried the summary
	readers   int         // streams that take its data now
	timer     *time.Timer // drops it when no one does
}

// Why a capture is dropped.
var (
	errCancelled  = errors.New("cancelled")
	errAbandoned  = errors.New("its stream broke and no one took it up again")
	errShutdown   = errors.New("the process is shutting down")
	errKept       = errors.New("it was not acknowledged in time")
	errReleased   = errors.New("every artifact was acknowledged")
	errSuperseded = errors.New("the centre that asked for it is gone, and a new one asks for another")
)

// captureRegistry holds the captures that run or whose data is still kept.
type captureRegistry struct {
	mu   sync.Mutex
	byID map[string]*capture
	// order is by beginning, oldest first.
	order []*capture
}

// maxKept is how many finished captures wait for their acknowledgement; the
// oldest give way.
const maxKept = 4

func (r *captureRegistry) init() { r.byID = map[string]*capture{} }

func (r *captureRegistry) get(id string) (*capture, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byID[id]; c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "capture %.60q is not on this instance: it ended, was dropped, or belongs to another one", id)
}

// add makes room for c or says why not.
func (r *captureRegistry) add(c *capture, maxRunning int) error {
	r.mu.Lock()
	if r.byID[c.plan.id] != nil {
		r.mu.Unlock()
		return status.Errorf(codes.AlreadyExists, "capture %s is already on this instance: fetch its artifacts, or use another id", c.plan.id)
	}
	running := 0
	var finished []*capture
	for _, other := range r.order {
		switch {
		case other.plan.rule != "": // has bounds of its own, and takes no one's place
		case other.ended():
			finished = append(finished, other)
		default:
			running++
		}
	}
	if running >= maxRunning && c.plan.rule == "" {
		r.mu.Unlock()
		return status.Errorf(codes.ResourceExhausted, "%d captures are running on this instance, which is its limit: wait for one to end, or stop it", running)
	}
	r.byID[c.plan.id] = c
	r.order = append(r.order, c)
	r.mu.Unlock()
	for len(finished) > maxKept {
		finished[0].drop(errKept)
		finished = finished[1:]
	}
	return nil
}

func (r *captureRegistry) remove(c *capture) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[c.plan.id] != c {
		return
	}
	delete(r.byID, c.plan.id)
	for i, other := range r.order {
		if other == c {
			r.order = append(r.order[:i:i], r.order[i+1:]...)
			return
		}
	}
}

func (r *captureRegistry) close() {
	r.mu.Lock()
	all := r.order
	r.mu.Unlock()
	for _, c := range all {
		c.drop(errShutdown)
	}
}

// orphansOf returns the running captures that no stream reads and that another
// run of the centre than that one asked for.
func (r *captureRegistry) orphansOf(center string) (out []*capture) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.order {
		c.mu.Lock()
		if c.readers == 0 && c.summary == nil && c.plan.center != center && c.plan.rule == "" {
			out = append(out, c)
		}
		c.mu.Unlock()
	}
	return out
}

// supersedeWithin bounds how long a new window waits for an old one to give the
// profilers back.
const supersedeWithin = 2 * time.Second

// supersede ends the windows that a centre left behind when it died.
func (a *Agent) supersede(center string) {
	orphans := a.captures.orphansOf(center)
	for _, c := range orphans {
		a.log.Info("capture dropped", "capture", c.plan.id, "why", errSuperseded)
		c.drop(errSuperseded)
	}
	timeout := time.NewTimer(supersedeWithin)
	defer timeout.Stop()
	for _, c := range orphans {
		for {
			changed := c.changed.wait()
			if c.ended() {
				break
			}
			select {
			case <-changed:
			case <-timeout.C:
				return
			}
		}
	}
}

// beginCapture starts a window that its caller reads until detach.
func (a *Agent) beginCapture(p plan) (*capture, error) {
	a.supersede(p.center)
	c := a.newCapture(p)
	c.readers = 1
	if err := a.captures.add(c, a.cfg.limits.MaxConcurrentCaptures); err != nil {
		c.cancel(nil)
		return nil, err
	}
	if !a.spawn("capture", c.run) {
		c.drop(errShutdown)
		return nil, errClosing()
	}
	return c, nil
}

func (a *Agent) newCapture(p plan) *capture {
	ctx, cancel := context.WithCancelCause(a.ctx)
	return &capture{
		plan: p, agent: a,
		ctx: ctx, cancel: cancel,
		stopped: make(chan struct{}),
		spool:   newSpool(a.cfg.spoolDir, p.maxBytes, ctx.Done()),
	}
}

// stop ends the window now and keeps its data.
func (c *capture) stop() { c.stopOnce.Do(func() { close(c.stopped) }) }

// drop ends the capture and gives its data up.
func (c *capture) drop(why error) {
	c.cancel(why)
	c.agent.captures.remove(c)
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	artifacts := c.artifacts
	running := c.summary == nil
	c.mu.Unlock()
	if !running { // else the window does when it has put everything back
		for _, a := range artifacts {
			a.release()
		}
	}
	c.changed.broadcast()
}

// attach notes a stream that takes the data; it keeps the capture alive.
func (c *capture) attach() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers++
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// detach notes that a stream ended. Without any, a running window goes on for
// the grace time and a finished capture is kept for a while.
func (c *capture) detach() {
	c.mu.Lock()
	c.readers--
	orphan := c.readers == 0
	resumable := c.spool.loss() == nil
	if orphan {
		c.arm()
	}
	c.mu.Unlock()
	switch {
	case !orphan:
	case !resumable:
		c.drop(errAbandoned) // there is nothing that could be sent again
	default:
		c.forgetIfAcknowledged()
	}
}

// arm starts the clock of a capture that no one reads; the caller holds mu.
func (c *capture) arm() {
	if c.plan.rule != "" {
		return // it waits for a centre however long that is away
	}
	after, why := c.agent.tune.grace, errAbandoned
	if c.summary != nil {
		after, why = c.agent.tune.keep, errKept
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(after, func() { c.drop(why) })
}

// finish says the window's last word.
func (c *capture) finish(s *agentv1.Summary) {
	c.mu.Lock()
	artifacts := c.artifacts
	c.mu.Unlock()
	for _, a := range artifacts { // those that a panic left open
		if _, end := a.state(); end == nil {
			a.close(time.Now(), loss(a.begin.Kind, lossFailed, "%s was not finished", a.begin.Name))
		}
	}
	c.mu.Lock()
	s.Losses = boundLosses(c.losses)
	c.summary = s
	dropped := c.ctx.Err() != nil
	if c.readers == 0 && !dropped {
		c.arm()
	}
	c.mu.Unlock()
	if dropped {
		for _, a := range artifacts {
			a.release()
		}
	}
	c.changed.broadcast()
}

func (c *capture) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.summary != nil
}

// ack gives up the artifacts of those numbers, or all; with the last one the
// capture is forgotten.
func (c *capture) ack(numbers []uint32) {
	c.mu.Lock()
	artifacts, ended := c.artifacts, c.summary != nil
	c.mu.Unlock()
	if len(numbers) == 0 {
		if !ended {
			return // there is more to come; nothing of it is durable yet
		}
		c.drop(errReleased)
		return
	}
	for _, n := range numbers {
		if n >= 1 && int(n) <= len(artifacts) {
			a := artifacts[n-1]
			if _, end := a.state(); end != nil {
				a.release()
			}
		}
	}
	c.forgetIfAcknowledged()
}

// tell notes that a stream has carried the summary.
func (c *capture) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = true
}

// forgetIfAcknowledged drops a finished capture that no one reads and of which
// nothing is left. A centre that resumes asks for the summary last, when it has
// acknowledged every artifact: until then there is something left.
func (c *capture) forgetIfAcknowledged() {
	c.mu.Lock()
	done := c.told && c.readers == 0
	for _, a := range c.artifacts {
		done = done && a.released()
	}
	c.mu.Unlock()
	if done {
		c.drop(errReleased)
	}
}

// lose notes what the capture as a whole could not see.
func (c *capture) lose(l ...*agentv1.Loss) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.losses = append(c.losses, l...)
}

// doing says what the window does now.
func (c *capture) doing(format string, args ...any) {
	activity := fmt.Sprintf(format, args...)
	c.mu.Lock()
	c.activity = activity
	c.mu.Unlock()
	c.agent.tune.onActivity(c.plan.id, activity)
}

func (c *capture) progress() *agentv1.Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &agentv1.Progress{Duration: durationpb.New(c.plan.duration), Activity: c.activity}
	if !c.begun.IsZero() {
		p.Elapsed = durationpb.New(time.Since(c.begun))
	}
	for _, a := range c.artifacts {
		size, _ := a.state()
		p.SpooledBytes += size
	}
	return p
}

// list returns the artifacts begun so far and the summary once there is one.
func (c *capture) list() ([]*artifact, *agentv1.Summary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.artifacts, c.summary
}

// dropped returns the status for a stream whose capture was dropped, or nil.
func (c *capture) dropped() error {
	why := context.Cause(c.ctx)
	switch {
	case why == nil:
		return nil
	case errors.Is(why, errCancelled):
		return status.Error(codes.Canceled, "the capture was cancelled")
	case errors.Is(why, errShutdown), c.agent.ctx.Err() != nil:
		return errClosing()
	case errors.Is(why, errReleased):
		return status.Errorf(codes.NotFound, "capture %s was acknowledged and is no longer on this instance", c.plan.id)
	}
	return status.Errorf(codes.Aborted, "the capture was dropped: %v", why)
}

func errClosing() error {
	return status.Error(codes.Unavailable, "the process is shutting down")
}
