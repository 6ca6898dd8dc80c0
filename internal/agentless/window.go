package agentless

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// What is asked of a target at most.
const (
	segmentSeconds = 8
	// maxDumpGoroutines: goroutine debug=2 stops the world for 22 µs a goroutine,
	// several times over.
	maxDumpGoroutines = 1000
	// maxLeakGoroutines: the stop of a goroutineleak profile is quadratic in the
	// waiters of one primitive; with fewer goroutines than this it cannot be long.
	maxLeakGoroutines = 2000
	// oldestTrace is the Go 1 release since which traces can be read in parts,
	// which is what everything here does with them.
	oldestTrace = 22
	maxProfile  = 64 << 20
	maxDump     = 16 << 20
)

// Why a window ended that did not end well, as causes of its context.
var (
	errLost = errors.New("the target is gone")
	errCut  = errors.New("stopped")
)

// window is one Collect. Its tasks fetch concurrently; what they do to the sink
// runs on the goroutine of Collect, one call after another.
type window struct {
	id    ops.CaptureID
	link  *Link
	spec  ops.Spec
	sink  ops.Sink
	calls chan func()

	cancel   context.CancelCauseFunc
	stop     chan struct{}
	stopOnce sync.Once

	mu         sync.Mutex // guards all below
	start      time.Time  // zero before the window begins
	end        time.Time  // zero while it is open
	early      bool
	lost       error // what a dead target looked like
	sinkErr    error
	losses     []ops.Loss
	hopeless   map[ops.Kind]bool // asking again would not help
	activities []string
	series     []sample
	before     *memstats
	after      *memstats
	traceMinor int // the trace's format is Go 1.traceMinor's; 0 = no trace so far
	// mutexPeriod is the process's mutex profile fraction; nil = unknown.
	mutexPeriod *int64
}

func newWindow(l *Link, id ops.CaptureID, spec ops.Spec, sink ops.Sink) *window {
	return &window{id: id, link: l, spec: spec, sink: sink, calls: make(chan func()), stop: make(chan struct{}), hopeless: map[ops.Kind]bool{}}
}

func (w *window) requestStop() { w.stopOnce.Do(func() { close(w.stop) }) }

func (w *window) wants(k ops.Kind) bool { return slices.Contains(w.spec.Kinds, k) }

// collect runs the tasks and serves their calls of the sink.
func (w *window) collect(parent context.Context) (ops.CollectSummary, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	w.cancel = cancel
	if err := w.greet(ctx); err != nil {
		return ops.CollectSummary{}, err
	}
	w.sink.Progress(w.progress())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case call := <-w.calls:
			call()
		case <-tick.C:
			w.sink.Progress(w.progress())
		case <-done:
			return w.result(parent)
		}
	}
}

