package agent

import (
	"fmt"
	"regexp"
	"runtime/pprof"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// plan is a capture request with defaults and limits applied.
type plan struct {
	id            string
	center        string // the run of the centre that asked for it
	duration      time.Duration
	kinds         map[agentv1.Kind]bool
	blockNanos    int
	mutexFraction int
	traceWindow   time.Duration
	traceMaxBytes int64
	maxBytes      int64
	skipGC        bool
	last          time.Duration // of the past; 0 = none
	past          bool          // no window to come: what was and what is
	small         bool          // with past: what is small first, for the process may not live long
	collect       bool          // with past: a garbage collection before the heap, whose data are as of the last one
	pair          bool          // with past: the heap twice, two collections apart
	rule          string        // that took it by itself; "" = the centre asked
}

// fullSet is what is collected unless told otherwise.
var fullSet = []agentv1.Kind{
	agentv1.Kind_KIND_CPU, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_ALLOCS,
	agentv1.Kind_KIND_GOROUTINE, agentv1.Kind_KIND_BLOCK, agentv1.Kind_KIND_MUTEX,
	agentv1.Kind_KIND_TRACE, agentv1.Kind_KIND_RUNTIME, agentv1.Kind_KIND_GOROUTINE_DUMP,
	agentv1.Kind_KIND_GOROUTINE_LEAK, agentv1.Kind_KIND_HEAP_TYPES,
}

// pastSet is what there is of a time that is over.
var pastSet = []agentv1.Kind{agentv1.Kind_KIND_TRACE, agentv1.Kind_KIND_GOROUTINE, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_RUNTIME}

// supportedKinds is the full set as far as this build can take it.
func (s settings) supportedKinds() []agentv1.Kind {
	return slices.DeleteFunc(slices.Clone(fullSet), func(k agentv1.Kind) bool {
		switch k {
		case agentv1.Kind_KIND_GOROUTINE_LEAK:
			return pprof.Lookup("goroutineleak") == nil
		case agentv1.Kind_KIND_HEAP_TYPES:
			return s.noHeapTypes || !hasHeapTypes()
		}
		return false
	})
}

var captureIDPattern = regexp.MustCompile(`^[0-9a-z-]{4,40}$`)

// newPlan refuses what is out of range, naming the limit. The agent's limits
// hold whatever the request's say; those can only be tighter.
func newPlan(req *agentv1.CollectPerformanceDataRequest, own Limits) (plan, error) {
	if !captureIDPattern.MatchString(req.GetCaptureId()) {
		return plan{}, fmt.Errorf("capture id %.60q is not valid: use 4 to 40 of 0-9, a-z and hyphen", req.GetCaptureId())
	}
	l := tighten(own, req.GetLimits())
	p := plan{
		id:            req.GetCaptureId(),
		center:        req.GetCenterId(),
		duration:      orDefault(req.GetDuration(), min(defaultDuration, l.MaxDuration)),
		kinds:         map[agentv1.Kind]bool{},
		blockNanos:    1,
		mutexFraction: 1,
		traceWindow:   orDefault(req.GetTraceWindow(), min(defaultTraceWindow, l.MaxTraceWindow)),
		traceMaxBytes: req.GetTraceMaxBytes(),
		maxBytes:      l.MaxCaptureBytes,
		skipGC:        req.GetSkipGc(),
	}
	if last := req.GetLast(); last != nil {
		if p.last = last.AsDuration(); p.last < minFlight || p.last > maxFlight {
			return plan{}, fmt.Errorf("the last %v cannot be had: this process allows %v to %v", p.last, minFlight, maxFlight)
		}
		p.past = true
		p.duration, p.traceWindow = max(p.last, minDuration), min(p.last, l.MaxTraceWindow)
	}
	if p.duration < minDuration || p.duration > l.MaxDuration {
		return plan{}, fmt.Errorf("duration %v is out of range: this process allows %v to %v", p.duration, minDuration, l.MaxDuration)
	}
	if p.traceWindow <= 0 || p.traceWindow > l.MaxTraceWindow {
		return plan{}, fmt.Errorf("trace window %v is out of range: this process allows up to %v", p.traceWindow, l.MaxTraceWindow)
	}
	p.traceWindow = min(p.traceWindow, p.duration)
	if p.traceMaxBytes == 0 {
		p.traceMaxBytes = min(defaultTraceMaxBytes, l.MaxTraceBytes)
	}
	if p.traceMaxBytes < minTraceMaxBytes || p.traceMaxBytes > l.MaxTraceBytes {
		return plan{}, fmt.Errorf("trace cap of %d bytes is out of range: this process allows %d to %d", p.traceMaxBytes, minTraceMaxBytes, l.MaxTraceBytes)
	}
	switch req.GetFidelity() {
	case agentv1.Fidelity_FIDELITY_UNSPECIFIED, agentv1.Fidelity_FIDELITY_FULL:
	case agentv1.Fidelity_FIDELITY_BALANCED:
		p.blockNanos, p.mutexFraction = 10_000, 10
	default:
		return plan{}, fmt.Errorf("fidelity %d is unknown: use full or balanced", req.GetFidelity())
	}
	kinds := req.GetKinds()
	if len(kinds) == 0 {
		kinds = fullSet
		if p.last > 0 {
			kinds = pastSet
		}
	}
	for _, k := range kinds {
		if _, known := agentv1.Kind_name[int32(k)]; !known || k == kindOfAll {
			return plan{}, fmt.Errorf("artifact kind %d is unknown to this agent (version %s): leave it out", k, agentVersion)
		}
		p.kinds[k] = true
	}
	return p, nil
}

// tighten returns the tighter of both for every limit the request names.
func tighten(own Limits, asked *agentv1.Limits) Limits {
	if d := asked.GetMaxDuration().AsDuration(); d > 0 {
		own.MaxDuration = min(own.MaxDuration, d)
	}
	if d := asked.GetMaxTraceWindow().AsDuration(); d > 0 {
		own.MaxTraceWindow = min(own.MaxTraceWindow, d)
	}
	if n := asked.GetMaxTraceBytes(); n > 0 {
		own.MaxTraceBytes = min(own.MaxTraceBytes, n)
	}
	if n := asked.GetMaxCaptureBytes(); n > 0 {
		own.MaxCaptureBytes = min(own.MaxCaptureBytes, n)
	}
	return own
}

func orDefault(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil || d.AsDuration() == 0 {
		return otherwise
	}
	return d.AsDuration()
}

func (l Limits) proto() *agentv1.Limits {
	return &agentv1.Limits{
		MaxDuration:           durationpb.New(l.MaxDuration),
		MaxTraceWindow:        durationpb.New(l.MaxTraceWindow),
		MaxTraceBytes:         l.MaxTraceBytes,
		MaxCaptureBytes:       l.MaxCaptureBytes,
		MaxConcurrentCaptures: int32(l.MaxConcurrentCaptures),
	}
}
