package fleet

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// How an instance does is judged here and nowhere else: the page, the command
// line and rules show what this says. A check looks at one number of every
// heartbeat. It is trouble once the number has stayed above a threshold for a
// while, and over once it has stayed below for as long, so that a row does not
// flicker at the border.

// Threshold says from when on a check's number is trouble.
type Threshold struct {
	// Warning and Critical are what the number must exceed; Critical 0 = this
	// check alone is never critical.
	Warning, Critical float64
	// For is how long it must stay above, and then below again; 0 = one heartbeat.
	For time.Duration
	// Off takes the check out.
	Off bool
}

// Thresholds are those of every check of one service.
type Thresholds [numChecks]Threshold

// Of returns the threshold of a check.
func (t *Thresholds) Of(c ops.HealthCheck) Threshold {
	if i := slices.Index(checks[:], c); i >= 0 {
		return t[i]
	}
	return Threshold{Off: true}
}

const numChecks = 14

// The index of each check in Thresholds, values and gauges.
const (
	checkFlapping = iota
	checkHeartbeat
	checkRestarts
	checkMemory
	checkCPU
	checkThrottled
	checkSched
	checkWaiters
	checkMutex
	checkGoroutines
	checkHeapSlope
	checkGoroutinesSlope
	checkGoroutinesStand
	checkHeap
)

var checks = [numChecks]ops.HealthCheck(ops.HealthChecks())

// shares are the checks whose number is a part of one.
var shares = [numChecks]bool{checkMemory: true, checkCPU: true, checkThrottled: true}

// hold is two heartbeats: three in a row say the same.
const hold = 2 * ops.HeartbeatEvery

// DefaultThresholds are for services that nobody said anything else about. The
// warnings are where operators begin to look: 85 % of a limit leaves no room for
// a burst, a tenth of the periods throttled is seen in p99, and 10 ms in the run
// queue is a frame of a game. What is critical is where requests already suffer.
// One or two callers that wait for a connection are a pool that is used to the
// full; a second of lock waits in each second is one goroutine that never gets on,
// where a busy healthy service has some hundredths. What grows by 1 GiB of live heap
// an hour or by 2 goroutines a second for most of a minute (climbOver) would fill a
// pod within a shift; a slope says nothing of how far it goes, so that it is never
// critical by itself. Four fifths more goroutines than some minutes ago that use no
// more CPU than those did are waiting, all of them, for something that used to come.
// A link that was lost for the third time in a row will be lost again; whether anybody
// but the centre feels it cannot be told from here.
func DefaultThresholds() Thresholds {
	return Thresholds{
		checkFlapping:   {Warning: 2},
		checkHeartbeat:  {Warning: ops.SuspectAfter.Seconds()},
		checkRestarts:   {Warning: 2, Critical: 5},
		checkMemory:     {Warning: 0.85, Critical: 0.95},
		checkCPU:        {Warning: 0.85, Critical: 0.97, For: hold},
		checkThrottled:  {Warning: 0.10, Critical: 0.30, For: hold},
		checkSched:      {Warning: 0.010, Critical: 0.100, For: hold},
		checkWaiters:    {Warning: 2, Critical: 20, For: hold},
		checkMutex:      {Warning: 1, Critical: 20, For: hold},
		checkGoroutines: {Warning: 3, Critical: 10, For: hold},
		checkHeap:       {Warning: 2, For: hold},

		checkHeapSlope:       {Warning: 1, For: hold},
		checkGoroutinesSlope: {Warning: 2, For: hold},
		checkGoroutinesStand: {Warning: 1.8, For: hold},
	}
}

// HealthRules are the thresholds of all services. The zero value is the defaults.
type HealthRules struct {
	// set is nil until somebody says something: then defaults hold for who is
	// not in services.
	set      bool
	defaults Thresholds
	services map[ops.ServiceKey]Thresholds
}

// Of returns the thresholds of a service.
func (r HealthRules) Of(k ops.ServiceKey) Thresholds {
	if !r.set {
		return DefaultThresholds()
	}
	if t, ok := r.services[k]; ok {
		return t
	}
	return r.defaults
}

// numbers are what the checks look at; NaN = unknown.
type numbers [numChecks]float64