// greet finds out whether there is anybody.
func (w *window) greet(ctx context.Context) error {
	var dead deathWatch
	for {
		s, err := w.link.sample(ctx)
		if err == nil {
			w.series = append(w.series, s)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if lost := w.link.judge(&dead, err); lost != nil {
			return lost
		}
		if !wait(ctx, 250*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (w *window) result(parent context.Context) (ops.CollectSummary, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := ops.CollectSummary{WindowStart: w.start, WindowEnd: w.end, StoppedEarly: w.early, Losses: w.losses}
	switch {
	case w.sinkErr != nil:
		return sum, w.sinkErr
	case parent.Err() != nil:
		return sum, parent.Err()
	case w.lost != nil:
		return sum, w.lost
	}
	return sum, nil
}

// do runs a call of the sink on Collect's goroutine, which serves until every
// task has ended. The first error ends the window.
func (w *window) do(call func() error) error {
	result := make(chan error)
	w.calls <- func() { result <- call() }
	err := <-result
	if err != nil {
		w.mu.Lock()
		if w.sinkErr == nil {
			w.sinkErr = err
		}
		w.mu.Unlock()
		w.cancel(err)
	}
	return err
}

// run is the plan of a window: what would be lost first is taken first.
func (w *window) run(ctx context.Context) {
	monitoring, stopMonitor := context.WithCancel(ctx)
	defer stopMonitor()
	var monitor sync.WaitGroup
	monitor.Go(func() { w.monitor(monitoring) })

	for _, k := range w.spec.Kinds {
		if k == ops.KindHeapTypes || !slices.Contains(ops.FullSet(), k) {
			w.state(k, ops.LossUnsupported, string(k)+" cannot be had from outside the process: put the agent in")
		}
	}
	first, rest := w.snapshots(ctx, ops.PhaseBefore)
	// Neither the snapshots' cost in the CPU profile nor a window that begins
	// late because one of them hangs: a second at most.
	select {
	case <-first:
	case <-time.After(time.Second):
	case <-ctx.Done():
	case <-w.stop:
	}
	w.mu.Lock()
	w.start = time.Now()
	deadline := w.start.Add(w.spec.Duration)
	w.mu.Unlock()

	var recording sync.WaitGroup
	if w.wants(ops.KindCPU) {
		recording.Go(func() { w.recordCPU(ctx, deadline) })
	}
	if w.wants(ops.KindTrace) {
		recording.Go(func() { w.recordTrace(ctx, deadline) })
	}
	over := time.NewTimer(time.Until(deadline))
	defer over.Stop()
	early := false
	select {
	case <-over.C:
	case <-w.stop:
		early = true
	case <-ctx.Done():
	}
	<-rest
	w.mu.Lock()
	w.end, w.early = time.Now(), early
	w.mu.Unlock()
	if ctx.Err() == nil {
		_, rest = w.snapshots(ctx, ops.PhaseAfter)
		<-rest
	}
	recording.Wait()
	stopMonitor()
	monitor.Wait()
	w.judgeRestart()
	w.writeRuntime(ctx)
}

// monitor keeps a series of the cheap numbers and finds out when the target dies.
func (w *window) monitor(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var dead deathWatch
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, err := w.link.sample(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			dead = deathWatch{}
			w.mu.Lock()
			w.series = append(w.series, s)
			w.mu.Unlock()
			continue
		}
		if lost := w.link.judge(&dead, err); lost != nil {
			w.die(lost)
			return
		}
	}
}

// die ends the window of a target that is gone.
func (w *window) die(lost error) {
	w.mu.Lock()
	if w.lost == nil {
		w.lost = lost
	}
	if w.end.IsZero() {
		w.end = time.Now()
	}
	w.mu.Unlock()
	w.cancel(errLost)
}

// alive asks a target whose connection broke, and ends the window if it is gone.
func (w *window) alive(ctx context.Context) bool {
	var dead deathWatch
	for ctx.Err() == nil {
		_, err := w.link.host.index(ctx)
		var status *statusError
		if err == nil || errors.As(err, &status) {
			return true
		}
		if lost := w.link.judge(&dead, err); lost != nil {
			if ctx.Err() == nil {
				w.die(lost)
			}
			return false
		}
		if !wait(ctx, 250*time.Millisecond) {
			return false
		}
	}
	return false
}

// snapshots takes what is taken at an end of the window. first is closed when
// the goroutines and the heap are in, rest when everything is.
func (w *window) snapshots(ctx context.Context, phase ops.Phase) (first, rest <-chan struct{}) {
	var vital, all sync.WaitGroup
	spawn := func(wg *sync.WaitGroup, tasks ...func()) {
		wg.Go(func() {
			for _, t := range tasks {
				if ctx.Err() == nil {
					t()
				}
			}
		})
	}
	snapshot := func(k ops.Kind, query string) func() {
		return func() { w.snapshot(ctx, k, phase, query) }
	}
	after := phase == ops.PhaseAfter

	spawn(&vital, snapshot(ops.KindGoroutine, "debug=0"), func() {
		if after {
			w.dump(ctx)
			w.leaks(ctx)
		}
	})
	// Allocation data are published by a collection: the heap's comes first.
	spawn(&vital, func() { w.heap(ctx, phase) }, snapshot(ops.KindAllocs, "debug=0"))
	spawn(&all, snapshot(ops.KindBlock, "debug=0"))
	spawn(&all, snapshot(ops.KindMutex, "debug=0"), func() {
		if after {
			w.rates(ctx)
		}
	})
	if w.wants(ops.KindRuntime) {
		spawn(&all, func() { w.readMemory(ctx, phase) })
	}
	f, r := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		vital.Wait()
		close(f)
	})
	go func() {
		all.Wait()
		close(r)
	}()
	return f, r
}

// snapshot takes one cumulative or momentary profile.
func (w *window) snapshot(ctx context.Context, k ops.Kind, phase ops.Phase, query string) {
	if !w.wants(k) || w.isHopeless(k) {
		return
	}
	name := k.FileName()
	switch {
	case phase == ops.PhaseBefore:
		name = k.FileNameBefore()
	case k.HasDelta():
		name = k.FileNameAfter()
	}
	defer w.doing(string(k) + " snapshot")()
	p := w.fetch(ctx, want{path: string(k), query: query, kind: k, phase: phase, name: name, most: maxProfile, looks: isProfile})
	w.lose(p)
}

// heap takes the heap profile, after a collection unless that is to be skipped.
func (w *window) heap(ctx context.Context, phase ops.Phase) {
	gc := "gc=1"
	if w.spec.SkipGC {
		gc = "gc=0"
		if w.wants(ops.KindHeap) || w.wants(ops.KindAllocs) {
			w.state(ops.KindHeap, ops.LossSkipped, "no collection was asked for at the window's ends: heap and allocs are as of the process's own last one")
		}
	}
	if w.wants(ops.KindHeap) {
		w.snapshot(ctx, ops.KindHeap, phase, "debug=0&"+gc)
	} else if w.wants(ops.KindAllocs) && !w.spec.SkipGC {
		if a, err := w.link.host.get(ctx, "heap", gc, 0); err == nil {
			a.close() // for the collection alone
		}
	}
}

// dump takes the text of all stacks, with their wait times, of a small process.
func (w *window) dump(ctx context.Context) {
	if !w.wants(ops.KindGoroutineDump) {
		return
	}
	switch n := w.goroutines(ctx); {
	case n < 0:
		w.state(ops.KindGoroutineDump, ops.LossSkipped, "the index page does not say how many goroutines there are, and a dump of many would stop the process for long")
	case n >= maxDumpGoroutines:
		w.state(ops.KindGoroutineDump, ops.LossSkipped, fmt.Sprintf("the process has %s: a dump of %d or more would stop it for long", plural(n, "goroutine"), maxDumpGoroutines))
	default:
		defer w.doing("goroutine dump")()
		w.lose(w.fetch(ctx, want{path: "goroutine", query: "debug=2", kind: ops.KindGoroutineDump, phase: ops.PhaseAfter, name: ops.KindGoroutineDump.FileName(), most: maxDump, looks: isDump}))
	}
}

// leaks takes the goroutine leak profile where there is one.
func (w *window) leaks(ctx context.Context) {
	if !w.wants(ops.KindGoroutineLeak) {
		return
	}
	if n := w.goroutines(ctx); n >= maxLeakGoroutines {
		w.state(ops.KindGoroutineLeak, ops.LossSkipped, fmt.Sprintf("the process has %s: with %d or more the leak profile can stop it for long", plural(n, "goroutine"), maxLeakGoroutines))
		return
	}
	if _, listed := w.last().counts["goroutineleak"]; !listed {
		w.state(ops.KindGoroutineLeak, ops.LossUnsupported, "the process lists no goroutine leak profile: it takes a build of Go 1.26 or later with that experiment")
		return
	}
	defer w.doing("goroutine leak profile")()
	w.lose(w.fetch(ctx, want{path: "goroutineleak", query: "debug=0", kind: ops.KindGoroutineLeak, phase: ops.PhaseAfter, name: ops.KindGoroutineLeak.FileName(), most: maxProfile, looks: isProfile}))
}

// goroutines counts them now; -1 = unknown.
func (w *window) goroutines(ctx context.Context) int64 {
	if s, err := w.link.sample(ctx); err == nil {
		w.mu.Lock()
		w.series = append(w.series, s)
		w.mu.Unlock()
		return s.goroutines
	}
	return -1
}

func (w *window) last() sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.series[len(w.series)-1]
}

