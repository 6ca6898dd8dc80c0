package trace_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/trace"
)

// memory is a Store.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) ReadAt(b []byte, off int64) (int, error) { return copy(b, m.b[off:]), nil }

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end := int(off) + len(b); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], b), nil
}

func kept(t testing.TB, tr *trace.Trace) *trace.Analysis {
	t.Helper()
	return analyze(t, tr, trace.Options{Keep: new(memory)})
}

func TestKeptIntervalsShowTheSameAsTheTrace(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		tr := open(t, b)
		read, have := analyze(t, tr, trace.Options{Every: true}), kept(t, tr)
		var ids []trace.TrackID
		for _, x := range read.Timeline.Tracks() {
			ids = append(ids, x.TrackID)
		}
		for _, g := range read.Goroutines[:min(len(read.Goroutines), 50)] {
			ids = append(ids, trace.TrackID{Kind: trace.TrackGoroutine, ID: int64(g.ID)})
		}
		end := tr.Duration()
		for _, w := range [][2]time.Duration{{0, end}, {end / 3, end / 2}, {end / 2, end/2 + end/50 + 1}} {
			q := trace.Query{Tracks: ids, From: w[0], To: w[1], Columns: 100}
			a, b := query(t, read, q), query(t, have, q)
			for i := range a {
				sameRow(t, fmt.Sprintf("%v of %v to %v", ids[i], w[0], w[1]), a[i], b[i], (w[1]-w[0])/100)
			}
		}
	})
}

// sameRow compares what two rows show. Bins blur what happens at their edges by up
// to half a column.
func sameRow(t *testing.T, what string, a, b trace.Row, column time.Duration) {
	t.Helper()
	for s := range a.Total {
		if !near(a.Total[s], b.Total[s], a.Total[s]/20+2*column) {
			t.Errorf("%s: %v for %v, kept %v", what, trace.State(s), a.Total[s], b.Total[s])
		}
	}
	if len(a.Intervals) > 0 != (len(b.Intervals) > 0) {
		t.Errorf("%s: %d intervals, kept %d", what, len(a.Intervals), len(b.Intervals))
	}
	for i := range a.Shares {
		if i < len(b.Shares) && math.IsNaN(float64(b.Shares[i])) {
			t.Fatalf("%s: share %d is no number", what, i)
		}
	}
}

func TestKeptIntervalsAddUpToTheTotals(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		tr := open(t, b)
		a := analyze(t, tr, trace.Options{Keep: new(memory), Every: true})
		for _, g := range a.Groups {
			var sum trace.Times
			of := map[trace.GoID]bool{}
			each(t, a, trace.TrackID{Kind: trace.TrackGroup, ID: int64(g.ID)}, func(iv *trace.Interval) {
				sum[iv.State] += iv.To - iv.From
				of[iv.Goroutine] = true
			})
			for s, want := range g.Times {
				if !near(sum[s], want, want/1000+10*time.Microsecond) {
					t.Errorf("%s was %v for %v, the intervals say %v", g.Func, trace.State(s), want, sum[s])
				}
			}
			if int64(len(of)) > g.Goroutines {
				t.Errorf("%s: intervals of %d goroutines, there were %d", g.Func, len(of), g.Goroutines)
			}
		}
		for _, g := range a.Goroutines {
			var list []trace.Interval
			each(t, a, trace.TrackID{Kind: trace.TrackGoroutine, ID: int64(g.ID)}, func(iv *trace.Interval) { list = append(list, *iv) })
			slices.SortStableFunc(list, func(a, b trace.Interval) int { return int(a.From - b.From) })
			var sum trace.Times
			for i, iv := range list {
				sum[iv.State] += iv.To - iv.From
				if i > 0 && iv.From < list[i-1].To {
					t.Fatalf("goroutine %d: %+v begins before %+v ends", g.ID, iv, list[i-1])
				}
			}
			if sum.Total()-g.Times.Total() > 20*time.Microsecond || g.Times.Total()-sum.Total() > 20*time.Microsecond {
				t.Errorf("goroutine %d lived %v, its intervals last %v", g.ID, g.Times.Total(), sum.Total())
			}
			if group, ok := a.Timeline.GroupOf(g.ID); len(list) > 0 && (!ok || group != g.Group) {
				t.Errorf("goroutine %d is of group %d (%v), want %d", g.ID, group, ok, g.Group)
			}
		}
	})
}

