package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/dustin/go-humanize"

	"github.com/opscenter/opscenter/internal/ops"
)

// Create opens an artifact of a running capture for writing. If an earlier
// writer aborted it, the new one goes on where that ended: see Offset. Conflict
// if it is complete or being written; Exhausted while the disk reserve is not
// there.
func (a *Archive) Create(ctx context.Context, ref ops.ArtifactRef, art ops.Artifact) (ops.ArtifactWriter, error) {
	w, err := a.create(ctx, ref, art, false)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Put makes a derived artifact with what write writes, as durable as any other.
// If write fails nothing is left of it. Conflict if it exists.
func (a *Archive) Put(ctx context.Context, ref ops.ArtifactRef, art ops.Artifact, write func(io.Writer) error) (err error) {
	art.Derived = true
	w, err := a.create(ctx, ref, art, true)
	if err != nil {
		return err
	}
	defer func() {
		if !w.ended { // write failed or panicked
			err = errors.Join(err, w.discard())
		}
	}()
	if err := write(w); err != nil {
		return err
	}
	return w.Commit(w.off, w.sum.Sum(nil), art)
}

func (a *Archive) create(ctx context.Context, ref ops.ArtifactRef, art ops.Artifact, derived bool) (_ *writer, err error) {
	if !ref.Valid() {
		return nil, ops.Errorf(ops.Invalid, "%q is no name of an artifact", ref)
	}
	art.Name, art.SizeBytes, art.SHA256 = ref.Name, 0, ""
	act, release, err := a.use(ref.Capture)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	a.mu.Lock()
	running := act.running
	a.mu.Unlock()
	if !running && !derived {
		c, err := a.Capture(ctx, ref.Capture)
		if err != nil {
			return nil, err
		}
		return nil, ops.Errorf(ops.Conflict, "capture %s is %s: nothing can be added to it", c.ID, c.State)
	}
	if err := a.space.take(ctx, 0); err != nil {
		return nil, err
	}
	if err := a.claim(act, ref); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.unclaim(act, ref)
		}
	}()
	final, err := a.blobs.Final(ctx, ref)
	if err != nil {
		return nil, err
	}
	if final {
		return nil, ops.Errorf(ops.Conflict, "artifact %s exists already", ref)
	}
	if derived { // never resumed: what is there was left by a crash
		if err := a.blobs.Delete(ctx, ref); err != nil {
			return nil, err
		}
	}
	// The end of a writer must not depend on whether its caller is still there.
	w := &writer{a: a, act: act, release: release, ctx: context.WithoutCancel(ctx), ref: ref, art: art, derived: derived, sum: sha256.New()}
	if err := w.put(art, ops.ArtifactReceiving); err != nil {
		return nil, err
	}
	if w.part, err = a.blobs.Part(ctx, ref); err != nil {
		return nil, err
	}
	if err := w.resume(); err != nil {
		return nil, closing(err, w.part)
	}
	return w, nil
}

func closing(err error, c io.Closer) error {
	if cerr := c.Close(); cerr != nil {
		return fmt.Errorf("%w (and %w)", err, cerr)
	}
	return err
}

// claim reserves an artifact for one writer.
func (a *Archive) claim(act *activity, ref ops.ArtifactRef) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if act.open[ref] {
		return ops.Errorf(ops.Conflict, "artifact %s is being written", ref)
	}
	act.open[ref] = true
	return nil
}

func (a *Archive) unclaim(act *activity, ref ops.ArtifactRef) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(act.open, ref)
}

// writer is one artifact on its way in.
type writer struct {
	a       *Archive
	act     *activity
	release func()
	ctx     context.Context //nolint:containedctx // of the whole life of the writer
	ref     ops.ArtifactRef
	art     ops.Artifact
	derived bool
	part    ops.Part
	// sum is over the first off bytes. It is computed on the caller's goroutine:
	// a core hashes faster than a disk syncs, and writers are many.
	sum   hash.Hash
	off   int64
	ended bool
}

// resume reads what an earlier writer left.
func (w *writer) resume() error {
	if w.part.Size() == 0 {
		return nil
	}
	b, err := w.a.blobs.Open(w.ctx, w.ref)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // it was only read
	w.a.stored.Add(-w.part.Size())
	w.off, err = io.Copy(w.sum, b)
	if err == nil && w.off != w.part.Size() {
		err = ops.Errorf(ops.Corrupt, "%s has %d bytes of %d", w.ref, w.off, w.part.Size())
	}
	return err
}

func (w *writer) Offset() int64 { return w.off }