// trends are numbers that one heartbeat does not tell; NaN = too short a past.
type trends struct {
	median     float64 // of the goroutines in the last hour
	growth     float64 // times the live heap of before
	stand      float64 // times the goroutines of before, that use no more CPU
	gibPerHour float64 // that the live heap grows by
	perSecond  float64 // goroutines more
}

// numbersOf reads a heartbeat and what is known of those before; restarts are those
// of the last hour.
func numbersOf(hb ops.Heartbeat, p ops.Process, agentless bool, was trends, restarts int) numbers {
	var n numbers
	for i := range n {
		n[i] = math.NaN()
	}
	n[checkRestarts] = float64(restarts)
	if hb.Goroutines > fewGoroutines {
		n[checkGoroutines] = float64(hb.Goroutines) / was.median
	} else if !math.IsNaN(was.median) {
		n[checkGoroutines] = 0
	}
	if agentless { // from outside nothing else is seen
		return n
	}
	if cores := cmp.Or(hb.CPUQuotaCores, p.CPUQuotaCores, float64(hb.GOMAXPROCS), float64(p.GOMAXPROCS)); cores > 0 {
		n[checkCPU] = hb.CPUCores / cores
	}
	n[checkThrottled] = hb.ThrottledFraction
	n[checkSched] = hb.SchedLatencyP99Second
	n[checkWaiters] = float64(hb.PoolWaiters)
	n[checkMutex] = hb.MutexWaitRate
	n[checkHeap], n[checkHeapSlope] = was.growth, was.gibPerHour
	n[checkGoroutinesSlope], n[checkGoroutinesStand] = was.perSecond, was.stand
	n[checkMemory] = memoryOf(hb, p)
	return n
}

// fewGoroutines are no trouble, whatever multiple of next to nothing they are.
const fewGoroutines = 100

// memoryOf is live heap or RSS, whichever is closer to its limit. The live heap
// must stay below both limits. RSS is held against what the kernel kills at
// alone: with GOMEMLIMIT a heap is meant to fill up to it before it is collected.
func memoryOf(hb ops.Heartbeat, p ops.Process) float64 {
	limit, kill := float64(hb.MemoryLimitBytes), float64(p.MemoryLimitBytes)
	if kill <= 0 && p.GoMemoryLimitBytes <= 0 {
		kill = limit
	}
	share := math.NaN()
	if limit > 0 {
		share = float64(hb.LiveHeapBytes) / limit
	}
	if kill > 0 {
		share = max(float64(hb.LiveHeapBytes), float64(hb.RSSBytes)) / kill
		if limit > 0 {
			share = max(share, float64(hb.LiveHeapBytes)/limit)
		}
	}
	return share
}

// gauge is one check of one instance.
type gauge struct {
	level ops.HealthLevel // what is told; "" = fine
	since time.Time       // when that trouble began
	value float64
	// warning and critical are since when the number has been above each; below
	// since when under what is told. Zero = it is not.
	warning, critical, below time.Time
}

// look takes the number of one heartbeat in.
func (g *gauge) look(now time.Time, v float64, t Threshold) {
	if t.Off || math.IsNaN(v) || math.IsInf(v, 0) {
		*g = gauge{}
		return
	}
	g.value = v
	lasts := func(from *time.Time, is bool) bool {
		if !is {
			*from = time.Time{}
			return false
		}
		if from.IsZero() {
			*from = now
		}
		return now.Sub(*from) >= t.For
	}
	raised := ops.HealthLevel("")
	began := g.warning
	if lasts(&g.warning, v > t.Warning) {
		raised = ops.HealthWarning
	}
	if began.IsZero() {
		began = g.warning
	}
	if lasts(&g.critical, t.Critical > 0 && v > t.Critical) {
		raised = ops.HealthCritical
	}
	under := g.level == ops.HealthWarning && g.warning.IsZero() || g.level == ops.HealthCritical && g.critical.IsZero()
	over := lasts(&g.below, under)
	switch {
	case raised.Rank() > g.level.Rank():
		if g.level == "" {
			g.since = began
		}
		g.level = raised
	case over && g.level == ops.HealthCritical && !g.warning.IsZero():
		g.level, g.below = ops.HealthWarning, time.Time{}
	case over:
		g.level, g.below = "", time.Time{}
	}
}

// vigil is what is remembered of an instance to judge it.
type vigil struct {
	gauges   [numChecks]gauge
	baseline baseline
	heap     growth
	crowd    growth // goroutines
	climbs   climbs
	heard    bool
}

