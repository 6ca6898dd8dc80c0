package capture

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/opscenter/opscenter/internal/ops"
)

// Request asks for a capture.
type Request struct {
	// Project and Service may be empty where Instances names the instances.
	Project ops.ProjectName
	Service ops.ServiceName
	// Instances names them; empty = those of the service that are up.
	Instances []ops.InstanceID
	// Max is how many of the service's instances; 0 = as many as the limits allow.
	Max   int
	Spec  ops.Spec
	Actor string
	Note  string
}

// Start begins a capture and returns its row, which is durable by then; the
// windows run on after ctx. An instance that cannot take part is a failed
// target as long as another one can. NotFound when nothing matches, Exhausted
// when a limit is reached, Invalid for a request that cannot be right.
func (e *Engine) Start(ctx context.Context, req Request) (ops.Capture, error) {
	if err := ctx.Err(); err != nil {
		return ops.Capture{}, err
	}
	spec, err := req.Spec.Normalize()
	if err != nil {
		return ops.Capture{}, err
	}
	if req.Max < 0 {
		return ops.Capture{}, ops.Errorf(ops.Invalid, "cannot capture %d instances: use 1 or more, or 0 for as many as the limits allow", req.Max)
	}
	candidates, err := e.candidates(req)
	if err != nil {
		return ops.Capture{}, err
	}
	if err := e.awaitRun(ctx); err != nil {
		return ops.Capture{}, err
	}
	now := time.Now()
	r := newRun(e, ops.Capture{
		ID:      ops.CaptureID(strings.ToLower(ulid.Make().String())),
		Project: candidates[0].Project, Service: candidates[0].Service,
		Spec: spec, State: ops.CaptureRequested, Actor: req.Actor, Note: req.Note, Created: now,
	})
	if err := e.admit(r, req, candidates, now); err != nil {
		return ops.Capture{}, err
	}
	// The row comes before any command, and its fate must be known: the engine's
	// context, so that a caller who hangs up does not leave it open.
	if err := e.archive.Begin(r.ctx, r.c); err != nil {
		e.leave(r)
		e.forget(r)
		e.wg.Done()
		return ops.Capture{}, err
	}
	c := r.snapshot()
	e.changed.Publish(r.id)
	go func() {
		defer e.wg.Done()
		r.run()
	}()
	return c, nil
}

var errClosed = ops.Errorf(ops.Unavailable, "the centre is starting or shutting down and takes no captures: try again in a moment")

// awaitRun lets a request wait that comes in while the centre is starting.
func (e *Engine) awaitRun(ctx context.Context) error {
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-e.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		return errClosed
	}
}

// candidates returns the instances that the request could mean, of one service.
func (e *Engine) candidates(req Request) ([]ops.Instance, error) {
	if len(req.Instances) == 0 {
		if req.Project == "" || req.Service == "" {
			return nil, ops.Errorf(ops.Invalid, "a capture needs a project and a service, or instances by name")
		}
		key := ops.ServiceKey{Project: req.Project, Service: req.Service}
		found := slices.DeleteFunc(slices.Clone(e.fleet.Instances(key)), func(i ops.Instance) bool { return i.State == ops.InstanceGone })
		if len(found) == 0 {
			return nil, ops.Errorf(ops.NotFound, "no instance of %s is up: see which services are there with \"ops services\"", key)
		}
		return found, nil
	}
	var out []ops.Instance
	for _, id := range req.Instances {
		if slices.ContainsFunc(out, func(i ops.Instance) bool { return i.ID == id }) {
			continue
		}
		i, err := e.fleet.Instance(id)
		if err != nil {
			return nil, err
		}
		if (req.Project != "" && i.Project != req.Project) || (req.Service != "" && i.Service != req.Service) {
			return nil, ops.Errorf(ops.Invalid, "instance %s belongs to %s, not to %s: a capture is of one service", id, i.Key(), ops.ServiceKey{Project: req.Project, Service: req.Service})
		}
		if len(out) > 0 && i.Key() != out[0].Key() {
			return nil, ops.Errorf(ops.Invalid, "instance %s belongs to %s and %s to %s: a capture is of one service", out[0].ID, out[0].Key(), id, i.Key())
		}
		if i.State == ops.InstanceGone {
			return nil, ops.Errorf(ops.Unavailable, "instance %s of %s is gone (%s): choose one that is up", id, i.Key(), cmp.Or(i.StateReason, "no sign of life"))
		}
		out = append(out, i)
	}
	return out, nil
}

// admit chooses the targets within the limits and takes their places.
func (e *Engine) admit(r *run, req Request, candidates []ops.Instance, now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.open {
		return errClosed
	}
	room, busy := e.limits.PerCenter, 0
	for _, ids := range e.windows {
		busy += len(ids)
	}
	room = max(0, room-busy)

	blocked := map[ops.InstanceID]string{}
	for _, i := range candidates {
		if why := e.blocked(i, now); why != "" {
			blocked[i.ID] = why
		}
	}
	chosen := candidates
	if len(req.Instances) == 0 {
		allowed, err := e.allowed(candidates, req.Max, room)
		if err != nil {
			return err
		}
		chosen = slices.Clone(candidates)
		slices.SortStableFunc(chosen, func(a, b ops.Instance) int { return e.rank(a, blocked) - e.rank(b, blocked) })
		chosen = chosen[:min(len(chosen), allowed)]
	}
	free := 0
	for _, i := range chosen {
		if blocked[i.ID] == "" {
			free++
		}
	}
	if free == 0 {
		why := label(chosen[0]) + " " + blocked[chosen[0].ID]
		if len(chosen) > 1 {
			why = fmt.Sprintf("none of %d instances can be captured now: %s", len(chosen), why)
		}
		return ops.Errorf(ops.Exhausted, "%s", why)
	}
	if free > room {
		return ops.Errorf(ops.Exhausted, "the centre captures at most %d instances at once and has %d running%s: ask for %s",
			e.limits.PerCenter, busy, e.names(e.allRunning()), fewer(room))
	}

	for _, i := range chosen {
		t := ops.CaptureTarget{Instance: i, State: ops.CaptureRequested}
		if why := blocked[i.ID]; why != "" {
			t.State, t.Reason = ops.CaptureFailed, why
		} else {
			e.windows[i.ID] = append(e.windows[i.ID], r.id)
			e.started[i.ID] = append(e.started[i.ID], now)
		}
		r.c.Targets = append(r.c.Targets, t)
	}
	r.ctx, r.cancel = context.WithCancelCause(e.base)
	e.running[r.id] = r
	e.wg.Add(1)
	return nil
}

