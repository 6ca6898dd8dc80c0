package trace_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	runtimetrace "runtime/trace"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	exptrace "golang.org/x/exp/trace"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// busy is a trace of about everything that the runtime has an event for.
var busy = recordedOnce("busy", load)

func load() []byte {
	var b bytes.Buffer
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	before := make(chan int)
	go func() { <-before }()                          // blocked since before the trace
	defer debug.SetGCPercent(debug.SetGCPercent(200)) // some ten collections a second
	must(pprof.StartCPUProfile(io.Discard))
	must(runtimetrace.Start(&b))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	until := func(f func()) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	var mu sync.Mutex
	for range 4 {
		until(func() { mu.Lock(); time.Sleep(time.Millisecond); mu.Unlock() }) //nolint:revive // a lock held while asleep is what is traced
	}
	ping, pong := make(chan int), make(chan int)
	until(func() {
		select {
		case ping <- 1:
			<-pong
			time.Sleep(time.Millisecond)
		case <-stop:
		}
	})
	until(func() {
		select {
		case <-ping:
			pong <- 1
		case <-stop:
		}
	})
	until(func() { _ = make([]byte, 1<<18); runtime.Gosched(); time.Sleep(4 * time.Millisecond) })
	until(func() {
		next, done := pull()
		for range 3 {
			next()
		}
		done()
		time.Sleep(4 * time.Millisecond)
	})
	until(func() {
		ctx, task := runtimetrace.NewTask(context.Background(), "order")
		runtimetrace.WithRegion(ctx, "pack", func() { runtimetrace.Log(ctx, "size", "large"); time.Sleep(time.Millisecond) })
		task.End()
	})
	until(func() {
		f, err := os.CreateTemp("", "trace")
		must(err)
		_, err = f.Write(make([]byte, 1<<16))
		must(err)
		must(f.Close())
		must(os.Remove(f.Name()))
		time.Sleep(4 * time.Millisecond)
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	client := srv.Client()
	for range 2 {
		until(func() {
			resp, err := client.Get(srv.URL) //nolint:noctx // the server is ours
			must(err)
			_, err = io.Copy(io.Discard, resp.Body)
			must(err)
			must(resp.Body.Close())
			time.Sleep(4 * time.Millisecond)
		})
	}
	until(func() { wg.Go(func() { runtime.Gosched() }); time.Sleep(500 * time.Microsecond) })
	time.Sleep(2200 * time.Millisecond) // what is allocated is collected many times
	close(stop)
	wg.Wait()
	runtimetrace.Stop()
	pprof.StopCPUProfile()
	close(before)
	client.CloseIdleConnections()
	srv.Close()
	return b.Bytes()
}

// pull makes coroutines.
func pull() (next func() (int, bool), stop func()) {
	return iter.Pull(func(yield func(int) bool) {
		for i := 0; yield(i); i++ { //nolint:revive // all that it does is yield
		}
	})
}

// everyTrace calls fn with the traces of every Go version and with a larger one.
func everyTrace(t *testing.T, fn func(t *testing.T, b []byte)) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d traces, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fn(t, b)
		})
	}
	t.Run("busy", func(t *testing.T) { fn(t, busy()) })
}

// traceOf is a trace of what run does. The package's tests follow each other, so that none
// traces at the same time.
func traceOf(t *testing.T, run func()) *trace.Trace {
	t.Helper()
	var b bytes.Buffer
	if err := runtimetrace.Start(&b); err != nil {
		t.Fatal(err)
	}
	func() {
		defer runtimetrace.Stop()
		run()
	}()
	return open(t, b.Bytes())
}

