package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// ruleBench is an engine whose process is made up: numbers are what the test says
// and actions take as long as it wants.
type ruleBench struct {
	*ruleEngine
	mu    sync.Mutex
	beat  *agentv1.Heartbeat
	acts  time.Duration
	fired []string
}

func newRuleBench(t *testing.T) *ruleBench {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	b := &ruleBench{beat: &agentv1.Heartbeat{Gomaxprocs: 4, MemoryLimitBytes: 1 << 30, RssBytes: 100 << 20, Goroutines: 100}}
	b.ruleEngine = &ruleEngine{
		spawn: func(_ string, fn func()) bool { all.Go(fn); return true },
		now:   time.Now, done: ctx.Done(), log: slog.New(slog.DiscardHandler),
		read: func() *agentv1.Heartbeat {
			b.mu.Lock()
			defer b.mu.Unlock()
			return proto.CloneOf(b.beat)
		},
		poke: make(chan struct{}, 1), memory: map[string]*remembered{},
	}
	b.act = func(r rule, why reasons, _ float64, ended func()) {
		b.mu.Lock()
		b.fired = append(b.fired, r.name+": "+why.String())
		took := b.acts
		b.mu.Unlock()
		all.Go(func() { time.Sleep(took); ended() })
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return b
}

// is sets the numbers and lets so many seconds pass.
func (b *ruleBench) is(seconds int, change func(*agentv1.Heartbeat)) {
	b.mu.Lock()
	change(b.beat)
	b.mu.Unlock()
	time.Sleep(time.Duration(seconds) * time.Second)
	synctest.Wait()
}

func (b *ruleBench) firings() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.fired)
}

func (b *ruleBench) history() string {
	var lines []string
	for _, ev := range b.since(0) {
		kind := strings.ToLower(strings.TrimPrefix(ev.Kind.String(), "RULE_EVENT_KIND_"))
		lines = append(lines, fmt.Sprintf("%d %s %s: %s", ev.Number, kind, ev.Rule, ev.Reason))
	}
	return strings.Join(lines, "\n")
}

func goroutines(n int64) func(*agentv1.Heartbeat) {
	return func(h *agentv1.Heartbeat) { h.Goroutines = n }
}

func mustRules(t *testing.T, in ...*agentv1.Rule) []rule {
	t.Helper()
	rules, _, err := readRules(&agentv1.SetRulesRequest{Rules: in})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func crowd() *agentv1.Rule {
	return &agentv1.Rule{
		Name: "crowd", Revision: "1",
		Trigger: &agentv1.Trigger{Metric: "goroutines", Level: 1000, Hold: durationpb.New(5 * time.Second)},
		Bounds:  &agentv1.Bounds{Cooldown: durationpb.New(time.Minute), Budget: 3, Per: durationpb.New(time.Hour), MaxMemory: 0.9},
	}
}

func TestARuleFiresWhenItsConditionHasHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		b.set(mustRules(t, crowd()), nil)
		b.is(10, goroutines(500))
		b.is(4, goroutines(2000)) // not long enough
		b.is(10, goroutines(500))
		if n := b.firings(); n != 0 {
			t.Fatalf("fired %d times on a spike of 4 s", n)
		}
		b.is(10, goroutines(2000))
		b.is(3, goroutines(500))
		b.is(10, goroutines(2000)) // again, and too soon
		if want := "1 fired crowd: goroutines is 2000, above 1000 for 5s\n2 refused crowd: goroutines is 2000, above 1000 for 5s; nothing was done: it cools down for 47s more"; b.history() != want {
			t.Errorf("history\n%s\nwant\n%s", b.history(), want)
		}
	})
}

// A metric that crosses its level every few seconds for an hour is one of the
// worst things that a rule can watch.
func TestAFlappingMetricDoesNotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger.Hold = nil
		b.set(mustRules(t, r), nil)
		for range 360 {
			b.is(5, goroutines(2000))
			b.is(5, goroutines(10))
		}
		if n := b.firings(); n != 3 {
			t.Errorf("fired %d times within an hour, want its budget of 3", n)
		}
		// One refusal for each time that it was throttled: thrice to cool down, of
		// which the last goes on as a used up budget.
		if n := len(b.since(0)); n != 6 {
			t.Errorf("%d events, want 3 firings and 3 refusals:\n%s", n, b.history())
		}
		b.is(60, goroutines(2000)) // the first firing is an hour ago
		if n := b.firings(); n != 4 {
			t.Errorf("fired %d times, want one more after the hour", n)
		}
	})
}

func TestCeilingsRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		b.set(mustRules(t, crowd()), nil)
		b.is(10, func(h *agentv1.Heartbeat) { h.Goroutines, h.RssBytes = 5000, 1<<30/100*98 })
		want := "1 refused crowd: goroutines is 5000, above 1000 for 5s; nothing was done: the process is at 98 % of its memory limit, above the ceiling of 90 %"
		if b.history() != want {
			t.Errorf("history\n%s\nwant\n%s", b.history(), want)
		}
		s := b.states()[0]
		if s.Standing != agentv1.RuleStanding_RULE_STANDING_REFUSED || s.Refused != 1 || s.Fired != 0 {
			t.Errorf("state %v", s)
		}
		b.is(3, func(h *agentv1.Heartbeat) { h.RssBytes = 100 << 20 }) // as soon as there is room
		if b.firings() != 1 {
			t.Error("it did not fire when there was room again")
		}
	})
}

func TestOneRuleActsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		b.acts = 30 * time.Second
		other := crowd()
		other.Name = "second"
		b.set(mustRules(t, crowd(), other), nil)
		b.is(10, goroutines(2000))
		if want := []string{"crowd: goroutines is 2000, above 1000 for 5s"}; !slices.Equal(b.fired, want) {
			t.Errorf("fired %q, want %q", b.fired, want)
		}
		if got, want := b.states()[1].Reason, "rule crowd is acting, and a process is examined by one rule at a time"; got != want {
			t.Errorf("the second: %q, want %q", got, want)
		}
		b.is(30, goroutines(2000))
		if len(b.fired) != 2 {
			t.Errorf("fired %q: the second has its turn when the first has ended", b.fired)
		}
	})
}

func TestBudgetsSurviveTheCentre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Bounds.Budget = 2
		b.set(mustRules(t, r), map[string][]time.Time{"crowd": {time.Now().Add(-50 * time.Minute)}})
		b.is(10, goroutines(2000))
		b.set(mustRules(t, r), nil) // the centre was away and is back
		r.Revision = "2"
		b.set(mustRules(t, r), nil) // somebody edits it
		b.is(120, goroutines(2000))
		if n := b.firings(); n != 1 {
			t.Errorf("fired %d times: its predecessor's firing counts, and its own does after an edit", n)
		}
		if got := b.states()[0]; got.Used != 2 || got.Standing != agentv1.RuleStanding_RULE_STANDING_THROTTLED {
			t.Errorf("state %v", got)
		}
		b.is(9*60, goroutines(2000)) // the predecessor's leaves the hour
		if n := b.firings(); n != 2 {
			t.Errorf("fired %d times, want 2 when there is room in the budget", n)
		}
		b.set(nil, nil)
		b.is(2, goroutines(2000))
		if b.running {
			t.Error("the engine runs without rules")
		}
	})
}

func TestTimesUsualNeedsToKnowWhatIsUsual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger.TimesUsual, r.Trigger.Level, r.Trigger.Hold = 3, 0, nil
		b.set(mustRules(t, r), nil)
		b.is(30, goroutines(5000)) // right after the start: who knows
		b.is(600, goroutines(200))
		if b.firings() != 0 {
			t.Fatalf("fired %q before it knew what is usual", b.fired)
		}
		b.is(2, goroutines(700))
		if want := []string{"crowd: goroutines is 700, usually 200"}; !slices.Equal(b.fired, want) {
			t.Errorf("fired %q, want %q", b.fired, want)
		}
	})
}

func TestTheSlopeIsOfWhatCollectionsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger = &agentv1.Trigger{Metric: "heap-slope", Level: 1 << 20 / 60.} // 1 MiB a minute
		b.set(mustRules(t, r), nil)
		for i := range 10 { // steady: it swings between collections, not after them
			b.is(4, func(h *agentv1.Heartbeat) { h.GcCycles++; h.LiveHeapBytes = 50<<20 + int64(i%2)<<10 })
		}
		if b.firings() != 0 {
			t.Fatalf("fired %q on a steady heap", b.fired)
		}
		for i := range 30 {
			b.is(4, func(h *agentv1.Heartbeat) { h.GcCycles++; h.LiveHeapBytes = 50<<20 + int64(i)<<19 })
		}
		if b.firings() == 0 || !strings.Contains(b.fired[0], "heap-slope is ") {
			t.Errorf("fired %q on a heap that grows 7.5 MiB a minute", b.fired)
		}
	})
}

func TestSlowCallsFireAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger = &agentv1.Trigger{Signal: "grpc:/game.*/PlaceBet", Longer: durationpb.New(40 * time.Millisecond)}
		b.set(mustRules(t, r), nil)
		a := &Agent{rules: b.ruleEngine}
		b.is(1, goroutines(1))
		a.Slow(t.Context(), "grpc:/game.v1.Game/PlaceBet", 39*time.Millisecond)
		a.Slow(t.Context(), "grpc:/game.v1.Game/Leave", time.Second)
		synctest.Wait()
		if b.firings() != 0 {
			t.Fatalf("fired %q", b.fired)
		}
		a.Slow(t.Context(), "grpc:/game.v1.Game/PlaceBet", 51*time.Millisecond)
		synctest.Wait() // no second has passed
		if b.firings() != 1 || !strings.HasPrefix(b.fired[0], "crowd: grpc:/game.v1.Game/PlaceBet took 51ms (rule_test.go:") {
			t.Errorf("fired %q", b.fired)
		}
	})
}

// Of a call that ended while the rule cooled down the flight recorder holds nothing
// any more when it may fire again; where ordinary calls are over the threshold, the
// refusal says so.
func TestSlowCallsOfTheCooldownDoNotFireAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger = &agentv1.Trigger{Signal: "bet", Longer: durationpb.New(40 * time.Millisecond), Within: durationpb.New(5 * time.Minute)}
		b.set(mustRules(t, r), nil)
		a := &Agent{rules: b.ruleEngine}
		slow := func(calls int) {
			for range calls {
				a.Slow(t.Context(), "bet", 50*time.Millisecond)
				synctest.Wait()
			}
		}
		b.is(1, goroutines(1))
		slow(1)
		b.is(30, goroutines(1))
		slow(25)
		b.is(120, goroutines(1)) // long past the cooldown
		if b.firings() != 1 {
			t.Fatalf("fired %q for calls that are over", b.fired)
		}
		slow(1)
		b.is(1, goroutines(1))
		slow(1)
		if b.firings() != 2 {
			t.Errorf("fired %q, want twice", b.fired)
		}
		b.is(61, goroutines(1))
		slow(1)
		b.is(61, goroutines(1))
		slow(25)
		const (
			cools  = "nothing was done: it cools down for 30s more"
			budget = "nothing was done: its budget of 3 within 1h0m0s is used up for 55m27s more"
			advice = "; 25 calls within 5m0s took 40ms or longer: only the longest of them counts now, and a higher threshold would leave room for the rare ones"
		)
		for _, want := range []string{cools, budget} {
			if !strings.Contains(b.history(), want) {
				t.Errorf("no refusal says %q:\n%s", want, b.history())
			}
		}
		b.is(1, goroutines(1))
		if got := b.states()[0]; !strings.HasSuffix(got.Reason, advice) || !strings.HasPrefix(got.Reason, "its budget") {
			t.Errorf("it stands at %q", got.Reason)
		}
	})
}

// Where ordinary calls are over the threshold, only one that is worse than all of
// them uses up what is for the rare ones.
func TestAmongManySlowCallsOnlyTheWorstFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger = &agentv1.Trigger{Signal: "bet", Longer: durationpb.New(40 * time.Millisecond)}
		b.set(mustRules(t, r), nil)
		a := &Agent{rules: b.ruleEngine}
		bet := func(took time.Duration) {
			a.Slow(t.Context(), "bet", took)
			synctest.Wait()
		}
		b.is(1, goroutines(1))
		bet(50 * time.Millisecond)
		b.is(61, goroutines(1))
		for range 18 {
			b.counted(60 * time.Millisecond)
		}
		bet(41 * time.Millisecond) // the nineteenth: still rare
		if b.firings() != 2 {
			t.Fatalf("fired %q, want twice", b.fired)
		}
		for range 25 {
			b.counted(60 * time.Millisecond)
		}
		b.is(50, goroutines(1))
		for range 25 {
			b.counted(60 * time.Millisecond)
		}
		b.is(11, goroutines(1)) // the cooldown is over
		bet(55 * time.Millisecond)
		if b.firings() != 2 {
			t.Fatalf("fired %q for an ordinary call", b.fired)
		}
		if got, want := b.states()[0].Reason, "26 calls within 1m0s took 40ms or longer: only the longest of them counts now, and a higher threshold would leave room for the rare ones"; got != want {
			t.Errorf("it stands at %q, want %q", got, want)
		}
		bet(90 * time.Millisecond)
		if b.firings() != 3 || !strings.HasPrefix(b.fired[2], "crowd: bet took 90ms (rule_test.go:") {
			t.Errorf("fired %q, want the worst", b.fired)
		}
	})
}

