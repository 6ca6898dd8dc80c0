// Package ops holds the words of OPS Center: what an instance, a capture, an
// artifact and a loss are, which kinds of error there are, and the contracts
// that more than one package implements. Everything may import it; it imports
// only the standard library and knows no technology.
package ops

import (
	"fmt"
	"regexp"
	"time"
)

type (
	// ProjectName names a game or product line: "color-game".
	ProjectName string
	// ServiceName names a program within its project: "user-service".
	ServiceName string
	// InstanceID is the identity of one running process: the boot id its agent
	// made at start. An agentless instance's is derived from source and address.
	InstanceID string
	// CaptureID names a capture. Ids sort by time of creation.
	CaptureID string
)

// ServiceKey names a service across projects.
type ServiceKey struct {
	Project ProjectName
	Service ServiceName
}

func (k ServiceKey) String() string { return string(k.Project) + "/" + string(k.Service) }

var idPattern = regexp.MustCompile(`^[0-9a-z-]{4,40}$`)

// Valid reports whether the id is safe to be part of a path: [0-9a-z-]{4,40}.
func (id CaptureID) Valid() bool { return idPattern.MatchString(string(id)) }

// Valid reports whether the id is safe to be part of a path: [0-9a-z-]{4,40}.
func (id InstanceID) Valid() bool { return idPattern.MatchString(string(id)) }

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// ValidName reports whether s may be an artifact's file name, or the name of a
// project or service: letters, digits, dot, underscore and hyphen, not starting
// with a dot, at most 128 bytes.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// Instance is one running process of a service, as the fleet knows it.
type Instance struct {
	ID      InstanceID
	Project ProjectName
	Service ServiceName
	// Source says where it was learned from: "agent", "static", "file-sd".
	Source string
	// Agentless instances are reached through net/http/pprof.
	Agentless bool
	// Address is how people know it: "host/pid", or a URL.
	Address string
	Labels  map[string]string
	Build   Build
	Process Process
	// Kinds are the artifact kinds it can collect.
	Kinds []Kind

	State InstanceState
	// StateSince is when State began; StateReason says why, in words.
	StateSince  time.Time
	StateReason string
	// StateSays is who says so: SaysCentre, SaysProcess, or a source's name; empty =
	// it is up.
	StateSays string `json:",omitempty"`
	Joined    time.Time
	LastSeen  time.Time
	// Heartbeat is the latest one; of a gone instance, its last words. Its zero
	// value (At is zero) means none was ever heard.
	Heartbeat Heartbeat
	// Predecessor is the process it replaced; nil = none known.
	Predecessor *Predecessor
	// Seen are the sources, besides Source, that say the same process is there.
	// They are shared: do not change them.
	Seen []Sighting `json:"-"`
	// Self marks the centre's own process.
	Self bool
	// Health is made anew from what is heard, and never stored.
	Health Health `json:"-"`
	// Revision grows with every change but those of LastSeen, Heartbeat and
	// Health. It means something only while the centre runs.
	Revision uint64 `json:"-"`
	// ClockOffset is the instance's wall clock minus the centre's.
	ClockOffset time.Duration
}

// Sighting is a source's word that a process is there.
type Sighting struct {
	Source string
	// Address is where the source says it is; empty = it does not.
	Address string
	Since   time.Time
}

// Key returns the service the instance belongs to.
func (i Instance) Key() ServiceKey { return ServiceKey{i.Project, i.Service} }

// InstanceState is the fleet's verdict.
type InstanceState string

// The states of an instance.
const (
	InstanceUp      InstanceState = "up"
	InstanceSuspect InstanceState = "suspect" // no sign of life for SuspectAfter
	InstanceGone    InstanceState = "gone"    // none for GoneAfter, or it said goodbye
)

// Who says that an instance is not up, besides sources.
const (
	SaysCentre  = "centre"  // which hears nothing of it
	SaysProcess = "process" // which said goodbye
)

// The lease of an instance.
const (
	HeartbeatEvery = 5 * time.Second
	SuspectAfter   = 15 * time.Second
	GoneAfter      = 30 * time.Second
	TombstoneFor   = 24 * time.Hour
)

// Build is what the binary says of itself.
type Build struct {
	GoVersion, ModulePath, ModuleVersion string
	VCSRevision                          string
	VCSTime                              time.Time
	VCSModified                          bool
	BuildID                              string
	GOOS, GOARCH                         string
	AgentVersion                         string
}

