package opstest

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
)

// LinkTarget is a live process, or something that behaves like one, and the
// link to it that is under test.
type LinkTarget struct {
	Link ops.Link
	// Kill ends the target as kill -9 does: nothing answers any more, nobody
	// says goodbye.
	Kill func()
	// Kinds are asked of it; empty = cpu, heap and goroutine. At least one must
	// yield an artifact at the start of the window.
	Kinds []ops.Kind
}

// linkPatience bounds every wait of the suite. A link under test must be set up
// to give a dead target up well within it.
const linkPatience = time.Minute

// TestLink runs the contract of ops.Link. start makes a fresh target for every
// case and ends everything it started in t.Cleanup; the suite then looks for
// goroutines that are left.
func TestLink(t *testing.T, start func(t *testing.T) LinkTarget) {
	cases := []struct {
		name string
		run  func(*testing.T, LinkTarget)
	}{
		{"a window delivers artifacts that commit", linkCollects},
		{"stop ends the window early and keeps the data", linkStops},
		{"stop of an unknown capture is not found", linkStopUnknown},
		{"cancel returns promptly", linkCancels},
		{"watch ticks and ends", linkWatches},
		{"an error of Begin ends the collection", func(t *testing.T, lt LinkTarget) {
			linkSinkFails(t, lt, func(r *Recorder) { r.BeginErr = errSink })
		}},
		{"an error of Write ends the collection", func(t *testing.T, lt LinkTarget) {
			linkSinkFails(t, lt, func(r *Recorder) { r.WriteErr = errSink })
		}},
		{"an error of Commit ends the collection", func(t *testing.T, lt LinkTarget) {
			linkSinkFails(t, lt, func(r *Recorder) { r.CommitErr = errSink })
		}},
		{"a target that dies in the window yields an error and what arrived", linkDiesInWindow},
		{"a dead target yields errors", linkDead},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			// The inner run makes start's clean-up happen before the leak check.
			t.Run("run", func(t *testing.T) {
				lt := start(t)
				if len(lt.Kinds) == 0 {
					lt.Kinds = []ops.Kind{ops.KindCPU, ops.KindHeap, ops.KindGoroutine}
				}
				c.run(t, lt)
			})
			goleak.VerifyNone(t, before)
		})
	}
}

var errSink = errors.New("the sink is broken on purpose")

func linkSpec(t *testing.T, lt LinkTarget, d time.Duration) ops.Spec {
	t.Helper()
	spec, err := ops.Spec{Duration: d, Kinds: lt.Kinds, SkipGC: true}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

type collected struct {
	summary ops.CollectSummary
	err     error
}

// collect runs Collect on a goroutine that the test waits for.
func collect(ctx context.Context, t *testing.T, lt LinkTarget, id ops.CaptureID, spec ops.Spec, r *Recorder) <-chan collected {
	t.Helper()
	out := make(chan collected, 1)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s, err := lt.Link.Collect(ctx, id, spec, r)
		out <- collected{s, err}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return out
}

func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(linkPatience):
		t.Fatalf("%s: nothing after %v", what, linkPatience)
		panic("unreachable")
	}
}

// checkEnded fails for artifacts that were begun and neither committed nor aborted,
// or whose content is not what the sender said it is.
func checkEnded(t *testing.T, r *Recorder) (committed int) {
	t.Helper()
	seen := map[string]bool{}
	for _, a := range r.Artifacts() {
		if !ops.ValidName(a.Begun.Name) {
			t.Errorf("artifact name %q is not valid", a.Begun.Name)
		}
		if seen[a.Begun.Name] {
			t.Errorf("artifact %s was begun twice", a.Begun.Name)
		}
		seen[a.Begun.Name] = true
		switch {
		case a.Ends == 0:
			t.Errorf("artifact %s was neither committed nor aborted", a.Begun.Name)
		case a.Ends > 1:
			t.Errorf("artifact %s was ended %d times", a.Begun.Name, a.Ends)
		case a.Committed:
			committed++
			if sum := sha256.Sum256(a.Data); string(sum[:]) != string(a.SHA256) || a.Size != int64(len(a.Data)) {
				t.Errorf("artifact %s: %d bytes written, committed as %d bytes with SHA-256 %x, want %x", a.Begun.Name, len(a.Data), a.Size, a.SHA256, sum)
			}
		}
	}
	return committed
}

func linkCollects(t *testing.T, lt LinkTarget) {
	r := NewRecorder()
	spec := linkSpec(t, lt, time.Second)
	began := time.Now()
	got := wait(t, collect(t.Context(), t, lt, "c-collects", spec, r), "Collect")
	if got.err != nil {
		t.Fatalf("Collect: %v", got.err)
	}
	if n := checkEnded(t, r); n == 0 {
		t.Errorf("no artifact was committed; losses: %+v", got.summary.Losses)
	}
	kinds := map[ops.Kind]bool{}
	for _, a := range r.Artifacts() {
		kinds[a.Begun.Kind] = true
		if a.Begun.TakenAt.Before(began.Add(-time.Minute)) || a.Begun.TakenAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("artifact %s was taken at %v, which is not within the window by the centre's clock", a.Begun.Name, a.Begun.TakenAt)
		}
	}
	for _, k := range lt.Kinds {
		lost := false
		for _, l := range got.summary.Losses {
			lost = lost || l.Kind == k
		}
		if !kinds[k] && !lost {
			t.Errorf("%s: neither an artifact nor a loss", k)
		}
	}
	if got.summary.StoppedEarly {
		t.Error("StoppedEarly is set, but nobody stopped the window")
	}
	if w := got.summary.WindowEnd.Sub(got.summary.WindowStart); w < spec.Duration/2 || w > spec.Duration+time.Minute {
		t.Errorf("the window lasted %v, want about %v", w, spec.Duration)
	}
	if r.ProgressCount() == 0 {
		t.Error("Progress was never called")
	}
}

