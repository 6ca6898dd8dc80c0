package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// restartReason is the reason of what a restart cut short.
const restartReason = "the centre restarted"

// restartMessage states what a restart cost a target. Which files there would
// have been is not known: the agent announces each when it begins.
const restartMessage = "the centre restarted while the window was open: what had not arrived by then is missing, and what is computed from it at the end"

// missingMessage states that an artifact's file is not where it belongs. If the
// file comes back (a volume was not mounted), the next start takes it back.
const missingMessage = "the file is missing from the archive: look for it in the blobs' directory and in its quarantine, then restart the centre"

// onDisk is what a store of blobs has of an artifact.
type onDisk struct {
	final bool
	size  int64
}

// recover leaves nothing in between: every artifact is done, partial or gone,
// every capture has ended, every file has a row or lies in quarantine.
func (a *Archive) recover(ctx context.Context) error {
	began := time.Now()
	a.stored.Store(0)
	files := map[ops.CaptureID]map[ops.ArtifactRef]onDisk{}
	err := a.blobs.List(ctx, func(ref ops.ArtifactRef, final bool, size int64) error {
		if files[ref.Capture] == nil {
			files[ref.Capture] = map[ops.ArtifactRef]onDisk{}
		}
		if known, twice := files[ref.Capture][ref]; !twice || !known.final {
			files[ref.Capture][ref] = onDisk{final, size}
		}
		return nil
	})
	if err != nil {
		return err
	}
	captures := 0
	err = a.eachCapture(ctx, func(c ops.Capture) error {
		captures++
		mine := files[c.ID]
		delete(files, c.ID)
		return a.recoverCapture(ctx, c, mine)
	})
	if err != nil {
		return err
	}
	for _, orphans := range files {
		if err := a.quarantine(ctx, orphans); err != nil {
			return err
		}
	}
	a.log.Info("the archive is in order", "captures", captures, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// recoverCapture puts one capture in order.
func (a *Archive) recoverCapture(ctx context.Context, c ops.Capture, files map[ops.ArtifactRef]onDisk) error {
	if c.Reason == deletingReason || c.Imported && !c.State.Ended() {
		// A deletion, or an import that nobody was told of.
		a.log.Info("finishing a deletion, or taking back an unfinished import", "capture", c.ID)
		return a.erase(ctx, c)
	}
	rows, err := a.rows.ArtifactRows(ctx, c.ID)
	if err != nil {
		return err
	}
	lost := map[ops.InstanceID][]ops.Loss{}
	for _, row := range rows {
		f, exists := files[row.Ref]
		loss, err := a.recoverArtifact(ctx, row, f, exists)
		if err != nil {
			return fmt.Errorf("%s: %w", row.Ref, err)
		}
		if loss != nil {
			lost[row.Ref.Instance] = append(lost[row.Ref.Instance], *loss)
		}
		delete(files, row.Ref)
	}
	if err := a.quarantine(ctx, files); err != nil {
		return err
	}
	if c, err = a.rows.Capture(ctx, c.ID); err != nil {
		return err
	}
	a.stored.Add(c.SizeBytes())
	return a.endCapture(ctx, c, lost)
}

// recoverArtifact puts one artifact in order. The loss it may return is of an
// artifact of which nothing is left to carry it.
func (a *Archive) recoverArtifact(ctx context.Context, row ops.ArtifactRow, f onDisk, exists bool) (*ops.Loss, error) {
	switch row.State {
	case ops.ArtifactDone:
		if exists && f.final && f.size == row.Artifact.SizeBytes {
			return nil, nil
		}
		return nil, a.recoverWhole(ctx, row, f, exists)
	case ops.ArtifactCommitting:
		return nil, a.recoverWhole(ctx, row, f, exists)
	case ops.ArtifactPartial:
		if exists && f.size == row.Artifact.SizeBytes && !isMissing(row.Artifact) {
			return nil, nil
		}
		return nil, a.recoverWhole(ctx, row, f, exists)
	default:
		return a.recoverReceiving(ctx, row, f, exists)
	}
}

// recoverWhole is for rows that know the size and hash of their file.
func (a *Archive) recoverWhole(ctx context.Context, row ops.ArtifactRow, f onDisk, exists bool) error {
	was := row.Artifact
	art := withoutMissing(was)
	if exists && f.size == art.SizeBytes {
		sum, size, err := a.hash(ctx, row.Ref)
		if err != nil {
			return err
		}
		if sum == art.SHA256 && size == art.SizeBytes {
			switch {
			case f.final:
				return a.rows.PutArtifact(ctx, row.Ref, art, ops.ArtifactDone)
			case row.State == ops.ArtifactPartial:
				return a.rows.PutArtifact(ctx, row.Ref, art, ops.ArtifactPartial)
			}
			if err := a.finalizeLeft(ctx, row.Ref); err != nil {
				return err
			}
			return a.rows.PutArtifact(ctx, row.Ref, art, ops.ArtifactDone)
		}
	}
	if exists && !f.final {
		// A part shorter or other than its row says: what is there is kept.
		_, err := a.keepPart(ctx, row.Ref, art)
		return err
	}
	if !exists && isMissing(was) {
		return nil // as before
	}
	if exists {
		where, err := a.blobs.Quarantine(ctx, row.Ref)
		if err != nil {
			return err
		}
		a.log.Error("a file is not what was stored: moved it aside", "artifact", row.Ref.String(), "to", where)
	} else {
		a.log.Error("a file is missing from the archive", "artifact", row.Ref.String())
	}
	// The row keeps size and hash, so that the file is known if it comes back.
	art.Losses = append(slices.Clone(art.Losses), ops.Loss{Kind: art.Kind, Reason: ops.LossFailed, Message: missingMessage})
	return a.rows.PutArtifact(ctx, row.Ref, art, ops.ArtifactPartial)
}

// recoverReceiving is for artifacts that were on their way in, or out.
func (a *Archive) recoverReceiving(ctx context.Context, row ops.ArtifactRow, f onDisk, exists bool) (*ops.Loss, error) {
	if exists && f.final { // its removal had begun
		if err := a.blobs.Delete(ctx, row.Ref); err != nil {
			return nil, err
		}
		return nil, a.rows.DeleteArtifact(ctx, row.Ref)
	}
	if exists && f.size > 0 && !row.Artifact.Derived {
		return a.keepPart(ctx, row.Ref, row.Artifact)
	}
	if err := a.blobs.Delete(ctx, row.Ref); err != nil {
		return nil, err
	}
	if err := a.rows.DeleteArtifact(ctx, row.Ref); err != nil {
		return nil, err
	}
	return &ops.Loss{Kind: row.Artifact.Kind, Reason: ops.LossFailed, Message: row.Ref.Name + ": " + restartReason + " before anything of it was there"}, nil
}

// keepPart makes what is there of an artifact a partial one.
func (a *Archive) keepPart(ctx context.Context, ref ops.ArtifactRef, art ops.Artifact) (*ops.Loss, error) {
	part, err := a.blobs.Part(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := part.Sync(); err != nil {
		return nil, closing(err, part)
	}
	if err := part.Close(); err != nil {
		return nil, err
	}
	if art.SHA256, art.SizeBytes, err = a.hash(ctx, ref); err != nil {
		return nil, err
	}
	art.Partial = true
	art.Losses = append(slices.Clone(art.Losses), ops.Loss{
		Kind: art.Kind, Reason: ops.LossFailed,
		Message: fmt.Sprintf("%s while this was being received: the first %d bytes are here", restartReason, art.SizeBytes),
	})
	return nil, a.rows.PutArtifact(ctx, ref, art, ops.ArtifactPartial)
}

func (a *Archive) finalizeLeft(ctx context.Context, ref ops.ArtifactRef) error {
	part, err := a.blobs.Part(ctx, ref)
	if err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return closing(err, part)
	}
	return part.Finalize()
}

// endCapture ends what a restart cut short.
func (a *Archive) endCapture(ctx context.Context, c ops.Capture, lost map[ops.InstanceID][]ops.Loss) error {
	for i := range c.Targets {
		t := &c.Targets[i]
		losses := lost[t.Instance.ID]
		if t.State.Ended() && len(losses) == 0 {
			continue
		}
		t.Losses = append(slices.Clone(t.Losses), losses...)
		if !t.State.Ended() {
			t.State, t.Reason = partialOrFailed(len(t.Artifacts) > 0), restartReason
			t.Losses = append(t.Losses, ops.Loss{Reason: ops.LossDisconnected, Message: restartMessage})
		}
		if err := a.rows.UpdateTarget(ctx, c.ID, *t); err != nil {
			return err
		}
	}
	if c.State.Ended() {
		return nil
	}
	c.State, c.Reason, c.Finished = stateOf(c.Targets), restartReason, time.Now()
	if c.State == ops.CaptureDone {
		c.Reason = ""
	}
	a.log.Info("ended a capture that the restart cut short", "capture", c.ID, "state", string(c.State))
	return a.rows.UpdateCapture(ctx, c)
}

// stateOf is the state of a capture all of whose targets have ended.
func stateOf(targets []ops.CaptureTarget) ops.CaptureState {
	count := map[ops.CaptureState]int{}
	for _, t := range targets {
		count[t.State]++
	}
	switch len(targets) {
	case count[ops.CaptureDone]:
		return ops.CaptureDone
	case count[ops.CaptureCancelled]:
		return ops.CaptureCancelled
	case count[ops.CaptureFailed] + count[ops.CaptureCancelled]:
		return ops.CaptureFailed
	default:
		return ops.CapturePartial
	}
}

// quarantine moves files without a row aside.
func (a *Archive) quarantine(ctx context.Context, orphans map[ops.ArtifactRef]onDisk) error {
	for ref, f := range orphans {
		where, err := a.blobs.Quarantine(ctx, ref)
		if err != nil {
			return err
		}
		a.log.Warn("moved a file that no capture knows aside", "artifact", ref.String(), "bytes", f.size, "to", where)
	}
	return nil
}

func (a *Archive) hash(ctx context.Context, ref ops.ArtifactRef) (sum string, size int64, err error) {
	b, err := a.blobs.Open(ctx, ref)
	if err != nil {
		return "", 0, err
	}
	defer b.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	size, err = io.Copy(h, b)
	return hex.EncodeToString(h.Sum(nil)), size, err
}

func isMissing(a ops.Artifact) bool {
	return slices.ContainsFunc(a.Losses, func(l ops.Loss) bool { return l.Message == missingMessage })
}

func withoutMissing(a ops.Artifact) ops.Artifact {
	a.Losses = slices.DeleteFunc(slices.Clone(a.Losses), func(l ops.Loss) bool { return l.Message == missingMessage })
	return a
}

func partialOrFailed(something bool) ops.CaptureState {
	if something {
		return ops.CapturePartial
	}
	return ops.CaptureFailed
}
