package opstest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
)

// Source is the contract under test, as the discovery package states it.
type Source interface {
	Name() string
	Run(ctx context.Context, update func([]ops.Target)) error
}

// SourceBackend is the system a source reads, and the source.
type SourceBackend struct {
	Source Source
	// Set makes the backend hold exactly these targets. nil = what it holds
	// never changes.
	Set func(t *testing.T, targets []ops.Target)
	// Break makes what the backend says unreadable until the next Set. nil = it
	// cannot be.
	Break func(t *testing.T)
	// Stop kills the backend and Start brings it back, at the same address and with
	// what it held. nil = the source has no backend that could be away.
	Stop, Start func(t *testing.T)
	// Refuse makes the backend turn the source away, and returns words that the
	// source's Problem must then contain. nil = it asks nobody who they are.
	Refuse func(t *testing.T) string

	// Want makes the backend say that there should be n instances of the service
	// that targets are of at first, at least as many as it holds. nil = it does not
	// say. The source is then an expecter.
	Want func(t *testing.T, n int)
	// Conceal makes the backend refuse to say how many there should be, but not who
	// is there, and returns words that say so. nil = it cannot.
	Conceal func(t *testing.T) string
}

// expecter is a source that says how many there should be, as the discovery package
// states it.
type expecter interface {
	Expected() (map[ops.ServiceKey]ops.Expectation, string)
}

// troubled is a source that says what is wrong with its backend.
type troubled interface {
	Problem() string
	ProblemSince() time.Time
}

// TestSource runs the contract of a discovery source. open makes a backend that
// holds these targets; the suite looks for goroutines that are left once its
// clean-up is done. Targets are compared without their Source field.
func TestSource(t *testing.T, open func(t *testing.T, initial []ops.Target) SourceBackend) {
	cases := []struct {
		name string
		run  func(*testing.T, func(*testing.T, []ops.Target) SourceBackend)
	}{
		{"the first list", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(3)
			b := open(t, want)
			if b.Source.Name() == "" {
				t.Error("the source has no name")
			}
			runSource(t, b).expect(want)
		}},
		{"10,000 targets", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(10_000)
			runSource(t, open(t, want)).expect(want)
		}},
		{"from none to some, changed, fewer, none", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			b := open(t, nil)
			if b.Set == nil {
				t.Skip("this backend never changes")
			}
			r := runSource(t, b)
			r.expect(nil)
			for _, want := range [][]ops.Target{makeTargets(5), changeTargets(makeTargets(5)), makeTargets(2), nil} {
				b.Set(t, want)
				r.expect(want)
			}
		}},
		{"unreadable content keeps the last list", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(3)
			b := open(t, want)
			if b.Break == nil {
				t.Skip("this backend cannot break")
			}
			r := runSource(t, b)
			r.expect(want)
			b.Break(t)
			r.expectNothingElse(want, 700*time.Millisecond)
			r.expectProblem("")
			b.Set(t, makeTargets(4))
			r.expect(makeTargets(4))
			r.expectNoProblem()
		}},
		{"a backend that is killed and restarted", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(3)
			b := open(t, want)
			if b.Stop == nil {
				t.Skip("it has no backend")
			}
			r := runSource(t, b)
			r.expect(want)
			b.Stop(t)
			r.expectProblem("")
			r.expectNothingElse(want, 700*time.Millisecond)
			b.Start(t)
			r.expectNoProblem()
			b.Set(t, makeTargets(4))
			r.expect(makeTargets(4))
		}},
		{"a backend that is down at first", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(3)
			b := open(t, want)
			if b.Stop == nil {
				t.Skip("it has no backend")
			}
			b.Stop(t)
			r := runSource(t, b)
			r.expectProblem("")
			r.expectSilence(700 * time.Millisecond)
			b.Start(t)
			r.expect(want)
			r.expectNoProblem()
		}},
		{"a backend that refuses", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			b := open(t, makeTargets(3))
			if b.Refuse == nil {
				t.Skip("it asks nobody who they are")
			}
			words := b.Refuse(t)
			r := runSource(t, b)
			r.expectProblem(words)
			r.expectSilence(300 * time.Millisecond)
		}},
		{"how many there should be", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(3)
			b := open(t, want)
			if b.Want == nil {
				t.Skip("this backend does not say")
			}
			b.Want(t, 5)
			r := runSource(t, b)
			r.expect(want) // who should be there and is not is no target
			r.expectCount(5)
			for _, n := range []int{8, 3} {
				b.Want(t, n)
				r.expectCount(n)
			}
			if b.Stop != nil {
				b.Stop(t)
				r.expectProblem("")
				r.expectCount(3)
				b.Start(t)
				r.expectNoProblem()
				b.Want(t, 4)
				r.expectCount(4)
			}
		}},
		{"a backend that conceals how many there should be", func(t *testing.T, open func(*testing.T, []ops.Target) SourceBackend) {
			want := makeTargets(3)
			b := open(t, want)
			if b.Conceal == nil {
				t.Skip("this backend cannot")
			}
			b.Want(t, 5)
			words := b.Conceal(t)
			r := runSource(t, b)
			r.expect(want)
			r.expectUnknown(words)
			r.expectNoProblem() // the list is current
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			ran := t.Run("run", func(t *testing.T) { c.run(t, open) })
			if ran {
				goleak.VerifyNone(t, before)
			}
		})
	}
}