// remember takes in a heartbeat of a process of an age, and says where it leads.
func (v *vigil) remember(now time.Time, age time.Duration, hb *ops.Heartbeat) trends {
	v.baseline.add(now, hb.Goroutines)
	v.heap.add(now, hb.LiveHeapBytes, hb.CPUCores)
	v.crowd.add(now, hb.Goroutines, hb.CPUCores)
	v.climbs.add(now, age, hb)
	gibPerHour := v.climbs.gibPerHour(now)
	if v.climbs.heap.sure > 0 {
		v.heap.began(int64(v.climbs.heap.points[0].value))
	}
	return trends{
		median: v.baseline.usual(), growth: v.heap.times(fewBytes), stand: v.crowd.idleTimes(fewGoroutines),
		gibPerHour: gibPerHour, perSecond: v.climbs.perSecond(now),
	}
}

// look takes a heartbeat's numbers in.
func (v *vigil) look(now time.Time, n numbers, t *Thresholds) {
	v.heard = true
	for i := range v.gauges {
		v.gauges[i].look(now, n[i], t[i])
	}
}

// health puts the checks together. silence is how long nothing was heard of a
// suspect; 0 = it is up.
func (v *vigil) health(now time.Time, silence time.Duration, t *Thresholds) ops.Health {
	var out ops.Health
	if v.heard {
		out.Level = ops.HealthOK
	}
	for i := range v.gauges {
		if g := &v.gauges[i]; g.level != "" {
			limit := t[i].Warning
			if g.level == ops.HealthCritical {
				limit = t[i].Critical
			}
			out.Issues = append(out.Issues, ops.HealthIssue{Check: checks[i], Level: g.level, Since: g.since, Value: g.value, Threshold: limit})
		}
	}
	if silence > 0 && !t[checkHeartbeat].Off {
		out.Issues = append(out.Issues, ops.HealthIssue{
			Check: ops.CheckHeartbeat, Level: ops.HealthWarning, Since: now.Add(-silence),
			Value: silence.Seconds(), Threshold: t[checkHeartbeat].Warning,
		})
	}
	if len(out.Issues) == 0 {
		return out
	}
	slices.SortStableFunc(out.Issues, func(a, b ops.HealthIssue) int {
		return cmp.Or(cmp.Compare(b.Level.Rank(), a.Level.Rank()), cmp.Compare(slices.Index(checks[:], a.Check), slices.Index(checks[:], b.Check)))
	})
	out.Level = out.Issues[0].Level
	return out
}

const (
	baselineMinutes = 60
	// fewMinutes say nothing of what is usual: a process that has just started fills up.
	fewMinutes = 10
)

// baseline is the usual number of goroutines: the median of the last hour's minutes.
type baseline struct {
	minutes []float32 // oldest first, at most baselineMinutes
	minute  int64     // the one that n and sum belong to
	n       int
	sum     float64
	median  float64 // of minutes; meaningless while there are too few
}

func (b *baseline) add(at time.Time, goroutines int64) {
	minute := at.Unix() / 60
	if b.n > 0 && minute != b.minute {
		b.push(float32(b.sum / float64(b.n)))
		b.n, b.sum = 0, 0
	}
	b.minute = minute
	b.n++
	b.sum += float64(goroutines)
}

func (b *baseline) push(v float32) {
	if len(b.minutes) == baselineMinutes {
		copy(b.minutes, b.minutes[1:])
		b.minutes[baselineMinutes-1] = v
	} else {
		b.minutes = append(b.minutes, v)
	}
	b.settle()
}

// seed puts an older past before what there is.
func (b *baseline) seed(older []float32) {
	b.minutes = append(slices.Clone(older), b.minutes...)
	if over := len(b.minutes) - baselineMinutes; over > 0 {
		b.minutes = b.minutes[over:]
	}
	b.settle()
}

func (b *baseline) settle() {
	var buf [baselineMinutes]float32
	sorted := buf[:copy(buf[:], b.minutes)]
	slices.Sort(sorted)
	if len(sorted) > 0 {
		b.median = float64(sorted[len(sorted)/2])
	}
}

// usual is the median; NaN = too short a past, or nothing.
func (b *baseline) usual() float64 {
	if len(b.minutes) < fewMinutes || b.median <= 0 {
		return math.NaN()
	}
	return b.median
}
