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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/archive/localblob"
	"github.com/opscenter/opscenter/internal/archive/sqlite"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

const capture = ops.CaptureID("01capture")

// centre is an archive with the stores below it, all in one directory.
type centre struct {
	*archive.Archive
	dir   string
	rows  *sqlite.Catalogue
	blobs *localblob.Store
	stop  func()
}

// start opens the archive of a directory. edit may change its Config.
func start(t testing.TB, dir string, edit ...func(*archive.Config)) *centre {
	t.Helper()
	c := &centre{dir: dir}
	if name := filepath.Join(dir, "ops.db"); !exists(name) {
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.WriteFile(name, emptyDatabase(), 0o600))
	}
	must(t, archive.WithBallast(dir, func() (err error) {
		c.rows, err = sqlite.Open(t.Context(), filepath.Join(dir, "ops.db"))
		return err
	}))
	var err error
	if c.blobs, err = localblob.Open(localblob.Config{Dir: filepath.Join(dir, "blobs")}); err != nil {
		c.rows.Close()
		t.Fatal(err)
	}
	config := archive.Config{Catalogue: c.rows, Blobs: c.blobs, Dir: dir, Reserve: -1, Ballast: 1 << 20}
	for _, f := range edit {
		f(&config)
	}
	c.Archive, err = archive.Open(t.Context(), config)
	if err != nil {
		c.rows.Close()
		c.blobs.Close()
		t.Fatal(err)
	}
	c.stop = sync.OnceFunc(func() {
		c.Close()
		c.rows.Close()
		c.blobs.Close()
	})
	t.Cleanup(c.stop)
	return c
}

// emptyDatabase is a database with all its tables: making them takes longer than
// most tests here.
var emptyDatabase = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "archive")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	rows, err := sqlite.Open(context.Background(), filepath.Join(dir, "ops.db"))
	if err != nil {
		panic(err)
	}
	if err := rows.Close(); err != nil {
		panic(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "ops.db"))
	if err != nil {
		panic(err)
	}
	return content
})

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// restart is start after the program died.
func (c *centre) restart(t testing.TB, edit ...func(*archive.Config)) *centre {
	t.Helper()
	c.stop()
	return start(t, c.dir, edit...)
}

func ref(name string) ops.ArtifactRef {
	return ops.ArtifactRef{Capture: capture, Instance: "boot-0", Name: name}
}

func sum(content string) []byte {
	h := sha256.Sum256([]byte(content))
	return h[:]
}

func store(t testing.TB, a *archive.Archive, r ops.ArtifactRef, content string) {
	t.Helper()
	w, err := a.Create(t.Context(), r, ops.Artifact{Kind: ops.KindCPU, Phase: ops.PhaseWindow})
	must(t, err)
	_, err = io.WriteString(w, content)
	must(t, err)
	must(t, w.Commit(int64(len(content)), sum(content), ops.Artifact{}))
}

func read(t testing.TB, a *archive.Archive, r ops.ArtifactRef) string {
	t.Helper()
	b, _, err := a.OpenArtifact(t.Context(), r)
	must(t, err)
	defer b.Close()
	content, err := io.ReadAll(b)
	must(t, err)
	return string(content)
}

// finish ends a capture and its targets.
func finish(t testing.TB, a *archive.Archive, id ops.CaptureID) ops.Capture {
	t.Helper()
	c, err := a.Capture(t.Context(), id)
	must(t, err)
	for _, target := range c.Targets {
		target.State = ops.CaptureDone
		must(t, a.UpdateTarget(t.Context(), id, target))
	}
	c.State = ops.CaptureDone
	must(t, a.Update(t.Context(), c))
	c, err = a.Capture(t.Context(), id)
	must(t, err)
	return c
}

