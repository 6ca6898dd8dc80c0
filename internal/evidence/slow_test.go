package evidence_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	runtimetrace "runtime/trace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

var record = flag.Bool("record", false, "record testdata/slow-calls.trace anew")

// The recorded program: settle holds the room's lock while it sleeps for 60 ms, two
// bets queue for it, and a report sleeps by itself, twice.
type room struct{ mu sync.Mutex }

//go:noinline
func (r *room) settle(queued func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !queued() {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(60 * time.Millisecond)
}

//go:noinline
func (r *room) bet(name string) {
	began := time.Now()
	r.mu.Lock()
	r.mu.Unlock() //nolint:staticcheck // to have had it is all
	runtimetrace.Log(context.Background(), "slow", fmt.Sprintf("%s took %v", name, time.Since(began)))
}

//go:noinline
func report() {
	began := time.Now()
	time.Sleep(20 * time.Millisecond)
	time.Sleep(30 * time.Millisecond)
	runtimetrace.Log(context.Background(), "slow", fmt.Sprintf("report took %v", time.Since(began)))
}

func recordSlowCalls(t *testing.T, path string) {
	var out bytes.Buffer
	if err := runtimetrace.Start(&out); err != nil {
		t.Fatal(err)
	}
	waiting := func(n int) func() bool {
		return func() bool {
			b := make([]byte, 1<<20)
			return bytes.Count(b[:runtime.Stack(b, true)], []byte("[sync.Mutex.Lock")) >= n
		}
	}
	r := new(room)
	var all sync.WaitGroup
	locked := make(chan struct{})
	all.Go(func() {
		r.settle(func() bool {
			select {
			case <-locked:
			default:
				close(locked)
			}
			return waiting(2)()
		})
	})
	<-locked
	all.Go(func() { r.bet("first-bet") })
	for !waiting(1)() {
		time.Sleep(time.Millisecond)
	}
	all.Go(func() { r.bet("second-bet") })
	all.Go(report)
	all.Wait()
	runtimetrace.Stop()
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func slowCalls(t *testing.T, trigger *ops.Call) []evidence.SlowCall {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "slow-calls.trace"))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := trace.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	e, _, err := evidence.OfTrace(t.Context(), tr, evidence.NewFrames("github.com/opscenter/opscenter/internal/evidence_test"), trigger)
	if err != nil {
		t.Fatal(err)
	}
	return e.Slow
}

// What a slow call did is told of its own goroutine, and of a lock the one that held
// it first, however many handed it on.
func TestSlowCallsAreFollowed(t *testing.T) {
	if *record {
		recordSlowCalls(t, filepath.Join("testdata", "slow-calls.trace"))
	}
	calls := map[string]evidence.SlowCall{}
	for _, c := range slowCalls(t, nil) {
		calls[c.Name] = c
	}
	if len(calls) != 3 {
		t.Fatalf("slow calls %v, want three", calls)
	}
	for name, c := range calls {
		if took, seen := c.Took(), c.Spent.Total(); seen > took+time.Millisecond || seen < took-5*time.Millisecond {
			t.Errorf("%s took %v, of which %v is told", name, took, seen)
		}
	}
	for _, name := range []string{"first-bet", "second-bet"} {
		w := calls[name].Waits
		if len(w) == 0 || w[0].State != trace.StateSync || !inside(w[0].Stack, "(*room).bet") || !inside(w[0].Ender, "(*room).settle") {
			t.Fatalf("%s waited %+v, want for the lock that settle gave back", name, w)
		}
		if b := w[0].Behind; b == nil || b.State != trace.StateSleep || !inside(b.Stack, "(*room).settle") || b.Total < 60*time.Millisecond {
			t.Errorf("%s was behind %+v, want the sleep of settle", name, b)
		}
	}
	if w := calls["report"].Waits; len(w) != 2 || w[0].State != trace.StateSleep || w[0].Total < 30*time.Millisecond || w[1].Total < 20*time.Millisecond {
		t.Errorf("the report waited %+v, want two sleeps", w)
	}
}

func inside(s evidence.Stack, function string) bool {
	return s.Index(func(f *evidence.Frame) bool { return strings.HasSuffix(f.Function, function) }) >= 0
}

func TestTheTriggeringCallIsFoundByNameAndTime(t *testing.T) {
	calls := slowCalls(t, nil)
	want := &calls[0]
	if got := evidence.Triggering(calls, &ops.Call{Name: want.Name, Took: want.Took() + 500*time.Nanosecond}); got != want {
		t.Errorf("found %+v, want %+v", got, want)
	}
	for _, c := range []*ops.Call{nil, {Name: "other", Took: want.Took()}, {Name: want.Name, Took: want.Took() + time.Millisecond}} {
		if got := evidence.Triggering(calls, c); got != nil {
			t.Errorf("%+v was found as %+v", c, got)
		}
	}
}
