package agent

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// ruleEngine judges the rules of the process, once a second and whenever a call
// was slow. It runs while there are rules; what it remembers of a rule outlives
// the centre's absence and every change of the rule, so that no limit is a new
// one after a reconnect.
type ruleEngine struct {
	// act carries out what a fired rule does and calls ended; it must not block.
	act func(r rule, why reasons, value float64, ended func())
	// spawn runs the engine's goroutine; false = the agent is closing.
	spawn func(string, func()) bool
	read  func() *agentv1.Heartbeat // the numbers now, with rates since the last call
	now   func() time.Time
	done  <-chan struct{}
	log   *slog.Logger

	changed signal // states or events, for those who follow
	poke    chan struct{}
	// signals are the watches on signals, for the callers of Slow.
	signals atomic.Pointer[[]*vigil]

	mu      sync.Mutex // guards what follows and every field of watches but those said to be atomic
	running bool
	watches []*vigil
	memory  map[string]*remembered // by name, also of rules that are gone
	acting  *vigil
	slope   slope
	latest  *agentv1.Heartbeat // of the latest second
	events  []*agentv1.RuleEvent
	number  int64
}

// maxRuleEvents are kept for a centre that is away.
const maxRuleEvents = 256

// remembered is what outlives a rule's change.
type remembered struct {
	fired     []time.Time // within the longest budget there is
	inherited []time.Time // of processes whose place this one has taken
	cooldown  time.Time
	last      time.Time
}

// vigil is one rule at work.
type vigil struct {
	rule
	mem    *remembered
	counts *counter // of a signal

	total, refused int64
	standing       agentv1.RuleStanding
	reasons        reasons
	value          float64
	usual          usual
	usualNow       float64
	since          time.Time // the condition holds; zero = it does not
	dealt          bool      // with this stretch of it: fired, or refused
	muted          bool      // a refusal of this throttling was told
}

// set replaces the rules.
func (e *ruleEngine) set(rules []rule, before map[string][]time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := map[string]*vigil{}
	for _, w := range e.watches {
		old[w.name] = w
	}
	e.watches = nil
	var signals []*vigil
	for _, r := range rules {
		w := old[r.name]
		if w == nil || w.revision != r.revision {
			if e.memory[r.name] == nil {
				e.memory[r.name] = &remembered{}
			}
			w = &vigil{rule: r, mem: e.memory[r.name], standing: agentv1.RuleStanding_RULE_STANDING_RUNNING}
			if r.trigger.signal != "" {
				w.counts = newCounter(r.trigger, e.now)
			}
		}
		if t, told := before[r.name]; told {
			w.mem.inherited = t
		}
		e.watches = append(e.watches, w)
		if w.counts != nil {
			signals = append(signals, w)
		}
	}
	e.signals.Store(&signals)
	e.changed.broadcast()
	if len(e.watches) > 0 && !e.running {
		e.running = e.spawn("rules", e.run)
	}
}

// run ticks until there are no rules any more.
func (e *ruleEngine) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	first := e.read() // from here on there are rates
	e.mu.Lock()
	e.latest = first
	e.mu.Unlock()
	for {
		select {
		case <-e.done:
			return
		case <-tick.C:
			if !e.tick(e.now(), e.read()) {
				return
			}
		case <-e.poke:
			e.look(e.now())
		}
	}
}

// tick judges every rule by the numbers of a second. It is false when there is
// none.
func (e *ruleEngine) tick(now time.Time, h *agentv1.Heartbeat) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.watches) == 0 {
		e.running = false
		return false
	}
	e.latest = h
	e.slope.add(now, h)
	for _, w := range e.watches {
		e.judge(w, now, h)
	}
	return true
}

// look judges the rules on signals at once: what the flight recorder holds of a
// slow call is soon forgotten.
func (e *ruleEngine) look(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.watches {
		if w.counts != nil {
			e.judge(w, now, e.latest)
		}
	}
}

// judge decides what a rule does now; the caller holds mu.
func (e *ruleEngine) judge(w *vigil, now time.Time, h *agentv1.Heartbeat) {
	holds, why := w.condition(now, h, &e.slope)
	if !holds {
		w.since, w.dealt = time.Time{}, false
	} else if w.since.IsZero() {
		w.since = now
	}
	ripe := holds && now.Sub(w.since) >= w.trigger.hold
	standing, bar := e.barred(w, now, h, ripe)
	if ripe && standing == agentv1.RuleStanding_RULE_STANDING_RUNNING {
		e.fire(w, now, why)
		return
	}
	throttled := standing == agentv1.RuleStanding_RULE_STANDING_THROTTLED
	told := w.crowded(bar)
	refusedNow := ripe && bar != nil && !w.dealt
	if refusedNow {
		w.dealt = true
		w.refused++
		// Once a throttling: a metric that flaps must not flood the history either.
		if !throttled || !w.muted {
			e.event(w, now, agentv1.RuleEventKind_RULE_EVENT_KIND_REFUSED, append(reasons{why}, told...), "")
			e.log.Info("rule refused", slog.String("rule", w.name), slog.String("because", english(why)), slog.String("reason", told.String()))
		}
	}
	w.muted = throttled && (w.muted || refusedNow)
	news := w.standing != standing || !w.reasons.same(told)
	w.standing, w.reasons = standing, told
	if news {
		e.changed.broadcast()
	}
}

