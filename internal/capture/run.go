package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Why a window was cut off, as causes of its context.
var (
	errCancelled = errors.New("cancelled")
	errShutdown  = errors.New("the centre was shut down")
	errLate      = errors.New("did not deliver in time")
)

// publishEvery bounds how often the progress of one capture is told.
const publishEvery = 250 * time.Millisecond

// run is a capture while it runs.
type run struct {
	e  *Engine
	id ops.CaptureID
	// kept: the instance took it by itself.
	kept bool
	// ctx ends when the capture is cancelled or cut off. Set when admitted.
	ctx    context.Context
	cancel context.CancelCauseFunc

	stop     chan struct{} // closed when the windows are to end early
	stopOnce sync.Once
	begin    chan struct{} // closed when every target is ready: the synchronised start
	done     chan struct{} // closed when the last word is recorded
	dirty    chan struct{} // holds a token when progress is to be told

	// rows orders the writes of the capture's own row, so that a pin and a state
	// do not overwrite each other. It is held during I/O and guards nothing else.
	rows sync.Mutex

	mu   sync.Mutex // guards c but for what never changes (ID, Spec, the targets' Instances), and live
	c    ops.Capture
	live map[ops.InstanceID]*live
}

// live is what a running target shows.
type live struct {
	progress ops.Progress // guarded by run.mu
	received atomic.Int64
}

func newRun(e *Engine, c ops.Capture) *run {
	return &run{
		e: e, id: c.ID, c: c, live: map[ops.InstanceID]*live{},
		stop: make(chan struct{}), begin: make(chan struct{}), done: make(chan struct{}), dirty: make(chan struct{}, 1),
	}
}

func (r *run) requestStop() { r.stopOnce.Do(func() { close(r.stop) }) }

func (r *run) snapshot() ops.Capture {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.c
	c.Targets = slices.Clone(c.Targets)
	return c
}

func (r *run) spec() ops.Spec { return r.c.Spec }

// run takes the capture from its row to its last word.
func (r *run) run() {
	defer close(r.done)
	telling := make(chan struct{})
	told := make(chan struct{})
	go func() { defer close(told); r.tell(telling) }()

	var targets, ready sync.WaitGroup
	outcomes := make([]outcome, len(r.c.Targets))
	for i := range r.c.Targets {
		if r.c.Targets[i].State.Ended() {
			continue // refused at admission
		}
		ready.Add(1)
		targets.Go(func() {
			outcomes[i] = r.target(i, ready.Done)
			r.e.mu.Lock()
			r.e.free(r.c.Targets[i].Instance.ID, r.id)
			r.e.mu.Unlock()
		})
	}
	ready.Wait()
	r.setState(ops.CaptureCollecting)
	close(r.begin)
	targets.Wait()

	// Decided once: a cancel that comes later is too late.
	cancelled := errors.Is(context.Cause(r.ctx), errCancelled)
	if cancelled {
		r.drop(outcomes)
	}
	close(telling)
	<-told
	r.finish(cancelled)
}

