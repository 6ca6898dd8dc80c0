package agent

import (
	"math"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// The runtime/metrics behind the heartbeat.
const (
	mGoroutines  = "/sched/goroutines:goroutines"
	mRunning     = "/sched/goroutines/running:goroutines"
	mRunnable    = "/sched/goroutines/runnable:goroutines"
	mWaiting     = "/sched/goroutines/waiting:goroutines"
	mNotInGo     = "/sched/goroutines/not-in-go:goroutines"
	mLiveHeap    = "/gc/heap/live:bytes"
	mHeapNow     = "/memory/classes/heap/objects:bytes"
	mHeapObjects = "/gc/heap/objects:objects"
	mGCCycles    = "/gc/cycles/total:gc-cycles"
	mGCCPU       = "/cpu/classes/gc/total:cpu-seconds"
	mTotalCPU    = "/cpu/classes/total:cpu-seconds"
	mIdleCPU     = "/cpu/classes/idle:cpu-seconds"
	mMutexWait   = "/sync/mutex/wait/total:seconds"
	mSchedWait   = "/sched/latencies:seconds"
	mGOMAXPROCS  = "/sched/gomaxprocs:threads"
	mMemLimit    = "/gc/gomemlimit:bytes"
)

func heartbeatMetrics() []string {
	return []string{
		mGoroutines, mRunning, mRunnable, mWaiting, mNotInGo, mLiveHeap, mHeapNow, mHeapObjects,
		mGCCycles, mGCCPU, mTotalCPU, mIdleCPU, mMutexWait, mSchedWait, mGOMAXPROCS, mMemLimit,
	}
}

// allMetrics is everything the runtime has, without the counters of GODEBUG
// settings.
func allMetrics() []string {
	var names []string
	for _, d := range metrics.All() {
		if !strings.HasPrefix(d.Name, "/godebug/") {
			names = append(names, d.Name)
		}
	}
	return names
}

// meter reads the process's numbers. It is for one goroutine.
type meter struct {
	samples []metrics.Sample
	index   map[string]int
	cgroup  *cgroup
	pools   *poolRegistry
}

func newMeter(names []string, c *cgroup, pools *poolRegistry) *meter {
	m := &meter{index: map[string]int{}, cgroup: c, pools: pools}
	for _, n := range names {
		m.index[n] = len(m.samples)
		m.samples = append(m.samples, metrics.Sample{Name: n})
	}
	return m
}

// reading is what was read at one moment. It shares no memory with its meter
// but samples, which the meter's next read overwrites.
type reading struct {
	at          time.Time
	cpu         time.Duration
	rss         int64
	threads     int64
	limits      cgroupLimits
	throttling  cgroupCPU
	pools       []namedPool
	gauges      *agentv1.Heartbeat // what needs no earlier reading
	gcCPU       float64
	busyCPU     float64
	mutexWait   float64
	schedCounts []uint64
	schedBounds []float64
	samples     []metrics.Sample
}

func (m *meter) read() *reading {
	metrics.Read(m.samples)
	r := &reading{
		at: time.Now(), cpu: cpuTime(),
		limits: m.cgroup.limits(), throttling: m.cgroup.cpuStat(),
		pools:   m.pools.read(),
		gcCPU:   m.float(mGCCPU),
		busyCPU: m.float(mTotalCPU) - m.float(mIdleCPU), mutexWait: m.float(mMutexWait),
		samples: m.samples,
		gauges:  &agentv1.Heartbeat{},
	}
	r.rss, r.threads = residentAndThreads()
	if h := m.histogram(mSchedWait); h != nil {
		r.schedCounts, r.schedBounds = slices.Clone(h.Counts), h.Buckets // buckets never change
	}
	live := m.int(mLiveHeap)
	if live == 0 {
		live = m.int(mHeapNow) // before the first collection nothing is marked live
	}
	goLimit := m.int(mMemLimit)
	if goLimit >= 1<<62 {
		goLimit = 0
	}
	g := r.gauges
	g.Goroutines, g.GoroutinesRunning = m.int(mGoroutines), m.int(mRunning)
	g.GoroutinesRunnable, g.GoroutinesWaiting = m.int(mRunnable), m.int(mWaiting)
	g.GoroutinesSyscall = m.int(mNotInGo)
	g.LiveHeapBytes, g.HeapObjects = live, m.int(mHeapObjects)
	g.GcCycles, g.Gomaxprocs = m.int(mGCCycles), int32(m.int(mGOMAXPROCS))
	g.RssBytes, g.Threads = r.rss, r.threads
	g.CpuQuotaCores = r.limits.cpuQuotaCores
	g.MemoryLimitBytes = tighter(r.limits.memoryBytes, goLimit)
	return r
}

// heartbeat returns the dozen numbers, with rates since prev.
func (r *reading) heartbeat(prev *reading) *agentv1.Heartbeat {
	h := proto.CloneOf(r.gauges)
	if prev == nil {
		return h
	}
	seconds := r.at.Sub(prev.at).Seconds()
	if seconds <= 0 {
		return h
	}
	h.CpuCores = positive((r.cpu - prev.cpu).Seconds() / seconds)
	h.MutexWaitRate = positive((r.mutexWait - prev.mutexWait) / seconds)
	if busy := r.busyCPU - prev.busyCPU; busy > 0 {
		h.GcCpuFraction = min(positive((r.gcCPU-prev.gcCPU)/busy), 1)
	}
	if periods := r.throttling.periods - prev.throttling.periods; r.throttling.periods > prev.throttling.periods {
		h.ThrottledFraction = min(positive(float64(r.throttling.throttled-prev.throttling.throttled)/float64(periods)), 1)
	}
	h.SchedLatencyP99Seconds = quantile(0.99, prev.schedCounts, r.schedCounts, r.schedBounds)
	h.PoolWaiters = poolWaiters(prev.pools, r.pools, seconds)
	return h
}

// poolWaiters sums the callers that wait for a connection. A pool that does not
// say counts with the average of the interval, which is the time that callers
// waited divided by its length.
func poolWaiters(prev, now []namedPool, seconds float64) (waiters int64) {
	before := map[string]time.Duration{}
	for _, p := range prev {
		before[p.name] = p.WaitDuration
	}
	for _, p := range now {
		if p.Waiting >= 0 {
			waiters += p.Waiting
		} else if d, known := before[p.name]; known && p.WaitDuration > d {
			waiters += int64(math.Round((p.WaitDuration - d).Seconds() / seconds))
		}
	}
	return waiters
}

// quantile returns the upper bound of the bucket that holds the q-th quantile of
// what was counted between two states of a histogram; 0 if nothing was.
func quantile(q float64, before, after []uint64, bounds []float64) float64 {
	if len(bounds) != len(after)+1 {
		return 0
	}
	counts := histogramDelta(before, after)
	var total uint64
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(total)))
	var seen uint64
	for i, n := range counts {
		if seen += n; seen >= rank {
			if !math.IsInf(bounds[i+1], 0) {
				return bounds[i+1]
			}
			return max(bounds[i], 0)
		}
	}
	return 0
}