// counted is a slow call of which the engine is not told at once.
func (b *ruleBench) counted(took time.Duration) {
	c := b.watches[0].counts
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, countedCall{c.now(), took})
}

func TestARuleThatActsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		b.acts = 20 * time.Second
		b.set(mustRules(t, crowd()), nil)
		b.is(10, goroutines(2000))
		s := b.states()[0]
		if s.Standing != agentv1.RuleStanding_RULE_STANDING_ACTING || s.Fired != 1 || s.Used != 1 || s.Reason != "" {
			t.Errorf("while it acts it stands at %v", s)
		}
		b.is(20, goroutines(1))
		s = b.states()[0]
		if s.Standing != agentv1.RuleStanding_RULE_STANDING_THROTTLED || len(s.Reasons) != 1 || s.Reasons[0].Code != "cooldown" || !s.FreeAt.AsTime().After(time.Now()) {
			t.Errorf("after it acted it stands at %v", s)
		}
	})
}

func TestQuantileOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRuleBench(t)
		r := crowd()
		r.Trigger = &agentv1.Trigger{Signal: "bet", Longer: durationpb.New(40 * time.Millisecond), Quantile: 0.99, Times: 100}
		b.set(mustRules(t, r), nil)
		a := &Agent{rules: b.ruleEngine}
		b.is(1, goroutines(1))
		call := func(fast, slow int) {
			for range fast {
				a.Slow(t.Context(), "bet", time.Millisecond)
			}
			for range slow {
				a.Slow(t.Context(), "bet", time.Second)
			}
			b.is(1, goroutines(1))
		}
		call(10, 10) // half of them, but too few to speak of a quantile
		call(2000, 5)
		if b.firings() != 0 {
			t.Fatalf("fired %q though 15 of 2025 are fewer than 1 %%", b.fired)
		}
		call(0, 20)
		if want := "calls within 1m0s took 40ms or longer, so p99 is above it; the last: bet took 1s (rule_test.go:"; b.firings() != 1 || !strings.Contains(b.fired[0], want) {
			t.Errorf("fired %q, want %q", b.fired, want)
		}
	})
}

func TestRulesThatCannotBeRight(t *testing.T) {
	for want, change := range map[string]func(*agentv1.Rule){
		`rule "Crowd": the name "Crowd" is not valid: use up to 64 lower-case letters, digits and hyphens`: func(r *agentv1.Rule) { r.Name = "Crowd" },
		`rule "crowd": the metric "entropy" is unknown to this agent (version 1.0.0)`:                      func(r *agentv1.Rule) { r.Trigger.Metric = "entropy" },
		`rule "crowd": a trigger is on a metric or on a signal: name one`:                                  func(r *agentv1.Rule) { r.Trigger.Signal = "x" },
		`rule "crowd": a budget of 0 within 1h0m0s is out of range: use 1 to 100 within up to 168h0m0s`:    func(r *agentv1.Rule) { r.Bounds.Budget = 0 },
		`rule "crowd": the last 2m0s cannot be had: use 1s to 1m0s`: func(r *agentv1.Rule) {
			r.Actions = []*agentv1.Action{{Kind: agentv1.ActionKind_ACTION_KIND_FLIGHT, Last: durationpb.New(2 * time.Minute)}}
		},
	} {
		r := crowd()
		change(r)
		_, _, err := readRules(&agentv1.SetRulesRequest{Rules: []*agentv1.Rule{r}})
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

func TestSlowWithoutRulesCostsNothing(t *testing.T) {
	a := &Agent{rules: &ruleEngine{}}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { a.Slow(ctx, "bet", time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