func TestCaptureFromBeginningToEnd(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 2)))
	content := strings.Repeat("samples ", 10_000)
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	w, err := c.Create(t.Context(), ref("cpu.pprof"), ops.Artifact{Kind: ops.KindCPU, Phase: ops.PhaseWindow, TakenAt: noon, SHA256: "not yet known", SizeBytes: 99})
	must(t, err)
	for piece := range strings.SplitAfterSeq(content, "samples samples ") {
		_, err := io.WriteString(w, piece)
		must(t, err)
	}
	if w.Offset() != int64(len(content)) {
		t.Errorf("offset %d", w.Offset())
	}
	got, err := c.Capture(t.Context(), capture)
	must(t, err)
	if n := len(got.Targets[0].Artifacts); n != 0 {
		t.Errorf("%d artifacts are visible while one is received", n)
	}
	gap := []ops.Loss{{Kind: ops.KindCPU, Reason: ops.LossGap, Message: "3 ms between segments"}}
	must(t, w.Commit(int64(len(content)), sum(content), ops.Artifact{WindowStart: noon, WindowEnd: noon.Add(30 * time.Second), Losses: gap}))
	must(t, c.Put(t.Context(), ref("block.pprof"), ops.Artifact{Kind: ops.KindBlock, Phase: ops.PhaseWindow}, func(w io.Writer) error {
		_, err := io.WriteString(w, "after minus before")
		return err
	}))
	done := finish(t, c.Archive, capture)
	want := []ops.Artifact{
		{Name: "block.pprof", Kind: ops.KindBlock, Phase: ops.PhaseWindow, SizeBytes: 18, SHA256: hex.EncodeToString(sum("after minus before")), Derived: true},
		{
			Name: "cpu.pprof", Kind: ops.KindCPU, Phase: ops.PhaseWindow, TakenAt: noon, WindowStart: noon, WindowEnd: noon.Add(30 * time.Second),
			SizeBytes: int64(len(content)), SHA256: hex.EncodeToString(sum(content)), Losses: gap,
		},
	}
	if diff := cmp.Diff(want, done.Targets[0].Artifacts, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if done.State != ops.CaptureDone || done.Finished.IsZero() {
		t.Errorf("state %s, finished %v", done.State, done.Finished)
	}
	if got := read(t, c.Archive, ref("cpu.pprof")); got != content {
		t.Error("the artifact reads differently")
	}
	if s := c.Status(t.Context()); s.StoredBytes != int64(len(content))+18 || s.Problem != "" || s.FreeBytes <= 0 {
		t.Errorf("status %+v", s)
	}
	c = c.restart(t)
	again, err := c.Capture(t.Context(), capture)
	must(t, err)
	if diff := cmp.Diff(done, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
	if s := c.Status(t.Context()); s.StoredBytes != int64(len(content))+18 {
		t.Errorf("status after a restart %+v", s)
	}
}

func TestDamagedOnItsWay(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	w, err := c.Create(t.Context(), ref("cpu.pprof"), ops.Artifact{Kind: ops.KindCPU})
	must(t, err)
	_, err = io.WriteString(w, "damaged")
	must(t, err)
	err = w.Commit(7, sum("correct"), ops.Artifact{})
	wantError(t, err, ops.Corrupt, "artifact 01capture/boot-0/cpu.pprof was damaged on its way: 7 bytes with SHA-256 "+hex.EncodeToString(sum("damaged"))+
		" arrived, the sender has 7 with "+hex.EncodeToString(sum("correct"))+"; capture again")
	got, err := c.Capture(t.Context(), capture)
	must(t, err)
	a := got.Targets[0].Artifacts
	if len(a) != 1 || !a[0].Partial || a[0].SizeBytes != 7 || len(a[0].Losses) != 1 || !strings.HasPrefix(a[0].Losses[0].Message, "damaged on its way: ") {
		t.Errorf("got %+v", a)
	}
	if got := read(t, c.Archive, ref("cpu.pprof")); got != "damaged" {
		t.Errorf("got %q", got)
	}
	// Its writer is closed, and says so.
	_, err = io.WriteString(w, "x")
	wantError(t, err, ops.Conflict, "artifact 01capture/boot-0/cpu.pprof is closed")
}

func TestAbortedArtifactIsPartialAndCanGoOn(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	w, err := c.Create(t.Context(), ref("trace.out"), ops.Artifact{Kind: ops.KindTrace})
	must(t, err)
	_, err = io.WriteString(w, "first half, ")
	must(t, err)
	_, err = c.Create(t.Context(), ref("trace.out"), ops.Artifact{})
	wantError(t, err, ops.Conflict, "artifact 01capture/boot-0/trace.out is being written")
	lost := ops.Loss{Kind: ops.KindTrace, Reason: ops.LossDisconnected, Message: "the connection was lost"}
	must(t, w.Abort(lost))
	got, err := c.Capture(t.Context(), capture)
	must(t, err)
	want := []ops.Artifact{{Name: "trace.out", Kind: ops.KindTrace, SizeBytes: 12, SHA256: hex.EncodeToString(sum("first half, ")), Partial: true, Losses: []ops.Loss{lost}}}
	if diff := cmp.Diff(want, got.Targets[0].Artifacts); diff != "" {
		t.Error(diff)
	}

	w, err = c.Create(t.Context(), ref("trace.out"), ops.Artifact{Kind: ops.KindTrace})
	must(t, err)
	if w.Offset() != 12 {
		t.Fatalf("goes on at %d", w.Offset())
	}
	_, err = io.WriteString(w, "second half")
	must(t, err)
	must(t, w.Commit(23, sum("first half, second half"), ops.Artifact{}))
	if got := read(t, c.Archive, ref("trace.out")); got != "first half, second half" {
		t.Errorf("got %q", got)
	}
	if s := c.Status(t.Context()); s.StoredBytes != 23 {
		t.Errorf("stored %d", s.StoredBytes)
	}
	_, err = c.Create(t.Context(), ref("trace.out"), ops.Artifact{})
	wantError(t, err, ops.Conflict, "artifact 01capture/boot-0/trace.out exists already")
	err = c.Put(t.Context(), ref("trace.out"), ops.Artifact{}, func(io.Writer) error { t.Error("it was written"); return nil })
	wantError(t, err, ops.Conflict, "artifact 01capture/boot-0/trace.out exists already")

	// Of an empty one nothing is kept.
	w, err = c.Create(t.Context(), ref("heap.pprof"), ops.Artifact{})
	must(t, err)
	must(t, w.Abort(lost))
	if got, err = c.Capture(t.Context(), capture); err != nil || len(got.Targets[0].Artifacts) != 1 {
		t.Errorf("got %+v, %v", got.Targets[0].Artifacts, err)
	}
	wantNothingAside(t, c)
}

func TestPutThatFailsLeavesNothing(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	broken := errors.New("cannot merge")
	err := c.Put(t.Context(), ref("cpu.pprof"), ops.Artifact{}, func(w io.Writer) error {
		if _, err := io.WriteString(w, "half of it"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = c.Put(t.Context(), ref("cpu.pprof"), ops.Artifact{}, func(w io.Writer) error {
			_, _ = io.WriteString(w, "half of it")
			panic("a bug")
		})
	}()
	got, err := c.Capture(t.Context(), capture)
	if err != nil || len(got.Targets[0].Artifacts) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	must(t, c.Put(t.Context(), ref("cpu.pprof"), ops.Artifact{}, func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }))
	finish(t, c.Archive, capture)
	if s := c.Status(t.Context()); s.StoredBytes != 5 {
		t.Errorf("stored %d", s.StoredBytes)
	}
	// Derived artifacts may be made of captures that have ended; others not.
	must(t, c.Put(t.Context(), ref("heap-types.json"), ops.Artifact{}, func(w io.Writer) error { _, err := io.WriteString(w, "{}"); return err }))
	_, err = c.Create(t.Context(), ref("late.pprof"), ops.Artifact{})
	wantError(t, err, ops.Conflict, "capture 01capture is done: nothing can be added to it")
	err = c.Put(t.Context(), ops.ArtifactRef{Capture: "09nothing", Instance: "boot-0", Name: "x"}, ops.Artifact{}, func(io.Writer) error { return nil })
	wantError(t, err, ops.NotFound, "capture 09nothing has no instance boot-0")
	_, err = c.Create(t.Context(), ops.ArtifactRef{Capture: "09nothing", Instance: "boot-0", Name: "x"}, ops.Artifact{})
	wantError(t, err, ops.NotFound, "there is no capture 09nothing")
}

func TestRemoveAndDelete(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	store(t, c.Archive, ref("cpu.0.pprof"), "segment")
	store(t, c.Archive, ref("cpu.pprof"), "whole")
	must(t, c.Remove(t.Context(), ref("cpu.0.pprof")))
	wantError(t, c.Remove(t.Context(), ref("cpu.0.pprof")), ops.NotFound, `there is no artifact "01capture/boot-0/cpu.0.pprof"`)
	_, _, err := c.OpenArtifact(t.Context(), ref("cpu.0.pprof"))
	wantError(t, err, ops.NotFound, `there is no artifact "01capture/boot-0/cpu.0.pprof"`)
	_, _, err = c.OpenArtifact(t.Context(), ref("../cpu.pprof"))
	wantError(t, err, ops.NotFound, `there is no artifact "01capture/boot-0/../cpu.pprof"`)

	wantError(t, c.Delete(t.Context(), capture), ops.Conflict, "capture 01capture is still running: stop or cancel it first")
	finish(t, c.Archive, capture)
	b, _, err := c.OpenArtifact(t.Context(), ref("cpu.pprof"))
	must(t, err)
	defer b.Close()
	must(t, c.Delete(t.Context(), capture))
	wantError(t, c.Delete(t.Context(), capture), ops.NotFound, "there is no capture 01capture")
	if s := c.Status(t.Context()); s.StoredBytes != 0 {
		t.Errorf("stored %d", s.StoredBytes)
	}
	wantNothingAside(t, c)
	c = c.restart(t)
	wantNothingAside(t, c)
	all, err := c.Captures(t.Context(), ops.CaptureFilter{})
	if err != nil || len(all) != 0 {
		t.Errorf("after a restart: %+v, %v", all, err)
	}
}

func TestPinAndEndDoNotUndoEachOther(t *testing.T) {
	c := start(t, t.TempDir())
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	mine, err := c.Capture(t.Context(), capture) // what the engine holds, not pinned
	must(t, err)
	must(t, c.Pin(t.Context(), capture, true))
	mine.State = ops.CaptureCollecting
	must(t, c.Update(t.Context(), mine))
	mine.State, mine.Reason = ops.CapturePartial, "one is missing"
	must(t, c.Update(t.Context(), mine))
	got, err := c.Capture(t.Context(), capture)
	must(t, err)
	if !got.Pinned || got.State != ops.CapturePartial || got.Reason != "one is missing" || got.Finished.IsZero() {
		t.Errorf("got %+v", got)
	}
	mine.State = ops.CaptureCollecting
	wantError(t, c.Update(t.Context(), mine), ops.Conflict, "capture 01capture is partial: it cannot become collecting again")
	must(t, c.Pin(t.Context(), capture, false))
	if got, err = c.Capture(t.Context(), capture); err != nil || got.Pinned || got.State != ops.CapturePartial {
		t.Errorf("got %+v, %v", got, err)
	}
	wantError(t, c.Pin(t.Context(), "09nothing", true), ops.NotFound, "there is no capture 09nothing")
	wantError(t, c.Pin(t.Context(), "../etc", true), ops.NotFound, `there is no capture "../etc"`)
}

func TestBeginRefusesWhatCannotBe(t *testing.T) {
	c := start(t, t.TempDir())
	bad := func(edit func(*ops.Capture), want string) {
		t.Helper()
		x := opstest.SampleCapture(capture, 2)
		edit(&x)
		wantError(t, c.Begin(t.Context(), x), ops.Invalid, want)
	}
	bad(func(x *ops.Capture) { x.ID = "../x" }, `"../x" is no capture id`)
	bad(func(x *ops.Capture) { x.Targets = nil }, "capture 01capture has no instance")
	bad(func(x *ops.Capture) { x.Targets[1].Instance.ID = "a/b" }, `"a/b" is no instance id`)
	bad(func(x *ops.Capture) { x.Targets[1].Instance.ID = "boot-0" }, "capture 01capture names instance boot-0 twice")
	bad(func(x *ops.Capture) { x.State = ops.CaptureDone }, "capture 01capture begins in state done")
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)))
	wantError(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)), ops.Conflict, "capture 01capture exists already")
	finish(t, c.Archive, capture)
	wantError(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 1)), ops.Conflict, "capture 01capture exists already")
	_, err := c.Create(t.Context(), ref("../x"), ops.Artifact{})
	wantError(t, err, ops.Invalid, `"01capture/boot-0/../x" is no name of an artifact`)
}