// rates states what the process's own sampling rates mean for block and mutex:
// they cannot be changed from outside.
func (w *window) rates(ctx context.Context) {
	const remedy = "it cannot be switched on from outside: call %s in the service, or put the agent in"
	last := w.last()
	if w.wants(ops.KindBlock) && !w.isHopeless(ops.KindBlock) {
		if n, known := last.counts["block"]; known && n == 0 {
			w.state(ops.KindBlock, ops.LossNotSet, "the block profile is empty, as it is where block profiling is off (the default); "+fmt.Sprintf(remedy, "runtime.SetBlockProfileRate"))
		} else if known {
			w.state(ops.KindBlock, ops.LossNotSet, "the block profile's rate is the process's own and cannot be read from outside: waits shorter than it are sampled")
		}
	}
	if !w.wants(ops.KindMutex) || w.isHopeless(ops.KindMutex) {
		return
	}
	period, ok := w.link.host.mutexPeriod(ctx)
	if ok {
		w.mu.Lock()
		w.mutexPeriod = &period
		w.mu.Unlock()
	}
	switch {
	case ok && period == 0:
		w.state(ops.KindMutex, ops.LossNotSet, "mutex profiling is off in the process (the default), so that the mutex profile has nothing of this window; "+fmt.Sprintf(remedy, "runtime.SetMutexProfileFraction"))
	case ok && period > 1:
		w.state(ops.KindMutex, ops.LossNotSet, fmt.Sprintf("the process samples 1 of %d mutex contentions, and that cannot be changed from outside", period))
	case !ok && last.counts["mutex"] == 0 && len(last.counts) > 0:
		w.state(ops.KindMutex, ops.LossNotSet, "the mutex profile is empty, as it is where mutex profiling is off (the default); "+fmt.Sprintf(remedy, "runtime.SetMutexProfileFraction"))
	}
}

