package archive_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

// faults makes the n-th operation of the stores fail that changes something.
type faults struct {
	mu    sync.Mutex
	n     int
	seen  int
	kind  fault
	first string // the operation that failed
}

// fault is a way to fail.
type fault int

const (
	none      fault = iota
	fullOnce        // the disk is full for one operation
	fullAfter       // the disk is full from then on
	dead            // the disk is gone from then on
	liesDead        // the operation succeeds but says it did not, and the disk is gone
)

func (f fault) String() string {
	return [...]string{"none", "full once", "full from then on", "dead", "done but not said, then dead"}[f]
}

var (
	errFull = ops.Errorf(ops.Exhausted, "the disk is full (injected: %w)", syscall.ENOSPC)
	errDead = fmt.Errorf("injected: %w", syscall.EIO)
)

// next returns whether the next operation is to take effect, and the error it is
// to return.
func (f *faults) next(op string) (effect bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.kind == none || f.seen < f.n || f.kind == fullOnce && f.seen > f.n {
		return true, nil
	}
	if f.seen == f.n {
		f.first = op
	}
	switch f.kind {
	case fullOnce, fullAfter:
		return false, errFull
	case liesDead:
		return f.seen == f.n, errDead
	default:
		return false, errDead
	}
}

func (f *faults) do(op string, fn func() error) error {
	effect, err := f.next(op)
	if effect {
		if own := fn(); own != nil || err == nil {
			return own
		}
	}
	return err
}

type faultyRows struct {
	ops.Catalogue
	f *faults
}

func (r faultyRows) InsertCapture(ctx context.Context, c ops.Capture) error {
	return r.f.do("insert capture", func() error { return r.Catalogue.InsertCapture(ctx, c) })
}

func (r faultyRows) UpdateCapture(ctx context.Context, c ops.Capture) error {
	return r.f.do("update capture", func() error { return r.Catalogue.UpdateCapture(ctx, c) })
}

func (r faultyRows) UpdateTarget(ctx context.Context, id ops.CaptureID, t ops.CaptureTarget) error {
	return r.f.do("update target", func() error { return r.Catalogue.UpdateTarget(ctx, id, t) })
}

func (r faultyRows) PutArtifact(ctx context.Context, ref ops.ArtifactRef, a ops.Artifact, s ops.ArtifactState) error {
	return r.f.do("put artifact "+string(s), func() error { return r.Catalogue.PutArtifact(ctx, ref, a, s) })
}

func (r faultyRows) DeleteArtifact(ctx context.Context, ref ops.ArtifactRef) error {
	return r.f.do("delete artifact", func() error { return r.Catalogue.DeleteArtifact(ctx, ref) })
}

func (r faultyRows) DeleteCapture(ctx context.Context, id ops.CaptureID) error {
	return r.f.do("delete capture", func() error { return r.Catalogue.DeleteCapture(ctx, id) })
}

type faultyBlobs struct {
	ops.Blobs
	f *faults
}

func (b faultyBlobs) Part(ctx context.Context, ref ops.ArtifactRef) (p ops.Part, err error) {
	err = b.f.do("open part", func() error { p, err = b.Blobs.Part(ctx, ref); return err })
	if err != nil {
		if p != nil {
			p.Close()
		}
		return nil, err
	}
	return &faultyPart{p, b.f}, nil
}

func (b faultyBlobs) Delete(ctx context.Context, ref ops.ArtifactRef) error {
	return b.f.do("delete blob", func() error { return b.Blobs.Delete(ctx, ref) })
}

func (b faultyBlobs) DeleteCapture(ctx context.Context, id ops.CaptureID) error {
	return b.f.do("delete blobs of capture", func() error { return b.Blobs.DeleteCapture(ctx, id) })
}

func (b faultyBlobs) Quarantine(ctx context.Context, ref ops.ArtifactRef) (where string, err error) {
	err = b.f.do("quarantine", func() error { where, err = b.Blobs.Quarantine(ctx, ref); return err })
	return where, err
}

type faultyPart struct {
	ops.Part
	f *faults
}