func (w *writer) Write(p []byte) (int, error) {
	if err := w.usable(); err != nil {
		return 0, err
	}
	if err := w.account(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.part.Write(p)
	w.sum.Write(p[:n])
	w.off += int64(n)
	if ops.KindOf(err) == ops.Exhausted {
		// The disk filled up faster than it was looked at.
		if reserve := w.a.space.check(w.ctx); reserve != nil {
			return n, reserve
		}
	}
	if err != nil {
		return n, fmt.Errorf("write %s: %w", w.ref, err)
	}
	return n, nil
}

// account refuses what would break the limit of one instance or the reserve.
func (w *writer) account(n int64) error {
	w.a.mu.Lock()
	counts := w.act.received
	if w.derived {
		counts = w.act.derived
	}
	over := counts[w.ref.Instance]+n > ops.MaxCaptureBytes
	if !over {
		counts[w.ref.Instance] += n
	}
	w.a.mu.Unlock()
	if over {
		return ops.Errorf(ops.Exhausted, "the capture has reached its limit of %s for one instance: capture for a shorter time, or fewer kinds", humanize.IBytes(ops.MaxCaptureBytes))
	}
	return w.a.space.take(w.ctx, n)
}

func (w *writer) usable() error {
	if w.ended {
		return ops.Errorf(ops.Conflict, "artifact %s is closed", w.ref)
	}
	if err := w.a.stopped(); err != nil {
		_ = w.part.Close() // the file stays as it is, for recovery to judge
		w.end()
		return err
	}
	return nil
}

// Commit implements ops.ArtifactWriter.
func (w *writer) Commit(size int64, sum []byte, final ops.Artifact) error {
	if err := w.usable(); err != nil {
		return err
	}
	got := w.sum.Sum(nil)
	if size != w.off || !bytes.Equal(sum, got) {
		said := fmt.Sprintf("%d bytes with SHA-256 %x arrived, the sender has %d with %x", w.off, got, size, sum)
		err := w.Abort(ops.Loss{Kind: w.art.Kind, Reason: ops.LossFailed, Message: "damaged on its way: " + said})
		if err != nil && ops.KindOf(err) != ops.Exhausted {
			return err
		}
		return ops.Errorf(ops.Corrupt, "artifact %s was damaged on its way: %s; capture again", w.ref, said)
	}
	art := merge(w.art, final)
	art.SizeBytes, art.SHA256 = w.off, hex.EncodeToString(got)
	if err := w.part.Sync(); err != nil {
		return w.stop("sync artifact", err)
	}
	if err := w.put(art, ops.ArtifactCommitting); err != nil {
		return err
	}
	if err := w.finalize(); err != nil {
		return w.stop("finalize artifact", err)
	}
	defer w.end()
	w.a.stored.Add(art.SizeBytes)
	err := w.put(art, ops.ArtifactDone)
	if ops.KindOf(err) == ops.Exhausted {
		// The bytes are safe and the row says so to recovery; but nobody may be
		// told before it says so to everybody.
		w.a.postpone(w.ref.String(), func(ctx context.Context) error { return w.a.putRow(ctx, w.ref, art, ops.ArtifactDone) })
	}
	return err
}

func (w *writer) finalize() error {
	err := w.part.Finalize()
	if ops.KindOf(err) == ops.Exhausted && w.a.space.releaseBallast() {
		err = w.part.Finalize()
	}
	return err
}

// stop is for errors after which the part cannot be trusted. The file stays as
// it is for recovery to judge.
func (w *writer) stop(op string, err error) error {
	defer w.end()
	_ = w.part.Close()
	return w.a.fail(op+" "+w.ref.String(), err)
}

// Abort implements ops.ArtifactWriter.
func (w *writer) Abort(loss ops.Loss) error {
	if err := w.usable(); err != nil {
		return err
	}
	if w.off == 0 {
		return w.discard()
	}
	defer w.end()
	if err := w.part.Sync(); err != nil {
		return w.stop("sync artifact", err)
	}
	if err := w.part.Close(); err != nil {
		return w.stop("close artifact", err)
	}
	art := w.art
	art.SizeBytes, art.SHA256, art.Partial = w.off, hex.EncodeToString(w.sum.Sum(nil)), true
	art.Losses = append(append([]ops.Loss(nil), art.Losses...), loss)
	w.a.stored.Add(w.off)
	err := w.put(art, ops.ArtifactPartial)
	if ops.KindOf(err) == ops.Exhausted {
		w.a.postpone(w.ref.String(), func(ctx context.Context) error { return w.a.putRow(ctx, w.ref, art, ops.ArtifactPartial) })
	}
	return err
}

// discard leaves nothing of the artifact.
func (w *writer) discard() error {
	if err := w.usable(); err != nil {
		return err
	}
	defer w.end()
	_ = w.part.Close() // its bytes are not wanted
	if err := w.a.blobs.Delete(w.ctx, w.ref); err != nil {
		return err
	}
	return w.a.change(w.ctx, "delete artifact", func() error {
		err := w.a.rows.DeleteArtifact(w.ctx, w.ref)
		if ops.KindOf(err) == ops.NotFound {
			return nil
		}
		return err
	})
}

// end lets others at the artifact and its capture.
func (w *writer) end() {
	if !w.ended {
		w.ended = true
		w.a.unclaim(w.act, w.ref)
		w.release()
	}
}

func (w *writer) put(art ops.Artifact, s ops.ArtifactState) error {
	return w.a.putRow(w.ctx, w.ref, art, s)
}

func (a *Archive) putRow(ctx context.Context, ref ops.ArtifactRef, art ops.Artifact, s ops.ArtifactState) error {
	return a.change(ctx, "put artifact", func() error { return a.rows.PutArtifact(ctx, ref, art, s) })
}

// merge adds what was learned at the end to what was announced.
func merge(a, final ops.Artifact) ops.Artifact {
	if final.Kind != "" {
		a.Kind = final.Kind
	}
	if final.Phase != "" {
		a.Phase = final.Phase
	}
	if !final.TakenAt.IsZero() {
		a.TakenAt = final.TakenAt
	}
	if !final.WindowStart.IsZero() {
		a.WindowStart = final.WindowStart
	}
	if !final.WindowEnd.IsZero() {
		a.WindowEnd = final.WindowEnd
	}
	if final.Losses != nil {
		a.Losses = final.Losses
	}
	a.Partial = a.Partial || final.Partial
	a.Derived = a.Derived || final.Derived
	return a
}
