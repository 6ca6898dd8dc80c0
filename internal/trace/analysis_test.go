package trace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	runtimetrace "runtime/trace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	exptrace "golang.org/x/exp/trace"

	"github.com/opscenter/opscenter/internal/trace"
)

func analyze(t testing.TB, tr *trace.Trace, opts trace.Options) *trace.Analysis {
	t.Helper()
	a, err := tr.Analyze(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// stockTimes follows every goroutine with the stock reader: the time in the four
// states of the scheduler, by goroutine.
func stockTimes(t testing.TB, b []byte) map[trace.GoID]*[4]time.Duration {
	t.Helper()
	type now struct {
		state exptrace.GoState
		since exptrace.Time
	}
	r, err := exptrace.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	times := map[trace.GoID]*[4]time.Duration{}
	live := map[exptrace.GoID]now{}
	var first, last exptrace.Time
	add := func(id exptrace.GoID, end exptrace.Time) {
		n := live[id]
		x := times[trace.GoID(id)]
		if x == nil {
			x = new([4]time.Duration)
			times[trace.GoID(id)] = x
		}
		d := time.Duration(end - n.since)
		switch n.state {
		case exptrace.GoRunning:
			x[0] += d
		case exptrace.GoRunnable:
			x[1] += d
		case exptrace.GoSyscall:
			x[2] += d
		case exptrace.GoWaiting:
			x[3] += d
		}
	}
	for {
		ev, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = ev.Time()
		}
		last = ev.Time()
		if ev.Kind() != exptrace.EventStateTransition || ev.StateTransition().Resource.Kind != exptrace.ResourceGoroutine {
			continue
		}
		st := ev.StateTransition()
		from, to := st.Goroutine()
		id := st.Resource.Goroutine()
		if from == to {
			continue
		}
		if from == exptrace.GoUndetermined {
			live[id] = now{to, first}
			continue
		}
		if from != exptrace.GoNotExist {
			add(id, ev.Time())
		}
		live[id] = now{to, ev.Time()}
		if to == exptrace.GoNotExist {
			delete(live, id)
		}
	}
	for id := range live {
		add(id, last)
	}
	return times
}

func TestTimesOfEveryGoroutineEqualThoseOfTheStockReader(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		want := stockTimes(t, b)
		a := analyze(t, open(t, b), trace.Options{Every: true})
		if a.Loss != nil {
			t.Fatal(a.Loss)
		}
		// The stock reader gives events of a generation that are earlier than the
		// last one of the generation before the time of that one, and does so with
		// what it finds out of turn: times of goroutines that change there differ.
		overlap := overlapOf(t, b)
		got := map[trace.GoID]*[4]time.Duration{}
		for _, g := range a.Goroutines {
			x := &[4]time.Duration{
				g.Times[trace.StateRunning] + g.Times[trace.StateAssist], g.Times[trace.StateRunnable], g.Times[trace.StateSyscall], 0,
			}
			x[3] = g.Times.Total() - x[0] - x[1] - x[2]
			got[g.ID] = x
			if d := g.End - g.Begin - g.Times.Total(); d > 100*time.Microsecond || d < -100*time.Microsecond {
				t.Errorf("goroutine %d lived from %v to %v and was in states for %v", g.ID, g.Begin, g.End, g.Times)
			}
		}
		if len(got) != len(want) || int(a.Seen) != len(want) {
			t.Errorf("%d goroutines, %d seen, want %d", len(got), a.Seen, len(want))
		}
		names := [...]string{"running", "runnable", "in syscalls", "waiting"}
		for id, w := range want {
			g := got[id]
			if g == nil {
				t.Errorf("goroutine %d is missing", id)
				continue
			}
			for s := range w {
				if d := w[s] - g[s]; d > overlap || d < -overlap {
					t.Errorf("goroutine %d was %s for %v, want %v", id, names[s], g[s], w[s])
				}
			}
		}
	})
}