// barred says where the rule stands and what keeps it from acting.
func (e *ruleEngine) barred(w *vigil, now time.Time, h *agentv1.Heartbeat, ripe bool) (agentv1.RuleStanding, *agentv1.RuleReason) {
	used, free := w.used(now)
	left := func(until time.Time) float64 { return until.Sub(now).Round(time.Second).Seconds() }
	switch {
	case e.acting == w:
		return agentv1.RuleStanding_RULE_STANDING_ACTING, nil
	case w.stopAfter > 0 && w.total >= w.stopAfter:
		return agentv1.RuleStanding_RULE_STANDING_FINISHED, because(whyFinished, numbers{"fired": float64(w.total)}, nil)
	case used >= w.budget && free.After(w.mem.cooldown):
		return agentv1.RuleStanding_RULE_STANDING_THROTTLED, because(whyBudget, numbers{"budget": float64(w.budget), "per": w.per.Seconds(), "left": left(free)}, nil)
	case now.Before(w.mem.cooldown):
		return agentv1.RuleStanding_RULE_STANDING_THROTTLED, because(whyCooldown, numbers{"left": left(w.mem.cooldown)}, nil)
	case !ripe:
		return agentv1.RuleStanding_RULE_STANDING_RUNNING, nil
	}
	if m, known := share(max(h.RssBytes, h.LiveHeapBytes), h.MemoryLimitBytes); known && m > w.maxMemory {
		return agentv1.RuleStanding_RULE_STANDING_REFUSED, because(whyMemory, numbers{"share": m, "ceiling": w.maxMemory}, nil)
	}
	if c := h.CpuCores / coresOf(h); w.maxCPU > 0 && c > w.maxCPU {
		return agentv1.RuleStanding_RULE_STANDING_REFUSED, because(whyCPU, numbers{"share": c, "ceiling": w.maxCPU}, nil)
	}
	if e.acting != nil {
		return agentv1.RuleStanding_RULE_STANDING_REFUSED, because(whyActing, nil, texts{"rule": e.acting.name})
	}
	return agentv1.RuleStanding_RULE_STANDING_RUNNING, nil
}

// crowded adds to what keeps a rule from acting, if anything does, that ordinary
// calls reach its threshold.
func (w *vigil) crowded(bar *agentv1.RuleReason) (told reasons) {
	if bar != nil {
		told = reasons{bar}
	}
	if w.counts != nil && w.counts.crowded(int(w.value)) {
		told = append(told, because(whyCrowded, numbers{"calls": w.value, "within": w.trigger.within.Seconds(), "longer": w.trigger.longer.Seconds()}, nil))
	}
	return told
}

// fire begins the actions; the caller holds mu.
func (e *ruleEngine) fire(w *vigil, now time.Time, why *agentv1.RuleReason) {
	w.total++
	w.mem.fired = append(w.mem.fired, now)
	w.mem.last = now
	w.mem.cooldown = now.Add(w.cooldown)
	w.standing, w.reasons, w.dealt, w.muted = agentv1.RuleStanding_RULE_STANDING_ACTING, nil, true, false
	if w.counts != nil {
		w.counts.reset() // what it fired on must not make it fire again
	}
	e.acting = w
	e.event(w, now, agentv1.RuleEventKind_RULE_EVENT_KIND_FIRED, reasons{why}, "")
	e.log.Info("rule fired", slog.String("rule", w.name), slog.String("because", english(why)))
	e.act(w.rule, reasons{why}, w.value, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.acting == w {
			e.acting = nil
		}
		w.mem.cooldown = e.now().Add(w.cooldown)
		w.standing = agentv1.RuleStanding_RULE_STANDING_RUNNING
		e.changed.broadcast()
	})
}

// event notes what happened; the caller holds mu.
func (e *ruleEngine) event(w *vigil, now time.Time, kind agentv1.RuleEventKind, why reasons, capture string) {
	e.note(&agentv1.RuleEvent{Rule: w.name, At: timestamppb.New(now), Kind: kind, Reason: why.String(), Reasons: why, Value: w.value, CaptureId: capture})
}

func (e *ruleEngine) note(ev *agentv1.RuleEvent) {
	e.number++
	ev.Number = e.number
	if e.events = append(e.events, ev); len(e.events) > maxRuleEvents {
		e.events = slices.Delete(e.events, 0, len(e.events)-maxRuleEvents)
	}
	e.changed.broadcast()
}