// Process is what does not change, or seldom, while it lives.
type Process struct {
	PID                int
	Hostname           string
	StartTime          time.Time // on the centre's clock
	GOMAXPROCS, NumCPU int
	CPUQuotaCores      float64 // 0 = none
	MemoryLimitBytes   int64   // of the cgroup; 0 = none
	GoMemoryLimitBytes int64   // GOMEMLIMIT; 0 = none
	GOGC               int     // percent; -1 = off
	Executable         string
}

// Heartbeat is the dozen numbers of a process. Rates and shares are over the
// time since the heartbeat before.
type Heartbeat struct {
	At                    time.Time
	CPUCores              float64
	Goroutines            int64
	GoroutinesRunning     int64
	GoroutinesRunnable    int64
	GoroutinesWaiting     int64
	GoroutinesSyscall     int64
	LiveHeapBytes         int64
	HeapObjects           int64
	RSSBytes              int64
	MemoryLimitBytes      int64 // the tighter of cgroup and GOMEMLIMIT; 0 = none
	GCCPUFraction         float64
	GCCycles              int64
	SchedLatencyP99Second float64
	ThrottledFraction     float64
	PoolWaiters           int64
	MutexWaitRate         float64
	CPUQuotaCores         float64
	GOMAXPROCS            int
	Threads               int64
}

// Predecessor tells how the process before this one ended.
type Predecessor struct {
	ID               InstanceID
	Ended            time.Time
	Uptime           time.Duration
	LastRSSBytes     int64
	MemoryLimitBytes int64
	Verdict          string // one of the Verdict constants
}

// How a process ended, as far as one can tell from outside.
const (
	VerdictCleanExit = "clean exit" // it said goodbye
	VerdictLikelyOOM = "likely OOM" // its memory was at the limit, or about to be
	VerdictVanished  = "vanished"
)

// Metric is one runtime/metrics value of a process.
type Metric struct {
	// Name is the runtime/metrics name with its unit: "/gc/heap/live:bytes".
	Name  string
	Value float64
	// Counts and Buckets are set for histograms, shaped as in
	// runtime/metrics.Float64Histogram: len(Buckets) = len(Counts)+1.
	Counts  []uint64
	Buckets []float64
}

// Pool is the state of a connection pool the service handed to its agent.
type Pool struct {
	Name, Kind, Remote         string
	MaxOpen, Open, InUse, Idle int64
	Waiting                    int64 // -1 = the pool does not say
	WaitCount                  int64
	WaitDuration               time.Duration
}

// Sample is one message of a Link's Watch.
type Sample struct {
	Heartbeat Heartbeat
	// Metrics and Pools are set where they were asked for.
	Metrics []Metric
	Pools   []Pool
}

// Target is what a discovery source says exists.
type Target struct {
	Project ProjectName
	Service ServiceName
	// Source is the source's name, such as "static" or "file-sd".
	Source string
	// URL is "http(s)://host:port/debug/pprof" for an agentless target, or
	// "grpc(s)://host:port" for an agent that listens. Empty = the source knows that
	// the process is there, but not how to reach it: its agent has to dial.
	URL    string
	Labels map[string]string

	// Which process it is, as far as the source knows: the boot id of its agent, or
	// its pod, "namespace/name".
	Instance InstanceID `json:",omitempty"`
	Pod      string     `json:",omitempty"`
	// Complaint is what the source has against it: "critical: TTL expired".
	Complaint string `json:",omitempty"`
}

// Awaited is what is known of a target that nobody can dial.
type Awaited struct {
	// Here says that its agent is connected.
	Here bool
	// Known says that an agent of its service ever was: of a program that has none
	// nobody is missed.
	Known bool
	// Last is when the process, or the one in its place before, was seen; zero = never.
	Last time.Time
}

// Expectation is how many instances of a service there should be.
type Expectation struct {
	Count int
	// Says is who says so: "projects.color-game.expect", "Kubernetes deployment
	// color-game/user-service".
	Says string
	// Away is how many of them may be away for now: a rollout replaces them.
	Away int
	// StaleSince is since when nobody can say whether it is still so; zero = it is.
	StaleSince time.Time
}