// Write tears: half of it arrives.
func (p *faultyPart) Write(b []byte) (int, error) {
	effect, err := p.f.next("write")
	if err == nil {
		return p.Part.Write(b)
	}
	if effect {
		n, _ := p.Part.Write(b[:len(b)/2])
		return n, err
	}
	return 0, err
}

func (p *faultyPart) Sync() error     { return p.f.do("sync", p.Part.Sync) }
func (p *faultyPart) Finalize() error { return p.f.do("finalize", p.Part.Finalize) }

// acknowledged is what callers were told, and what they asked for in vain: the
// outcome of that is open.
type acknowledged struct {
	begun, gone, maybeGone map[ops.CaptureID]bool
	pinned                 map[ops.CaptureID]bool
	ended                  map[ops.CaptureID]ops.CaptureState
	stored                 map[ops.ArtifactRef]string // SHA-256 in hex
	partial                map[ops.ArtifactRef]string
	removed, maybeRemoved  map[ops.ArtifactRef]bool
}

func newAcknowledged() *acknowledged {
	return &acknowledged{
		begun: map[ops.CaptureID]bool{}, gone: map[ops.CaptureID]bool{}, maybeGone: map[ops.CaptureID]bool{}, pinned: map[ops.CaptureID]bool{},
		ended: map[ops.CaptureID]ops.CaptureState{}, stored: map[ops.ArtifactRef]string{}, partial: map[ops.ArtifactRef]string{},
		removed: map[ops.ArtifactRef]bool{}, maybeRemoved: map[ops.ArtifactRef]bool{},
	}
}

// violations compares what a freshly recovered centre holds with what was
// acknowledged. There should be none.
func (k *acknowledged) violations(ctx context.Context, c *centre) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	held := map[ops.CaptureID]ops.Capture{}
	rows := map[ops.ArtifactRef]ops.ArtifactRow{}
	for before := ops.CaptureID(""); ; {
		page, err := c.Captures(ctx, ops.CaptureFilter{Before: before, Limit: 500})
		if err != nil {
			say("list: %v", err)
		}
		if len(page) == 0 {
			break
		}
		before = page[len(page)-1].ID
		for _, x := range page {
			held[x.ID] = x
			if !x.State.Ended() {
				say("capture %s is in limbo: %s", x.ID, x.State)
			}
			for _, target := range x.Targets {
				if !target.State.Ended() {
					say("capture %s is in limbo at %s: %s", x.ID, target.Instance.ID, target.State)
				}
			}
			artifacts, err := c.rows.ArtifactRows(ctx, x.ID)
			if err != nil {
				say("rows of %s: %v", x.ID, err)
			}
			for _, row := range artifacts {
				rows[row.Ref] = row
				if row.State != ops.ArtifactDone && row.State != ops.ArtifactPartial {
					say("artifact %s is in limbo: %s", row.Ref, row.State)
				}
				if row.State == ops.ArtifactPartial && (!row.Artifact.Partial || len(row.Artifact.Losses) == 0) {
					say("artifact %s is partial and does not say why: %+v", row.Ref, row.Artifact)
				}
				if got, err := hashOf(ctx, c, row.Ref); err != nil || got != row.Artifact.SHA256 {
					say("artifact %s holds %s, its row says %s: %v", row.Ref, got, row.Artifact.SHA256, err)
				}
			}
		}
	}
	err := c.blobs.List(ctx, func(r ops.ArtifactRef, _ bool, _ int64) error {
		if _, ok := rows[r]; !ok {
			say("file %s has no row", r)
		}
		return nil
	})
	if err != nil {
		say("list blobs: %v", err)
	}
	aside, err := os.ReadDir(filepath.Join(c.dir, "blobs", "quarantine"))
	for _, f := range aside {
		say("quarantined: %s", f.Name())
	}
	if err != nil {
		say("quarantine: %v", err)
	}
	for id := range k.begun {
		if _, ok := held[id]; !ok && !k.maybeGone[id] {
			say("capture %s is lost", id)
		}
	}
	for id := range k.gone {
		if _, ok := held[id]; ok {
			say("capture %s was deleted and is back", id)
		}
	}
	for id := range k.pinned {
		if x, ok := held[id]; ok && !x.Pinned {
			say("capture %s is no longer pinned", id)
		}
	}
	for id, state := range k.ended {
		if x, ok := held[id]; ok && x.State != state {
			say("capture %s had ended as %s and is %s", id, state, x.State)
		}
	}
	for ref, sum := range k.stored {
		if k.maybeGone[ref.Capture] || k.maybeRemoved[ref] {
			continue
		}
		if row, ok := rows[ref]; !ok || row.State != ops.ArtifactDone || row.Artifact.SHA256 != sum {
			say("artifact %s was acknowledged and is %+v", ref, row)
		}
	}
	for ref, sum := range k.partial {
		if row, ok := rows[ref]; !k.maybeGone[ref.Capture] && (!ok || row.Artifact.SHA256 != sum) {
			say("partial artifact %s was acknowledged and is %+v", ref, row)
		}
	}
	for ref := range k.removed {
		if _, ok := rows[ref]; ok {
			say("artifact %s was removed and is back", ref)
		}
	}
	return out
}

