package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opscenter/opscenter/agent/heaptypes"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// run takes one window, in the order in which a dying process leaves the most:
// what can be had at once goes first, what is only known at the end goes last.
// Every way out of it puts back what was changed.
func (c *capture) run() {
	began := time.Now()
	cpuBefore := cpuTime()
	w := &window{capture: c, log: c.agent.log, series: newSeries(c)}
	defer func() {
		start, end := w.start, w.end
		if start.IsZero() {
			start = began
		}
		if end.IsZero() {
			end = time.Now()
		}
		c.finish(&agentv1.Summary{
			WindowStart:    timestamppb.New(start),
			WindowEnd:      timestamppb.New(end),
			StoppedEarly:   w.stoppedEarly,
			ProcessCpuTime: durationpb.New(w.cpuUsed(cpuBefore)),
		})
	}()
	defer func() {
		if r := recover(); r != nil {
			c.agent.log.Error("agent recovered from a panic", slog.String("in", "capture"), slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			c.lose(loss(kindOfAll, lossFailed, "the agent failed while it was at %q: %v", c.progress().Activity, r))
		}
		w.restore()
		if err := c.spool.loss(); err != nil {
			c.lose(loss(kindOfAll, lossFailed, "there is no writable spool directory (%v): the artifacts were sent from memory and could not be sent again", err))
		}
	}()
	if c.plan.past {
		w.past()
	} else if w.before() && w.during() {
		w.after()
	}
}

// window is a capture while it is being taken. Its fields belong to the
// goroutine of run.
type window struct {
	*capture
	log    *slog.Logger
	series *series
	lease  *rateLease
	cpu    *recorder
	trace  *recorder

	start, end   time.Time
	cpuAtStart   time.Duration
	cpuAtEnd     time.Duration
	stoppedEarly bool
}

func (w *window) wants(k agentv1.Kind) bool { return w.plan.kinds[k] }

// dead reports whether the capture was dropped: nobody wants the rest.
func (w *window) dead() bool { return w.ctx.Err() != nil }

// before takes what describes the process as the window finds it. It reports
// whether to go on.
func (w *window) before() bool {
	if w.wants(agentv1.Kind_KIND_RUNTIME) {
		w.doing("describing the process")
		w.series.write(w, agentv1.Phase_PHASE_BEFORE)
	}
	if w.wants(agentv1.Kind_KIND_GOROUTINE) && !w.dead() {
		w.doing("first goroutine snapshot")
		w.snapshot(snapGoroutine, "goroutine.before.pprof", agentv1.Phase_PHASE_BEFORE)
	}
	w.heap("first", agentv1.Phase_PHASE_BEFORE, "heap.before.pprof", "allocs.before.pprof")
	w.types("heap-types.before.json", agentv1.Phase_PHASE_BEFORE)
	if w.dead() {
		return false
	}
	w.rates()
	for _, s := range []struct {
		snap snapshotKind
		name string
	}{{snapBlock, "block.before.pprof"}, {snapMutex, "mutex.before.pprof"}} {
		if w.wants(s.snap.kind) && !w.dead() {
			w.doing("first %s snapshot", s.snap.profile)
			w.snapshot(s.snap, s.name, agentv1.Phase_PHASE_BEFORE)
		}
	}
	return !w.dead()
}

// rates sets the block and mutex rates for the window.
func (w *window) rates() {
	block, mutex := 0, 0
	if w.wants(agentv1.Kind_KIND_BLOCK) {
		block = w.plan.blockNanos
	}
	if w.wants(agentv1.Kind_KIND_MUTEX) {
		mutex = w.plan.mutexFraction
	}
	if block == 0 && mutex == 0 {
		return
	}
	w.lease = theRuntime.rates.acquire(block, mutex, w.plan.duration+rateWatchdog)
	if block > 0 && !w.lease.blockSet {
		w.lose(loss(agentv1.Kind_KIND_BLOCK, lossNotSet, "the block profile rate of this build cannot be read and the program already profiles blocking: the rate was left as it is, so the profile holds what the program's own rate records"))
	}
}

// rateWatchdog is how long after its planned end a window that hangs may hold
// the block and mutex rates.
const rateWatchdog = time.Minute

// during waits for the window's end while CPU profile, trace and series are
// recorded. It reports whether to go on.
func (w *window) during() bool {
	c := w.capture
	w.start = time.Now()
	w.cpuAtStart = cpuTime()
	c.mu.Lock()
	c.begun = w.start
	c.mu.Unlock()
	w.doing("recording")

	over := time.NewTimer(w.plan.duration)
	defer over.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	if w.wants(agentv1.Kind_KIND_CPU) {
		w.cpu = w.recordCPU(w.start.Add(w.plan.duration))
	}
	traceAt := time.NewTimer(w.plan.duration - w.plan.traceWindow)
	defer traceAt.Stop()
	traceBegins := traceAt.C
	if !w.wants(agentv1.Kind_KIND_TRACE) {
		traceBegins = nil
	}
	stopped := c.stopped
	w.series.sample()
	for {
		select {
		case <-c.ctx.Done():
			return false
		case <-second.C:
			w.series.sample()
		case <-traceBegins:
			traceBegins = nil
			w.doing("recording, with trace")
			w.trace = w.recordTrace()
		case <-stopped:
			stopped = nil
			w.stoppedEarly = true
			if traceBegins == nil {
				w.end = time.Now()
				return true
			}
			// The trace window lies ahead: trace at least a little.
			traceBegins = nil
			w.doing("tracing one second more")
			c.lose(loss(agentv1.Kind_KIND_TRACE, lossTruncated, "the capture was stopped before its trace window began: it traced one second after the stop instead of %v", w.plan.traceWindow))
			w.trace = w.recordTrace()
			over.Reset(time.Second)
		case <-over.C:
			w.end = time.Now()
			return true
		}
	}
}

// after takes what is only known at the end.
func (w *window) after() {
	w.doing("ending CPU profile and trace")
	w.trace.finish()
	w.cpu.finish()
	w.end = time.Now()
	w.cpuAtEnd = cpuTime()
	w.series.sample()

	for _, s := range []struct {
		snap snapshotKind
		name string
	}{{snapBlock, "block.after.pprof"}, {snapMutex, "mutex.after.pprof"}} {
		if w.wants(s.snap.kind) && !w.dead() {
			w.doing("last %s snapshot", s.snap.profile)
			w.snapshot(s.snap, s.name, agentv1.Phase_PHASE_AFTER)
		}
	}
	w.lease.release() // as soon as may be: full rates cost
	if w.wants(agentv1.Kind_KIND_GOROUTINE) && !w.dead() {
		w.doing("last goroutine snapshot")
		w.snapshot(snapGoroutine, "goroutine.pprof", agentv1.Phase_PHASE_AFTER)
	}
	w.heap("last", agentv1.Phase_PHASE_AFTER, "heap.pprof", "allocs.after.pprof")
	w.types(heaptypes.FileName, agentv1.Phase_PHASE_AFTER)
	if w.wants(agentv1.Kind_KIND_GOROUTINE_DUMP) && !w.dead() {
		w.doing("goroutine dump")
		w.dump()
	}
	if w.wants(agentv1.Kind_KIND_GOROUTINE_LEAK) && !w.dead() {
		w.doing("goroutine leaks")
		w.leaks()
	}
	if w.wants(agentv1.Kind_KIND_RUNTIME) && !w.dead() {
		w.doing("runtime series")
		w.series.write(w, agentv1.Phase_PHASE_WINDOW)
	}
	w.doing("sending")
}

// restore ends everything that could still be on. It may be called at any time.
func (w *window) restore() {
	w.trace.finish()
	w.cpu.finish()
	w.lease.release()
}

func (w *window) cpuUsed(before time.Duration) time.Duration {
	if w.cpuAtEnd == 0 {
		return cpuTime() - before
	}
	return w.cpuAtEnd - w.cpuAtStart
}

var errDropped = errors.New("the capture was dropped")