// mutexPeriod reads the sampling period out of the mutex profile's text.
func (h *host) mutexPeriod(ctx context.Context) (period int64, ok bool) {
	a, err := h.get(ctx, "mutex", "debug=1", 0)
	if err != nil {
		return 0, false
	}
	defer a.close()
	for range 8 { // it is among the first lines
		line, err := a.ReadSlice('\n')
		if v, found := strings.CutPrefix(strings.TrimSpace(string(line)), "sampling period="); found {
			period, perr := strconv.ParseInt(v, 10, 64)
			return period, perr == nil
		}
		if err != nil {
			break
		}
	}
	return 0, false
}

// recordCPU profiles in segments, each of which arrives when it closes.
func (w *window) recordCPU(ctx context.Context, deadline time.Time) {
	longest := int64(segmentSeconds)
	for segment := 0; ctx.Err() == nil; {
		left := time.Until(deadline)
		if segment > 0 && (left < 500*time.Millisecond || w.stopping()) {
			return
		}
		seconds := min(longest, max(1, int64(math.Round(left.Seconds()))))
		if w.stopping() { // before anything was recorded: a little is better than nothing
			seconds = 1
		}
		done := w.doing("cpu segment " + strconv.Itoa(segment+1))
		p := w.fetch(ctx, want{
			path: "profile", query: "seconds=" + strconv.FormatInt(seconds, 10),
			kind: ops.KindCPU, phase: ops.PhaseWindow, name: ops.KindCPU.FileNameSegment(segment),
			lasts: time.Duration(seconds) * time.Second, most: maxProfile, looks: isProfile,
		})
		done()
		switch {
		case p == nil:
			segment++
		case p.began:
			w.lose(p)
			segment++ // its name is taken
		case p.tooLong && seconds > 1 && time.Until(deadline) > 500*time.Millisecond && !w.stopping():
			longest = max(1, seconds/4) // the server ends requests before that
		default:
			w.lose(p)
			return
		}
	}
}