func makeTargets(n int) []ops.Target {
	out := make([]ops.Target, n)
	for i := range out {
		out[i] = ops.Target{
			Project: "color-game", Service: "user-service",
			URL:    fmt.Sprintf("http://10.%d.%d.%d:6060/debug/pprof", i>>16, i>>8&255, i&255),
			Labels: map[string]string{"zone": fmt.Sprint("z", i%3)},
		}
	}
	return out
}

func changeTargets(ts []ops.Target) []ops.Target {
	for i := range ts {
		ts[i].Service = "game-service"
		ts[i].Labels["zone"] = "moved"
	}
	return ts
}

type sourceRun struct {
	t      *testing.T
	source Source
	lists  chan []ops.Target
}

func runSource(t *testing.T, b SourceBackend) *sourceRun {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &sourceRun{t, b.Source, make(chan []ops.Target, 1000)}
	ended := make(chan error, 1)
	go func() { ended <- b.Source.Run(ctx, func(l []ops.Target) { r.lists <- slices.Clone(l) }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil && ops.KindOf(err) != ops.Cancelled {
				t.Errorf("Run: %v, want nil or the context's error", err)
			}
		case <-time.After(linkPatience):
			t.Error("Run did not return when its context ended")
		}
	})
	return r
}

func canonical(ts []ops.Target) string {
	ts = slices.Clone(ts)
	slices.SortFunc(ts, func(a, b ops.Target) int { return cmp.Compare(a.URL, b.URL) })
	var b strings.Builder
	for _, t := range ts {
		fmt.Fprintf(&b, "%s/%s %s %v\n", t.Project, t.Service, t.URL, t.Labels)
	}
	return b.String()
}

// clip keeps a failure of 10,000 targets readable.
func clip(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "…"
	}
	return s
}

// expect reads lists until one is what is wanted: a source may tell of steps in between.
func (r *sourceRun) expect(want []ops.Target) {
	r.t.Helper()
	deadline := time.After(linkPatience)
	last := "none yet"
	for {
		select {
		case l := <-r.lists:
			if last = canonical(l); last == canonical(want) {
				return
			}
		case <-deadline:
			r.t.Fatalf("the list after %v:\n%s\nwant:\n%s", linkPatience, clip(last), clip(canonical(want)))
		}
	}
}

func (r *sourceRun) expectNothingElse(want []ops.Target, within time.Duration) {
	r.t.Helper()
	deadline := time.After(within)
	for {
		select {
		case l := <-r.lists:
			if got := canonical(l); got != canonical(want) {
				r.t.Fatalf("the list changed to:\n%s\nwant it to stay:\n%s", clip(got), clip(canonical(want)))
			}
		case <-deadline:
			return
		}
	}
}

// expectSilence holds that no list is told, not even an empty one.
func (r *sourceRun) expectSilence(within time.Duration) {
	r.t.Helper()
	select {
	case l := <-r.lists:
		r.t.Fatalf("a list is told although the backend said nothing:\n%s", clip(canonical(l)))
	case <-time.After(within):
	}
}

// expectProblem waits for the source to say that its list is stale, and why.
func (r *sourceRun) expectProblem(words string) {
	r.t.Helper()
	s, ok := r.source.(troubled)
	if !ok {
		r.t.Fatal("the source cannot say what is wrong with its backend: embed *discovery.Trouble")
	}
	for deadline := time.Now().Add(linkPatience); s.Problem() == "" || !strings.Contains(s.Problem(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("the problem is %q, want one with %q", s.Problem(), words)
		}
	}
	if since := s.ProblemSince(); since.IsZero() || time.Since(since) > linkPatience {
		r.t.Errorf("the problem began at %v", since)
	}
}

// expectNoProblem waits for the source to say that its list is current.
func (r *sourceRun) expectNoProblem() {
	r.t.Helper()
	s := r.source.(troubled)
	for deadline := time.Now().Add(linkPatience); s.Problem() != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("the problem stays: %s", s.Problem())
		}
	}
	if since := s.ProblemSince(); !since.IsZero() {
		r.t.Errorf("there is no problem, since %v", since)
	}
}

// expectCount waits for the source to say that there should be n of the service, and
// that somebody says so.
func (r *sourceRun) expectCount(n int) {
	r.t.Helper()
	s, ok := r.source.(expecter)
	if !ok {
		r.t.Fatal("the source does not say how many there should be: embed discovery.Counts")
	}
	for deadline := time.Now().Add(linkPatience); ; time.Sleep(5 * time.Millisecond) {
		want, unknown := s.Expected()
		e, known := want[ops.ServiceKey{Project: "color-game", Service: "user-service"}]
		if known && e.Count == n && e.Says != "" {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("there should be %v (%s), want %d", want, unknown, n)
		}
	}
}

// expectUnknown waits for the source to say that it does not know how many there
// should be, and why.
func (r *sourceRun) expectUnknown(words string) {
	r.t.Helper()
	for deadline := time.Now().Add(linkPatience); ; time.Sleep(5 * time.Millisecond) {
		want, unknown := r.source.(expecter).Expected()
		if len(want) == 0 && strings.Contains(unknown, words) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("there should be %v (%s), want nothing known, because %s", want, unknown, words)
		}
	}
}