// overlapOf is for how long generations of a trace overlap, how late threads that
// had been stopped wrote their events, and what the stock reader adds to keep
// events apart.
func overlapOf(t testing.TB, b []byte) time.Duration {
	t.Helper()
	tr := open(t, b)
	sum, last := time.Duration(0), time.Duration(0)
	n, behind := 0, time.Duration(0)
	for i := range tr.Index().Generations {
		first := time.Duration(-1)
		end := last
		if err := tr.Events(context.Background(), i, func(e *trace.Event) bool {
			if first < 0 {
				first = e.Time
			}
			end = e.Time
			n++
			sum += max(0, e.Time-e.Clock-behind)
			behind = e.Time - e.Clock
			return true
		}); err != nil {
			t.Fatal(err)
		}
		sum += max(0, last-first)
		last = end
	}
	return 2*sum + time.Duration(n)*time.Nanosecond + 10*time.Microsecond
}

func TestTotalsDoNotDependOnTheNumberOfWorkers(t *testing.T) {
	tr := open(t, busy())
	strip := func(a *trace.Analysis) *trace.Analysis { a.Timeline = nil; return a }
	one, four := strip(analyze(t, tr, trace.Options{Workers: 1})), strip(analyze(t, tr, trace.Options{Workers: 4}))
	if diff := cmp.Diff(one, four, cmp.AllowUnexported(trace.Latency{})); diff != "" {
		t.Error(diff)
	}
}

// planted is a trace of goroutines that each do one thing.
var planted = recordedOnce("planted", func() []byte {
	var b bytes.Buffer
	var wg sync.WaitGroup
	never, hidden := make(chan int), make(chan int)
	go leaks(never)
	ready := make(chan int)
	go func() { ready <- 1; <-hidden }()
	<-ready
	time.Sleep(10 * time.Millisecond)
	if err := runtimetrace.Start(&b); err != nil {
		panic(err)
	}
	items := make(chan int)
	wg.Go(func() { produces(items) })
	wg.Go(func() { consumes(items) })
	wg.Go(burns)
	wg.Go(func() { annotates() })
	wg.Wait()
	runtimetrace.Stop()
	close(never)
	close(hidden)
	return b.Bytes()
})

//go:noinline
func leaks(c chan int) { <-c }

//go:noinline
func produces(items chan<- int) {
	for i := range 40 {
		items <- i
	}
	close(items)
}

//go:noinline
func consumes(items <-chan int) {
	for range items {
		time.Sleep(40 * time.Millisecond)
	}
}

//go:noinline
func burns() {
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); { //nolint:revive // burning is the point
	}
}

//go:noinline
func annotates() {
	ctx, task := runtimetrace.NewTask(context.Background(), "order")
	runtimetrace.WithRegion(ctx, "pack", func() { time.Sleep(20 * time.Millisecond) })
	runtimetrace.Log(ctx, "size", "large")
	task.End()
	_, _ = runtimetrace.NewTask(context.Background(), "forgotten")
}

func group(t testing.TB, a *trace.Analysis, fn string) trace.Group {
	t.Helper()
	for _, g := range a.Groups {
		if strings.HasSuffix(g.Func, fn) {
			return g
		}
	}
	t.Fatalf("no goroutines of %s", fn)
	return trace.Group{}
}

// siteIn is the site with a reason whose stack has a function.
func siteIn(t testing.TB, tr *trace.Trace, a *trace.Analysis, reason trace.Reason, fn string) trace.Site {
	t.Helper()
	for _, s := range a.Sites {
		for _, f := range tr.Stack(s.Stack) {
			if s.Reason == reason && strings.HasSuffix(f.Func, fn) {
				return s
			}
		}
	}
	t.Fatalf("nobody waits (%v) in %s", reason, fn)
	return trace.Site{}
}

func near(got, want, by time.Duration) bool { return got >= want-by && got <= want+by }

