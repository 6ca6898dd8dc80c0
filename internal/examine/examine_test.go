package examine

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// goroutineProfile is a real one, of this test.
func goroutineProfile(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesOfAnyName(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "what is this?.bin"), goroutineProfile(t))
	res, err := Paths(t.Context(), []string{path}, Options{})
	if err != nil || len(res.Diagnoses) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if n := len(res.Diagnoses[0].Checks); n != len(diagnosis.Rules()) {
		t.Errorf("%d rules were asked", n)
	}
}

func TestDirectoryWithOneForEachInstance(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pod-a", "goroutine.pprof"), goroutineProfile(t))
	write(t, filepath.Join(dir, "pod-b", "goroutine.pprof"), goroutineProfile(t))
	write(t, filepath.Join(dir, "notes", "readme.txt"), []byte("nothing of ours"))
	res, err := Paths(t.Context(), []string{dir}, Options{})
	if err != nil || len(res.Diagnoses) != 2 {
		t.Errorf("%d diagnoses, %v", len(res.Diagnoses), err)
	}
}

func TestWhatCannotBeDiagnosedSaysWhatWouldBe(t *testing.T) {
	dir := t.TempDir()
	junk := write(t, filepath.Join(dir, "junk", "x.bin"), []byte("nothing of ours"))
	empty := write(t, filepath.Join(dir, "empty", "cpu.pprof"), nil)
	zipped := write(t, filepath.Join(dir, "some.zip"), zipOf(t, "a.txt", "hello"))
	for _, c := range []struct {
		paths []string
		kind  ops.ErrorKind
		want  string
	}{
		{[]string{filepath.Join(dir, "none")}, ops.NotFound, `there is no file or directory "` + filepath.Join(dir, "none") + `"`},
		{[]string{junk}, ops.Invalid, "none of the 1 files is an artifact (x.bin: "},
		{[]string{empty}, ops.Invalid, "none of the 1 files is an artifact (cpu.pprof is empty or cannot be read): give profiles, traces or goroutine dumps as net/http/pprof serves them, or a capture's files"},
		{[]string{zipped}, ops.Invalid, `the bundle is refused: "a.txt" has no place in it`},
		{[]string{junk, filepath.Dir(junk)}, ops.Invalid, `"` + filepath.Dir(junk) + `" is a directory: give it alone, or the files in it`},
		{[]string{os.DevNull}, ops.Invalid, `"/dev/null" is no regular file: save what it gives to one first`},
		{[]string{t.TempDir()}, ops.Invalid, "has no artifacts: give a directory with profiles, traces or goroutine dumps"},
	} {
		_, err := Paths(t.Context(), c.paths, Options{})
		if ops.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v (%s)", c.paths, err, ops.KindOf(err))
		}
	}
}

func zipOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestATruncatedArtifactIsALoss(t *testing.T) {
	dir := t.TempDir()
	whole := goroutineProfile(t)
	write(t, filepath.Join(dir, "goroutine.pprof"), whole)
	write(t, filepath.Join(dir, "heap.pprof"), whole[:len(whole)/2])
	res, err := Paths(t.Context(), []string{dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l := res.Diagnoses[0].Losses; len(l) != 1 || l[0].Kind != ops.KindHeap || !strings.HasPrefix(l[0].Message, "heap.pprof could not be read: ") {
		t.Errorf("losses %+v", l)
	}
}

// fakeArchive holds captures in memory.
type fakeArchive struct {
	mu       sync.Mutex
	captures map[ops.CaptureID]ops.Capture
	findings map[ops.CaptureID]ops.Findings
	blob     []byte
	opened   int
	topic    changes.Topic[ops.CaptureID]
}

func (a *fakeArchive) Capture(_ context.Context, id ops.CaptureID) (ops.Capture, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.captures[id]
	if !ok {
		return c, ops.Errorf(ops.NotFound, "no capture %s", id)
	}
	return c, nil
}

func (a *fakeArchive) Captures(context.Context, ops.CaptureFilter) (out []ops.Capture, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.captures {
		out = append(out, c)
	}
	return out, nil
}

func (a *fakeArchive) OpenArtifact(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened++
	return blob{bytes.NewReader(a.blob)}, ops.Artifact{}, nil
}

func (a *fakeArchive) Findings(_ context.Context, id ops.CaptureID) (ops.Findings, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.findings[id]
	if !ok {
		return f, ops.Errorf(ops.NotFound, "capture %s has no findings yet", id)
	}
	return f, nil
}

func (a *fakeArchive) PutFindings(_ context.Context, id ops.CaptureID, f ops.Findings) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.findings[id] = f
	a.topic.Publish(id)
	return nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (a *fakeArchive) end(id ops.CaptureID, state ops.CaptureState) {
	a.mu.Lock()
	a.captures[id] = ops.Capture{ID: id, State: state, Targets: []ops.CaptureTarget{{
		Instance: ops.Instance{ID: "boot-1", Service: "shop"}, Artifacts: []ops.Artifact{{Name: "goroutine.pprof", Kind: ops.KindGoroutine}},
	}}}
	a.mu.Unlock()
	a.topic.Publish(id)
}

func (a *fakeArchive) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.opened
}

func keeper(t *testing.T) (*fakeArchive, *Keeper) {
	a := &fakeArchive{captures: map[ops.CaptureID]ops.Capture{}, findings: map[ops.CaptureID]ops.Findings{}, blob: goroutineProfile(t)}
	return a, NewKeeper(KeeperConfig{Archive: a, Changed: a.topic.Subscribe})
}

func TestACaptureIsDiagnosedWhenItEnds(t *testing.T) {
	a, k := keeper(t)
	a.end("01early", ops.CaptureDone) // it ended while nobody looked
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	for _, id := range []ops.CaptureID{"01early", "02running", "03done"} {
		switch id {
		case "02running":
			a.end(id, ops.CaptureCollecting)
			continue
		case "03done":
			a.end(id, ops.CapturePartial)
		}
		until(t, func() bool { _, err := a.Findings(ctx, id); return err == nil })
		f, _ := a.Findings(ctx, id)
		for _, l := range []ops.Lang{ops.English, ops.TraditionalChinese} {
			all, _, err := report.Parse(f.Bodies[l])
			if err != nil || len(all) != 1 || all[0].Instance.Service != "shop" {
				t.Errorf("%s in %s: %+v, %v", id, l, all, err)
			}
		}
	}
	if _, err := a.Findings(ctx, "02running"); ops.KindOf(err) != ops.NotFound {
		t.Errorf("a running capture was diagnosed: %v", err)
	}
	if _, err := k.Findings(ctx, "02running"); ops.KindOf(err) != ops.Conflict {
		t.Errorf("asked for a running one: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestAVerdictOfOldRulesIsMadeAnew(t *testing.T) {
	a, k := keeper(t)
	a.end("01capture", ops.CaptureDone)
	a.findings["01capture"] = ops.Findings{Rules: "0-old"}
	f, err := k.Findings(t.Context(), "01capture")
	if err != nil || f.Rules != diagnosis.Version() {
		t.Errorf("%s, %v", f.Rules, err)
	}
	if _, err := k.Findings(t.Context(), "01capture"); err != nil || a.times() != 1 {
		t.Errorf("read %d times, %v: what was said stays said", a.times(), err)
	}
}

func TestManyAskAndOneAnswers(t *testing.T) {
	a, k := keeper(t)
	a.end("01capture", ops.CaptureDone)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := k.Findings(t.Context(), "01capture"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := a.times(); n > 2 { // whoever comes between the answer and its keeping
		t.Errorf("diagnosed %d times", n)
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}
