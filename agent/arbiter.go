package agent

import (
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"time"
)

// runtimeArbiter hands out what the Go runtime has only one of: the CPU
// profiler, the execution tracer, and the block and mutex rates.
type runtimeArbiter struct {
	mu     sync.Mutex // guards those below
	cpu    string     // the capture whose profile runs; "" = none of ours
	tracer string
	flight string    // the agent whose flight recorder is on
	leak   time.Time // when the goroutine leak profile was last taken

	rates rates
}

// theRuntime is package state on purpose, the only one here: the settings it
// guards belong to the process, so two agents in one process must share it.
var theRuntime = &runtimeArbiter{}

// errInUse says who holds what was asked for.
type errInUse struct{ what string }

func (e errInUse) Error() string { return e.what }

// startCPU begins a CPU profile that writes to w.
func (r *runtimeArbiter) startCPU(capture string, w io.Writer) error {
	if holder := r.claim(&r.cpu, capture); holder != "" {
		return errInUse{fmt.Sprintf("capture %s is taking the CPU profile", holder)}
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		r.claim(&r.cpu, "")
		return errInUse{"something else in the process is taking a CPU profile (" + err.Error() + ")"}
	}
	return nil
}

// claim notes who holds one of the arbiter's things, unless someone does; then
// it says who. An empty name gives it back.
func (r *runtimeArbiter) claim(thing *string, name string) (holder string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name != "" && *thing != "" {
		return *thing
	}
	*thing = name
	return ""
}

// stopCPU ends it. ours is false when something else in the process already
// stopped it; stopping again could then end a stranger's profile.
func (r *runtimeArbiter) stopCPU(ours bool) {
	if ours {
		pprof.StopCPUProfile()
	}
	r.claim(&r.cpu, "")
}

// startTrace begins an execution trace that writes to w. It waits for a stop in
// progress, which a stranger's slow writer can hold up.
func (r *runtimeArbiter) startTrace(capture string, w io.Writer) error {
	if holder := r.claim(&r.tracer, capture); holder != "" {
		return errInUse{fmt.Sprintf("capture %s is tracing", holder)}
	}
	if err := trace.Start(w); err != nil {
		r.claim(&r.tracer, "")
		return errInUse{"something else in the process is tracing (" + err.Error() + ")"}
	}
	return nil
}

// stopTrace ends it; false when something else already had.
func (r *runtimeArbiter) stopTrace() bool {
	ours := trace.IsEnabled()
	if ours {
		trace.Stop()
	}
	r.claim(&r.tracer, "")
	return ours
}

// leakEvery is how often a process may be asked for its leaked goroutines.
const leakEvery = 10 * time.Minute

// mayLookForLeaks reports whether it is time again, and notes that it was done.
func (r *runtimeArbiter) mayLookForLeaks(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since := now.Sub(r.leak); !r.leak.IsZero() && since < leakEvery {
		return fmt.Errorf("the last one was %v ago and one is taken at most every %v: ask again later", since.Round(time.Second), leakEvery)
	}
	r.leak = now
	return nil
}

func isInUse(err error) bool {
	var e errInUse
	return errors.As(err, &e)
}