func TestWaitsAreToldApartByReasonAndStack(t *testing.T) {
	tr := open(t, planted())
	a := analyze(t, tr, trace.Options{})
	if a.Loss != nil {
		t.Fatal(a.Loss)
	}
	send := siteIn(t, tr, a, trace.ReasonChanSend, ".produces")
	// It comes there once, and once more at most in each of the trace's parts.
	if send.Visits < 1 || send.Visits > 6 {
		t.Errorf("%d visits of one producer", send.Visits)
	}
	if send.Count < 35 || send.Total < time.Second || send.State != trace.StateChan || send.Open != 0 {
		t.Errorf("the producer waited %+v, want about 39 times 40 ms", send)
	}
	sleep := siteIn(t, tr, a, trace.ReasonSleep, ".consumes")
	if sleep.Count < 39 || sleep.Count > 41 || sleep.Total < 1600*time.Millisecond {
		t.Errorf("the consumer slept %+v, want 40 times 40 ms", sleep)
	}
	// Blocked since before the trace, and for generations: the stack is in it.
	leak := siteIn(t, tr, a, trace.ReasonChanReceive, ".leaks")
	if leak.Whole != 1 || leak.Open != 1 || !near(leak.Max, a.Duration, 10*time.Millisecond) {
		t.Errorf("the leaked goroutine waited %+v, want all of %v", leak, a.Duration)
	}
	burn := group(t, a, "trace_test.burns")
	if busy := burn.Times[trace.StateRunning] + burn.Times[trace.StateRunnable]; busy < 250*time.Millisecond || burn.Goroutines != 1 {
		t.Errorf("what burns ran %+v", burn)
	}
	// Who woke the producer is the consumer, at its line.
	waker := ""
	for _, w := range a.Wakes {
		if w.Waiter == send.Stack && w.Waker != 0 {
			for _, f := range tr.Stack(w.Waker) {
				waker += f.Func + "\n"
			}
			break
		}
	}
	if !strings.Contains(waker, ".consumes") {
		t.Errorf("the producer was woken by %s, want consumes", waker)
	}
}

func TestAnnotationsAreSummedUp(t *testing.T) {
	a := analyze(t, open(t, planted()), trace.Options{})
	if len(a.Tasks) != 2 || a.Tasks[0].Name != "order" || a.Tasks[0].Count != 1 || a.Tasks[0].Total < 20*time.Millisecond || a.Tasks[1].Name != "forgotten" || a.Tasks[1].Open != 1 {
		t.Errorf("tasks %+v", a.Tasks)
	}
	if len(a.Regions) != 1 || a.Regions[0].Name != "pack" || a.Regions[0].Max < 20*time.Millisecond {
		t.Errorf("regions %+v", a.Regions)
	}
	if len(a.Logs) != 1 || a.Logs[0].Category != "size" || a.Logs[0].Text != "large" {
		t.Errorf("logs %+v", a.Logs)
	}
}

func TestGarbageCollectionsAndStops(t *testing.T) {
	tr := open(t, busy())
	a := analyze(t, tr, trace.Options{})
	if len(a.GC) < 10 || len(a.STW) < 20 {
		t.Errorf("%d GC cycles and %d stops", len(a.GC), len(a.STW))
	}
	for _, r := range append(a.GC, a.STW...) {
		if r.To < r.From || r.To > a.Duration {
			t.Errorf("%+v in a trace of %v", r, a.Duration)
		}
	}
	if a.Procs != 4 {
		t.Errorf("GOMAXPROCS %d, want 4", a.Procs)
	}
	if a.Latency.Count < 1000 || a.Latency.Quantile(0.5) > a.Latency.Quantile(0.99) || a.Latency.Quantile(1) > a.Latency.Max {
		t.Errorf("latency %+v", a.Latency)
	}
	if len(a.Samples) == 0 {
		t.Error("no CPU samples")
	}
}

