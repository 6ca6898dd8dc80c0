package capture

import (
	"context"
	"io"

	"github.com/opscenter/opscenter/internal/ops"
)

// Status is a capture with what its running targets are at.
type Status struct {
	ops.Capture
	// Live has an entry for each target that runs.
	Live map[ops.InstanceID]Live
}

// Live is a running target.
type Live struct {
	Progress ops.Progress
	// ReceivedBytes is what has arrived of its artifacts.
	ReceivedBytes int64
}

// Capture returns one. NotFound if there is none.
func (e *Engine) Capture(ctx context.Context, id ops.CaptureID) (Status, error) {
	c, err := e.archive.Capture(ctx, id)
	if err != nil {
		return Status{}, err
	}
	return e.status(c), nil
}

// Captures returns those that match, newest first.
func (e *Engine) Captures(ctx context.Context, f ops.CaptureFilter) ([]Status, error) {
	list, err := e.archive.Captures(ctx, f)
	if err != nil {
		return nil, err
	}
	out := make([]Status, len(list))
	for i, c := range list {
		out[i] = e.status(c)
	}
	return out, nil
}

// status lays over an archived capture what the archive does not hold.
func (e *Engine) status(c ops.Capture) Status {
	e.mu.Lock()
	r := e.running[c.ID]
	last, unrecorded := e.unrecorded[c.ID]
	e.mu.Unlock()
	if unrecorded {
		c.State, c.Reason, c.Finished = last.State, last.Reason, last.Finished
		for i := range min(len(c.Targets), len(last.Targets)) {
			artifacts := c.Targets[i].Artifacts
			c.Targets[i] = last.Targets[i]
			c.Targets[i].Artifacts = artifacts
		}
	}
	s := Status{Capture: c}
	if r == nil {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Live = make(map[ops.InstanceID]Live, len(r.live))
	for id, l := range r.live {
		s.Live[id] = Live{Progress: l.progress, ReceivedBytes: l.received.Load()}
	}
	return s
}

// find returns the run of a capture that runs, or says why there is none:
// NotFound, or Conflict with that advice.
func (e *Engine) find(ctx context.Context, id ops.CaptureID, advice string) (*run, error) {
	e.mu.Lock()
	r := e.running[id]
	e.mu.Unlock()
	if r != nil {
		return r, nil
	}
	c, err := e.Capture(ctx, id)
	if err != nil {
		return nil, err
	}
	return nil, ops.Errorf(ops.Conflict, "capture %s has ended (%s)%s", id, c.State, advice)
}

// Stop ends the windows of a running capture now and keeps their data. It does
// not wait for the data. Conflict if the capture has ended.
func (e *Engine) Stop(ctx context.Context, id ops.CaptureID) error {
	r, err := e.find(ctx, id, "")
	if err != nil {
		return err
	}
	r.requestStop()
	return nil
}

// Cancel ends a running capture and drops its data. It returns when that is
// done, or ctx ends. Conflict if the capture has ended.
func (e *Engine) Cancel(ctx context.Context, id ops.CaptureID) error {
	const advice = ": delete it to drop its data"
	r, err := e.find(ctx, id, advice)
	if err != nil {
		return err
	}
	r.cancel(errCancelled)
	select {
	case <-r.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c := r.snapshot(); c.State != ops.CaptureCancelled {
		return ops.Errorf(ops.Conflict, "capture %s has ended (%s)%s", id, c.State, advice)
	}
	return nil
}

// Pin exempts a capture from retention, or no longer.
func (e *Engine) Pin(ctx context.Context, id ops.CaptureID, pinned bool) (Status, error) {
	e.mu.Lock()
	r := e.running[id]
	e.mu.Unlock()
	if r != nil {
		r.rows.Lock()
		defer r.rows.Unlock()
	}
	if err := e.archive.Pin(ctx, id, pinned); err != nil {
		return Status{}, err
	}
	if r != nil {
		r.mu.Lock()
		r.c.Pinned = pinned
		r.mu.Unlock()
	}
	e.mu.Lock()
	if c, ok := e.unrecorded[id]; ok {
		c.Pinned = pinned
		e.unrecorded[id] = c
	}
	e.mu.Unlock()
	e.changed.Publish(id)
	return e.Capture(ctx, id)
}

// Touch tells who subscribed that something was said of a capture.
func (e *Engine) Touch(id ops.CaptureID) { e.changed.Publish(id) }

// Delete removes a capture that has ended. Conflict while it runs.
func (e *Engine) Delete(ctx context.Context, id ops.CaptureID) error {
	e.mu.Lock()
	r := e.running[id]
	e.mu.Unlock()
	if r != nil {
		return ops.Errorf(ops.Conflict, "capture %s is still running: cancel it, or stop it first", id)
	}
	if err := e.archive.Delete(ctx, id); err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.unrecorded, id)
	e.mu.Unlock()
	e.changed.Publish(id)
	return nil
}

// Import takes a bundle in.
func (e *Engine) Import(ctx context.Context, from io.ReaderAt, size int64, actor string) (ops.Capture, error) {
	c, err := e.archive.Import(ctx, from, size, actor)
	if err != nil {
		return c, err
	}
	e.changed.Publish(c.ID)
	return c, nil
}