// Together is what two say of the same service, each of a part of it. The zero value
// says nothing.
func Together(a, b Expectation) Expectation {
	if a == (Expectation{}) {
		return b
	}
	a.Count, a.Away = a.Count+b.Count, a.Away+b.Away
	a.Says += ", " + b.Says
	if a.StaleSince.IsZero() || (!b.StaleSince.IsZero() && b.StaleSince.Before(a.StaleSince)) {
		a.StaleSince = b.StaleSince
	}
	return a
}

// Kind is what an artifact holds.
type Kind string

// The kinds of artifact.
const (
	KindCPU           Kind = "cpu"
	KindHeap          Kind = "heap"
	KindAllocs        Kind = "allocs"
	KindGoroutine     Kind = "goroutine"
	KindBlock         Kind = "block"
	KindMutex         Kind = "mutex"
	KindGoroutineLeak Kind = "goroutineleak"
	KindTrace         Kind = "trace"
	KindRuntime       Kind = "runtime"
	KindGoroutineDump Kind = "goroutine-dump"
	KindHeapTypes     Kind = "heap-types"
)

// FullSet is every kind that a capture collects unless told otherwise, in the
// order in which they are shown. Kinds an instance cannot collect are losses.
func FullSet() []Kind {
	return []Kind{KindCPU, KindHeap, KindAllocs, KindGoroutine, KindBlock, KindMutex, KindTrace, KindRuntime, KindGoroutineDump, KindGoroutineLeak, KindHeapTypes}
}

// ParseKind returns the kind of that name, or an Invalid error listing all.
func ParseKind(s string) (Kind, error) {
	for _, k := range FullSet() {
		if string(k) == s {
			return k, nil
		}
	}
	return "", Errorf(Invalid, "unknown artifact kind %q: use one of %v", s, FullSet())
}

// FileName returns the artifact name of the kind at the end of (or over) the
// window; FileNameBefore the name of what was taken at its start.
func (k Kind) FileName() string { return k.stem() + k.suffix() }

// FileNameBefore is the name of the snapshot taken at the window's start.
func (k Kind) FileNameBefore() string { return k.stem() + ".before" + k.suffix() }

// FileNameAfter is the name of the raw snapshot at the window's end, for the
// kinds whose plain name is the window's delta.
func (k Kind) FileNameAfter() string { return k.stem() + ".after" + k.suffix() }

// FileNameSegment is the name of the i-th segment, for CPU.
func (k Kind) FileNameSegment(i int) string { return fmt.Sprintf("%s.%d%s", k.stem(), i, k.suffix()) }

// HasDelta reports whether the plain name is the difference of two snapshots.
func (k Kind) HasDelta() bool { return k == KindBlock || k == KindMutex || k == KindAllocs }

func (k Kind) stem() string {
	if k == KindGoroutineDump {
		return "goroutine"
	}
	return string(k)
}

func (k Kind) suffix() string {
	switch k {
	case KindTrace:
		return ".out"
	case KindRuntime, KindHeapTypes:
		return ".json"
	case KindGoroutineDump:
		return ".txt"
	default:
		return ".pprof"
	}
}

// Phase says when within the window an artifact was taken.
type Phase string

// The phases.
const (
	PhaseBefore Phase = "before"
	PhaseAfter  Phase = "after"
	PhaseWindow Phase = "window"
)

// Fidelity chooses the block and mutex sampling rates of a window.
type Fidelity string

// The fidelities.
const (
	FidelityFull     Fidelity = "full"     // block rate 1, mutex fraction 1
	FidelityBalanced Fidelity = "balanced" // block rate 10 µs, mutex fraction 10
)

// Loss states what a result could not see.
type Loss struct {
	// Kind suffered; empty = the whole.
	Kind   Kind       `json:"kind,omitempty"`
	Reason LossReason `json:"reason"`
	// Message says what happened and what it means, for people.
	Message string `json:"message"`
}

// LossReason is why something is missing.
type LossReason string

// The reasons.
const (
	LossInUse        LossReason = "in_use"
	LossTruncated    LossReason = "truncated"
	LossSkipped      LossReason = "skipped"
	LossUnsupported  LossReason = "unsupported"
	LossFailed       LossReason = "failed"
	LossTimedOut     LossReason = "timed_out"
	LossDisconnected LossReason = "disconnected"
	LossGap          LossReason = "gap"
	LossNotSet       LossReason = "not_set"
)