func hashOf(ctx context.Context, c *centre, ref ops.ArtifactRef) (string, error) {
	b, _, err := c.OpenArtifact(ctx, ref)
	if err != nil {
		return "", err
	}
	defer b.Close()
	h := sha256.New()
	_, err = io.Copy(h, b)
	return hex.EncodeToString(h.Sum(nil)), err
}

// story uses all of the archive, goes on after every error, and notes what was
// acknowledged.
func story(ctx context.Context, a *archive.Archive, k *acknowledged) {
	first := opstest.SampleCapture("01capture", 2)
	if a.Begin(ctx, first) == nil {
		k.begun[first.ID] = true
	}
	write := func(ref ops.ArtifactRef, pieces ...string) (ops.ArtifactWriter, string) {
		w, err := a.Create(ctx, ref, ops.Artifact{Kind: ops.KindCPU})
		if err != nil {
			return nil, ""
		}
		for _, p := range pieces {
			if _, err := io.WriteString(w, p); err != nil {
				if w.Abort(ops.Loss{Reason: ops.LossFailed, Message: "cut off"}) != nil {
					_ = w.Abort(ops.Loss{Reason: ops.LossFailed, Message: "once more"})
				}
				return nil, ""
			}
		}
		return w, strings.Join(pieces, "")
	}
	commit := func(ref ops.ArtifactRef, pieces ...string) {
		if w, content := write(ref, pieces...); w != nil {
			if w.Commit(int64(len(content)), sum(content), ops.Artifact{}) == nil {
				k.stored[ref] = hex.EncodeToString(sum(content))
			} else {
				_ = w.Abort(ops.Loss{Reason: ops.LossFailed, Message: "not committed"})
			}
		}
	}
	commit(ref("cpu.0.pprof"), "segment ", "one")
	commit(ref("heap.pprof"), "heap")
	if w, content := write(ref("trace.out"), "half of ", "a trace"); w != nil && w.Abort(ops.Loss{Reason: ops.LossDisconnected, Message: "lost"}) == nil {
		k.partial[ref("trace.out")] = hex.EncodeToString(sum(content))
	}
	if w, _ := write(ref("mutex.pprof"), "damaged"); w != nil {
		_ = w.Commit(7, sum("correct"), ops.Artifact{})
	}
	if a.Put(ctx, ref("cpu.pprof"), ops.Artifact{}, func(w io.Writer) error { _, err := io.WriteString(w, "merged"); return err }) == nil {
		k.stored[ref("cpu.pprof")] = hex.EncodeToString(sum("merged"))
		k.maybeRemoved[ref("cpu.0.pprof")] = true
		if a.Remove(ctx, ref("cpu.0.pprof")) == nil {
			k.removed[ref("cpu.0.pprof")] = true
		}
	}
	if a.Pin(ctx, first.ID, true) == nil {
		k.pinned[first.ID] = true
	}
	end := func(c ops.Capture) {
		for _, target := range c.Targets {
			target.State = ops.CaptureDone
			_ = a.UpdateTarget(ctx, c.ID, target)
		}
		c.State = ops.CaptureDone
		if a.Update(ctx, c) == nil {
			k.ended[c.ID] = ops.CaptureDone
		}
	}
	end(first)
	second := opstest.SampleCapture("02capture", 1)
	if a.Begin(ctx, second) == nil {
		k.begun[second.ID] = true
	}
	commit(ops.ArtifactRef{Capture: "02capture", Instance: "boot-0", Name: "cpu.pprof"}, "to be deleted")
	end(second)
	k.maybeGone[second.ID] = true
	if a.Delete(ctx, second.ID) == nil {
		k.gone[second.ID] = true
	}
	third := opstest.SampleCapture("03capture", 1) // runs when the centre dies
	if a.Begin(ctx, third) == nil {
		k.begun[third.ID] = true
	}
	commit(ops.ArtifactRef{Capture: "03capture", Instance: "boot-0", Name: "heap.before.pprof"}, "first snapshot")
	write(ops.ArtifactRef{Capture: "03capture", Instance: "boot-0", Name: "trace.out"}, "still running")
	write(ops.ArtifactRef{Capture: "03capture", Instance: "boot-0", Name: "goroutine.pprof"})
}

