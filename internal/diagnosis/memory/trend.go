package memory

import (
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// trend is what exact figures say of how the live heap goes on within the window.
// Only a collection says how much is live, so that many windows say nothing.
type trend int

const (
	unknownTrend trend = iota
	rising
	settled // it rose, and then no more
	falling // it falls again and again: a sawtooth, or a batch
)

// point is the live heap after a collection.
type point struct {
	at    time.Duration
	bytes float64
}

// liveTrend judges the live heap by what was live after each collection, in the
// window's series or in the trace, else by how much was allocated at all: what is
// not allocated cannot grow. expected is by how much a second the heap profiles
// say that it grows.
func liveTrend(e *evidence.Evidence, expected float64) (trend, *ops.Proof) {
	if t, proof := allocationTrend(e, expected); t == settled {
		return t, proof
	}
	for _, from := range []struct {
		points []point
		kind   ops.Kind
	}{{seriesFloors(e.Runtime), ops.KindRuntime}, {traceFloors(e.Trace), ops.KindTrace}} {
		if len(from.points) < 3 {
			continue
		}
		first, last := from.points[0], from.points[len(from.points)-1]
		t := judgeFloors(from.points, expected)
		if t == unknownTrend {
			continue
		}
		return t, &ops.Proof{
			Artifact: from.kind, Metric: "live_heap_growth", Value: last.bytes - first.bytes, Unit: "bytes",
			Text: rule.Say("after %s collections in %s the live heap went from %s to %s", "%[2]s 內 %[1]s 次垃圾回收之後，存活的堆積 從 %[3]s 變成 %[4]s",
				rule.Count(int64(len(from.points))), rule.Dur(last.at-first.at), rule.Bytes(int64(first.bytes)), rule.Bytes(int64(last.bytes))),
		}
	}
	return unknownTrend, nil
}

// judgeFloors: a sawtooth falls by a third of its height or more; what settles
// grows in the later half by less than a quarter of the earlier one.
func judgeFloors(p []point, expected float64) trend {
	low, high, drop := p[0].bytes, p[0].bytes, 0.0
	for _, x := range p {
		drop = max(drop, high-x.bytes)
		low, high = min(low, x.bytes), max(high, x.bytes)
	}
	first, last := p[0], p[len(p)-1]
	height, span := high-low, (last.at - first.at).Seconds()
	middle := slices.IndexFunc(p, func(x point) bool { return x.at >= first.at+(last.at-first.at)/2 })
	early, late := p[middle].bytes-first.bytes, last.bytes-p[middle].bytes
	switch {
	case height > 256<<10 && drop > height/3:
		return falling
	case len(p) < 5 && late < 0.25*early:
		return unknownTrend // a slice doubles, or a batch came: too few to tell
	case late < 0.25*early, last.bytes-first.bytes < 0.25*expected*span:
		return settled
	}
	return rising
}

// seriesFloors are the live heap each time that another collection had ended.
func seriesFloors(r *evidence.Runtime) (out []point) {
	live, cycles := r.Values("/gc/heap/live:bytes"), r.Values("/gc/cycles/total:gc-cycles")
	if len(live) == 0 || len(r.Series.Seconds) != len(live) {
		return nil
	}
	for i, v := range live {
		again := i == 0 || len(cycles) == len(live) && cycles[i] != cycles[i-1] || len(cycles) != len(live) && v != live[i-1]
		if again && v > 0 {
			out = append(out, point{time.Duration(r.Series.Seconds[i] * float64(time.Second)), v})
		}
	}
	return out
}

// traceFloors are the lowest sizes of the heap after each collection in a trace.
func traceFloors(t *evidence.Trace) (out []point) {
	if t == nil {
		return nil
	}
	for i, gc := range t.GC {
		end := t.Duration
		if i+1 < len(t.GC) {
			end = t.GC[i+1].From
		}
		low := point{bytes: -1}
		for _, h := range t.Heap {
			if !h.Goal && h.Time >= gc.To && h.Time <= end && (low.bytes < 0 || float64(h.Bytes) < low.bytes) {
				low = point{h.Time, float64(h.Bytes)}
			}
		}
		if low.bytes >= 0 {
			out = append(out, low)
		}
	}
	return out
}

// allocationTrend says that a growth has settled if far less was allocated in the
// later part of the window than would have had to be.
func allocationTrend(e *evidence.Evidence, expected float64) (trend, *ops.Proof) {
	var bytes, seconds float64
	kind := ops.KindRuntime
	if v := e.Runtime.Values("/gc/heap/allocs:bytes"); len(v) >= 5 && len(e.Runtime.Series.Seconds) == len(v) {
		half := len(v) / 2
		bytes, seconds = v[len(v)-1]-v[half], e.Runtime.Series.Seconds[len(v)-1]-e.Runtime.Series.Seconds[half]
	} else {
		kind = ops.KindTrace
		bytes, seconds = sinceCollection(e.Trace)
	}
	if seconds <= 0 || bytes > 0.4*expected*seconds {
		return unknownTrend, nil
	}
	return settled, &ops.Proof{
		Artifact: kind, Metric: "allocated", Value: max(0, bytes), Unit: "bytes",
		Text: rule.Say("only %s were allocated in the last %s of the window", "時窗最後的 %[2]s 裡只配置了 %[1]s", rule.Bytes(int64(max(0, bytes))), rule.Dur(time.Duration(seconds*float64(time.Second)))),
	}
}

// undisturbed is how long the last stretch of a trace without a collection has to be
// for what is allocated in it to say whether a growth goes on: what comes in batches
// comes more often. A collection in the last tenth may be the observer's own, before a
// heap profile.
const undisturbed = 2 * time.Second

// sinceCollection is by how much the heap grew in that stretch, which is what was
// allocated; seconds is 0 if the trace does not tell.
func sinceCollection(t *evidence.Trace) (bytes, seconds float64) {
	if t == nil {
		return 0, 0
	}
	from, to := time.Duration(0), t.Duration
	for _, gc := range t.GC {
		if gc.From >= t.Duration-t.Duration/10 {
			to = min(to, gc.From)
		} else {
			from = max(from, gc.To)
		}
	}
	if to-from < undisturbed {
		return 0, 0
	}
	var first, last uint64
	for _, h := range t.Heap {
		if h.Goal || h.Time < from || h.Time > to {
			continue
		}
		if first == 0 {
			first = h.Bytes
		}
		last = h.Bytes
	}
	return float64(last) - float64(first), (to - from).Seconds()
}
