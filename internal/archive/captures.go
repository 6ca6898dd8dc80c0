package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// deletingReason marks a capture whose deletion has begun, so that a restart in
// the middle finishes it instead of reporting lost files.
const deletingReason = "being deleted"

// Begin adds a capture, before anything is asked of its instances. Exhausted
// while the disk reserve is not there, Conflict if the id exists.
func (a *Archive) Begin(ctx context.Context, c ops.Capture) error {
	if err := validCapture(c); err != nil {
		return err
	}
	if c.State.Ended() {
		return ops.Errorf(ops.Invalid, "capture %s begins in state %s", c.ID, c.State)
	}
	if err := a.space.check(ctx); err != nil {
		return ops.Errorf(ops.Exhausted, "no new captures: %w", err)
	}
	return a.begin(ctx, c)
}

// begin inserts a capture and marks it as running.
func (a *Archive) begin(ctx context.Context, c ops.Capture) error {
	if err := a.stopped(); err != nil {
		return err
	}
	a.mu.Lock()
	act := a.active[c.ID]
	if act == nil {
		act = newActivity()
		a.active[c.ID] = act
	}
	taken := act.running || act.deleting
	act.running = true
	a.mu.Unlock()
	if taken {
		return ops.Errorf(ops.Conflict, "capture %s exists already", c.ID)
	}
	err := a.change(ctx, "insert capture", func() error { return a.rows.InsertCapture(ctx, c) })
	if err != nil {
		a.ended(c.ID)
	}
	return err
}

func validCapture(c ops.Capture) error {
	if !c.ID.Valid() {
		return ops.Errorf(ops.Invalid, "%q is no capture id", c.ID)
	}
	seen := map[ops.InstanceID]bool{}
	for _, t := range c.Targets {
		if !t.Instance.ID.Valid() {
			return ops.Errorf(ops.Invalid, "%q is no instance id", t.Instance.ID)
		}
		if seen[t.Instance.ID] {
			return ops.Errorf(ops.Invalid, "capture %s names instance %s twice", c.ID, t.Instance.ID)
		}
		seen[t.Instance.ID] = true
	}
	if len(c.Targets) == 0 {
		return ops.Errorf(ops.Invalid, "capture %s has no instance", c.ID)
	}
	return nil
}

// Update writes a capture's state, reason and end. A state that has ended stays
// ended. When a full disk refuses an end, the error is Exhausted and the archive
// writes it as soon as there is room.
func (a *Archive) Update(ctx context.Context, c ops.Capture) error {
	if c.State.Ended() && c.Finished.IsZero() {
		c.Finished = time.Now()
	}
	err := a.rewrite(ctx, c.ID, func(now *ops.Capture) error {
		if now.State.Ended() && !c.State.Ended() {
			return ops.Errorf(ops.Conflict, "capture %s is %s: it cannot become %s again", c.ID, now.State, c.State)
		}
		now.State, now.Reason, now.Finished = c.State, c.Reason, c.Finished
		return nil
	})
	if ops.KindOf(err) == ops.Exhausted && c.State.Ended() {
		a.postpone(string(c.ID), func(ctx context.Context) error { return a.Update(ctx, c) })
		return err
	}
	if c.State.Ended() && (err == nil || ops.KindOf(err) == ops.NotFound) {
		a.ended(c.ID)
	}
	return err
}

// Pin exempts a capture from retention, or no longer.
func (a *Archive) Pin(ctx context.Context, id ops.CaptureID, pinned bool) error {
	return a.rewrite(ctx, id, func(c *ops.Capture) error { c.Pinned = pinned; return nil })
}

// rewrite changes the row of a capture as it is now.
func (a *Archive) rewrite(ctx context.Context, id ops.CaptureID, edit func(*ops.Capture) error) error {
	act, release, err := a.use(id)
	if err != nil {
		return err
	}
	defer release()
	act.row.Lock()
	defer act.row.Unlock()
	c, err := a.Capture(ctx, id)
	if err != nil {
		return err
	}
	if err := edit(&c); err != nil {
		return err
	}
	return a.change(ctx, "update capture", func() error { return a.rows.UpdateCapture(ctx, c) })
}