// Every operation of the stores fails once, in every way; then the program dies
// and starts again, and a second time while it recovers.
func TestEveryFaultAtEveryOperation(t *testing.T) {
	with := func(f *faults) func(*archive.Config) {
		return func(c *archive.Config) { c.Catalogue, c.Blobs = faultyRows{c.Catalogue, f}, faultyBlobs{c.Blobs, f} }
	}
	count := &faults{}
	c := start(t, t.TempDir(), with(count))
	healthy := newAcknowledged()
	story(t.Context(), c.Archive, healthy)
	if len(healthy.stored) != 5 || len(healthy.partial) != 1 || len(healthy.gone) != 1 || len(healthy.ended) != 2 || len(healthy.begun) != 3 {
		t.Fatalf("the story does not work: %+v", healthy)
	}
	c = c.restart(t)
	if v := healthy.violations(t.Context(), c); len(v) > 0 {
		t.Fatalf("without any fault: %s", strings.Join(v, "\n"))
	}
	t.Logf("%d operations", count.seen)
	for _, kind := range []fault{fullOnce, fullAfter, dead, liesDead} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for n := 1 + int(kind)%stride; n <= count.seen; n += stride {
				f := &faults{n: n, kind: kind}
				c := start(t, t.TempDir(), with(f))
				k := newAcknowledged()
				story(t.Context(), c.Archive, k)
				wantStopped(t, c.Archive, kind, f.first)
				// It dies again while it recovers, at some operation.
				c.stop()
				again := &faults{n: 1 + n%7, kind: []fault{dead, liesDead}[n%2]}
				c = recoverWith(t, c.dir, with(again))
				if v := k.violations(t.Context(), c); len(v) > 0 {
					t.Errorf("%s at operation %d (%s):\n%s", kind, n, f.first, strings.Join(v, "\n"))
				}
				c.stop()
				if t.Failed() {
					return
				}
			}
		})
	}
}

// wantStopped checks that the archive stops when nobody can tell what is on the
// disk, and only then.
func wantStopped(t *testing.T, a *archive.Archive, kind fault, op string) {
	t.Helper()
	_, err := a.Captures(t.Context(), ops.CaptureFilter{})
	var stop *archive.FailStopError
	stopped := errors.As(err, &stop)
	sure := slices.Contains([]string{"sync", "finalize", "insert capture", "update capture", "update target", "delete artifact", "delete capture"}, op) || strings.HasPrefix(op, "put artifact")
	switch {
	case kind == fullOnce && stopped && op != "sync":
		t.Errorf("a full disk at %q stopped it: %v", op, err)
	case (kind == dead || kind == liesDead) && sure && !stopped:
		t.Errorf("a dead disk at %q did not stop it: %v", op, err)
	}
}

// recoverWith recovers a directory with failing stores, and then again.
func recoverWith(t *testing.T, dir string, edit func(*archive.Config)) *centre {
	t.Helper()
	return start(t, dir, func(healthy *archive.Config) {
		failing := *healthy
		edit(&failing)
		if a, err := archive.Open(t.Context(), failing); err == nil {
			must(t, a.Close())
		}
	})
}