func open(t testing.TB, b []byte) *trace.Trace {
	t.Helper()
	tr, err := trace.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// stockCounts reads a trace with the stock reader and counts what happened.
func stockCounts(b []byte) (map[string]int, error) {
	n := map[string]int{}
	r, err := exptrace.NewReader(bytes.NewReader(b))
	if err != nil {
		return n, err
	}
	for {
		ev, err := r.ReadEvent()
		if err == io.EOF { //nolint:errorlint // damage is wrapped around it, too
			return n, nil
		} else if err != nil {
			return n, err
		}
		switch ev.Kind() {
		case exptrace.EventSync:
		case exptrace.EventStateTransition:
			tr := ev.StateTransition()
			if tr.Resource.Kind == exptrace.ResourceProc {
				n["proc"]++
				continue
			}
			from, to := tr.Goroutine()
			if from == exptrace.GoUndetermined || from == to {
				n["status"]++
				continue
			}
			n[fmt.Sprintf("%v->%v %s", from, to, tr.Reason)]++
		case exptrace.EventRangeBegin, exptrace.EventRangeActive, exptrace.EventRangeEnd:
			n[fmt.Sprintf("%v %s", ev.Kind(), ev.Range().Name)]++
		case exptrace.EventMetric:
			n["metric "+ev.Metric().Name]++
		case exptrace.EventLog:
			n["log "+ev.Log().Category+" "+ev.Log().Message]++
		case exptrace.EventRegionBegin, exptrace.EventRegionEnd:
			n[fmt.Sprintf("%v %s", ev.Kind(), ev.Region().Type)]++
		case exptrace.EventTaskBegin:
			n["TaskBegin "+ev.Task().Type]++
		default:
			n[ev.Kind().String()]++
		}
	}
}

// ownCounts is stockCounts with our reader.
func ownCounts(t testing.TB, tr *trace.Trace) map[string]int {
	t.Helper()
	n := map[string]int{}
	stw := ""
	for i := range tr.Index().Generations {
		// Generations overlap: threads enter a new one when they get to it.
		last := time.Duration(0)
		err := tr.Events(context.Background(), i, func(e *trace.Event) bool {
			if e.Time < last {
				t.Fatalf("%v at %v is before %v", e.Kind, e.Time, last)
			}
			last = e.Time
			switch e.Kind {
			case trace.EvProcStart, trace.EvProcStop, trace.EvProcSteal, trace.EvProcStatus:
				n["proc"]++
			case trace.EvGoStatus, trace.EvGoStatusStack:
				n["status"]++
			case trace.EvGoCreate:
				n["NotExist->Runnable "]++
			case trace.EvGoCreateBlocked:
				n["NotExist->Waiting "]++
			case trace.EvGoCreateSyscall:
				n["NotExist->Syscall "]++
			case trace.EvGoStart:
				n["Runnable->Running "]++
			case trace.EvGoDestroy:
				n["Running->NotExist "]++
			case trace.EvGoDestroySyscall:
				n["Syscall->NotExist "]++
				if e.Proc != trace.NoProc {
					n["proc"]++
				}
			case trace.EvGoStop:
				n["Running->Runnable "+e.Text]++
			case trace.EvGoBlock:
				n["Running->Waiting "+e.Text]++
			case trace.EvGoUnblock:
				n["Waiting->Runnable "]++
			case trace.EvGoSwitch:
				n["Waiting->Runnable "]++
				n["Running->Waiting "]++
				n["Runnable->Running "]++
			case trace.EvGoSwitchDestroy:
				n["Waiting->Runnable "]++
				n["Running->NotExist "]++
				n["Runnable->Running "]++
			case trace.EvGoSyscallBegin:
				n["Running->Syscall "]++
			case trace.EvGoSyscallEnd:
				n["Syscall->Running "]++
			case trace.EvGoSyscallEndBlocked:
				n["Syscall->Runnable "]++
			case trace.EvSTWBegin:
				stw = e.Text
				n["RangeBegin stop-the-world ("+stw+")"]++
			case trace.EvSTWEnd:
				n["RangeEnd stop-the-world ("+stw+")"]++
			case trace.EvGCActive:
				n["RangeActive GC concurrent mark phase"]++
			case trace.EvGCBegin:
				n["RangeBegin GC concurrent mark phase"]++
			case trace.EvGCEnd:
				n["RangeEnd GC concurrent mark phase"]++
			case trace.EvGCSweepActive:
				n["RangeActive GC incremental sweep"]++
			case trace.EvGCSweepBegin:
				n["RangeBegin GC incremental sweep"]++
			case trace.EvGCSweepEnd:
				n["RangeEnd GC incremental sweep"]++
			case trace.EvGCMarkAssistActive:
				n["RangeActive GC mark assist"]++
			case trace.EvGCMarkAssistBegin:
				n["RangeBegin GC mark assist"]++
			case trace.EvGCMarkAssistEnd:
				n["RangeEnd GC mark assist"]++
			case trace.EvHeapAlloc:
				n["metric /memory/classes/heap/objects:bytes"]++
			case trace.EvHeapGoal:
				n["metric /gc/heap/goal:bytes"]++
			case trace.EvProcsChange:
				n["metric /sched/gomaxprocs:threads"]++
			case trace.EvGoLabel:
				n["Label"]++
			case trace.EvUserTaskBegin:
				n["TaskBegin "+e.Text]++
			case trace.EvUserTaskEnd:
				n["TaskEnd"]++
			case trace.EvUserRegionBegin:
				n["RegionBegin "+e.Text]++
			case trace.EvUserRegionEnd:
				n["RegionEnd "+e.Text]++
			case trace.EvUserLog:
				n["log "+e.Text+" "+e.Text2]++
			case trace.EvCPUSample:
				n["StackSample"]++
			default:
				n["Experimental"]++
			}
			return true
		})
		if err != nil {
			n["error "+err.Error()]++
		}
	}
	return n
}

func TestEventsEqualThoseOfTheStockReader(t *testing.T) {
	equal := func(t *testing.T, b []byte) {
		want, err := stockCounts(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, ownCounts(t, open(t, b))); diff != "" {
			t.Errorf("-stock +own:\n%s", diff)
		}
	}
	everyTrace(t, equal)
	t.Run("made now", func(t *testing.T) { equal(t, load()) })
}

func TestStacksAndTextsEqualThoseOfTheStockReader(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		want := map[string]int{}
		r, err := exptrace.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for {
			ev, err := r.ReadEvent()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			var stack exptrace.Stack
			switch ev.Kind() {
			case exptrace.EventStateTransition:
				tr := ev.StateTransition()
				if tr.Resource.Kind != exptrace.ResourceGoroutine || tr.Reason == "" {
					continue
				}
				stack = ev.Stack()
			case exptrace.EventStackSample:
				stack = ev.Stack()
			default:
				continue
			}
			key := ""
			for f := range stack.Frames() {
				key += fmt.Sprintf("%s %s:%d\n", f.Func, filepath.Base(f.File), f.Line)
			}
			want[key]++
		}
		got := map[string]int{}
		tr := open(t, b)
		for i := range tr.Index().Generations {
			if err := tr.Events(context.Background(), i, func(e *trace.Event) bool {
				switch e.Kind {
				case trace.EvGoBlock, trace.EvGoStop, trace.EvCPUSample:
					if e.Kind != trace.EvCPUSample && e.Text == "" {
						return true
					}
					key := ""
					for _, f := range tr.Stack(e.Stack) {
						key += fmt.Sprintf("%s %s:%d\n", f.Func, filepath.Base(f.File), f.Line)
					}
					got[key]++
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-stock +own:\n%s", diff)
		}
	})
}

func TestAnUnreadableEventEndsItsGenerationOnly(t *testing.T) {
	b := bytes.Clone(busy())
	ix := readIndex(t, b)
	whole := ownCounts(t, open(t, b))
	// An event of no kind in the second half of the second generation.
	g := ix.Generations[1]
	damage(b[g.Offset : g.Offset+g.SizeBytes])
	got := ownCounts(t, open(t, b))
	lost := 0
	for k, n := range got {
		if len(k) > 5 && k[:5] == "error" {
			lost += n
		}
	}
	if lost != 1 {
		t.Errorf("%d generations are damaged, want 1: %v", lost, got)
	}
	if n, all := got["Runnable->Running "], whole["Runnable->Running "]; n == all || n < all/10 {
		t.Errorf("%d of %d starts were read", n, all)
	}
}

// damage overwrites the first event of a batch of events in the second half of b,
// which is a generation.
func damage(b []byte) {
	for i := 0; i < len(b) && b[i] == 1; {
		at := i + 1
		var size uint64
		for range 4 { // generation, thread, time, size
			v, n := binary.Uvarint(b[at:])
			size, at = v, at+n
		}
		if i > len(b)/2 && b[at] > 8 && b[at] < 50 {
			b[at] = 0x7e
			return
		}
		i = at + int(size)
	}
}

func TestEventsStopWhenToldTo(t *testing.T) {
	tr := open(t, busy())
	n := 0
	if err := tr.Events(context.Background(), 0, func(*trace.Event) bool { n++; return n < 10 }); err != nil || n != 10 {
		t.Errorf("%d events, %v", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tr.Events(ctx, 1, func(*trace.Event) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if err := tr.Events(context.Background(), 99, nil); ops.KindOf(err) != ops.NotFound {
		t.Errorf("generation 99: %v", err)
	}
}

func TestMappedFilesReadLikeMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(file, busy(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	tr, err := trace.Open(f, int64(len(busy())))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ownCounts(t, open(t, busy())), ownCounts(t, tr)); diff != "" {
		t.Error(diff)
	}
	// Whoever cuts the file off under us gets an error, not the end of the process.
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	if err := tr.Events(context.Background(), 1, func(*trace.Event) bool { return true }); err == nil {
		t.Error("a file that is gone was read")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzEvents(f *testing.F) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(build(26, "1: sync x strings; end; 2: sync x exp; end"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := trace.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer func() { _ = tr.Close() }()
		for i := range tr.Index().Generations {
			if err := tr.Events(context.Background(), i, func(*trace.Event) bool { return true }); err != nil && ops.KindOf(err) != ops.Corrupt {
				t.Fatal(err)
			}
		}
	})
}
