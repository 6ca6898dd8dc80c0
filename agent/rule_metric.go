package agent

import (
	"fmt"
	"math"
	"slices"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// metricKind is a number that rules can watch.
type metricKind struct {
	name string
	unit unit
	read func(*agentv1.Heartbeat, *slope) (v float64, known bool)
}

type unit int

const (
	unitCount unit = iota
	unitShare
	unitSeconds
	unitBytes
	unitBytesPerSecond
)

// String is the unit's name in the protocol.
func (u unit) String() string {
	return [...]string{"count", "share", "seconds", "bytes", "bytes per second"}[u]
}

func (u unit) words(v float64) string {
	switch u {
	case unitShare:
		return fmt.Sprintf("%.0f %%", 100*v)
	case unitSeconds:
		return time.Duration(v * float64(time.Second)).Round(time.Microsecond).String()
	case unitBytes:
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	case unitBytesPerSecond:
		return fmt.Sprintf("%.2f MiB/min", v*60/(1<<20))
	}
	return fmt.Sprintf("%.4g", v)
}

// metricKinds are those that cost next to nothing to read. The names are the
// protocol's.
var metricKinds = []metricKind{
	{"cpu", unitShare, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return h.CpuCores / coresOf(h), true }},
	{"throttled", unitShare, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return h.ThrottledFraction, true }},
	{"goroutines", unitCount, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return float64(h.Goroutines), true }},
	{"memory", unitShare, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) {
		return share(h.RssBytes, h.MemoryLimitBytes)
	}},
	{"live-heap", unitShare, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) {
		return share(h.LiveHeapBytes, h.MemoryLimitBytes)
	}},
	{"rss-bytes", unitBytes, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return float64(h.RssBytes), true }},
	{"live-heap-bytes", unitBytes, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return float64(h.LiveHeapBytes), true }},
	{"heap-slope", unitBytesPerSecond, func(_ *agentv1.Heartbeat, s *slope) (float64, bool) { return s.perSecond() }},
	{"sched-p99", unitSeconds, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return h.SchedLatencyP99Seconds, true }},
	{"mutex-wait", unitCount, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return h.MutexWaitRate, true }},
	{"gc", unitShare, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return h.GcCpuFraction, true }},
	{"pool-waiters", unitCount, func(h *agentv1.Heartbeat, _ *slope) (float64, bool) { return float64(h.PoolWaiters), true }},
}

// coresOf is how many cores the process may use.
func coresOf(h *agentv1.Heartbeat) float64 {
	cores := float64(max(h.Gomaxprocs, 1))
	if h.CpuQuotaCores > 0 {
		cores = min(cores, h.CpuQuotaCores)
	}
	return cores
}

func share(n, of int64) (float64, bool) {
	if of <= 0 {
		return 0, false // there is no limit to have a share of
	}
	return float64(n) / float64(of), true
}

// slope is how fast the live heap grows: a line through what each garbage
// collection left over, so that what comes and goes between two does not count.
type slope struct {
	cycles int64
	at     []time.Time
	bytes  []float64
}

const (
	slopeOver   = 3 * time.Minute
	slopeLeast  = 20 * time.Second
	slopePoints = 4
)

func (s *slope) add(now time.Time, h *agentv1.Heartbeat) {
	if h.GcCycles == s.cycles {
		return
	}
	s.cycles = h.GcCycles
	s.at, s.bytes = append(s.at, now), append(s.bytes, float64(h.LiveHeapBytes))
	old := 0
	for old < len(s.at) && now.Sub(s.at[old]) > slopeOver {
		old++
	}
	s.at, s.bytes = slices.Delete(s.at, 0, old), slices.Delete(s.bytes, 0, old)
}

// perSecond is unknown until there are collections enough.
func (s *slope) perSecond() (float64, bool) {
	n := len(s.at)
	if n < slopePoints || s.at[n-1].Sub(s.at[0]) < slopeLeast {
		return 0, false
	}
	var mx, my float64
	for i := range s.at {
		mx += s.at[i].Sub(s.at[0]).Seconds()
		my += s.bytes[i]
	}
	mx, my = mx/float64(n), my/float64(n)
	var xy, xx float64
	for i := range s.at {
		dx := s.at[i].Sub(s.at[0]).Seconds() - mx
		xy += dx * (s.bytes[i] - my)
		xx += dx * dx
	}
	return xy / xx, true
}

// usual is what a number is most of the time: the median of one value every ten
// seconds over ten minutes. It is unknown in the first minute.
type usual struct {
	values []float64
	next   time.Time
}

const (
	usualEvery = 10 * time.Second
	usualOver  = 60 // values
	usualLeast = 6
)

func (u *usual) add(now time.Time, v float64) {
	if now.Before(u.next) {
		return
	}
	u.next = now.Add(usualEvery)
	if u.values = append(u.values, v); len(u.values) > usualOver {
		u.values = u.values[1:]
	}
}

func (u *usual) median() (float64, bool) {
	if len(u.values) < usualLeast {
		return math.NaN(), false
	}
	sorted := slices.Sorted(slices.Values(u.values))
	return sorted[len(sorted)/2], true
}