// tell notes an event of something that is not judging.
func (e *ruleEngine) tell(rule string, kind agentv1.RuleEventKind, why reasons, capture string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.note(&agentv1.RuleEvent{Rule: rule, At: timestamppb.New(e.now()), Kind: kind, Reason: why.String(), Reasons: why, CaptureId: capture})
}

// used is how often it fired within the budget's time, and when one of these
// leaves it.
func (w *vigil) used(now time.Time) (n int, free time.Time) {
	keep := now.Add(-maxBudgetPer)
	w.mem.fired = slices.DeleteFunc(w.mem.fired, func(t time.Time) bool { return t.Before(keep) })
	var within []time.Time
	for _, t := range slices.Concat(w.mem.inherited, w.mem.fired) {
		if now.Sub(t) < w.per {
			within = append(within, t)
		}
	}
	slices.SortFunc(within, time.Time.Compare)
	if n = len(within); n >= w.budget {
		free = within[n-w.budget].Add(w.per)
	}
	return n, free
}

// condition judges the trigger and says what holds.
func (w *vigil) condition(now time.Time, h *agentv1.Heartbeat, s *slope) (holds bool, why *agentv1.RuleReason) {
	t := w.trigger
	if w.counts != nil {
		holds, w.value, why = w.counts.judge(now)
		return holds, why
	}
	v, known := t.metric.read(h, s)
	w.value = v
	if !known || math.IsNaN(v) || math.IsInf(v, 0) {
		w.value = 0
		return false, nil
	}
	usually, knownUsual := w.usual.median()
	w.usual.add(now, v)
	w.usualNow = 0
	if knownUsual {
		w.usualNow = usually
	}
	n := numbers{"value": v, "hold": t.hold.Seconds()}
	if t.timesUsual > 0 {
		if !knownUsual || v < usually*t.timesUsual {
			return false, nil
		}
		n["usual"] = usually
	}
	side := "above"
	if t.timesUsual == 0 || t.level > 0 {
		if t.below && v >= t.level || !t.below && v < t.level {
			return false, nil
		}
		if t.below {
			side = "below"
		}
		n["level"] = t.level
	}
	return true, because(whyMetric, n, texts{"metric": t.metric.name, "unit": t.metric.unit.String(), "side": side})
}

// states are the rules now.
func (e *ruleEngine) states() (out []*agentv1.RuleState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for _, w := range e.watches {
		used, free := w.used(now)
		if now.Before(w.mem.cooldown) && w.mem.cooldown.After(free) {
			free = w.mem.cooldown
		}
		s := &agentv1.RuleState{
			Rule: w.name, Revision: w.revision, Standing: w.standing, Reason: w.reasons.String(), Reasons: w.reasons, Value: w.value, Usual: w.usualNow,
			Fired: w.total, Refused: w.refused, Used: int32(used),
		}
		if !w.since.IsZero() {
			s.HoldsSince = timestamppb.New(w.since)
		}
		if free.After(now) {
			s.FreeAt = timestamppb.New(free)
		}
		if !w.mem.last.IsZero() {
			s.LastFired = timestamppb.New(w.mem.last)
		}
		out = append(out, s)
	}
	return out
}

// since returns the events after a number.
func (e *ruleEngine) since(number int64) (out []*agentv1.RuleEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.events {
		if ev.Number > number {
			out = append(out, ev)
		}
	}
	return out
}

// lookBack is how much the rules want the flight recorder to keep.
func lookBack(rules []rule) (keep time.Duration) {
	for _, r := range rules {
		keep = max(keep, r.lookBack())
	}
	return keep
}

// readRules checks what a centre sends.
func readRules(req *agentv1.SetRulesRequest) (rules []rule, before map[string][]time.Time, err error) {
	if len(req.GetRules()) > maxRules {
		return nil, nil, status.Errorf(codes.InvalidArgument, "%d rules are too many for one process: use at most %d", len(req.GetRules()), maxRules)
	}
	before = map[string][]time.Time{}
	for _, in := range req.GetRules() {
		r, err := newRule(in)
		if err == nil && slices.ContainsFunc(rules, func(o rule) bool { return o.name == r.name }) {
			err = fmt.Errorf("there are two of that name")
		}
		if err != nil {
			return nil, nil, status.Errorf(codes.InvalidArgument, "rule %.64q: %v", in.GetName(), err)
		}
		rules = append(rules, r)
		before[r.name] = nil
		for _, t := range in.GetFiredBefore() {
			if t.CheckValid() == nil && len(before[r.name]) < maxBudget {
				before[r.name] = append(before[r.name], t.AsTime())
			}
		}
	}
	return rules, before, nil
}