// tell publishes progress, coalesced, until stop is closed.
func (r *run) tell(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-r.dirty:
		}
		r.e.changed.Publish(r.id)
		pause := time.NewTimer(publishEvery)
		select {
		case <-stop:
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

func (r *run) touch() {
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

// setState moves the capture on, unless it already is further. A row that lags
// behind does no harm before the end: recovery treats all three alike.
func (r *run) setState(s ops.CaptureState) {
	r.rows.Lock()
	defer r.rows.Unlock()
	r.mu.Lock()
	r.c.State = s
	c := r.c
	c.Targets = slices.Clone(c.Targets)
	r.mu.Unlock()
	if err := r.e.archive.Update(context.WithoutCancel(r.ctx), c); err != nil {
		r.e.log.Warn("capture state not recorded", "capture", r.id, "state", s, "error", err)
	}
	r.e.changed.Publish(r.id)
}

// update changes a target and writes its row.
func (r *run) update(i int, change func(*ops.CaptureTarget)) {
	r.mu.Lock()
	change(&r.c.Targets[i])
	t := r.c.Targets[i]
	r.mu.Unlock()
	if err := r.e.archive.UpdateTarget(context.WithoutCancel(r.ctx), r.id, t); err != nil {
		r.e.log.Warn("capture target not recorded", "capture", r.id, "instance", t.Instance.ID, "state", t.State, "error", err)
	}
	r.e.changed.Publish(r.id)
}

// outcome is what a target left in the archive.
type outcome struct{ artifacts []ops.Artifact }

// target runs one instance's share. ready is called when it could begin.
func (r *run) target(i int, ready func()) outcome {
	instance := r.c.Targets[i].Instance
	link, err := r.e.fleet.Link(instance.ID)
	if err != nil {
		ready()
		r.update(i, func(t *ops.CaptureTarget) {
			t.State, t.Reason = ops.CaptureFailed, "could not be reached: "+err.Error()
			t.Losses = []ops.Loss{{Reason: ops.LossDisconnected, Message: t.Reason}}
		})
		return outcome{}
	}
	live := &live{progress: ops.Progress{Duration: r.spec().Duration}}
	r.mu.Lock()
	r.live[instance.ID] = live
	r.c.Targets[i].State = ops.CaptureCollecting
	r.mu.Unlock()
	ready()
	<-r.begin

	r.update(i, func(t *ops.CaptureTarget) { t.WindowStart = time.Now() })
	s := &sink{r: r, instance: instance.ID, live: live, open: map[*writer]struct{}{}, names: map[string]bool{}}
	end := r.collect(link, s)
	sum, err, cause := end.summary, end.err, end.cause
	progress, _ := r.liveOf(live)
	why := describe(err, cause, progress)
	s.abortOpen(ops.Loss{Reason: ops.LossDisconnected, Message: "cut off: " + why})

	r.update(i, func(t *ops.CaptureTarget) {
		t.State = ops.CaptureCommitting
		if !sum.WindowStart.IsZero() {
			t.WindowStart = sum.WindowStart
		}
		if t.WindowEnd = sum.WindowEnd; t.WindowEnd.IsZero() {
			t.WindowEnd = t.WindowStart.Add(progress.Elapsed)
		}
		t.StoppedEarly = sum.StoppedEarly
		t.Losses = slices.Clone(sum.Losses)
		if err != nil {
			t.Losses = append(t.Losses, ops.Loss{Reason: reasonOf(err, cause), Message: why + ": what had not arrived by then is missing" + detail(err, cause)})
		}
	})
	r.allCommitting()

	all := s.kept
	if r.ctx.Err() == nil && len(all) > 0 {
		d := derivation{e: r.e, ctx: r.ctx, capture: r.id, instance: instance.ID, spec: r.spec(), asked: r.asked(i), artifacts: s.kept}
		derived, losses := d.run()
		all = derived
		r.mu.Lock()
		r.c.Targets[i].Losses = append(r.c.Targets[i].Losses, losses...)
		r.mu.Unlock()
	} else if len(all) > 0 && !errors.Is(cause, errCancelled) {
		r.mu.Lock()
		r.c.Targets[i].Losses = append(r.c.Targets[i].Losses, ops.Loss{Reason: ops.LossSkipped, Message: "the centre was shut down before the raw files were merged and subtracted: they are kept as they arrived"})
		r.mu.Unlock()
	}

	r.update(i, func(t *ops.CaptureTarget) { t.State, t.Reason = verdict(err, why, t.Losses, all) })
	r.mu.Lock()
	delete(r.live, instance.ID)
	r.mu.Unlock()
	return outcome{all}
}

// asked is the stretch the target was asked to cover, for saying what is missing.
func (r *run) asked(i int) (w window) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.c.Targets[i]
	w = window{t.WindowStart, t.WindowEnd}
	if full := t.WindowStart.Add(r.c.Spec.Duration); !t.StoppedEarly && full.After(w.end) {
		w.end = full
	}
	return w
}

// ending is how a window ended.
type ending struct {
	summary ops.CollectSummary
	err     error
	cause   error // why it was cut off, if we did that
}

// collect runs the link with the target's deadline, and passes a stop on to it.
func (r *run) collect(link ops.Link, s *sink) (end ending) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(ctx, link, ended, cancel) })
	end.summary, end.err = r.take(ctx, link, s)
	if end.err != nil { // else it finished in spite of it
		end.cause = context.Cause(ctx)
	}
	close(ended)
	watching.Wait()
	return end
}

