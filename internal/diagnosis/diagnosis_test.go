package diagnosis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/evidence/evidencetest"
	"github.com/opscenter/opscenter/internal/ops"
)

// The ids are a contract with whoever reads verdicts: none may vanish.
var ids = []ops.RuleID{
	"channel-backpressure", "cpu-gc-pressure", "cpu-hot-path", "cpu-password-hashing", "cpu-throttled", "deadlock", "downstream-wait",
	"goroutine-churn", "goroutine-leak", "heap-growth", "lock-contention", "lock-held-across-io", "log-contention", "memory-limit-thrash",
	"pool-exhausted", "pool-leaked", "response-body-leak", "retained-objects", "scheduler-latency", "slow-call", "syscall-blocked", "thread-explosion",
	"timer-leak", "timer-storm", "unbounded-concurrency",
}

func TestRulesAreThoseOfTheContract(t *testing.T) {
	var got []ops.RuleID
	for _, r := range Rules() {
		got = append(got, r.ID)
		if r.Name.EN == "" || r.Name.ZH == "" || r.Judge == nil {
			t.Errorf("%s is not whole", r.ID)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("got  %v\nwant %v", got, ids)
	}
}

func TestWithoutEvidenceEveryRuleSaysWhatItLacks(t *testing.T) {
	d, err := Diagnose(t.Context(), &evidence.Evidence{Frames: evidence.NewFrames("")})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Findings) > 0 {
		t.Errorf("found %v", d.Findings)
	}
	var got []ops.RuleID
	for _, c := range d.Checks {
		got = append(got, c.Rule)
		if c.Verdict != ops.VerdictCouldNotCheck && c.Verdict != ops.VerdictNotApplicable {
			t.Errorf("%s says %q of nothing", c.Rule, c.Verdict)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("checked %v", got)
	}
}

func TestARuleThatPanicsCostsOnlyItself(t *testing.T) {
	r := rule.Rule{ID: "x", Judge: func(*evidence.Evidence) rule.Result { panic("no such sample") }}
	res := judge(r, &evidence.Evidence{})
	if res.Verdict != ops.VerdictCouldNotCheck {
		t.Errorf("verdict %q: %s", res.Verdict, res.Reason.EN)
	}
}

func finding(id ops.RuleID, score int, functions ...string) ops.Finding {
	f := ops.Finding{Rule: id, Score: score, Evidence: []ops.Proof{{Artifact: ops.KindMutex, Metric: string(id)}}}
	for _, fn := range functions {
		f.Where = append(f.Where, ops.Place{Role: ops.RoleWait, Function: fn})
	}
	return f
}

func TestTheSameLockIsOneFinding(t *testing.T) {
	d := ops.Diagnosis{
		Findings: []ops.Finding{finding("lock-contention", 80, "main.pay"), finding("lock-held-across-io", 70, "main.pay"), finding("lock-contention", 60, "main.other")},
		Checks:   []ops.Check{{Rule: "lock-contention", Verdict: ops.VerdictFound}},
	}
	link(&d)
	if len(d.Findings) != 2 || d.Findings[0].ID() != "lock-held-across-io/main.pay" || d.Findings[1].ID() != "lock-contention/main.other" {
		t.Fatalf("%+v", d.Findings)
	}
	if f := d.Findings[0]; f.Score != 80 || len(f.Evidence) != 2 {
		t.Errorf("what the twin proves is lost: %+v", f)
	}
}

func TestACauseKeepsItsEffectBelowIt(t *testing.T) {
	d := ops.Diagnosis{Findings: []ops.Finding{finding("scheduler-latency", 95, "main.any"), finding("cpu-password-hashing", 80, "main.login"), finding("goroutine-leak", 60, "main.wait")}}
	link(&d)
	if d.Findings[0].CausedBy != "cpu-password-hashing/main.login" || d.Findings[0].Score != 80 {
		t.Errorf("%+v", d.Findings[0])
	}
	if d.Findings[2].CausedBy != "" {
		t.Error("a leak beside a CPU fault is a fault of its own")
	}
}

func TestOfWhatIsEquallyBadTheCauseComesFirst(t *testing.T) {
	d := ops.Diagnosis{Findings: []ops.Finding{
		finding("channel-backpressure", 100, "main.send", "main.write"),
		finding("cpu-hot-path", 100, "main.other"),
		finding("unbounded-concurrency", 100, "main.send"),
		finding("downstream-wait", 90, "main.write"),
	}}
	link(&d)
	order(d.Findings)
	var got []ops.RuleID
	for _, f := range d.Findings {
		got = append(got, f.Rule)
	}
	if want := []ops.RuleID{"cpu-hot-path", "downstream-wait", "channel-backpressure", "unbounded-concurrency"}; !slices.Equal(got, want) {
		t.Errorf("in the order %v, want %v", got, want)
	}
}

func TestGoroutinesThatHoldWhatStaysAreNotFine(t *testing.T) {
	held := finding("retained-objects", 70, "main.(*session).hold")
	held.Evidence = []ops.Proof{{Metric: "goroutines", Value: 1005}}
	for _, c := range []struct {
		f    ops.Finding
		want string
	}{
		{finding("retained-objects", 70, "main.open"), "none of them looks forgotten"},
		{held, "the number of goroutines does not grow; that 1,005 of them stand, about one for each object that stays, is told as part of retained-objects/main.(*session).hold"},
	} {
		d := ops.Diagnosis{Findings: []ops.Finding{c.f}, Checks: []ops.Check{
			{Rule: "goroutine-leak", Verdict: ops.VerdictOK, Reason: rule.Say("none of them looks forgotten", "看不出有被遺忘的")}}}
		link(&d)
		if got := d.Checks[0].Reason.EN; got != c.want {
			t.Errorf("the check for leaks says %q, want %q", got, c.want)
		}
	}
}

func TestTheCollectorIsAnEffectOfWhatAllocatesBesideItsWork(t *testing.T) {
	path, collector := finding("cpu-hot-path", 80, "main.sign"), finding("cpu-gc-pressure", 40, "main.sign")
	collector.Where[0].Role = ops.RoleAlloc
	path.Evidence = []ops.Proof{{Metric: "cpu_seconds", Share: 0.8}}
	for share, cause := range map[float64]string{0.2: "cpu-hot-path/main.sign", 0.7: ""} {
		collector.Evidence = []ops.Proof{{Metric: "gc_cpu_share", Share: share}}
		d := ops.Diagnosis{Findings: []ops.Finding{path, collector}}
		link(&d)
		if got := d.Findings[1].CausedBy; got != cause {
			t.Errorf("a collector with %v of the CPU is caused by %q", share, got)
		}
	}
}

// A hash and a maker of garbage side by side, each called by the same function:
// the collector belongs to the one that makes the garbage, and to nobody else.
func TestTheCollectorIsLinkedOnlyToWhoMakesTheGarbage(t *testing.T) {
	hash, garbage := finding("cpu-hot-path", 63, "main.hash", "main.main"), finding("cpu-hot-path", 60, "main.garbage.func1", "main.main")
	hash.Evidence = []ops.Proof{{Metric: "cpu_seconds", Share: 0.43}}
	garbage.Evidence = []ops.Proof{{Metric: "cpu_seconds", Share: 0.40}}
	collector := finding("cpu-gc-pressure", 45, "main.garbage.func2", "main.hash", "main.main")
	collector.Where[0].Role = ops.RoleAlloc
	for share, want := range map[float64][3]string{
		0.23: {"", "", "cpu-hot-path/main.garbage.func1"},
		0.39: {"", "cpu-gc-pressure/main.garbage.func2", ""},
	} {
		collector.Evidence = []ops.Proof{{Metric: "gc_cpu_share", Share: share}}
		d := ops.Diagnosis{Findings: []ops.Finding{hash, garbage, collector}}
		link(&d)
		for i, f := range d.Findings {
			if f.CausedBy != want[i] {
				t.Errorf("with a collector at %v, %s is caused by %q, want %q", share, f.ID(), f.CausedBy, want[i])
			}
		}
	}
}

func TestObjectsOfLeakedGoroutinesAreTheLeaksEffect(t *testing.T) {
	count := func(f ops.Finding, metric string, n float64) ops.Finding {
		f.Evidence = []ops.Proof{{Metric: metric, Value: n}}
		return f
	}
	leak := count(finding("goroutine-leak", 90, "gateway.(*Session).hold"), "goroutines", 400)
	for about, test := range map[string]struct {
		heap ops.Finding
		want string
	}{
		"one for each":      {count(finding("heap-growth", 80, "gateway.newSession"), "inuse_objects", 390), leak.ID()},
		"many for each":     {count(finding("heap-growth", 80, "gateway.newSession"), "inuse_objects", 9000), ""},
		"another's package": {count(finding("heap-growth", 80, "audit.note"), "inuse_objects", 390), ""},
		"nobody counted":    {finding("heap-growth", 80, "gateway.newSession"), ""},
	} {
		d := ops.Diagnosis{Findings: []ops.Finding{leak, test.heap}}
		link(&d)
		if got := d.Findings[1].CausedBy; got != test.want {
			t.Errorf("%s: caused by %q, want %q", about, got, test.want)
		}
	}
}

func TestNothingCausesItself(t *testing.T) {
	d := ops.Diagnosis{Findings: []ops.Finding{
		finding("goroutine-leak", 80, "main.a"), finding("heap-growth", 90, "main.a"), finding("retained-objects", 70, "main.a"), finding("memory-limit-thrash", 60, "main.a"),
	}}
	link(&d)
	for _, f := range d.Findings {
		at := f
		for range d.Findings {
			i := slices.IndexFunc(d.Findings, func(x ops.Finding) bool { return x.ID() == at.CausedBy })
			if at.CausedBy == "" {
				break
			}
			if i < 0 {
				t.Fatalf("%s is caused by %s, which is not there", f.ID(), at.CausedBy)
			}
			at = d.Findings[i]
			if at.ID() == f.ID() {
				t.Fatalf("%s causes itself", f.ID())
			}
		}
	}
}

func TestALimitBelowWhatLivesMakesItTooMuch(t *testing.T) {
	for _, c := range []struct {
		of            float64 // of the limit lives
		cause, effect ops.RuleID
	}{
		{1, "memory-limit-thrash", "retained-objects"},
		{0.9, "memory-limit-thrash", "retained-objects"},
		{0.8, "retained-objects", "memory-limit-thrash"},
	} {
		thrash := finding("memory-limit-thrash", 69, "main.view")
		thrash.Evidence = append(thrash.Evidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "live_heap_bytes", Share: c.of})
		d := ops.Diagnosis{Findings: []ops.Finding{finding("retained-objects", 92, "main.generate"), thrash}}
		link(&d)
		for _, f := range d.Findings {
			if (f.Rule == c.effect) != strings.HasPrefix(f.CausedBy, string(c.cause)+"/") {
				t.Errorf("%v of the limit lives: %s is caused by %q", c.of, f.Rule, f.CausedBy)
			}
		}
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	e := evidencetest.Parse(t, `
module example.com/shop
window 10s
procs 2
-- cpu --
19s | golang.org/x/crypto/bcrypt.CompareHashAndPassword bcrypt.go:110 < main.login login.go:42
`)
	d, err := Diagnose(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Findings) == 0 || d.Findings[0].ID() != "cpu-password-hashing/main.login" || d.Window != 10*time.Second || d.Rules == "" {
		t.Errorf("%+v", d)
	}
}

func TestOutliers(t *testing.T) {
	sick := ops.Diagnosis{Instance: ops.Instance{ID: "pod-3"}, Findings: []ops.Finding{finding("lock-contention", 80, "main.pay")}}
	well := func(id ops.InstanceID) ops.Diagnosis { return ops.Diagnosis{Instance: ops.Instance{ID: id}} }
	if got := Outliers([]ops.Diagnosis{well("pod-1"), sick}); got != nil {
		t.Errorf("two have no majority: %+v", got)
	}
	got := Outliers([]ops.Diagnosis{well("pod-1"), well("pod-2"), sick})
	if len(got) != 1 || got[0].Instance != "pod-3" || got[0].Value != 80 || got[0].Median != 0 {
		t.Errorf("%+v", got)
	}
	if got := Outliers([]ops.Diagnosis{sick, sick, sick}); got != nil {
		t.Errorf("what all have is no outlier: %+v", got)
	}
	sick.Findings[0].Score = 45
	if got := Outliers([]ops.Diagnosis{well("pod-1"), well("pod-2"), sick}); got != nil {
		t.Errorf("a notice is nothing to look into: %+v", got)
	}
}

func TestDiagnoseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Diagnose(ctx, &evidence.Evidence{Frames: evidence.NewFrames("")}); !errors.Is(err, context.Canceled) {
		t.Errorf("a diagnosis that nobody waits for: %v", err)
	}
}
