package fleet

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// say prints a health as a line: "critical: memory 96% (> 95%) since 10s".
func say(h ops.Health, start time.Time) string {
	if len(h.Issues) == 0 {
		return string(h.Level)
	}
	var parts []string
	for _, i := range h.Issues {
		parts = append(parts, fmt.Sprintf("%s %s %.4g > %.4g since %v", i.Level, i.Check, i.Value, i.Threshold, i.Since.Sub(start)))
	}
	return strings.Join(parts, "; ")
}

// One check sees a series of numbers, one every five seconds; "-" = unknown.
func TestACheckNeedsTheNumberToLast(t *testing.T) {
	th := Threshold{Warning: 0.85, Critical: 0.97, For: 10 * time.Second}
	for name, c := range map[string]struct{ numbers, want string }{
		"a burst of ten seconds is none":       {"0.2 0.9 0.9 0.2 0.2", ". . . . ."},
		"three in a row are, since the first":  {"0.2 0.9 0.9 0.9 0.9", ". . . warning@5s warning@5s"},
		"it is told until as long below":       {"0.9 0.9 0.9 0.2 0.9 0.2 0.2 0.2", ". . warning@0s warning@0s warning@0s warning@0s warning@0s ."},
		"worse keeps its beginning":            {"0.9 0.9 0.9 0.99 0.99 0.99", ". . warning@0s warning@0s warning@0s critical@0s"},
		"better steps down":                    {"0.99 0.99 0.99 0.9 0.9 0.9 0.2 0.2 0.2", ". . critical@0s critical@0s critical@0s warning@0s warning@0s warning@0s ."},
		"critical at once from far above":      {"1 1 1", ". . critical@0s"},
		"exactly the threshold is fine":        {"0.85 0.85 0.85 0.85", ". . . ."},
		"what is not known any more is no row": {"0.9 0.9 0.9 - 0.9", ". . warning@0s . ."},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1e9, 0)
			var g gauge
			var got []string
			for n, text := range strings.Fields(c.numbers) {
				v := math.NaN()
				_, _ = fmt.Sscan(text, &v)
				g.look(start.Add(time.Duration(n)*5*time.Second), v, th)
				if g.level == "" {
					got = append(got, ".")
				} else {
					got = append(got, fmt.Sprintf("%s@%v", g.level, g.since.Sub(start)))
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

// Heartbeats that go on for half a minute, and what is told of them.
func TestHealthOfHeartbeats(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		hb        ops.Heartbeat
		p         ops.Process
		agentless bool
		usual     float64 // goroutines; 0 = too short a past
		growth    float64
		slope     float64
		more      float64
		stand     float64
		restarts  int
		want      string
	}{
		"idle":                          {hb: ops.Heartbeat{CPUCores: 0.1, GOMAXPROCS: 4, Goroutines: 20}, want: "ok"},
		"CPU of the quota":              {hb: ops.Heartbeat{CPUCores: 1.8, CPUQuotaCores: 2, GOMAXPROCS: 8}, want: "warning cpu 0.9 > 0.85 since 0s"},
		"CPU of GOMAXPROCS":             {hb: ops.Heartbeat{CPUCores: 3.99, GOMAXPROCS: 4}, want: "critical cpu 0.9975 > 0.97 since 0s"},
		"half of the quota":             {hb: ops.Heartbeat{CPUCores: 1, CPUQuotaCores: 2, GOMAXPROCS: 1}, want: "ok"},
		"throttled":                     {hb: ops.Heartbeat{ThrottledFraction: 0.12}, want: "warning throttled 0.12 > 0.1 since 0s"},
		"RSS of the cgroup":             {hb: ops.Heartbeat{RSSBytes: 9 * gib / 10, MemoryLimitBytes: gib}, p: ops.Process{MemoryLimitBytes: gib}, want: "warning memory 0.9 > 0.85 since 0s"},
		"RSS may fill GOMEMLIMIT":       {hb: ops.Heartbeat{RSSBytes: 99 * gib / 100, LiveHeapBytes: gib / 2, MemoryLimitBytes: gib}, p: ops.Process{GoMemoryLimitBytes: gib, MemoryLimitBytes: 2 * gib}, want: "ok"},
		"the live heap may not":         {hb: ops.Heartbeat{RSSBytes: gib, LiveHeapBytes: 96 * gib / 100, MemoryLimitBytes: gib}, p: ops.Process{GoMemoryLimitBytes: gib}, want: "critical memory 0.96 > 0.95 since 0s"},
		"no limit":                      {hb: ops.Heartbeat{RSSBytes: 64 * gib}, want: "ok"},
		"goroutines":                    {hb: ops.Heartbeat{Goroutines: 4000}, usual: 1000, want: "warning goroutines 4 > 3 since 0s"},
		"goroutines without a past":     {hb: ops.Heartbeat{Goroutines: 4000}, want: "ok"},
		"a few goroutines":              {hb: ops.Heartbeat{Goroutines: 90}, usual: 8, want: "ok"},
		"scheduler":                     {hb: ops.Heartbeat{SchedLatencyP99Second: 0.02}, want: "warning sched-latency 0.02 > 0.01 since 0s"},
		"two who wait for the pool":     {hb: ops.Heartbeat{PoolWaiters: 2}, want: "ok"},
		"three who wait for the pool":   {hb: ops.Heartbeat{PoolWaiters: 3}, want: "warning pool-waiters 3 > 2 since 0s"},
		"a busy service's lock waits":   {hb: ops.Heartbeat{MutexWaitRate: 0.1}, want: "ok"},
		"one that never gets its lock":  {hb: ops.Heartbeat{MutexWaitRate: 1.2}, want: "warning mutex-wait 1.2 > 1 since 0s"},
		"a queue at a lock":             {hb: ops.Heartbeat{MutexWaitRate: 62}, want: "critical mutex-wait 62 > 20 since 0s"},
		"a heap that grows":             {growth: 2.5, want: "warning heap-growth 2.5 > 2 since 0s"},
		"a heap that grows a little":    {growth: 1.9, want: "ok"},
		"a heap that leaks":             {slope: 12.3, want: "warning heap-slope 12.3 > 1 since 0s"},
		"a heap that creeps":            {slope: 0.9, want: "ok"},
		"goroutines that leak":          {more: 9000, want: "warning goroutines-slope 9000 > 2 since 0s"},
		"goroutines that queue":         {stand: 2.2, want: "warning goroutines-stand 2.2 > 1.8 since 0s"},
		"no slope from outside":         {slope: 12, more: 40, stand: 9, agentless: true, want: "ok"},
		"from outside no heap is seen":  {growth: 9, agentless: true, want: "ok"},
		"a pool that does not say":      {hb: ops.Heartbeat{PoolWaiters: -1}, want: "ok"},
		"two restarts":                  {restarts: 2, want: "ok"},
		"three restarts":                {restarts: 3, want: "warning restarts 3 > 2 since 0s"},
		"a peer's numbers may be wrong": {hb: ops.Heartbeat{CPUCores: math.NaN(), GOMAXPROCS: 2, ThrottledFraction: math.Inf(1)}, want: "ok"},
		"from outside":                  {hb: ops.Heartbeat{Goroutines: 4000, PoolWaiters: 9}, usual: 100, agentless: true, want: "critical goroutines 40 > 10 since 0s"},
		"the worst is first": {
			hb: ops.Heartbeat{CPUCores: 1.8, CPUQuotaCores: 2, PoolWaiters: 21, ThrottledFraction: 0.2}, restarts: 3,
			want: "critical pool-waiters 21 > 20 since 0s; warning restarts 3 > 2 since 0s; warning cpu 0.9 > 0.85 since 0s; warning throttled 0.2 > 0.1 since 0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			usual := math.NaN()
			if c.usual > 0 {
				usual = c.usual
			}
			th := DefaultThresholds()
			var v vigil
			start := time.Unix(1e9, 0)
			for n := range 7 {
				v.look(start.Add(time.Duration(n)*5*time.Second), numbersOf(c.hb, c.p, c.agentless, trends{median: usual, growth: c.growth, gibPerHour: c.slope, perSecond: c.more, stand: c.stand}, c.restarts), &th)
			}
			if got := say(v.health(start.Add(30*time.Second), 0, &th), start); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Each number is what the live heap was in a quarter of a minute, in MiB.
func TestAHeapGrowsWhenItsFloorLeavesTheOldCeiling(t *testing.T) {
	minute := func(quarters string) string { return quarters + " " } // its four quarters
	for name, c := range map[string]struct {
		heap string
		want float64 // 0 = too short a past
	}{
		"too short a past":           {minute("5 5 5 5") + minute("9 9 9 9") + minute("10 10 10 10") + "10", 0},
		"a sawtooth":                 {strings.Repeat(minute("10 40 60 20"), 6), 10. / 60},
		"a leak":                     {strings.Repeat(minute("10 12 15 10"), 5) + minute("20 30 40 50") + minute("60 70 80 90") + "100", 4},
		"a jump that stays":          {strings.Repeat(minute("12 12 12 12"), 5) + strings.Repeat(minute("50 48 52 50"), 2) + "50", 4},
		"a spike within a minute":    {strings.Repeat(minute("12 12 12 12"), 5) + minute("12 90 90 12") + "12", 1},
		"many times next to nothing": {strings.Repeat(minute("1 1 1 1"), 5) + strings.Repeat(minute("15 15 15 15"), 2) + "15", 1},
		"its first minutes fill it":  {minute("1 30 60 90") + minute("95 95 95 95") + strings.Repeat(minute("100 100 100 100"), 3) + "100", 1},
		"what it was long ago":       {strings.Repeat(minute("20 20 20 20"), 3) + strings.Repeat(minute("80 80 80 80"), 11) + "80", 1},
		"a process without an agent": {strings.Repeat(minute("0 0 0 0"), 9), 0},
	} {
		t.Run(name, func(t *testing.T) {
			var g growth
			at := time.Unix(16_666_666*60, 0)
			for _, text := range strings.Fields(c.heap) {
				var mib int64
				if _, err := fmt.Sscan(text, &mib); err != nil {
					t.Fatal(err)
				}
				g.add(at, mib<<20, 0)
				at = at.Add(15 * time.Second)
			}
			got := g.times(fewBytes)
			if math.IsNaN(got) {
				got = 0
			}
			if math.Abs(got-c.want) > 0.2 {
				t.Errorf("%.2f times, want %.2f", got, c.want)
			}
		})
	}
}

func TestUsualIsTheMedianOfTheLastHour(t *testing.T) {
	var b baseline
	at := time.Unix(1e9, 0)
	run := func(minutes int, goroutines int64) {
		for range minutes * 12 {
			b.add(at, goroutines)
			at = at.Add(5 * time.Second)
		}
	}
	run(9, 100)
	if !math.IsNaN(b.usual()) {
		t.Error("nine minutes are too short a past, got", b.usual())
	}
	run(31, 100)
	run(20, 5000)
	if b.usual() != 100 {
		t.Error("a third of an hour is not usual, got", b.usual())
	}
	run(40, 5000)
	if b.usual() != 5000 || len(b.minutes) != 60 {
		t.Errorf("after an hour it is: got %v of %d minutes", b.usual(), len(b.minutes))
	}
	b = baseline{}
	run(2, 900)
	b.seed(make([]float32, 57))
	b.seed([]float32{7})
	if len(b.minutes) != 60 || b.minutes[0] != 7 || b.minutes[59] != 900 {
		t.Errorf("the older past goes before: %v", b.minutes)
	}
}

func TestAnInstanceIsJudgedWhileItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		defer w.end()
		began := time.Now()
		health := func() string {
			i, err := w.f.Instance("boot-a1")
			if err != nil {
				t.Fatal(err)
			}
			return say(i.Health, began)
		}
		p := newProcess()
		p.hb = ops.Heartbeat{CPUCores: 1.9, CPUQuotaCores: 2, Goroutines: 150}
		left := w.join(instance("boot-a1"), p)
		expect := func(when, want string) {
			t.Helper()
			if got := health(); got != want {
				t.Errorf("%s:\ngot  %s\nwant %s", when, got, want)
			}
		}
		expect("at first", "ok")
		time.Sleep(11 * time.Second)
		expect("after two more heartbeats", "warning cpu 0.95 > 0.85 since 0s")
		p.set(func(p *process) { p.hb.CPUCores = 0.1 })
		time.Sleep(15 * time.Second)
		expect("after as many quiet ones", "ok")
		time.Sleep(10 * time.Minute)
		p.set(func(p *process) { p.hb.Goroutines = 600 })
		time.Sleep(15 * time.Second)
		expect("four times the usual", "warning goroutines 4 > 3 since 10m30s")
		p.set(func(p *process) { p.mute = true })
		time.Sleep(20 * time.Second)
		if got := health(); !strings.Contains(got, "warning heartbeat ") || !strings.Contains(got, "warning goroutines 4 > 3") {
			t.Errorf("a suspect keeps what was known: %s", got)
		}
		time.Sleep(20 * time.Second)
		expect("gone", "")
		<-left
	})
}

func TestRestartsAreCountedAlongTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		defer w.end()
		began := time.Now()
		var got []string
		for n := range 5 {
			id := ops.InstanceID(fmt.Sprintf("boot-%d", n))
			p := newProcess()
			p.hb = ops.Heartbeat{Goroutines: 1}
			left := w.join(instance(id), p)
			i, err := w.f.Instance(id)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, say(i.Health, began))
			if n < 4 {
				p.end <- errCut
				<-left
				time.Sleep(10 * time.Second)
			} else { // an hour later nobody speaks of it any more
				time.Sleep(time.Hour)
				i, _ = w.f.Instance(id)
				got = append(got, say(i.Health, began))
			}
		}
		want := "ok | ok | ok | warning restarts 3 > 2 since 30s | warning restarts 4 > 2 since 40s | ok"
		if s := strings.Join(got, " | "); s != want {
			t.Errorf("got  %s\nwant %s", s, want)
		}
	})
}

