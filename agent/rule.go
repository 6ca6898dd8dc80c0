package agent

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// The bounds of rules: a centre that goes wrong must not be able to make a
// process spend its time on watching itself.
const (
	maxRules       = 32
	maxRuleActions = 8
	maxRuleHold    = time.Hour
	maxSignalText  = 200
	minCooldown    = 10 * time.Second
	maxRuleWindow  = 2 * time.Minute // of a timed capture
	maxBudget      = 100
	maxBudgetPer   = 7 * 24 * time.Hour
	// hardMemory is the share of the memory limit above which no rule acts,
	// whatever its own ceiling says: the snapshot could be what kills the process.
	hardMemory = 0.97
	// defaultWithin is the window in which calls are counted.
	defaultWithin = time.Minute
)

var ruleName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// rule is an agentv1.Rule that was checked.
type rule struct {
	name, revision string
	trigger        trigger
	actions        []action
	cooldown       time.Duration
	budget         int
	per            time.Duration
	stopAfter      int64 // 0 = never
	maxMemory      float64
	maxCPU         float64 // 0 = no ceiling
}

// trigger is a condition on a metric or on a signal.
type trigger struct {
	metric     *metricKind // nil = a signal
	below      bool
	level      float64
	timesUsual float64
	hold       time.Duration

	signal   string
	parts    []string // of signal, between its stars
	longer   time.Duration
	quantile float64 // 0 = count
	times    int
	within   time.Duration
}

// action is one step.
type action struct {
	kind     agentv1.ActionKind
	last     time.Duration
	duration time.Duration
	kinds    []agentv1.Kind
}

// newRule refuses what cannot be right.
func newRule(in *agentv1.Rule) (r rule, err error) {
	b := in.GetBounds()
	r = rule{
		name: in.GetName(), revision: in.GetRevision(),
		cooldown: max(b.GetCooldown().AsDuration(), minCooldown), budget: int(b.GetBudget()), per: b.GetPer().AsDuration(),
		stopAfter: int64(b.GetStopAfter()), maxMemory: b.GetMaxMemory(), maxCPU: b.GetMaxCpu(),
	}
	if r.maxMemory == 0 || r.maxMemory > hardMemory {
		r.maxMemory = hardMemory
	}
	switch {
	case !ruleName.MatchString(r.name):
		return r, fmt.Errorf("the name %.64q is not valid: use up to 64 lower-case letters, digits and hyphens", r.name)
	case r.budget < 1 || r.budget > maxBudget || r.per <= 0 || r.per > maxBudgetPer:
		return r, fmt.Errorf("a budget of %d within %v is out of range: use 1 to %d within up to %v", r.budget, r.per, maxBudget, maxBudgetPer)
	case r.stopAfter < 0 || r.maxMemory < 0 || r.maxCPU < 0:
		return r, errors.New("a bound is negative")
	case len(in.GetActions()) > maxRuleActions:
		return r, fmt.Errorf("%d actions are too many: use at most %d", len(in.GetActions()), maxRuleActions)
	}
	if r.trigger, err = newTrigger(in.GetTrigger()); err != nil {
		return r, err
	}
	for _, a := range in.GetActions() {
		step, err := newAction(a)
		if err != nil {
			return r, err
		}
		r.actions = append(r.actions, step)
	}
	return r, nil
}

func newTrigger(in *agentv1.Trigger) (trigger, error) {
	t := trigger{
		below: in.GetBelow(), level: in.GetLevel(), timesUsual: in.GetTimesUsual(), hold: in.GetHold().AsDuration(),
		signal: in.GetSignal(), longer: in.GetLonger().AsDuration(), quantile: in.GetQuantile(),
		times: max(int(in.GetTimes()), 1), within: orDefault(in.GetWithin(), defaultWithin),
	}
	switch {
	case (in.GetMetric() == "") == (t.signal == ""):
		return t, errors.New("a trigger is on a metric or on a signal: name one")
	case t.hold < 0 || t.hold > maxRuleHold || t.within < time.Second || t.within > maxRuleHold:
		return t, fmt.Errorf("a time is out of range: use up to %v", maxRuleHold)
	}
	if t.signal != "" {
		if len(t.signal) > maxSignalText {
			return t, fmt.Errorf("the signal %.64q is too long: use up to %d bytes", t.signal, maxSignalText)
		}
		t.parts = strings.Split(t.signal, "*")
		if t.longer <= 0 || t.quantile < 0 || t.quantile >= 1 {
			return t, errors.New("a signal needs a time that calls take longer than, and a quantile below 1")
		}
		return t, nil
	}
	i := slices.IndexFunc(metricKinds, func(m metricKind) bool { return m.name == in.GetMetric() })
	if i < 0 {
		return t, fmt.Errorf("the metric %.64q is unknown to this agent (version %s)", in.GetMetric(), agentVersion)
	}
	t.metric = &metricKinds[i]
	return t, nil
}