// ended marks a capture as no longer running.
func (a *Archive) ended(id ops.CaptureID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if act := a.active[id]; act != nil {
		act.running = false
		a.dropIdle(id, act)
	}
}

// UpdateTarget writes everything of a target but its instance and artifacts.
func (a *Archive) UpdateTarget(ctx context.Context, id ops.CaptureID, t ops.CaptureTarget) error {
	err := a.change(ctx, "update target", func() error { return a.rows.UpdateTarget(ctx, id, t) })
	if ops.KindOf(err) == ops.Exhausted && t.State.Ended() {
		a.postpone(string(id)+"/"+string(t.Instance.ID), func(ctx context.Context) error { return a.UpdateTarget(ctx, id, t) })
	}
	return err
}

// Capture returns one, or NotFound.
func (a *Archive) Capture(ctx context.Context, id ops.CaptureID) (ops.Capture, error) {
	if !id.Valid() {
		return ops.Capture{}, noCapture(id)
	}
	if err := a.stopped(); err != nil {
		return ops.Capture{}, err
	}
	c, err := a.rows.Capture(ctx, id)
	return c, a.judge(ctx, "read capture", err)
}

// Captures returns matching ones, newest first.
func (a *Archive) Captures(ctx context.Context, f ops.CaptureFilter) ([]ops.Capture, error) {
	if err := a.stopped(); err != nil {
		return nil, err
	}
	cs, err := a.rows.Captures(ctx, f)
	return cs, a.judge(ctx, "list captures", err)
}

// OpenArtifact opens an artifact for reading, one that is being received
// included, as far as it has come.
func (a *Archive) OpenArtifact(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	row, err := a.row(ctx, ref)
	if err != nil {
		return nil, ops.Artifact{}, err
	}
	b, err := a.blobs.Open(ctx, ref)
	if ops.KindOf(err) == ops.NotFound {
		err = ops.Errorf(ops.Corrupt, "the file of %s is missing from the archive: look for it in the blobs' directory and in its quarantine, then restart the centre", ref)
	}
	if err != nil {
		return nil, ops.Artifact{}, err
	}
	return b, row.Artifact, nil
}

// row returns an artifact's row, or NotFound.
func (a *Archive) row(ctx context.Context, ref ops.ArtifactRef) (ops.ArtifactRow, error) {
	if !ref.Valid() {
		return ops.ArtifactRow{}, noArtifact(ref)
	}
	if err := a.stopped(); err != nil {
		return ops.ArtifactRow{}, err
	}
	rows, err := a.rows.ArtifactRows(ctx, ref.Capture)
	if err := a.judge(ctx, "list artifacts", err); err != nil {
		return ops.ArtifactRow{}, err
	}
	for _, r := range rows {
		if r.Ref == ref {
			return r, nil
		}
	}
	return ops.ArtifactRow{}, noArtifact(ref)
}

func noArtifact(ref ops.ArtifactRef) error {
	return ops.Errorf(ops.NotFound, "there is no artifact %q", ref)
}

// Remove deletes one artifact, such as a piece that was merged into another.
func (a *Archive) Remove(ctx context.Context, ref ops.ArtifactRef) error {
	row, err := a.row(ctx, ref)
	if err != nil {
		return err
	}
	act, release, err := a.use(ref.Capture)
	if err != nil {
		return err
	}
	defer release()
	if err := a.claim(act, ref); err != nil {
		return err
	}
	defer a.unclaim(act, ref)
	// Receiving with a final file means to recovery: finish the removal.
	err = a.change(ctx, "hide artifact", func() error { return a.rows.PutArtifact(ctx, ref, row.Artifact, ops.ArtifactReceiving) })
	if err != nil {
		return err
	}
	a.stored.Add(-row.Artifact.SizeBytes)
	ctx = context.WithoutCancel(ctx)
	if err := a.blobs.Delete(ctx, ref); err != nil {
		return err
	}
	return a.change(ctx, "delete artifact", func() error { return a.rows.DeleteArtifact(ctx, ref) })
}

