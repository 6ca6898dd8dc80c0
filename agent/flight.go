package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/trace"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// The bounds of the flight recorder.
const (
	minFlight = time.Second
	maxFlight = time.Minute
	// defaultFlightBytes hold ten seconds of a service that makes some 100,000
	// events a second.
	defaultFlightBytes = 16 << 20
	maxFlightBytes     = 128 << 20
	// flightMemoryShare of the process's memory limit is the most that the ring
	// takes, whatever was asked for.
	flightMemoryShare = 16
	// flightWait is how long a snapshot waits for another one's end.
	flightWait = 5 * time.Second
)

// flightDeck keeps the last seconds of the execution trace in memory while
// anybody wants it to. The runtime's writers never wait for it: it takes what
// they hand over into a ring that forgets its oldest second.
type flightDeck struct {
	agent *Agent

	// turn lets one at a time start, stop or read the recorder, which can take as
	// long as the runtime needs to end a generation; never under mu.
	turn chan struct{}

	mu       sync.Mutex // guards what follows
	wants    map[string]time.Duration
	recorder *trace.FlightRecorder // nil = off
	minAge   time.Duration
	maxBytes int64
	since    time.Time
	refused  error // why it is off although it is wanted
	lastSize int64
	lastTook time.Duration
}

func newFlightDeck(a *Agent) *flightDeck {
	return &flightDeck{agent: a, turn: make(chan struct{}, 1), wants: map[string]time.Duration{}}
}

// want notes that who wants the last so much time to be kept; 0 = no longer. The
// recorder keeps what the one who wants most does.
func (d *flightDeck) want(who string, keep time.Duration) error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	d.mu.Lock()
	if keep > 0 {
		d.wants[who] = keep
	} else {
		delete(d.wants, who)
	}
	most := time.Duration(0)
	for _, k := range d.wants {
		most = max(most, k)
	}
	now, recorder := d.minAge, d.recorder
	d.mu.Unlock()
	if most == now && (recorder != nil) == (most > 0) {
		return nil
	}
	return d.set(most)
}

// set makes the recorder keep so much; whoever calls has the turn. To keep
// another length it begins anew: what it held is gone.
func (d *flightDeck) set(keep time.Duration) error {
	d.mu.Lock()
	old := d.recorder
	d.recorder, d.minAge, d.refused = nil, 0, nil
	d.mu.Unlock()
	if old != nil {
		old.Stop()
		theRuntime.claim(&theRuntime.flight, "")
	}
	if keep == 0 {
		return nil
	}
	bytes := d.agent.flightBytes()
	fr := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: keep, MaxBytes: uint64(bytes)})
	err := theRuntime.startFlight(d.agent.self.bootID, fr)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.refused = err
		return err
	}
	d.recorder, d.minAge, d.maxBytes, d.since = fr, keep, bytes, time.Now()
	d.agent.log.Info("flight recorder on", slog.Duration("keeps", keep), slog.Int64("bytes", bytes))
	return nil
}

// flightBytes is the most that the ring takes.
func (a *Agent) flightBytes() int64 {
	bytes := a.cfg.flightBytes
	if limit := a.memoryLimit(); limit > 0 {
		bytes = min(bytes, limit/flightMemoryShare)
	}
	return max(bytes, 1<<20)
}

// startFlight begins to record: a process has one flight recorder.
func (r *runtimeArbiter) startFlight(who string, fr *trace.FlightRecorder) error {
	if holder := r.claim(&r.flight, who); holder != "" {
		return errInUse{"another agent in the process has the flight recorder"}
	}
	if err := fr.Start(); err != nil {
		r.claim(&r.flight, "")
		return errInUse{"something else in the process has the flight recorder (" + err.Error() + ")"}
	}
	return nil
}

// errFlightOff says how to turn it on.
var errFlightOff = errors.New("the flight recorder is off: turn it on with the control flight-recorder, with OPS_FLIGHT_RECORDER=10s, or with a rule that takes the last seconds")

// snapshot writes what is held and says since when it reaches back.
func (d *flightDeck) snapshot(ctx context.Context, w io.Writer) (since time.Time, err error) {
	patience := time.NewTimer(flightWait)
	defer patience.Stop()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return since, errDropped
	case <-patience.C:
		return since, fmt.Errorf("another snapshot of the flight recorder did not end within %v", flightWait)
	}
	d.mu.Lock()
	fr, on, refused := d.recorder, d.since, d.refused
	d.mu.Unlock()
	if fr == nil {
		return since, cmp.Or(refused, errFlightOff)
	}
	began := time.Now()
	n, err := fr.WriteTo(w)
	d.mu.Lock()
	d.lastSize, d.lastTook = n, time.Since(began)
	d.mu.Unlock()
	return on, err
}

// on reports whether it records.
func (d *flightDeck) on() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recorder != nil
}

// close turns it off for good.
func (d *flightDeck) close() {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	d.mu.Lock()
	clear(d.wants)
	d.mu.Unlock()
	_ = d.set(0)
}

func (d *flightDeck) state() *agentv1.FlightState {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &agentv1.FlightState{On: d.recorder != nil, WantedBy: slices.Sorted(maps.Keys(d.wants)), LastBytes: d.lastSize}
	if s.On {
		s.MinAge, s.MaxBytes, s.Since = durationpb.New(d.minAge), d.maxBytes, timestamppb.New(d.since)
	}
	if d.lastTook > 0 {
		s.LastTook = durationpb.New(d.lastTook)
	}
	if d.refused != nil {
		s.Refused = d.refused.Error()
	}
	return s
}