func TestFailStop(t *testing.T) {
	f := &faults{}
	told := make(chan error, 2)
	c := start(t, t.TempDir(), func(c *archive.Config) {
		c.Blobs = faultyBlobs{c.Blobs, f}
		c.OnFailure = func(err error) { told <- err }
	})
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	store(t, c.Archive, ref("heap.pprof"), "kept")
	w, err := c.Create(t.Context(), ref("cpu.pprof"), ops.Artifact{})
	must(t, err)
	other, err := c.Create(t.Context(), ref("trace.out"), ops.Artifact{})
	must(t, err)
	_, err = io.WriteString(w, "x")
	must(t, err)
	ran := make(chan error)
	go func() { ran <- c.Run(t.Context()) }()

	f.mu.Lock()
	f.n, f.kind = f.seen+1, dead
	f.mu.Unlock()
	const want = "the archive stopped after a storage error (sync artifact 01capture/boot-0/cpu.pprof: injected: input/output error): restart the centre, it keeps everything it acknowledged"
	wantError(t, w.Commit(1, sum("x"), ops.Artifact{}), ops.Unavailable, want)
	wantError(t, <-ran, ops.Unavailable, want)
	wantError(t, <-told, ops.Unavailable, want)
	_, err = io.WriteString(other, "x")
	wantError(t, err, ops.Unavailable, want)
	wantError(t, other.Abort(ops.Loss{}), ops.Conflict, "artifact 01capture/boot-0/trace.out is closed")
	wantError(t, c.Begin(t.Context(), opstest.SampleCapture("02capture", 1)), ops.Unavailable, want)
	wantError(t, c.Pin(t.Context(), capture, true), ops.Unavailable, want)
	wantError(t, c.Delete(t.Context(), capture), ops.Unavailable, want)
	wantError(t, c.Export(t.Context(), capture, io.Discard), ops.Unavailable, want)
	if s := c.Status(t.Context()); s.Problem != want {
		t.Errorf("status says %q", s.Problem)
	}
	if len(told) != 0 {
		t.Error("told twice")
	}
	c = c.restart(t)
	if got := read(t, c.Archive, ref("heap.pprof")); got != "kept" {
		t.Errorf("got %q", got)
	}
}

// An error that says the disk is full must not stop the archive, and the end
// that could not be written is written once there is room.
func TestEndIsWrittenOnceThereIsRoom(t *testing.T) {
	f := &faults{}
	c := start(t, t.TempDir(), func(c *archive.Config) { c.Catalogue = faultyRows{c.Catalogue, f}; c.Ballast = -1 })
	x := opstest.SampleCapture(capture, 1)
	must(t, c.Begin(t.Context(), x))
	w, err := c.Create(t.Context(), ref("cpu.pprof"), ops.Artifact{})
	must(t, err)
	_, err = io.WriteString(w, "half")
	must(t, err)
	f.mu.Lock()
	f.n, f.kind = f.seen+1, fullAfter
	f.mu.Unlock()
	const want = "the disk is full (injected: no space left on device)"
	wantError(t, w.Abort(ops.Loss{Reason: ops.LossFailed, Message: "the disk is full"}), ops.Exhausted, want)
	x.Targets[0].State, x.State, x.Reason = ops.CapturePartial, ops.CapturePartial, "the disk is full"
	wantError(t, c.UpdateTarget(t.Context(), capture, x.Targets[0]), ops.Exhausted, want)
	wantError(t, c.Update(t.Context(), x), ops.Exhausted, want)
	c.Settle(t.Context()) // still full
	if got, err := c.Capture(t.Context(), capture); err != nil || got.State != ops.CaptureRequested {
		t.Errorf("got %s, %v", got.State, err)
	}
	f.mu.Lock()
	f.kind = none
	f.mu.Unlock()
	c.Settle(t.Context())
	got, err := c.Capture(t.Context(), capture)
	must(t, err)
	if got.State != ops.CapturePartial || got.Targets[0].State != ops.CapturePartial || len(got.Targets[0].Artifacts) != 1 || got.Targets[0].Artifacts[0].SizeBytes != 4 {
		t.Errorf("got %+v", got)
	}
	must(t, c.Delete(t.Context(), capture)) // it no longer counts as running
}

func TestRunEndsWithItsContext(t *testing.T) {
	c := start(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- c.Run(ctx) }()
	cancel()
	must(t, <-ran)
}