func TestTheUsualOutlivesTheCentre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		w := start(t, Config{Store: store})
		p := newProcess()
		p.hb = ops.Heartbeat{Goroutines: 200}
		w.join(instance("boot-a1"), p)
		time.Sleep(30 * time.Minute)
		w.end()
		w = start(t, Config{Store: store})
		defer w.end()
		p = newProcess()
		p.hb = ops.Heartbeat{Goroutines: 900}
		w.join(instance("boot-a1"), p)
		began := time.Now()
		time.Sleep(11 * time.Second)
		i, err := w.f.Instance("boot-a1")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := say(i.Health, began), "warning goroutines 4.5 > 3 since 0s"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestHealthFile(t *testing.T) {
	const all = "[flapping heartbeat restarts memory cpu throttled sched-latency pool-waiters mutex-wait goroutines heap-slope goroutines-slope goroutines-stand heap-growth]"
	for name, c := range map[string]struct{ text, want string }{
		"empty":            {"", "cpu 0.85/0.97/10s waiters 2/20/10s; user: cpu 0.85/0.97/10s waiters 2/20/10s"},
		"defaults":         {"defaults:\n  cpu: {warning: 0.7, critical: 0.9, for: 30s}\n", "cpu 0.7/0.9/30s waiters 2/20/10s; user: cpu 0.7/0.9/30s waiters 2/20/10s"},
		"a service":        {"defaults:\n  cpu: {for: 1m}\nservices:\n  color-game/user-service:\n    cpu: {warning: 0.5}\n    pool-waiters: {off: true}\n", "cpu 0.85/0.97/1m0s waiters 2/20/10s; user: cpu 0.5/0.97/1m0s waiters off"},
		"json":             {`{"services":{"color-game/user-service":{"cpu":{"critical":0}}}}`, "cpu 0.85/0.97/10s waiters 2/20/10s; user: cpu 0.85/0/10s waiters 2/20/10s"},
		"misspelt check":   {"defaults:\n  cpuu: {warning: 0.7}\n", `defaults: unknown check "cpuu": use one of ` + all},
		"misspelt field":   {"defaults:\n  cpu: {warn: 0.7}\n", `line 2: unknown field "warn"`},
		"percent":          {"services:\n  a/b:\n    cpu: {warning: 85}\n", `services: a/b: cpu: warning: 85 is more than everything: it is a share, so that 0.85 means 85 %`},
		"negative":         {"defaults:\n  restarts: {warning: -1}\n", `defaults: restarts: warning: -1 is no threshold: use a number of 0 or more`},
		"infinite":         {"defaults:\n  restarts: {warning: .inf}\n", `defaults: restarts: warning: +Inf is no threshold: use a number of 0 or more`},
		"upside down":      {"defaults:\n  cpu: {warning: 0.99}\n", `defaults: cpu: critical (0.97) must be above warning (0.99), or 0 for never`},
		"no duration":      {"defaults:\n  cpu: {for: 10}\n", `defaults: cpu: for: "10" is no duration up to 1h0m0s: use one such as 10s or 2m`},
		"no service":       {"services:\n  user-service: {}\n", `services: "user-service" is no service: write project/service, such as color-game/user-service`},
		"heartbeat":        {"defaults:\n  heartbeat: {warning: 60}\n", `defaults: heartbeat: an instance is suspect after 15s without a heartbeat, which cannot be changed: only off can be said here`},
		"something else":   {"- a\n- b\n", `line 1: `},
		"no YAML":          {"defaults: [\n", `line 1: `},
		"heartbeat may be": {"defaults:\n  heartbeat: {off: true}\n", "cpu 0.85/0.97/10s waiters 2/20/10s; user: cpu 0.85/0.97/10s waiters 2/20/10s"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseHealth([]byte(c.text))
			if err != nil {
				if !strings.HasPrefix(err.Error(), c.want) || len(c.want) < 5 {
					t.Errorf("got  %s\nwant %s", err, c.want)
				}
				return
			}
			show := func(k ops.ServiceKey) string {
				th := r.Of(k)
				out := ""
				for _, x := range []struct {
					name string
					t    Threshold
				}{{"cpu", th.Of(ops.CheckCPU)}, {" waiters", th.Of(ops.CheckPoolWaiters)}} {
					if x.t.Off {
						out += x.name + " off"
					} else {
						out += fmt.Sprintf("%s %v/%v/%v", x.name, x.t.Warning, x.t.Critical, x.t.For)
					}
				}
				return out
			}
			if got := show(ops.ServiceKey{Project: "x", Service: "y"}) + "; user: " + show(ops.ServiceKey{Project: "color-game", Service: "user-service"}); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if _, err := LoadHealth("/nowhere/health.yml"); err == nil || !strings.HasPrefix(err.Error(), "thresholds: open /nowhere/health.yml: no such file") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "health.yml")
	if err := os.WriteFile(file, []byte("defaults: {cpu: {warning: 2}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadHealth(file); err == nil || !strings.HasPrefix(err.Error(), "thresholds: "+file+": defaults: cpu: warning: 2 is more than everything") {
		t.Error(err)
	}
}

func FuzzHealthFile(f *testing.F) {
	f.Add([]byte("defaults:\n  cpu: {warning: 0.7, critical: 0.9, for: 30s}\nservices:\n  a/b:\n    goroutines: {off: true}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseHealth(text)
		if err != nil {
			return
		}
		for _, th := range r.Of(ops.ServiceKey{Project: "a", Service: "b"}) {
			if !(th.Warning >= 0) || th.For < 0 || th.Critical > 0 && th.Critical <= th.Warning {
				t.Errorf("%q made %+v", text, th)
			}
		}
	})
}

// The judgement of 5,000 instances that beat once a second must cost next to nothing.
func BenchmarkHealth(b *testing.B) {
	f := New(Config{})
	var ms []*member
	for n := range 5000 {
		i := instance(ops.InstanceID(fmt.Sprintf("boot-%04d", n)))
		m := &member{inst: i, thresholds: DefaultThresholds()}
		m.inst.State = ops.InstanceUp
		m.inst.Heartbeat = ops.Heartbeat{CPUCores: 1.9 * float64(n%2), CPUQuotaCores: 2, Goroutines: int64(n), RSSBytes: 1 << 30, MemoryLimitBytes: 2 << 30}
		f.add(m)
		ms = append(ms, m)
	}
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		for _, m := range ms {
			f.listen(m, now)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5000, "ns/instance")
}