func TestIdleHTTPIsNoWait(t *testing.T) {
	tr := open(t, busy())
	a := analyze(t, tr, trace.Options{})
	for _, s := range a.Sites {
		for _, f := range tr.Stack(s.Stack) {
			if f.Func == "net/http.(*connReader).backgroundRead" && s.State != trace.StateIdle && s.State != trace.StateSyscall {
				t.Errorf("the watcher of a connection waits (%v)", s.State)
			}
		}
	}
}

func TestDamageIsStatedAndTheRestAnalysed(t *testing.T) {
	b := bytes.Clone(busy())
	ix := readIndex(t, b)
	g := ix.Generations[1]
	damage(b[g.Offset : g.Offset+g.SizeBytes])
	a := analyze(t, open(t, b), trace.Options{})
	want := fmt.Sprintf("1 of %d parts of the trace could be read only to a damaged place (an event of generation %d cannot be read): times of that second are too short", len(ix.Generations), g.Number)
	if a.Loss == nil || a.Loss.Message != want {
		t.Errorf("loss %+v, want %s", a.Loss, want)
	}
	tr := open(t, busy())
	whole, hit := analyze(t, tr, trace.Options{}), int64(0)
	if err := tr.Events(context.Background(), 1, func(*trace.Event) bool { hit++; return true }); err != nil {
		t.Fatal(err)
	}
	if a.Events < whole.Events-hit || a.Events >= whole.Events {
		t.Errorf("%d of %d events, of which %d were in the damaged part", a.Events, whole.Events, hit)
	}
}

func TestAnalysisEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := open(t, busy()).Analyze(ctx, trace.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

func FuzzAnalyze(f *testing.F) {
	for _, file := range []string{"go1.22.12", "go1.26.8"} {
		b, err := os.ReadFile("testdata/" + file + ".trace")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := trace.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		a, err := tr.Analyze(context.Background(), trace.Options{Goroutines: 10})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Locks(context.Background()); err != nil {
			t.Fatal(err)
		}
		q := trace.Query{Columns: 100, To: max(1, tr.Duration()/3)}
		for _, track := range a.Timeline.Tracks() {
			q.Tracks = append(q.Tracks, track.TrackID)
		}
		for _, g := range a.Goroutines {
			q.Tracks = append(q.Tracks, trace.TrackID{Kind: trace.TrackGoroutine, ID: int64(g.ID)})
		}
		if len(q.Tracks) > 1024 {
			q.Tracks = q.Tracks[:1024]
		}
		if _, err := a.Timeline.Query(context.Background(), q); err != nil {
			t.Fatal(err)
		}
	})
}

// What began and what created it must agree with each other, and with the events.
func TestCreationsAndEndsAreCounted(t *testing.T) {
	tr := open(t, planted())
	a := analyze(t, tr, trace.Options{})
	var created, born, died int64
	for _, c := range a.Creations {
		created += c.Count
	}
	for _, g := range a.Groups {
		if g.Born > g.Goroutines || g.Died > g.Goroutines {
			t.Errorf("%+v", g)
		}
		born, died = born+g.Born, died+g.Died
	}
	if created != a.Created || born != a.Created || a.Created == 0 {
		t.Errorf("%d at creation sites and %d born in groups, want %d", created, born, a.Created)
	}
	if ends := a.Kinds[trace.EvGoDestroy]; died != ends || ends == 0 {
		t.Errorf("%d died in groups, want %d", died, ends)
	}
	var wg int64 // those that (*sync.WaitGroup).Go started
	for _, c := range a.Creations {
		if stack := tr.Stack(c.Stack); len(stack) > 1 && stack[0].Func == "sync.(*WaitGroup).Go" && strings.HasSuffix(stack[1].File, "_test.go") {
			wg += c.Count
		}
	}
	if wg != 4 {
		t.Errorf("%d goroutines were started by (*WaitGroup).Go, want 4", wg)
	}
}
