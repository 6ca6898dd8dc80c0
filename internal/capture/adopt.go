package capture

import (
	"context"

	"github.com/opscenter/opscenter/internal/ops"
)

// Adoption is a capture that an instance took by itself and keeps for a centre.
type Adoption struct {
	Instance ops.InstanceID
	Kept     ops.KeptCapture
	// Actor is what counts as having asked for it.
	Actor string
}

// Adopt takes such a capture into the archive and returns when it has ended. It
// takes nobody's place: what costs the instance something has happened already.
// One that the archive has whole is returned as it is, and one that was cut off
// is taken anew. Conflict while it is being taken.
func (e *Engine) Adopt(ctx context.Context, a Adoption) (ops.Capture, error) {
	if err := e.awaitRun(ctx); err != nil {
		return ops.Capture{}, err
	}
	inst, err := e.fleet.Instance(a.Instance)
	if err != nil {
		return ops.Capture{}, err
	}
	old, err := e.archive.Capture(ctx, a.Kept.ID)
	switch {
	case err == nil && !old.State.Ended():
		return old, ops.Errorf(ops.Conflict, "capture %s is on its way already", a.Kept.ID)
	case err == nil && old.State != ops.CapturePartial && old.State != ops.CaptureFailed:
		return old, nil
	case err == nil && (len(old.Targets) != 1 || old.Targets[0].Instance.ID != a.Instance):
		return old, ops.Errorf(ops.Conflict, "capture %s is one of another instance", a.Kept.ID)
	case err == nil:
		if err := e.archive.Delete(ctx, a.Kept.ID); err != nil {
			return old, err
		}
	case ops.KindOf(err) != ops.NotFound:
		return ops.Capture{}, err
	}
	r := newRun(e, ops.Capture{
		ID: a.Kept.ID, Project: inst.Project, Service: inst.Service, Spec: a.Kept.Spec, State: ops.CaptureRequested,
		Actor: a.Actor, Note: a.Kept.Reason, Created: a.Kept.At,
		Targets: []ops.CaptureTarget{{Instance: inst, State: ops.CaptureRequested}},
	})
	r.kept = true
	e.mu.Lock()
	if !e.open {
		e.mu.Unlock()
		return ops.Capture{}, errClosed
	}
	if e.running[r.id] != nil {
		e.mu.Unlock()
		return ops.Capture{}, ops.Errorf(ops.Conflict, "capture %s is on its way already", r.id)
	}
	r.ctx, r.cancel = context.WithCancelCause(e.base)
	e.running[r.id] = r
	e.wg.Add(1)
	e.mu.Unlock()
	defer e.wg.Done()
	if err := e.archive.Begin(r.ctx, r.c); err != nil {
		e.leave(r)
		return ops.Capture{}, err
	}
	e.changed.Publish(r.id)
	r.run()
	return r.snapshot(), nil
}

// take collects what the instance keeps, or a window.
func (r *run) take(ctx context.Context, link ops.Link, s *sink) (ops.CollectSummary, error) {
	if !r.kept {
		return link.Collect(ctx, r.id, r.spec(), s)
	}
	ruled, ok := link.(ops.Ruled)
	if !ok {
		return ops.CollectSummary{}, ops.Errorf(ops.Conflict, "instance %s keeps no captures", s.instance)
	}
	return ruled.CollectKept(ctx, r.id, r.spec(), s)
}