func linkStops(t *testing.T, lt LinkTarget) {
	r := NewRecorder()
	done := collect(t.Context(), t, lt, "c-stops", linkSpec(t, lt, time.Minute), r)
	wait(t, r.FirstProgress(), "the first Progress")
	time.Sleep(500 * time.Millisecond) // some window to keep
	if err := lt.Link.Stop(t.Context(), "c-stops"); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	got := wait(t, done, "Collect after Stop")
	if got.err != nil {
		t.Fatalf("Collect: %v", got.err)
	}
	if !got.summary.StoppedEarly {
		t.Error("StoppedEarly is not set")
	}
	if checkEnded(t, r) == 0 {
		t.Error("nothing was kept")
	}
}

func linkStopUnknown(t *testing.T, lt LinkTarget) {
	if err := lt.Link.Stop(t.Context(), "c-unknown"); ops.KindOf(err) != ops.NotFound {
		t.Errorf("Stop of an unknown capture: %v, want a %s error", err, ops.NotFound)
	}
}

func linkCancels(t *testing.T, lt LinkTarget) {
	r := NewRecorder()
	ctx, cancel := context.WithCancel(t.Context())
	done := collect(ctx, t, lt, "c-cancels", linkSpec(t, lt, time.Minute), r)
	wait(t, r.FirstProgress(), "the first Progress")
	at := time.Now()
	cancel()
	got := wait(t, done, "Collect after cancel")
	if took := time.Since(at); took > 30*time.Second {
		t.Errorf("Collect took %v to notice the cancel", took)
	}
	if ops.KindOf(got.err) != ops.Cancelled {
		t.Errorf("Collect: %v, want a %s error", got.err, ops.Cancelled)
	}
	checkEnded(t, r)
	// The window is over on the instance too: soon there is nothing to stop.
	for deadline := time.Now().Add(linkPatience); ; time.Sleep(50 * time.Millisecond) {
		err := lt.Link.Stop(t.Context(), "c-cancels")
		if ops.KindOf(err) == ops.NotFound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Stop after cancel: %v, want a %s error", err, ops.NotFound)
		}
	}
}

func linkWatches(t *testing.T, lt LinkTarget) {
	ctx, cancel := context.WithTimeout(t.Context(), linkPatience)
	defer cancel()
	var samples []ops.Sample
	err := lt.Link.Watch(ctx, time.Second, false, func(s ops.Sample) {
		if samples = append(samples, s); len(samples) == 3 {
			cancel()
		}
	})
	if err == nil {
		t.Error("Watch returned nil, which means goodbye, but it was cancelled")
	}
	if len(samples) < 3 {
		t.Fatalf("Watch gave %d samples, want 3", len(samples))
	}
	for i, s := range samples[:3] {
		if s.Heartbeat.At.IsZero() {
			t.Errorf("sample %d has no time", i)
		}
		if i > 0 && !s.Heartbeat.At.After(samples[i-1].Heartbeat.At) {
			t.Errorf("sample %d is not later than the one before", i)
		}
	}
}

func linkSinkFails(t *testing.T, lt LinkTarget, broken func(*Recorder)) {
	r := NewRecorder()
	broken(r)
	got := wait(t, collect(t.Context(), t, lt, "c-sink-fails", linkSpec(t, lt, 2*time.Second), r), "Collect")
	if !errors.Is(got.err, errSink) {
		t.Errorf("Collect: %v, want the sink's error", got.err)
	}
	for _, a := range r.Artifacts() {
		if a.Ends == 0 {
			t.Errorf("artifact %s was neither committed nor aborted", a.Begun.Name)
		}
	}
}

func linkDiesInWindow(t *testing.T, lt LinkTarget) {
	r := NewRecorder()
	done := collect(t.Context(), t, lt, "c-dies", linkSpec(t, lt, time.Minute), r)
	wait(t, r.FirstProgress(), "the first Progress")
	lt.Kill()
	got := wait(t, done, "Collect of a target that died")
	if kind := ops.KindOf(got.err); kind != ops.Unavailable {
		t.Errorf("Collect: %v (%s), want an %s error", got.err, kind, ops.Unavailable)
	}
	checkEnded(t, r)
	for _, a := range r.Artifacts() {
		if !a.Committed && a.Loss.Reason != ops.LossDisconnected {
			t.Errorf("artifact %s was aborted with %+v, want the reason %s", a.Begun.Name, a.Loss, ops.LossDisconnected)
		}
	}
}

func linkDead(t *testing.T, lt LinkTarget) {
	watched := make(chan error, 1)
	ticked := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watched <- lt.Link.Watch(ctx, time.Second, false, func(ops.Sample) {
			select {
			case ticked <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	wait(t, ticked, "the first sample")
	lt.Kill()
	if err := wait(t, watched, "Watch of a target that died"); err == nil {
		t.Error("Watch returned nil, which means goodbye, but the target was killed")
	}
	r := NewRecorder()
	got := wait(t, collect(t.Context(), t, lt, "c-dead", linkSpec(t, lt, time.Second), r), "Collect of a dead target")
	if kind := ops.KindOf(got.err); kind != ops.Unavailable {
		t.Errorf("Collect: %v (%s), want an %s error", got.err, kind, ops.Unavailable)
	}
	if n := checkEnded(t, r); n != 0 {
		t.Errorf("a dead target delivered %d artifacts", n)
	}
}