// watch ends the window early when asked, and gives the target up when it is late.
func (r *run) watch(ctx context.Context, link ops.Link, ended <-chan struct{}, cancel context.CancelCauseFunc) {
	late := time.NewTimer(r.spec().Duration + r.e.limits.Transfer)
	defer late.Stop()
	select {
	case <-ended:
		return
	case <-late.C:
		cancel(errLate)
		return
	case <-r.stop:
	}
	// From here on only the transfer is left.
	late.Reset(r.e.limits.Transfer)
	const again = 250 * time.Millisecond
	for {
		try, done := context.WithTimeout(ctx, 5*time.Second)
		err := link.Stop(try, r.id)
		done()
		wait := time.NewTimer(again)
		if err == nil {
			wait.Stop()
		}
		// NotFound can mean that the window has not begun yet: ask again until it
		// has, or is over.
		select {
		case <-ended:
			wait.Stop()
			return
		case <-late.C:
			wait.Stop()
			cancel(errLate)
			return
		case <-wait.C:
		}
	}
}

func (r *run) liveOf(l *live) (ops.Progress, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.progress, l.received.Load()
}

// allCommitting moves the capture on when its last window is over.
func (r *run) allCommitting() {
	r.mu.Lock()
	on := r.c.State == ops.CaptureCollecting
	for _, t := range r.c.Targets {
		on = on && t.State != ops.CaptureRequested && t.State != ops.CaptureCollecting
	}
	r.mu.Unlock()
	if on {
		r.setState(ops.CaptureCommitting)
	}
}

// drop removes what a cancelled capture left.
func (r *run) drop(outcomes []outcome) {
	ctx := context.WithoutCancel(r.ctx)
	for i, o := range outcomes {
		for _, a := range o.artifacts {
			ref := ops.ArtifactRef{Capture: r.id, Instance: r.c.Targets[i].Instance.ID, Name: a.Name}
			if err := r.e.archive.Remove(ctx, ref); err != nil {
				r.e.log.Warn("artifact of a cancelled capture not removed", "artifact", ref.String(), "error", err)
			}
		}
		r.mu.Lock()
		ended := r.c.Targets[i].State == ops.CaptureFailed
		r.mu.Unlock()
		if !ended {
			r.update(i, func(t *ops.CaptureTarget) { t.State, t.Reason, t.Losses = ops.CaptureCancelled, "", nil })
		}
	}
}

// finish says and records the last word.
func (r *run) finish(cancelled bool) {
	r.rows.Lock()
	r.mu.Lock()
	r.c.State, r.c.Reason = overall(r.c.Targets)
	if cancelled {
		r.c.State, r.c.Reason = ops.CaptureCancelled, "cancelled: its data was dropped"
	}
	r.c.Finished = time.Now()
	c := r.c
	c.Targets = slices.Clone(c.Targets)
	r.mu.Unlock()
	err := r.e.record(context.WithoutCancel(r.ctx), c)
	r.rows.Unlock()

	if err != nil {
		r.e.log.Error("the end of a capture could not be recorded; trying again", "capture", r.id, "state", c.State, "error", err)
		r.e.mu.Lock()
		r.e.unrecorded[r.id] = c
		r.e.mu.Unlock()
	}
	r.e.leave(r)
	r.e.changed.Publish(r.id)
	r.e.log.Info("capture ended", "capture", r.id, "service", ops.ServiceKey{Project: c.Project, Service: c.Service}.String(),
		"state", c.State, "reason", c.Reason, "took", c.Finished.Sub(c.Created))
}

// record writes the targets and then the capture: a capture that says it has
// ended has no target that does not.
func (e *Engine) record(ctx context.Context, c ops.Capture) error {
	for _, t := range c.Targets {
		if err := e.archive.UpdateTarget(ctx, c.ID, t); err != nil {
			return err
		}
	}
	return e.archive.Update(ctx, c)
}

// recordAgain tries to record what could not be recorded before, and forgets
// the windows of more than an hour ago.
func (e *Engine) recordAgain(ctx context.Context) {
	e.mu.Lock()
	todo := make([]ops.Capture, 0, len(e.unrecorded))
	for _, c := range e.unrecorded {
		todo = append(todo, c)
	}
	for id, times := range e.started {
		if len(times) == 0 || time.Since(times[len(times)-1]) >= time.Hour {
			delete(e.started, id)
		}
	}
	e.mu.Unlock()
	for _, c := range todo {
		if err := e.record(context.WithoutCancel(ctx), c); err != nil {
			continue // said once, when it first failed
		}
		e.mu.Lock()
		delete(e.unrecorded, c.ID)
		e.mu.Unlock()
		e.changed.Publish(c.ID)
	}
}