func newAction(in *agentv1.Action) (action, error) {
	a := action{kind: in.GetKind(), last: in.GetLast().AsDuration(), duration: in.GetDuration().AsDuration(), kinds: in.GetKinds()}
	switch a.kind {
	case agentv1.ActionKind_ACTION_KIND_FLIGHT:
		if a.last < minFlight || a.last > maxFlight {
			return a, fmt.Errorf("the last %v cannot be had: use %v to %v", a.last, minFlight, maxFlight)
		}
	case agentv1.ActionKind_ACTION_KIND_CAPTURE:
		if a.duration < minDuration || a.duration > maxRuleWindow {
			return a, fmt.Errorf("a rule captures %v to %v, not %v", minDuration, maxRuleWindow, a.duration)
		}
	case agentv1.ActionKind_ACTION_KIND_SNAPSHOT, agentv1.ActionKind_ACTION_KIND_PAIR:
	default:
		return a, fmt.Errorf("the action %d is unknown to this agent (version %s)", a.kind, agentVersion)
	}
	return a, nil
}

// ofMemory reports whether the trigger watches memory. What fills it is then worth
// a garbage collection: without one the heap is told as of the last, which a
// process that grew fast since has outgrown several times.
func (t trigger) ofMemory() bool {
	return t.metric != nil && slices.Contains([]string{"memory", "live-heap", "rss-bytes", "live-heap-bytes", "heap-slope"}, t.metric.name)
}

// lookBack is how much of the past the rule wants the flight recorder to keep: a
// second more than it takes, for the time until it is read.
func (r rule) lookBack() (keep time.Duration) {
	for _, a := range r.actions {
		if a.kind == agentv1.ActionKind_ACTION_KIND_FLIGHT {
			keep = max(keep, min(a.last+time.Second, maxFlight))
		}
	}
	return keep
}

// plans are the captures that a firing makes: what is there at once in one, and
// each window that is to come in one of its own.
func (r rule) plans(id func() string) (out []plan) {
	now := plan{rule: r.name, kinds: map[agentv1.Kind]bool{}, past: true, skipGC: true, collect: r.trigger.ofMemory()}
	for _, a := range r.actions {
		switch a.kind {
		case agentv1.ActionKind_ACTION_KIND_FLIGHT:
			now.last = max(now.last, a.last)
			now.kinds[agentv1.Kind_KIND_TRACE] = true
		case agentv1.ActionKind_ACTION_KIND_PAIR:
			now.pair = true
			now.kinds[agentv1.Kind_KIND_HEAP] = true
		case agentv1.ActionKind_ACTION_KIND_SNAPSHOT:
			kinds := a.kinds
			if len(kinds) == 0 {
				kinds = []agentv1.Kind{agentv1.Kind_KIND_GOROUTINE, agentv1.Kind_KIND_HEAP}
			}
			for _, k := range kinds {
				now.kinds[k] = true
			}
		}
	}
	if len(now.kinds) > 0 {
		now.kinds[agentv1.Kind_KIND_GOROUTINE] = true // says at little cost what everybody did
		now.kinds[agentv1.Kind_KIND_RUNTIME] = true
		now.id, now.duration, now.maxBytes = id(), max(now.last, time.Second), maxKeptBytes/2
		out = append(out, now)
	}
	for _, a := range r.actions {
		if a.kind != agentv1.ActionKind_ACTION_KIND_CAPTURE {
			continue
		}
		p := plan{
			id: id(), rule: r.name, duration: a.duration, kinds: map[agentv1.Kind]bool{},
			// Balanced: nobody asked for this window, so it costs as little as may be.
			blockNanos: 10_000, mutexFraction: 10,
			traceWindow: min(defaultTraceWindow, a.duration), traceMaxBytes: maxKeptBytes / 4, maxBytes: maxKeptBytes / 2,
		}
		kinds := a.kinds
		if len(kinds) == 0 {
			kinds = fullSet
		}
		for _, k := range kinds {
			p.kinds[k] = true
		}
		out = append(out, p)
	}
	return out
}

// matches reports whether a signal's name is meant. A * stands for any text. It
// is asked at every call that the service times, so it allocates nothing.
func (t *trigger) matches(signal string) bool {
	first, last := t.parts[0], t.parts[len(t.parts)-1]
	if len(t.parts) == 1 {
		return signal == first
	}
	if !strings.HasPrefix(signal, first) {
		return false
	}
	signal = signal[len(first):]
	for _, part := range t.parts[1 : len(t.parts)-1] {
		i := strings.Index(signal, part)
		if i < 0 {
			return false
		}
		signal = signal[i+len(part):]
	}
	return strings.HasSuffix(signal, last)
}
