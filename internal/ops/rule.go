package ops

import (
	"context"
	"time"
)

// Ruled is what a Link also is when its instance can watch itself: it judges
// rules whether or not it is connected and keeps what they collected. All methods
// may be called concurrently; Conflict when its agent is too old for rules.
type Ruled interface {
	// SetRules replaces the rules of the instance. What the instance remembers of a
	// rule by its name (when it fired, until when it cools down) stays.
	SetRules(ctx context.Context, rules []Rule) error
	// FollowRules calls fn at once, when something changed, and every few seconds,
	// until ctx ends or the link is lost. Events up to after are not told again. fn
	// must not block for long.
	FollowRules(ctx context.Context, after int64, fn func(RuleReport)) error
	// CollectKept is Collect of a capture that the instance took by itself. What
	// arrived is acknowledged when all of it has, so that one that was cut off can
	// be collected again.
	CollectKept(ctx context.Context, id CaptureID, spec Spec, sink Sink) (CollectSummary, error)
	// ReleaseKept lets the instance give up such a capture.
	ReleaseKept(ctx context.Context, id CaptureID) error
}

// Rule is what an instance watches itself for.
type Rule struct {
	Name     string
	Revision string // changes whenever anything else does
	Trigger  RuleTrigger
	Actions  []RuleAction
	Bounds   RuleBounds
	// FiredBefore is when it fired in the processes whose place the instance took.
	FiredBefore []time.Time
}

// RuleTrigger is a condition on a metric, or on calls that the service times.
type RuleTrigger struct {
	Metric     string // one of RuleMetrics; empty = a signal
	Below      bool
	Level      float64 // in the metric's unit
	TimesUsual float64 // 0 = not compared with what is usual
	Hold       time.Duration

	Signal   string // with * for any text
	Longer   time.Duration
	Quantile float64 // 0 = counted
	Times    int
	Within   time.Duration
}

// RuleAction is one step of what a rule does.
type RuleAction struct {
	Kind  RuleActionKind
	Last  time.Duration // of RuleFlight
	For   time.Duration // of RuleCapture
	Kinds []Kind        // empty = all that it can
}

// RuleActionKind is what a step does.
type RuleActionKind string

// The steps that an instance carries out.
const (
	RuleFlight   RuleActionKind = "flight"   // the flight recorder's last seconds
	RuleSnapshot RuleActionKind = "snapshot" // goroutines and heap as they are
	RulePair     RuleActionKind = "pair"     // the heap now and two collections on
	RuleCapture  RuleActionKind = "capture"  // an ordinary window
)

// RuleBounds keep a rule from harming what it watches.
type RuleBounds struct {
	Cooldown          time.Duration
	Budget            int // times within Per
	Per               time.Duration
	StopAfter         int     // 0 = never
	MaxMemory, MaxCPU float64 // shares; 0 = no ceiling
}

// RuleUnit is what a metric is counted in.
type RuleUnit string

// The units of metrics.
const (
	RuleCount    RuleUnit = "count"
	RuleShare    RuleUnit = "share"
	RuleSeconds  RuleUnit = "seconds"
	RuleBytes    RuleUnit = "bytes"
	RuleByteRate RuleUnit = "bytes per second"
)

// RuleMetric is a number that rules can watch.
type RuleMetric struct {
	Name string
	Unit RuleUnit
}

// RuleMetrics lists the metrics that every agent with rules knows.
func RuleMetrics() []RuleMetric {
	return []RuleMetric{
		{"cpu", RuleShare}, {"throttled", RuleShare}, {"goroutines", RuleCount}, {"memory", RuleShare}, {"live-heap", RuleShare},
		{"rss-bytes", RuleBytes}, {"live-heap-bytes", RuleBytes}, {"heap-slope", RuleByteRate}, {"sched-p99", RuleSeconds},
		{"mutex-wait", RuleCount}, {"gc", RuleShare}, {"pool-waiters", RuleCount},
	}
}

// RuleReport is how the rules of one instance stand.
type RuleReport struct {
	States []RuleState
	Events []RuleEvent   // new ones, oldest first
	Kept   []KeptCapture // waiting to be collected, oldest first
	Flight FlightState
}

// RuleStanding is where a rule stands on an instance.
type RuleStanding string

// The standings.
const (
	RuleRunning   RuleStanding = "running"
	RuleActing    RuleStanding = "acting"
	RuleThrottled RuleStanding = "throttled"
	RuleFinished  RuleStanding = "finished"
	RuleRefused   RuleStanding = "refused"
)

// RuleState is one rule on one instance now. Times are on the centre's clock.
type RuleState struct {
	Rule, Revision string
	Standing       RuleStanding
	Reason         string
	Value, Usual   float64
	HoldsSince     time.Time // zero = the condition does not hold
	Fired, Refused int64
	Used           int // of the budget
	FreeAt         time.Time
	LastFired      time.Time
	Reasons        []RuleReason // what Reason says
}

// RuleReason is a part of a reason without its words, for who words it in another
// language: what held, what kept the rule from acting, what else is worth knowing.
// The codes are those of the protocol.
type RuleReason struct {
	Code    string             `json:"code"`
	Numbers map[string]float64 `json:"numbers,omitempty"`
	Words   map[string]string  `json:"words,omitempty"`
}

// RuleEventKind is what happened.
type RuleEventKind string

// What happens to a rule: the first four on the instance, the others in the
// centre.
const (
	RuleFired     RuleEventKind = "fired"
	RuleRefusal   RuleEventKind = "refused"
	RuleCollected RuleEventKind = "collected"
	RuleDropped   RuleEventKind = "dropped"
	RuleArchived  RuleEventKind = "archived"
	RuleDiagnosed RuleEventKind = "diagnosed"
)

// RuleEvent is one thing that happened on an instance.
type RuleEvent struct {
	Number  int64 // counts from 1 in a process
	At      time.Time
	Rule    string
	Kind    RuleEventKind
	Reason  string
	Value   float64
	Capture CaptureID
	Reasons []RuleReason // what Reason says
}

// KeptCapture is a capture that an instance took by itself.
type KeptCapture struct {
	ID     CaptureID
	Rule   string
	Reason string
	At     time.Time
	Spec   Spec
	// Reasons are what Reason says.
	Reasons []RuleReason
}

// FlightState is how an instance's flight recorder stands.
type FlightState struct {
	On        bool
	MinAge    time.Duration
	MaxBytes  int64
	Since     time.Time
	WantedBy  []string
	LastBytes int64
	LastTook  time.Duration
	Refused   string
}