// past takes a capture of what is over: the flight recorder first, for it
// forgets, then how the process is now.
func (w *window) past() {
	w.end = time.Now()
	w.start = w.end.Add(-w.plan.last)
	c := w.capture
	c.mu.Lock()
	c.begun = w.start
	c.mu.Unlock()
	flight := func() {
		if w.wants(agentv1.Kind_KIND_TRACE) && !w.dead() {
			w.doing("reading the flight recorder")
			w.flight()
		}
	}
	if !w.plan.small {
		flight()
	} else {
		defer flight()
	}
	if w.wants(agentv1.Kind_KIND_GOROUTINE) && !w.dead() {
		w.doing("goroutine snapshot")
		w.snapshot(snapGoroutine, "goroutine.pprof", agentv1.Phase_PHASE_AFTER)
	}
	// The process's numbers are small and say what its limit is: without them a heap
	// is hard to judge. A pair's span the time between its heaps.
	if !w.plan.pair {
		w.numbers()
	} else if !w.dead() {
		w.pairOfHeaps()
	}
	if w.wants(agentv1.Kind_KIND_HEAP) && !w.dead() {
		w.doing("heap snapshot")
		if w.plan.collect && sinceCollection() > staleHeap {
			runtime.GC()
		}
		w.snapshot(snapHeap, "heap.pprof", agentv1.Phase_PHASE_AFTER)
	}
	if w.plan.pair {
		w.numbers()
	}
	w.cpuAtEnd = w.cpuAtStart
	w.doing("sending")
}

// numbers writes the runtime's numbers of the capture.
func (w *window) numbers() {
	if w.wants(agentv1.Kind_KIND_RUNTIME) && !w.dead() {
		w.doing("runtime series")
		w.series.sample()
		w.series.write(w, agentv1.Phase_PHASE_WINDOW)
	}
}

// staleHeap is from when on a garbage collection is worth its cost to a rule that
// watches memory; a process at its limit collects more often than that by itself.
const staleHeap = time.Second

// sinceCollection is how long ago the last garbage collection ended.
func sinceCollection() time.Duration {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	return time.Since(stats.LastGC)
}

// flight writes the flight recorder's ring as the trace of the capture.
func (w *window) flight() {
	const kind = agentv1.Kind_KIND_TRACE
	if !w.agent.flight.on() {
		_, err := w.agent.flight.snapshot(w.ctx, io.Discard)
		w.lose(loss(kind, lossInUse, "there is no trace of the past: %v", err))
		return
	}
	a := w.newArtifact("trace.out", kind, agentv1.Phase_PHASE_WINDOW, 0, w.start)
	var since time.Time
	losses := a.fill(func(out io.Writer) (err error) {
		since, err = w.agent.flight.snapshot(w.ctx, out)
		return err
	})
	if short := since.Sub(w.start); since.After(w.start) {
		losses = append(losses, loss(kind, lossGap, "the flight recorder was turned on %v ago: there is nothing of the %v before", time.Since(since).Round(time.Millisecond), short.Round(time.Millisecond)))
	}
	if w.plan.last > w.agent.flight.keeps() {
		losses = append(losses, loss(kind, lossGap, "the flight recorder keeps %v for sure, and %v were asked for", w.agent.flight.keeps(), w.plan.last))
	}
	a.close(w.end, losses...)
}

func (d *flightDeck) keeps() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.minAge
}

// flightKnob is the control that turns it on and off.
type flightKnob struct{ deck *flightDeck }

// wantedByControl is who the control wants it on as.
const wantedByControl = "a control"

func (k flightKnob) value() string {
	if keep := k.deck.keeps(); keep > 0 {
		return keep.String()
	}
	return off
}

func (k flightKnob) read(args Args) (string, error) {
	if args.Word("keep") == off {
		return off, nil
	}
	return args.Duration("keep").String(), nil
}

func (k flightKnob) set(_ context.Context, value string) error {
	if value == off {
		return k.deck.want(wantedByControl, 0)
	}
	keep, err := time.ParseDuration(value)
	if err != nil {
		return err
	}
	return k.deck.want(wantedByControl, keep)
}

func (k flightKnob) restore(context.Context, string) error { return k.deck.want(wantedByControl, 0) }

func (a *Agent) flightControl() *control {
	return a.setting(Control{
		Name: "flight-recorder", Description: "Keep the last seconds of the execution trace in memory, for a capture of what is over",
		Params: []Param{{Name: "keep", Description: "at least so much; off ends what a control began", Type: Duration, Min: minFlight.String(), Max: maxFlight.String(), Choices: []string{off}, Required: true}},
		Effect: fmt.Sprintf("Tracing all the time: a few per cent of the CPU of a busy service, a multiple of that where goroutines do little but hand over to each other, and up to %d MiB of memory. A rule or the configuration that wants it on keeps it on.", a.flightBytes()>>20),
		Undo:   "Goes off again, unless a rule or the configuration wants it on.",
	}, flightKnob{a.flight})
}

// memoryLimit is what the process would be killed at, or the collector works
// towards; 0 = none.
func (a *Agent) memoryLimit() int64 {
	goLimit := debug.SetMemoryLimit(-1)
	if goLimit == math.MaxInt64 {
		goLimit = 0
	}
	return tighter(a.self.cgroup.limits().memoryBytes, goLimit)
}
