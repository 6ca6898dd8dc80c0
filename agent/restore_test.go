package agent

import (
	"context"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// The rates that a program under test has set itself.
const (
	ownBlock = 12345 // ns
	ownMutex = 7
)

// ownRates sets the program's own rates for a test, and returns the block rate
// in ticks.
func ownRates(t testing.TB) uint64 {
	t.Helper()
	runtime.SetBlockProfileRate(ownBlock)
	runtime.SetMutexProfileFraction(ownMutex)
	t.Cleanup(func() {
		runtime.SetBlockProfileRate(0)
		runtime.SetMutexProfileFraction(0)
	})
	return findBlockRate().ticks()
}

// wantRestored checks that nothing of a capture is on any more, in a program
// without rates of its own.
func wantRestored(t testing.TB) { wantRates(t, 0, 0) }

func wantRates(t testing.TB, blockTicks uint64, mutex int) {
	t.Helper()
	eventually(t, "block and mutex rates are back", func() bool {
		return findBlockRate().ticks() == blockTicks && runtime.SetMutexProfileFraction(-1) == mutex
	})
	eventually(t, "the tracer is free", func() bool { return !trace.IsEnabled() })
	eventually(t, "the CPU profiler is free", func() bool {
		if err := pprof.StartCPUProfile(&strings.Builder{}); err != nil {
			return false
		}
		pprof.StopCPUProfile()
		return true
	})
}

func TestEverythingIsPutBack(t *testing.T) {
	if !findBlockRate().known() {
		t.Skip("the block rate of this build cannot be read")
	}
	block := ownRates(t)
	memRate := runtime.MemProfileRate
	inWindow := func(t *testing.T) {
		t.Helper()
		if block, mutex := findBlockRate().ticks(), runtime.SetMutexProfileFraction(-1); block != 1 || mutex != 1 {
			t.Errorf("in the window the block rate is %d ticks and the mutex fraction %d, want 1 and 1", block, mutex)
		}
	}
	ended := func(t *testing.T, a *Agent) {
		t.Helper()
		eventually(t, "the window has ended", func() bool { return a.captures.count() == 0 })
		wantRates(t, block, ownMutex)
		if runtime.MemProfileRate != memRate {
			t.Errorf("MemProfileRate is %d, was %d", runtime.MemProfileRate, memRate)
		}
	}
	long := func(id string) *agentv1.CollectPerformanceDataRequest {
		req := request(id, 30*time.Second)
		req.TraceWindow = durationpb.New(30 * time.Second) // so that everything is on
		return req
	}
	tracing := func(r *received) bool { return r.named("trace.out") != nil }
	ack := func(t *testing.T, client agentv1.AgentServiceClient, id string) {
		t.Helper()
		if _, err := client.AckArtifact(t.Context(), &agentv1.AckArtifactRequest{CaptureId: id}); err != nil {
			t.Error(err)
		}
	}

	t.Run("success", func(t *testing.T) {
		a, client := joined(t, nil)
		seen := false
		_, err := collect(t, t.Context(), client, long("restore-success"), func(r *received) {
			if tracing(r) && !seen {
				seen = true
				inWindow(t)
				if _, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "restore-success"}); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil || !seen {
			t.Errorf("%v, window seen: %v", err, seen)
		}
		wantRates(t, block, ownMutex) // before the data is acknowledged
		ack(t, client, "restore-success")
		ended(t, a)
	})
	t.Run("cancel", func(t *testing.T) {
		a, client := joined(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, _ = collect(t, ctx, client, long("restore-cancel"), func(r *received) {
			if tracing(r) && ctx.Err() == nil {
				inWindow(t)
				cancel()
			}
		})
		ended(t, a)
	})
	t.Run("disconnect", func(t *testing.T) {
		const grace = 500 * time.Millisecond
		a, client := joined(t, func(_ *Config, tune *tuning) { tune.grace = grace })
		var broke time.Time
		breakAfter(t, client, long("restore-disconnect"), func(r *received) bool { broke = time.Now(); return tracing(r) })
		if block, mutex := findBlockRate().ticks(), runtime.SetMutexProfileFraction(-1); time.Since(broke) < grace && (block != 1 || mutex != 1) {
			t.Errorf("within the grace time the block rate is %d ticks and the mutex fraction %d, want 1 and 1", block, mutex)
		}
		ended(t, a)
	})
	t.Run("panic", func(t *testing.T) {
		a, client := joined(t, func(_ *Config, tune *tuning) {
			tune.onActivity = func(_, activity string) {
				if activity == "ending CPU profile and trace" {
					panic("on purpose")
				}
			}
		})
		req := request("restore-panic", time.Second)
		r := mustCollect(t, client, req)
		l := r.wantLoss(kindOfAll, lossFailed)
		if want := `the agent failed while it was at "ending CPU profile and trace": on purpose`; l.Message != want {
			t.Errorf("loss %q, want %q", l.Message, want)
		}
		r.file("cpu.0.pprof") // what was recorded until then arrives
		r.file("trace.out")
		ack(t, client, "restore-panic")
		ended(t, a)
	})
	t.Run("error", func(t *testing.T) {
		// Every write fails: the spool's files are closed under the window.
		a, client := joined(t, nil)
		r, err := collect(t, t.Context(), client, long("restore-error"), func(r *received) {
			if tracing(r) {
				c, err := a.captures.get("restore-error")
				if err != nil {
					return
				}
				c.spool.budget.Store(0)
				c.stop()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		l := r.wantLoss(agentv1.Kind_KIND_HEAP, lossTruncated)
		if want := "heap.pprof was cut: the capture's size limit is reached"; l.Message != want {
			t.Errorf("loss %q, want %q", l.Message, want)
		}
		ack(t, client, "restore-error")
		ended(t, a)
	})
	t.Run("close", func(t *testing.T) {
		a, client := joined(t, nil)
		closed := make(chan error, 1)
		once := false
		_, err := collect(t, t.Context(), client, long("restore-close"), func(r *received) {
			if tracing(r) && !once {
				once = true
				go func() { closed <- a.Close() }()
			}
		})
		if err == nil {
			t.Error("the capture of a closed agent ended well")
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		ended(t, a)
	})
}

func TestRatesAreSharedByWindows(t *testing.T) {
	if !findBlockRate().known() {
		t.Skip("the block rate of this build cannot be read")
	}
	block := ownRates(t)
	r := &rates{}
	balanced := r.acquire(10_000, 10, time.Minute)
	coarse := findBlockRate().ticks()
	if coarse <= 1 || coarse >= block || runtime.SetMutexProfileFraction(-1) != ownMutex {
		t.Errorf("balanced: block %d ticks, mutex %d; the program's own mutex rate of %d is finer", coarse, runtime.SetMutexProfileFraction(-1), ownMutex)
	}
	full := r.acquire(1, 1, time.Minute)
	if findBlockRate().ticks() != 1 || runtime.SetMutexProfileFraction(-1) != 1 {
		t.Errorf("full: block %d ticks, mutex %d", findBlockRate().ticks(), runtime.SetMutexProfileFraction(-1))
	}
	full.release()
	full.release() // again does nothing
	if got := findBlockRate().ticks(); got != coarse {
		t.Errorf("after full: block %d ticks, want %d", got, coarse)
	}
	balanced.release()
	wantRates(t, block, ownMutex)
}

func TestRatesChangedByTheProgramStay(t *testing.T) {
	if !findBlockRate().known() {
		t.Skip("the block rate of this build cannot be read")
	}
	ownRates(t)
	r := &rates{}
	l := r.acquire(1, 1, time.Minute)
	runtime.SetBlockProfileRate(777_000)
	runtime.SetMutexProfileFraction(77)
	want := findBlockRate().ticks()
	l.release()
	wantRates(t, want, 77)
}

func TestWatchdogPutsRatesBack(t *testing.T) {
	r := &rates{}
	r.acquire(1, 1, 50*time.Millisecond)
	wantRestored(t)
}

// Where the rate cannot be read, a program that profiles blocking keeps its own.
func TestUnknownBlockRateIsLeftAlone(t *testing.T) {
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	eventually(t, "blocking is recorded", func() bool {
		c := make(chan int)
		go func() { time.Sleep(time.Millisecond); close(c) }()
		<-c
		return pprof.Lookup("block").Count() > 0
	})
	r := &rates{}
	r.find.Do(func() {}) // it may not look
	l := r.acquire(10_000, 0, time.Minute)
	if l.blockSet || findBlockRate().known() && findBlockRate().ticks() != 1 {
		t.Errorf("set %v, %d ticks", l.blockSet, findBlockRate().ticks())
	}
	l.release()
	if findBlockRate().known() && findBlockRate().ticks() != 1 {
		t.Errorf("%d ticks after the release", findBlockRate().ticks())
	}
}