// recordTrace traces the last part of the window.
func (w *window) recordTrace(ctx context.Context, deadline time.Time) {
	lasts := w.spec.TraceWindow
	at := time.NewTimer(time.Until(deadline.Add(-lasts)))
	defer at.Stop()
	select {
	case <-ctx.Done():
		return
	case <-at.C:
	case <-w.stop:
		if lasts > time.Second {
			lasts = time.Second
			w.state(ops.KindTrace, ops.LossTruncated, "the window was stopped before the trace had begun: it covers one second more instead")
		}
	}
	defer w.doing("trace")()
	cutCtx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	ends := time.Now().Add(lasts)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-cutCtx.Done():
		case <-w.stop:
			// Worth waiting for only when it is nearly over.
			if time.Until(ends) > segmentSeconds*time.Second {
				cut(errCut)
			}
		}
	})
	for {
		p := w.fetch(cutCtx, want{
			path: "trace", query: "seconds=" + strconv.FormatFloat(lasts.Seconds(), 'f', -1, 64),
			kind: ops.KindTrace, phase: ops.PhaseWindow, name: ops.KindTrace.FileName(),
			lasts: lasts, most: w.spec.TraceMaxBytes, looks: w.isTrace,
		})
		if p != nil && !p.began && p.tooLong && lasts > time.Second {
			lasts = max(time.Second, lasts/4)
			w.state(ops.KindTrace, ops.LossTruncated, fmt.Sprintf("the server ends requests early, so that the trace covers %v", lasts))
			continue
		}
		w.lose(p)
		break
	}
	w.mu.Lock()
	format := w.traceMinor
	w.mu.Unlock()
	if format != 0 && format < oldestTrace {
		w.state(ops.KindTrace, ops.LossUnsupported, fmt.Sprintf("the trace is in the format of Go 1.%d, from before Go 1.%d, and cannot be opened here: download it and run go tool trace", format, oldestTrace))
	}
	cut(nil)
	watching.Wait()
}

func (w *window) stopping() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// lose notes a problem, if there is one.
func (w *window) lose(p *problem) {
	if p == nil {
		return
	}
	if p.hopeless {
		w.mu.Lock()
		w.hopeless[p.loss.Kind] = true
		w.mu.Unlock()
	}
	if !p.silent {
		w.state(p.loss.Kind, p.loss.Reason, p.loss.Message)
	}
}

// state notes a loss once.
func (w *window) state(k ops.Kind, r ops.LossReason, message string) {
	l := ops.Loss{Kind: k, Reason: r, Message: message}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.losses, l) {
		w.losses = append(w.losses, l)
	}
}

func (w *window) isHopeless(k ops.Kind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hopeless[k]
}

// doing shows an activity until the returned func is called.
func (w *window) doing(what string) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.activities = append(w.activities, what)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if i := slices.Index(w.activities, what); i >= 0 {
			w.activities = slices.Delete(w.activities, i, i+1)
		}
	}
}

func (w *window) progress() ops.Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := ops.Progress{Duration: w.spec.Duration, Activity: strings.Join(w.activities, ", ")}
	if !w.start.IsZero() {
		p.Elapsed = min(p.Duration, time.Since(w.start))
	}
	if !w.end.IsZero() && w.early && p.Activity != "" {
		p.Activity = "finishing " + p.Activity
	}
	return p
}
