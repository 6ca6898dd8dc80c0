package fleet

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// life is what a process does with its age.
type life struct {
	heap       func(age float64) float64 // live, in MiB
	goroutines func(age float64) float64
	cores      func(age float64) float64
	// collects is how often it collects garbage at least; the runtime also does when
	// the live heap has doubled.
	collects time.Duration
}

// watch is what the fleet tells of these checks, from when on; a time alone = nothing
// any more.
func (l life) watch(t *testing.T, minutes int, checks ...ops.HealthCheck) string {
	t.Helper()
	var told []string
	before := ""
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Config{})
		defer w.end()
		p := newProcess()
		born := time.Now()
		inst := instance("boot-a1")
		inst.Process.StartTime = born
		var live float64
		var cycles int64
		var collected time.Time
		beat := func() {
			age := time.Since(born).Seconds()
			if now := l.heap(age); now >= 2*live || time.Since(collected) >= l.collects {
				live, collected = now, time.Now()
				cycles++
			}
			p.set(func(p *process) {
				p.hb = ops.Heartbeat{LiveHeapBytes: int64(live * (1 << 20)), GCCycles: cycles, Goroutines: int64(l.goroutines(age)), CPUCores: l.cores(age), GOMAXPROCS: 4}
			})
		}
		beat()
		w.join(inst, p)
		time.Sleep(ops.HeartbeatEvery / 2) // between two heartbeats, so that their order is given
		for range minutes * 12 {
			i, err := w.f.Instance("boot-a1")
			if err != nil {
				t.Fatal(err)
			}
			var now []string
			for _, x := range i.Health.Issues {
				if slices.Contains(checks, x.Check) {
					now = append(now, string(x.Check))
					if x.Level != ops.HealthWarning {
						t.Errorf("%s is %s", x.Check, x.Level)
					}
				}
			}
			if s := strings.Join(now, " "); s != before {
				told = append(told, strings.TrimSpace(fmt.Sprintf("%v %s", time.Since(born).Round(time.Second), s)))
				before = s
			}
			beat()
			time.Sleep(ops.HeartbeatEvery)
		}
	})
	return strings.Join(told, "; ")
}

var slopes = []ops.HealthCheck{ops.CheckHeapSlope, ops.CheckGoroutinesSlope, ops.CheckGoroutinesStand}

// Curves of an age in seconds.
func level(v float64) func(float64) float64 { return func(float64) float64 { return v } }

func ramp(from, since, perSecond, most float64) func(float64) float64 {
	return func(age float64) float64 { return min(from+max(0, age-since)*perSecond, most) }
}

func warm(from, since, to, tau float64) func(float64) float64 {
	return func(age float64) float64 { return from + (to-from)*(1-math.Exp(-max(0, age-since)/tau)) }
}

func saw(low, high, period float64) func(float64) float64 {
	return func(age float64) float64 { return low + (high-low)*math.Mod(age, period)/period }
}

func plus(a, b func(float64) float64) func(float64) float64 {
	return func(age float64) float64 { return a(age) + b(age) }
}

func noise(of float64) func(float64) float64 {
	r := rand.New(rand.NewPCG(1, 2))
	return func(float64) float64 { return of * (2*r.Float64() - 1) }
}

func TestWhatGrowsSteadilyIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*life)
		minutes int
		want    string
	}{
		"sessions that nobody takes away": {func(l *life) {
			l.heap, l.goroutines = ramp(20, 300, 3, 270), ramp(60, 300, 12, 1060)
		}, 20, "5m58s goroutines-slope; 6m8s heap-slope goroutines-slope; 7m13s heap-slope goroutines-slope goroutines-stand heap-growth; 7m43s heap-slope goroutines-stand heap-growth; 7m48s goroutines-stand heap-growth; 15m13s"},
		"from the first second on": {func(l *life) {
			l.heap, l.goroutines = ramp(5, 0, 2.5, 255), ramp(60, 0, 10, 1060)
		}, 8, "1m23s heap-slope; 2m13s heap-slope heap-growth; 3m3s heap-growth"},
		"from the first second on, and seldom collected": {func(l *life) {
			l.heap, l.goroutines, l.collects = ramp(5, 0, 1.15, 255), ramp(60, 0, 4.5, 1060), 2*time.Minute
		}, 8, "2m8s heap-slope; 2m58s heap-slope goroutines-slope; 3m13s heap-slope goroutines-slope heap-growth; 5m3s heap-slope heap-growth; 6m48s heap-growth"},
		"a leak above a busy heap": {func(l *life) {
			l.heap = plus(plus(ramp(300, 240, 3, 2500), saw(0, 6, 7)), noise(1))
		}, 12, "5m8s heap-slope; 7m13s heap-slope heap-growth"},
		"a leak that goes on for hours": {func(l *life) {
			l.heap = ramp(200, 240, 0.5, 1e6)
		}, 60, "5m8s heap-slope; 12m13s heap-slope heap-growth; 15m13s heap-slope"},
		"goroutines alone": {func(l *life) { l.goroutines = ramp(400, 600, 5, 3000) }, 30, "10m58s goroutines-slope; 13m13s goroutines-slope goroutines-stand; 20m3s goroutines-stand; 24m13s"},
		"senders that stand before a slow reader": {func(l *life) {
			l.goroutines, l.cores = ramp(132, 600, 40, 292), ramp(0.05, 600, -0.001, 1)
		}, 25, "12m13s goroutines-stand; 20m13s"},
	} {
		t.Run(name, func(t *testing.T) {
			l := quiet()
			c.change(&l)
			if got := l.watch(t, c.minutes, ops.CheckHeapSlope, ops.CheckGoroutinesSlope, ops.CheckGoroutinesStand, ops.CheckHeapGrowth); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// quiet is a service that does little.
func quiet() life {
	return life{heap: level(20), goroutines: level(60), cores: level(0.05), collects: 10 * time.Second}
}

func TestWhatOnlyLooksLikeGrowthIsNotTold(t *testing.T) {
	crowd := func(from, since, perSecond, most float64) func(*life) {
		return func(l *life) {
			l.goroutines, l.cores = ramp(from, since, perSecond, most), ramp(0.5, since, 0.5*perSecond/from, 0.5*most/from)
		}
	}
	for name, change := range map[string]func(*life){
		"nothing":                             func(*life) {},
		"a cold start that loads its tables":  func(l *life) { l.heap = ramp(5, 0, 12, 700) },
		"a cold start that slows down":        func(l *life) { l.heap = warm(5, 0, 900, 40) },
		"a cache that warms up for minutes":   func(l *life) { l.heap = warm(40, 300, 900, 100) },
		"a cache that is filled, and is full": func(l *life) { l.heap = ramp(100, 400, 6, 280) },
		"garbage in teeth of half a minute":   func(l *life) { l.heap, l.collects = saw(50, 400, 31), 3*time.Second },
		"garbage in teeth, noise on top":      func(l *life) { l.heap = plus(saw(200, 500, 23), noise(90)) },
		"a nightly batch that loads and lets go": func(l *life) {
			l.heap = plus(level(80), func(age float64) float64 { return batch(age, 900, 30, 240, 20) })
		},
		"those who lost their connection come back": crowd(20, 0, 30, 4000),
		"an evening's crowd":                        crowd(2000, 300, 3, 20000),
		"a tournament begins":                       crowd(800, 600, 20, 3200),
		"a burst of requests":                       func(l *life) { l.goroutines = func(age float64) float64 { return 60 + batch(age, 700, 4, 20, 500) } },
		"a heap that breathes": func(l *life) {
			l.heap = func(age float64) float64 { return 2000 + 100*math.Sin(age/40) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := quiet()
			change(&l)
			if got := l.watch(t, 30, slopes...); got != "" {
				t.Error("told:", got)
			}
			l.collects = 2 * time.Minute // as the runtime does for lack of other reasons
			if got := l.watch(t, 30, slopes...); got != "" {
				t.Error("seldom collected, told:", got)
			}
		})
	}
}

// batch is what a job holds that begins at a time, loads perSecond for so long, and
// then keeps it for some seconds.
func batch(age, begins, loads, keeps, perSecond float64) float64 {
	switch at := age - begins; {
	case at < 0 || at > loads+keeps:
		return 0
	default:
		return min(at, loads) * perSecond
	}
}

// A batch that gathers for minutes looks like a leak once, and the night after is none.
func TestWhatWasThereBeforeIsNoNews(t *testing.T) {
	l := quiet()
	l.heap = func(age float64) float64 { return 100 + batch(math.Mod(age, 3600), 1800, 120, 10, 3) }
	if got, want := l.watch(t, 180, slopes...), "31m8s heap-slope; 33m8s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