// rank puts first the instances that are up and in no capture.
func (e *Engine) rank(i ops.Instance, blocked map[ops.InstanceID]string) int {
	switch {
	case blocked[i.ID] != "":
		return 3
	case i.State != ops.InstanceUp:
		return 2
	case len(e.windows[i.ID]) > 0:
		return 1
	}
	return 0
}

// blocked says why the instance cannot take one window more, as what follows its
// name, or "".
func (e *Engine) blocked(i ops.Instance, now time.Time) string {
	if ids := e.windows[i.ID]; len(ids) >= e.limits.PerInstance {
		return fmt.Sprintf("is in %d captures already%s, the most at once: wait until one ends, or stop one", len(ids), e.names(ids))
	}
	hour := slices.DeleteFunc(e.started[i.ID], func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	if len(hour) == 0 {
		delete(e.started, i.ID)
	} else {
		e.started[i.ID] = hour
	}
	if wait := e.rest(hour).Sub(now); wait > 0 {
		return fmt.Sprintf("was captured %d times in a row and has to rest: try again in %v", withoutRest, max(wait.Round(time.Second), time.Second))
	}
	if e.limits.PerHour > 0 && len(hour) >= e.limits.PerHour {
		// The window that must leave the hour before one more fits in.
		wait := time.Hour - now.Sub(hour[len(hour)-e.limits.PerHour])
		return fmt.Sprintf("was captured %d times within an hour, the most for one instance: try again in %v", len(hour), wait.Round(time.Second))
	}
	return ""
}

// rest returns when an instance whose windows began then has rested enough for the
// next one.
func (e *Engine) rest(began []time.Time) time.Time {
	if e.limits.Cooldown < 0 {
		return time.Time{}
	}
	var rested time.Time // when all of it will have been rested
	for _, at := range began {
		if rested.Before(at) {
			rested = at
		}
		rested = rested.Add(e.limits.Cooldown)
	}
	return rested.Add(-(withoutRest - 1) * e.limits.Cooldown)
}

// allowed says how many instances a request that names none may have.
func (e *Engine) allowed(of []ops.Instance, asked, room int) (int, error) {
	if room == 0 {
		return 0, ops.Errorf(ops.Exhausted, "the centre captures at most %d instances at once, and all are running%s: wait until one ends, or stop one",
			e.limits.PerCenter, e.names(e.allRunning()))
	}
	most := len(of)
	if len(of) > 10 {
		most = max(1, min(e.limits.PerService, len(of)/4))
		var ids []ops.CaptureID
		captured := 0
		for _, i := range of {
			if w := e.windows[i.ID]; len(w) > 0 {
				captured++
				ids = append(ids, w...)
			}
		}
		left := max(0, most-captured)
		if left == 0 || asked > left && asked <= len(of) {
			return 0, ops.Errorf(ops.Exhausted, "of the %d instances of %s at most %d are captured at once, and %d are running%s: ask for %s, or name the instances",
				len(of), of[0].Key(), most, captured, e.names(ids), fewer(left))
		}
		most = left
	}
	if asked > 0 {
		return min(asked, most), nil
	}
	return min(most, room), nil
}

func fewer(n int) string {
	if n == 0 {
		return "one when a running capture has ended"
	}
	return fmt.Sprintf("up to %d", n)
}

func (e *Engine) allRunning() []ops.CaptureID {
	var ids []ops.CaptureID
	for id := range e.running {
		ids = append(ids, id)
	}
	return ids
}

// names lists captures in parentheses, the oldest first; "" for none.
func (e *Engine) names(ids []ops.CaptureID) string {
	if len(ids) == 0 {
		return ""
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	var out []string
	for _, id := range ids[:min(3, len(ids))] {
		out = append(out, string(id))
	}
	if more := len(ids) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return " (" + strings.Join(out, ", ") + ")"
}

// leave gives the places of a run back.
func (e *Engine) leave(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, r.id)
	for _, t := range r.c.Targets {
		e.free(t.Instance.ID, r.id)
	}
	r.cancel(nil)
}

// forget takes a run that never began off the hour's count.
func (e *Engine) forget(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range r.c.Targets {
		times := e.started[t.Instance.ID]
		if i := slices.IndexFunc(times, r.c.Created.Equal); i >= 0 && t.State == ops.CaptureRequested {
			e.started[t.Instance.ID] = slices.Delete(times, i, i+1)
		}
	}
}

// free gives one place back. The caller holds mu.
func (e *Engine) free(instance ops.InstanceID, id ops.CaptureID) {
	if left := slices.DeleteFunc(e.windows[instance], func(c ops.CaptureID) bool { return c == id }); len(left) > 0 {
		e.windows[instance] = left
	} else {
		delete(e.windows, instance)
	}
}

func label(i ops.Instance) string { return string(i.Service) + "/" + string(i.ID) }