func each(t *testing.T, a *trace.Analysis, id trace.TrackID, fn func(*trace.Interval)) {
	t.Helper()
	if err := a.Timeline.Each(context.Background(), id, 0, a.Duration+time.Second, func(iv *trace.Interval) bool { fn(iv); return true }); err != nil {
		t.Fatal(err)
	}
}

func TestKeptIntervalsSayWhoEndedAWait(t *testing.T) {
	tr := open(t, planted())
	a := kept(t, tr)
	woken, created := 0, 0
	for _, g := range a.Groups {
		each(t, a, trace.TrackID{Kind: trace.TrackGroup, ID: int64(g.ID)}, func(iv *trace.Interval) {
			if iv.Created {
				created++
				if iv.Waker > 0 && len(tr.Stack(iv.WakerStack)) == 0 {
					t.Errorf("goroutine %d was created by %d nowhere", iv.Goroutine, iv.Waker)
				}
			} else if iv.Waker > 0 {
				woken++
				if iv.State != trace.StateRunnable || iv.Waker == iv.Goroutine {
					t.Errorf("%d made %d %v", iv.Waker, iv.Goroutine, iv.State)
				}
			}
		})
	}
	wakes := 0 // by goroutines; timers and the network have none
	for n := range tr.Index().Generations {
		if err := tr.Events(context.Background(), n, func(e *trace.Event) bool {
			if e.Kind == trace.EvGoUnblock && e.Goroutine > 0 {
				wakes++
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if woken != wakes {
		t.Errorf("%d intervals begin with being woken by a goroutine, there were %d wakes", woken, wakes)
	}
	if int64(created) > a.Created || int64(created) < a.Created*9/10 {
		t.Errorf("%d intervals begin with a creation, there were %d", created, a.Created)
	}
}

type full struct{ memory }

func (f *full) WriteAt(b []byte, off int64) (int, error) {
	if off > 0 {
		return 0, errors.New("no space left")
	}
	return f.memory.WriteAt(b, off)
}

func TestAStoreThatIsFullIsAnError(t *testing.T) {
	tr := open(t, planted())
	if _, err := tr.Analyze(context.Background(), trace.Options{Keep: new(full)}); err == nil || err.Error() != "keep the intervals of a trace: no space left" {
		t.Errorf("%v", err)
	}
}

func TestMembersAreTheGoroutinesOfAGroup(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		tr := open(t, b)
		a := analyze(t, tr, trace.Options{Keep: new(memory), Every: true})
		want := map[trace.GroupID]map[trace.GoID]trace.Times{}
		for _, g := range a.Goroutines {
			if g.Times.Total() == 0 {
				continue
			}
			if want[g.Group] == nil {
				want[g.Group] = map[trace.GoID]trace.Times{}
			}
			want[g.Group][g.ID] = g.Times
		}
		for group, members := range want {
			running := func(x *trace.Times) time.Duration { return x[trace.StateRunning] }
			list, total, err := a.Timeline.Members(context.Background(), group, len(members)+10, running)
			if err != nil || int(total) != len(list) || len(list) < len(members) {
				t.Fatalf("%s has %d members, lists %d, want %d: %v", tr.GroupName(group), total, len(list), len(members), err)
			}
			for i, g := range list {
				if i > 0 && running(&g.Times) > running(&list[i-1].Times) {
					t.Fatalf("goroutine %d ran longer than the one before it", g.ID)
				}
				for s, d := range members[g.ID] {
					if !near(g.Times[s], d, 20*time.Microsecond) {
						t.Errorf("goroutine %d was %v for %v, want %v", g.ID, trace.State(s), g.Times[s], d)
					}
				}
			}
			one, total, err := a.Timeline.Members(context.Background(), group, 1, running)
			if err != nil || int(total) != len(list) || len(one) != 1 || one[0].Times[trace.StateRunning] != list[0].Times[trace.StateRunning] {
				t.Errorf("the first of %d: %+v, %v", total, one, err)
			}
		}
	})
}