func TestLimitOfOneInstance(t *testing.T) {
	c := start(t, t.TempDir(), func(c *archive.Config) { c.Blobs = bottomless{c.Blobs} })
	must(t, c.Begin(t.Context(), opstest.SampleCapture(capture, 2)))
	first, err := c.Create(t.Context(), ref("trace.out"), ops.Artifact{})
	must(t, err)
	second, err := c.Create(t.Context(), ref("cpu.pprof"), ops.Artifact{})
	must(t, err)
	block := make([]byte, 64<<20)
	for i := range 8 {
		w := []ops.ArtifactWriter{first, second}[i%2]
		if _, err := w.Write(block); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	_, err = second.Write([]byte("x"))
	wantError(t, err, ops.Exhausted, "the capture has reached its limit of 512 MiB for one instance: capture for a shorter time, or fewer kinds")
	if second.Offset() != 4*64<<20 {
		t.Errorf("what was written is gone: %d", second.Offset())
	}
	// Neither other instances nor what the centre derives suffer from it.
	other, err := c.Create(t.Context(), ops.ArtifactRef{Capture: capture, Instance: "boot-1", Name: "cpu.pprof"}, ops.Artifact{})
	must(t, err)
	if _, err := other.Write(block); err != nil {
		t.Error(err)
	}
	must(t, c.Put(t.Context(), ref("block.pprof"), ops.Artifact{}, func(w io.Writer) error { _, err := w.Write(block); return err }))
	for _, w := range []ops.ArtifactWriter{first, second, other} {
		must(t, w.Abort(ops.Loss{Reason: ops.LossTruncated, Message: "the limit"}))
	}
}

// bottomless is a store whose parts take everything and keep nothing.
type bottomless struct{ ops.Blobs }

func (b bottomless) Part(ctx context.Context, ref ops.ArtifactRef) (ops.Part, error) {
	p, err := b.Blobs.Part(ctx, ref)
	return &sink{Part: p}, err
}

type sink struct{ ops.Part }

func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func TestRetention(t *testing.T) {
	day := 24 * time.Hour
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		keep archive.Retention
		want string
	}{
		{"by default what is older than 30 days goes", archive.Retention{}, "7 6 5 3* 1p"},
		{"for ever", archive.Retention{MaxAge: -1, MaxBytes: -1}, "7 6 5 4 3* 2 1p 0"},
		{"by age", archive.Retention{MaxAge: 45 * day}, "7 6 5 4 3* 1p"},
		{"by size, oldest first", archive.Retention{MaxAge: -1, MaxBytes: 3500}, "7 6 5 3* 1p"},
		{"by size, exactly", archive.Retention{MaxAge: -1, MaxBytes: 4000}, "7 6 5 4 3* 1p"},
		{"the newest stays even if it is too big alone", archive.Retention{MaxAge: -1, MaxBytes: 10}, "7 3* 1p"},
		{"a project keeps less", archive.Retention{MaxAge: -1, MaxBytes: -1, Projects: map[ops.ProjectName]archive.Retention{"even": {MaxAge: 25 * day}}}, "7 6 5 3* 1p"},
		{"a project keeps all", archive.Retention{MaxAge: 15 * day, Projects: map[ops.ProjectName]archive.Retention{"even": {MaxAge: -1}}}, "7 6 4 3* 2 1p 0"},
		{"bytes of its own count alone", archive.Retention{MaxAge: -1, MaxBytes: 1000, Projects: map[ops.ProjectName]archive.Retention{"even": {MaxBytes: 2000}}}, "7 6 4 3* 1p"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := start(t, t.TempDir(), func(c *archive.Config) { c.Retention = tc.keep })
			for i := range 8 {
				id := ops.CaptureID(fmt.Sprintf("%d-capture", i))
				x := opstest.SampleCapture(id, 1)
				x.Created = now.Add(-time.Duration(8-i)*10*day + time.Hour) // 80, 70 … 10 days ago
				x.Project = []ops.ProjectName{"even", "odd"}[i%2]
				must(t, c.Begin(t.Context(), x))
				store(t, c.Archive, ops.ArtifactRef{Capture: id, Instance: "boot-0", Name: "cpu.pprof"}, strings.Repeat("x", 1000))
				if i == 3 {
					continue // this one runs and runs
				}
				x.State, x.Finished = ops.CaptureDone, x.Created.Add(time.Minute)
				must(t, c.Update(t.Context(), x))
			}
			must(t, c.Pin(t.Context(), "1-capture", true))
			must(t, c.Sweep(t.Context(), now))
			must(t, c.Sweep(t.Context(), now)) // again changes nothing
			all, err := c.Captures(t.Context(), ops.CaptureFilter{})
			must(t, err)
			var got []string
			for _, x := range all {
				mark := strings.TrimSuffix(string(x.ID), "-capture")
				if x.Pinned {
					mark += "p"
				}
				if !x.State.Ended() {
					mark += "*"
				}
				got = append(got, mark)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("kept %v, want %s", got, tc.want)
			}
			if s := c.Status(t.Context()); s.StoredBytes != int64(1000*len(got)) {
				t.Errorf("stored %d of %d captures", s.StoredBytes, len(got))
			}
			wantNothingAside(t, c)
		})
	}
}

// wantNothingAside fails if a file was quarantined, or lies around without a row.
func wantNothingAside(t testing.TB, c *centre) {
	t.Helper()
	aside, err := os.ReadDir(filepath.Join(c.dir, "blobs", "quarantine"))
	must(t, err)
	for _, f := range aside {
		t.Errorf("quarantined: %s", f.Name())
	}
	must(t, c.blobs.List(t.Context(), func(r ops.ArtifactRef, _ bool, _ int64) error {
		b, _, err := c.OpenArtifact(t.Context(), r)
		if err != nil {
			t.Errorf("lies around: %s: %v", r, err)
			return nil
		}
		return b.Close()
	}))
}

func wantError(t testing.TB, err error, kind ops.ErrorKind, message string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", message)
	} else if err.Error() != message || ops.KindOf(err) != kind {
		t.Errorf("got  %s: %s\nwant %s: %s", ops.KindOf(err), err, kind, message)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