// describe says in words what ended a window that did not end well.
func describe(err, cause error, p ops.Progress) string {
	at := "before the window began"
	if p.Elapsed > 0 && p.Duration > 0 {
		at = fmt.Sprintf("at %d %%", min(100, int(100*p.Elapsed/p.Duration)))
	}
	switch {
	case err == nil:
		return "the instance ended the window without ending the file"
	case errors.Is(cause, errCancelled), errors.Is(cause, errShutdown), errors.Is(cause, errLate):
		return fmt.Sprintf("%v, %s", cause, at)
	case ops.KindOf(err) == ops.Unavailable:
		return "connection lost " + at
	}
	return err.Error()
}

// detail is the technical end of a loss, where describe left it out.
func detail(err, cause error) string {
	if cause == nil && ops.KindOf(err) == ops.Unavailable {
		return " (" + err.Error() + ")"
	}
	return ""
}

func reasonOf(err, cause error) ops.LossReason {
	switch {
	case errors.Is(cause, errLate):
		return ops.LossTimedOut
	case cause != nil, ops.KindOf(err) == ops.Unavailable:
		return ops.LossDisconnected
	case ops.KindOf(err) == ops.Exhausted:
		return ops.LossTruncated
	}
	return ops.LossFailed
}

// verdict is the end of a target. Losses that say how a window is made (a gap
// between segments, a kind this build does not have) do not make it partial.
func verdict(err error, why string, losses []ops.Loss, artifacts []ops.Artifact) (ops.CaptureState, string) {
	var hurt []ops.Loss
	add := func(from []ops.Loss) {
		for _, l := range from {
			switch l.Reason {
			case ops.LossInUse, ops.LossTruncated, ops.LossFailed, ops.LossTimedOut, ops.LossDisconnected:
				if !slices.ContainsFunc(hurt, func(h ops.Loss) bool { return h.Kind == l.Kind }) {
					hurt = append(hurt, l)
				}
			}
		}
	}
	add(losses)
	for _, a := range artifacts {
		for _, l := range a.Losses {
			if l.Kind == "" {
				l.Kind = a.Kind
			}
			add([]ops.Loss{l})
		}
	}
	switch {
	case len(artifacts) == 0 && err != nil:
		return ops.CaptureFailed, why
	case len(artifacts) == 0 && len(hurt) > 0:
		return ops.CaptureFailed, "nothing was collected: " + hurt[0].Message
	case len(artifacts) == 0 && len(losses) > 0:
		return ops.CaptureFailed, "nothing was collected: " + losses[0].Message
	case len(artifacts) == 0:
		return ops.CaptureFailed, "nothing was collected: the instance sent no artifact"
	case err != nil:
		return ops.CapturePartial, why
	case len(hurt) == 0:
		return ops.CaptureDone, ""
	}
	var kinds []string
	for _, l := range hurt[1:] {
		if l.Kind != "" {
			kinds = append(kinds, string(l.Kind))
		}
	}
	reason := hurt[0].Message
	if k := hurt[0].Kind; k != "" && !strings.HasPrefix(reason, string(k)) {
		reason = string(k) + ": " + reason
	}
	if len(kinds) > 0 {
		reason += "; also lost in part: " + strings.Join(kinds, ", ")
	}
	return ops.CapturePartial, reason
}

// overall is the end of a capture, out of its targets'.
func overall(targets []ops.CaptureTarget) (ops.CaptureState, string) {
	done, failed := 0, 0
	var words []string
	for _, t := range targets {
		switch t.State {
		case ops.CaptureDone:
			done++
			continue
		case ops.CaptureFailed:
			failed++
		}
		words = append(words, label(t.Instance)+": "+t.Reason)
	}
	if done == len(targets) {
		return ops.CaptureDone, ""
	}
	state := ops.CapturePartial
	if failed == len(targets) {
		state = ops.CaptureFailed
	}
	if len(targets) == 1 {
		return state, targets[0].Reason
	}
	reason := fmt.Sprintf("%d of %d instances; %s", done, len(targets), strings.Join(words[:min(3, len(words))], "; "))
	if more := len(words) - 3; more > 0 {
		reason += fmt.Sprintf("; and %d more", more)
	}
	return state, reason
}
