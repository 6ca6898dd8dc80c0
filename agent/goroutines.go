package agent

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// dumpMax is the most goroutines for which the text dump is taken: it stops the
// world for about 22 µs a goroutine, several times over.
const dumpMax = 1000

// dump takes the goroutines as text, which alone has wait times and states.
func (w *window) dump() {
	const kind = agentv1.Kind_KIND_GOROUTINE_DUMP
	if n := runtime.NumGoroutine(); n >= dumpMax {
		w.lose(loss(kind, lossSkipped, "goroutine.txt was not taken: with %d goroutines it would stop the process for about %v, and it is only taken below %d", n, (time.Duration(n) * 22 * 3 * time.Microsecond).Round(time.Millisecond), dumpMax))
		return
	}
	at := time.Now()
	a := w.newArtifact("goroutine.txt", kind, agentv1.Phase_PHASE_AFTER, 0, at)
	a.close(at, a.fill(func(out io.Writer) error { return pprof.Lookup("goroutine").WriteTo(out, 2) })...)
}

// The gate of the goroutine leak profile: its stop of the world grows with the
// square of the goroutines that wait on one primitive.
const (
	leakMaxGoroutines = 200_000
	leakMaxWaiters    = 2_000
)

// leaks takes the profile of leaked goroutines, if the build has it and the
// process can bear it.
func (w *window) leaks() {
	const kind = agentv1.Kind_KIND_GOROUTINE_LEAK
	p := pprof.Lookup("goroutineleak")
	if p == nil {
		w.lose(loss(kind, lossUnsupported, "%s has no goroutine leak profile: build with GOEXPERIMENT=goroutineleakprofile, or with Go 1.27", runtime.Version()))
		return
	}
	if err := leakGate(runtime.NumGoroutine(), pprof.Lookup("goroutine")); err != nil {
		w.lose(loss(kind, lossSkipped, "goroutineleak.pprof was not taken: %v", err))
		return
	}
	if err := theRuntime.mayLookForLeaks(time.Now()); err != nil {
		w.lose(loss(kind, lossSkipped, "goroutineleak.pprof was not taken: %v", err))
		return
	}
	at := time.Now()
	a := w.newArtifact("goroutineleak.pprof", kind, agentv1.Phase_PHASE_AFTER, 0, at)
	a.close(at, a.fill(func(out io.Writer) error { return p.WriteTo(out, 0) })...)
}

// leakGate refuses when too many goroutines exist or wait on mutexes and the
// like. It counts waiters over all stacks, for several stacks can wait for the
// same primitive and nothing tells which.
func leakGate(goroutines int, profile interface {
	WriteTo(w io.Writer, debug int) error
}) error {
	if goroutines > leakMaxGoroutines {
		return fmt.Errorf("%d goroutines are more than %d", goroutines, leakMaxGoroutines)
	}
	var c waiterCount
	if err := profile.WriteTo(&c, 1); err != nil {
		return err
	}
	if c.waiters > leakMaxWaiters {
		return fmt.Errorf("%d goroutines wait on mutexes, wait groups or conditions, more than %d: the process could stop for seconds", c.waiters, leakMaxWaiters)
	}
	return nil
}

// waiterCount reads a goroutine profile in its text form, line by line as it is
// written, and counts the goroutines whose first frame is a semaphore.
//
//	12 @ 0x47… 0x40…
//	#	0x48e0ad	sync.runtime_SemacquireMutex+0x2d	/usr/local/go/src/runtime/sema.go:95
type waiterCount struct {
	line    []byte
	group   int // goroutines of the present stack; 0 once its first frame was seen
	waiters int
}

func (c *waiterCount) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		c.see(string(append(c.line, p[:i]...)))
		c.line, p = c.line[:0], p[i+1:]
	}
	if len(c.line) < 4096 {
		c.line = append(c.line, p...)
	}
	return n, nil
}

func (c *waiterCount) see(line string) {
	if count, _, ok := strings.Cut(line, " @ "); ok {
		c.group, _ = strconv.Atoi(count)
		return
	}
	if c.group == 0 || !strings.HasPrefix(line, "#\t0x") {
		return
	}
	if f := strings.Split(line, "\t"); len(f) >= 3 {
		name := f[2]
		if strings.HasPrefix(name, "sync.runtime_Semacquire") || strings.HasPrefix(name, "sync.runtime_notifyListWait") ||
			strings.HasPrefix(name, "internal/sync.runtime_Semacquire") {
			c.waiters += c.group
		}
	}
	c.group = 0
}
