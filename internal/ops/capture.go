package ops

import (
	"slices"
	"time"
)

// Spec is what was asked of a capture. Its zero value means the defaults.
type Spec struct {
	Duration time.Duration // 0 = 30 s
	Kinds    []Kind        // empty = FullSet
	Fidelity Fidelity      // empty = full
	// TraceWindow is the last part of the window that the trace covers; 0 = 5 s.
	TraceWindow   time.Duration
	TraceMaxBytes int64 // 0 = 128 MiB
	// SkipGC leaves out the garbage collection that publishes heap data at each
	// end of the window.
	SkipGC bool
	// Last asks for what the flight recorder holds of so much time that is over,
	// instead of a window to come; 0 = a window.
	Last time.Duration `json:",omitempty"`
	// Trigger is the call because of which a rule took it; nil = none. Nobody asks
	// for it.
	Trigger *Call `json:",omitempty"`
}

// Call is one that a service timed.
type Call struct {
	Name string
	Took time.Duration
}

// MaxLast is as far back as a flight recorder is asked to look.
const MaxLast = 60 * time.Second

// PastKinds are what can be had of the past: the trace, and how the process is
// now that it is over.
func PastKinds() []Kind { return []Kind{KindHeap, KindGoroutine, KindTrace, KindRuntime} }

// The limits of a capture. The agent enforces them too.
const (
	DefaultDuration      = 30 * time.Second
	MinDuration          = time.Second
	MaxDuration          = 10 * time.Minute
	DefaultTraceWindow   = 5 * time.Second
	MaxTraceWindow       = 30 * time.Second
	DefaultTraceMaxBytes = 128 << 20
	MaxCaptureBytes      = 512 << 20 // of one instance, on the wire
)

// Normalize fills in the defaults and returns an Invalid error that names the
// limit for what is out of range.
func (s Spec) Normalize() (Spec, error) {
	if s.Last != 0 {
		if s.Last < MinDuration || s.Last > MaxLast {
			return s, Errorf(Invalid, "the last %v cannot be had: use %v to %v", s.Last, MinDuration, MaxLast)
		}
		if len(s.Kinds) == 0 {
			s.Kinds = PastKinds()
		}
		for _, k := range s.Kinds {
			if _, err := ParseKind(string(k)); err == nil && !slices.Contains(PastKinds(), k) {
				return s, Errorf(Invalid, "%s has no past: of what is over there is only the trace, and heap, goroutine and runtime as they are now", k)
			}
		}
		s.Duration, s.TraceWindow = s.Last, min(s.Last, MaxTraceWindow)
		s.SkipGC = true
	}
	if s.Duration == 0 {
		s.Duration = DefaultDuration
	}
	if s.Duration < MinDuration || s.Duration > MaxDuration {
		return s, Errorf(Invalid, "duration %v is out of range: use %v to %v", s.Duration, MinDuration, MaxDuration)
	}
	if len(s.Kinds) == 0 {
		s.Kinds = FullSet()
	}
	for _, k := range s.Kinds {
		if _, err := ParseKind(string(k)); err != nil {
			return s, err
		}
	}
	s.Kinds = slices.Compact(slices.SortedFunc(slices.Values(s.Kinds), func(a, b Kind) int { return slices.Index(FullSet(), a) - slices.Index(FullSet(), b) }))
	switch s.Fidelity {
	case "":
		s.Fidelity = FidelityFull
	case FidelityFull, FidelityBalanced:
	default:
		return s, Errorf(Invalid, "unknown fidelity %q: use full or balanced", s.Fidelity)
	}
	if s.TraceWindow == 0 {
		s.TraceWindow = DefaultTraceWindow
	}
	if s.TraceWindow < 0 || s.TraceWindow > MaxTraceWindow {
		return s, Errorf(Invalid, "trace window %v is out of range: use up to %v", s.TraceWindow, MaxTraceWindow)
	}
	s.TraceWindow = min(s.TraceWindow, s.Duration)
	if s.TraceMaxBytes == 0 {
		s.TraceMaxBytes = DefaultTraceMaxBytes
	}
	if s.TraceMaxBytes < 1<<20 || s.TraceMaxBytes > MaxCaptureBytes {
		return s, Errorf(Invalid, "trace cap of %d bytes is out of range: use 1 MiB to 512 MiB", s.TraceMaxBytes)
	}
	return s, nil
}

// CaptureState is where a capture, or one of its targets, stands.
type CaptureState string

// The states. After a restart nothing stays in the first three.
const (
	CaptureRequested  CaptureState = "requested"
	CaptureCollecting CaptureState = "collecting"
	CaptureCommitting CaptureState = "committing"
	CaptureDone       CaptureState = "done"
	CapturePartial    CaptureState = "partial" // some artifacts, every loss stated
	CaptureFailed     CaptureState = "failed"
	CaptureCancelled  CaptureState = "cancelled"
)

// Ended reports whether the state is final.
func (s CaptureState) Ended() bool {
	switch s {
	case CaptureDone, CapturePartial, CaptureFailed, CaptureCancelled:
		return true
	}
	return false
}

// Capture is one synchronised window on one or more instances of a service.
type Capture struct {
	ID      CaptureID
	Project ProjectName
	Service ServiceName
	Spec    Spec
	State   CaptureState
	// Reason says in words why it is partial, failed or cancelled.
	Reason string
	// Actor asked for it; Note is what they wrote.
	Actor, Note string
	Created     time.Time
	Finished    time.Time // zero while it runs
	Pinned      bool
	Imported    bool
	// Targets is one entry an instance, in the order they were asked.
	Targets []CaptureTarget
}

// SizeBytes is the sum of its artifacts' sizes.
func (c Capture) SizeBytes() (n int64) {
	for _, t := range c.Targets {
		for _, a := range t.Artifacts {
			n += a.SizeBytes
		}
	}
	return n
}

// CaptureTarget is a capture's share of one instance.
type CaptureTarget struct {
	// Instance as it was when the capture began.
	Instance Instance
	State    CaptureState
	Reason   string
	// WindowStart and WindowEnd are on the centre's clock; zero until known.
	WindowStart, WindowEnd time.Time
	StoppedEarly           bool
	Losses                 []Loss
	Artifacts              []Artifact // ordered by name
}

// Artifact is one file of a capture.
type Artifact struct {
	Name  string
	Kind  Kind
	Phase Phase
	// TakenAt, WindowStart and WindowEnd are on the centre's clock (the agent's,
	// corrected by Instance.ClockOffset).
	TakenAt                time.Time
	WindowStart, WindowEnd time.Time
	SizeBytes              int64
	SHA256                 string // lower-case hex; empty until committed
	Losses                 []Loss
	// Partial artifacts hold the first SizeBytes of what should have been.
	Partial bool
	// Derived artifacts were made by the centre out of others.
	Derived bool
}

// ArtifactRef names an artifact within the archive.
type ArtifactRef struct {
	Capture  CaptureID
	Instance InstanceID
	Name     string
}

func (r ArtifactRef) String() string {
	return string(r.Capture) + "/" + string(r.Instance) + "/" + r.Name
}

// Valid reports whether every part of the reference is safe in a path.
func (r ArtifactRef) Valid() bool {
	return r.Capture.Valid() && r.Instance.Valid() && ValidName(r.Name)
}

// CaptureFilter selects captures; zero fields match all.
type CaptureFilter struct {
	Project  ProjectName
	Service  ServiceName
	Instance InstanceID
	// Before selects captures whose id sorts before it: the next page.
	Before CaptureID
	Limit  int // 0 = 50
}