func histogramDelta(before, after []uint64) []uint64 {
	d := slices.Clone(after)
	if len(before) == len(after) {
		for i := range d {
			d[i] -= min(before[i], d[i])
		}
	}
	return d
}

func (m *meter) value(name string) (v metrics.Value) {
	if i, ok := m.index[name]; ok {
		return m.samples[i].Value
	}
	return v
}

// int returns a metric that this Go version may not have as 0.
func (m *meter) int(name string) int64 {
	if v := m.value(name); v.Kind() == metrics.KindUint64 {
		return int64(min(v.Uint64(), math.MaxInt64))
	}
	return 0
}

func (m *meter) float(name string) float64 {
	if v := m.value(name); v.Kind() == metrics.KindFloat64 {
		return v.Float64()
	}
	return 0
}

func (m *meter) histogram(name string) *metrics.Float64Histogram {
	if v := m.value(name); v.Kind() == metrics.KindFloat64Histogram {
		return v.Float64Histogram()
	}
	return nil
}

// metrics returns every value as the protocol has it. Histograms lose the empty
// buckets at both ends, which are most of them.
func (r *reading) metrics() []*agentv1.Metric {
	out := make([]*agentv1.Metric, 0, len(r.samples))
	for _, s := range r.samples {
		m := &agentv1.Metric{Name: s.Name}
		switch s.Value.Kind() {
		case metrics.KindUint64:
			m.Value = &agentv1.Metric_Uint64{Uint64: s.Value.Uint64()}
		case metrics.KindFloat64:
			m.Value = &agentv1.Metric_Float64{Float64: s.Value.Float64()}
		case metrics.KindFloat64Histogram:
			h := s.Value.Float64Histogram()
			counts, bounds := trimHistogram(h.Counts, h.Buckets)
			m.Value = &agentv1.Metric_Histogram{Histogram: &agentv1.Histogram{Counts: slices.Clone(counts), Buckets: bounds}}
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}

// trimHistogram drops empty buckets at both ends; of an empty histogram the
// first bucket stays.
func trimHistogram(counts []uint64, bounds []float64) ([]uint64, []float64) {
	if len(counts) == 0 || len(bounds) != len(counts)+1 {
		return counts, bounds
	}
	lo, hi := 0, len(counts)
	for hi > 1 && counts[hi-1] == 0 {
		hi--
	}
	for lo < hi-1 && counts[lo] == 0 {
		lo++
	}
	return counts[lo:hi], bounds[lo : hi+1]
}

func (r *reading) poolProtos() []*agentv1.PoolStats {
	var out []*agentv1.PoolStats
	for _, p := range r.pools {
		out = append(out, p.proto())
	}
	return out
}

func (r *reading) response(prev *reading, full bool) *agentv1.WatchMetricsResponse {
	resp := &agentv1.WatchMetricsResponse{At: timestamppb.New(r.at), Heartbeat: r.heartbeat(prev)}
	if full {
		resp.Metrics, resp.Pools = r.metrics(), r.poolProtos()
	}
	return resp
}

// firstReading is the latest reading of any watch: where a new one counts its
// first rates from.
type firstReading struct {
	mu sync.Mutex
	r  *reading
}

func (f *firstReading) get() *reading {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.r
}

func (f *firstReading) set(r *reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r = r
}

// tighter returns the smaller limit, where 0 means none.
func tighter(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func positive(f float64) float64 {
	if f > 0 && !math.IsInf(f, 0) {
		return f
	}
	return 0
}
