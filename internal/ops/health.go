package ops

import "time"

// Health is the fleet's judgement of how a living instance does. Its zero value
// means that nobody can say: nothing was heard yet, or it is gone.
type Health struct {
	Level HealthLevel
	// Issues are what is wrong, worst first. They are shared: do not change them.
	Issues []HealthIssue
}

// HealthLevel is how bad something is.
type HealthLevel string

// The levels; empty = unknown.
const (
	HealthOK       HealthLevel = "ok"
	HealthWarning  HealthLevel = "warning"
	HealthCritical HealthLevel = "critical"
)

// Rank orders levels: the worse, the higher.
func (l HealthLevel) Rank() int {
	switch l {
	case HealthOK:
		return 1
	case HealthWarning:
		return 2
	case HealthCritical:
		return 3
	}
	return 0
}

// HealthIssue is one check that an instance fails.
type HealthIssue struct {
	Check HealthCheck
	Level HealthLevel
	// Since is when the trouble began, not when it was told.
	Since time.Time
	// Value is above Threshold, the one of Level; both in the unit of Check.
	Value, Threshold float64
}

// HealthCheck is what is looked at.
type HealthCheck string

// The checks, each with the unit of its numbers.
const (
	CheckCPU          HealthCheck = "cpu"           // share of the quota, or of GOMAXPROCS where there is none
	CheckThrottled    HealthCheck = "throttled"     // share of the scheduler's periods
	CheckMemory       HealthCheck = "memory"        // live heap or RSS as a share of its limit
	CheckGoroutines   HealthCheck = "goroutines"    // times their own median of the last hour
	CheckSchedLatency HealthCheck = "sched-latency" // p99 in seconds
	CheckPoolWaiters  HealthCheck = "pool-waiters"  // how many wait for a connection
	CheckMutexWait    HealthCheck = "mutex-wait"    // seconds that goroutines wait for locks in a second
	CheckHeapGrowth   HealthCheck = "heap-growth"   // times what the live heap was within the last ten minutes
	// CheckHeapSlope is GiB an hour, CheckGoroutinesSlope goroutines a second: what
	// grows steadily just now.
	CheckHeapSlope       HealthCheck = "heap-slope"
	CheckGoroutinesSlope HealthCheck = "goroutines-slope"
	// CheckGoroutinesStand is times as many goroutines as within the last ten
	// minutes, which use no more CPU than those did.
	CheckGoroutinesStand HealthCheck = "goroutines-stand"
	CheckRestarts        HealthCheck = "restarts"  // within the last hour
	CheckFlapping        HealthCheck = "flapping"  // how often it was lost, each time within ten minutes of the last
	CheckHeartbeat       HealthCheck = "heartbeat" // seconds without a sign of life
)

// HealthChecks returns all checks, in the order in which they are shown.
func HealthChecks() []HealthCheck {
	return []HealthCheck{CheckFlapping, CheckHeartbeat, CheckRestarts, CheckMemory, CheckCPU, CheckThrottled, CheckSchedLatency, CheckPoolWaiters, CheckMutexWait, CheckGoroutines, CheckHeapSlope, CheckGoroutinesSlope, CheckGoroutinesStand, CheckHeapGrowth}
}