// Delete removes a capture and its files. Conflict while it runs or is read.
func (a *Archive) Delete(ctx context.Context, id ops.CaptureID) error {
	c, err := a.Capture(ctx, id)
	if err != nil {
		return err
	}
	a.mu.Lock()
	act := a.active[id]
	switch {
	case act == nil:
		act = newActivity()
		a.active[id] = act
	case act.running:
		err = ops.Errorf(ops.Conflict, "capture %s is still running: stop or cancel it first", id)
	case act.deleting:
		err = ops.Errorf(ops.Conflict, "capture %s is being deleted", id)
	case act.uses > 0:
		err = ops.Errorf(ops.Conflict, "capture %s is in use: try again in a moment", id)
	}
	if err == nil {
		act.deleting = true
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		act.deleting = false
		a.dropIdle(id, act)
	}()
	return a.erase(context.WithoutCancel(ctx), c)
}

// erase deletes a capture that nobody uses.
func (a *Archive) erase(ctx context.Context, c ops.Capture) error {
	c.Reason = deletingReason
	err := a.change(ctx, "mark deletion", func() error { return a.rows.UpdateCapture(ctx, c) })
	if err != nil && ops.KindOf(err) != ops.Exhausted {
		return err
	}
	// On a full disk it goes on without the mark: the files make room.
	if err := a.blobs.DeleteCapture(ctx, c.ID); err != nil {
		return err
	}
	err = a.change(ctx, "delete capture", func() error { return a.rows.DeleteCapture(ctx, c.ID) })
	if err == nil {
		a.stored.Add(-c.SizeBytes())
	}
	return err
}

// sweep deletes what retention no longer keeps, oldest first.
func (a *Archive) sweep(ctx context.Context, now time.Time) error {
	retention := *a.retention.Load()
	var total int64                     // of all captures
	kept := map[ops.ProjectName]int64{} // of unpinned ones, newest first, by whose bounds hold
	tooMuch := map[ops.ProjectName]bool{}
	var outdated []ops.Capture
	err := a.eachCapture(ctx, func(c ops.Capture) error {
		size := c.SizeBytes()
		total += size
		if c.Pinned || !c.State.Ended() {
			return nil
		}
		since := c.Finished
		if since.IsZero() {
			since = c.Created
		}
		// The newest stays even if it is too big alone: somebody has just made it.
		bounds, shared := retention.Of(c.Project)
		if bounds.MaxBytes > 0 && kept[shared] > 0 && kept[shared]+size > bounds.MaxBytes {
			tooMuch[shared] = true
		}
		kept[shared] += size
		if tooMuch[shared] || bounds.MaxAge > 0 && now.Sub(since) > bounds.MaxAge {
			outdated = append(outdated, ops.Capture{ID: c.ID, Finished: since})
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.stored.Store(total) // what was counted on the way may have drifted
	for i := len(outdated) - 1; i >= 0; i-- {
		id := outdated[i].ID
		if err := a.Delete(ctx, id); err == nil {
			a.log.Info("retention deleted a capture", "capture", id, "finished", outdated[i].Finished)
		} else if k := ops.KindOf(err); k != ops.Conflict && k != ops.NotFound { // not gone, nor in use
			return fmt.Errorf("delete capture %s: %w", id, err)
		}
	}
	return nil
}

// eachCapture calls fn for every capture, newest first. fn may delete it.
func (a *Archive) eachCapture(ctx context.Context, fn func(ops.Capture) error) error {
	var before ops.CaptureID
	for {
		page, err := a.rows.Captures(ctx, ops.CaptureFilter{Before: before, Limit: 200})
		if err := a.judge(ctx, "list captures", err); err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, c := range page {
			if err := fn(c); err != nil {
				return err
			}
		}
		before = page[len(page)-1].ID
	}
}
