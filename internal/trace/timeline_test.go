package trace_test

import (
	"context"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

func query(t testing.TB, a *trace.Analysis, q trace.Query) []trace.Row {
	t.Helper()
	rows, err := a.Timeline.Query(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(q.Tracks) {
		t.Fatalf("%d rows of %d tracks", len(rows), len(q.Tracks))
	}
	return rows
}

func TestSharesOfTheWholeTraceAreItsTotals(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		tr := open(t, b)
		a := analyze(t, tr, trace.Options{})
		var ids []trace.TrackID
		tracks := a.Timeline.Tracks()
		for _, x := range tracks {
			ids = append(ids, x.TrackID)
		}
		for _, columns := range []int{1, 7, 64, 1400} {
			rows := query(t, a, trace.Query{Tracks: ids, To: tr.Duration(), Columns: columns})
			for i, r := range rows {
				var shown trace.Times
				column := float64(tr.Duration()) / float64(columns)
				for k, v := range r.Shares {
					shown[k%int(trace.NumStates)] += time.Duration(float64(v) * column)
				}
				for _, iv := range r.Intervals {
					shown[iv.State] += iv.To - iv.From
				}
				for s, want := range tracks[i].Times {
					if !near(shown[s], want, want/50+200*time.Microsecond) {
						t.Errorf("%s was in %v for %v in %d columns, want %v", tracks[i].Name, trace.State(s), shown[s], columns, want)
					}
				}
			}
		}
	})
}

func TestNarrowWindowsShowTheSameAsWideOnes(t *testing.T) {
	tr := open(t, planted())
	a := analyze(t, tr, trace.Options{})
	var ids []trace.TrackID
	for _, x := range a.Timeline.Tracks() {
		ids = append(ids, x.TrackID)
	}
	// The second half in one wide query, and in many narrow ones that are read from
	// the trace again.
	from, to := tr.Duration()/2, tr.Duration()
	wide := query(t, a, trace.Query{Tracks: ids, From: from, To: to, Columns: 1})
	sum := make([]trace.Times, len(ids))
	step := (to - from) / 16
	for at := from; at < to; at += step {
		for i, r := range query(t, a, trace.Query{Tracks: ids, From: at, To: min(at+step, to), Columns: 1000}) {
			for s, v := range r.Total {
				sum[i][s] += v
			}
		}
	}
	for i := range ids {
		for s, want := range wide[i].Total {
			// A wide window begins within a bin, which is spread evenly.
			if got := sum[i][s]; !near(got, want, want/20+20*time.Millisecond) {
				t.Errorf("%s is %v for %v in parts, want %v", a.Timeline.Tracks()[i].Name, trace.State(s), got, want)
			}
		}
	}
}

func TestAGoroutineIsShownIntervalByInterval(t *testing.T) {
	tr := open(t, planted())
	a := analyze(t, tr, trace.Options{})
	consumer := siteIn(t, tr, a, trace.ReasonSleep, ".consumes").Group
	var id trace.GoID
	for _, g := range a.Goroutines {
		if g.Group == consumer {
			id = g.ID
		}
	}
	if id == 0 {
		t.Fatal("the consumer is not listed")
	}
	row := query(t, a, trace.Query{Tracks: []trace.TrackID{{Kind: trace.TrackGoroutine, ID: int64(id)}}, From: 1100 * time.Millisecond, To: 1400 * time.Millisecond, Columns: 1000})[0]
	sleeps := 0
	for i, iv := range row.Intervals {
		if i > 0 && iv.From < row.Intervals[i-1].To {
			t.Errorf("%+v begins before the one before it ends", iv)
		}
		if iv.State == trace.StateSleep {
			sleeps++
			if frames := tr.Stack(iv.Stack); len(frames) == 0 || iv.Reason != trace.ReasonSleep {
				t.Errorf("it sleeps for reason %v at %v", iv.Reason, frames)
			}
		}
	}
	if sleeps < 6 || sleeps > 9 || row.Shares != nil {
		t.Errorf("%d sleeps of 40 ms in 300 ms, shares %v: %+v", sleeps, row.Shares != nil, row.Intervals)
	}
}

func TestManyIntervalsBecomeShares(t *testing.T) {
	tr := open(t, busy())
	a := analyze(t, tr, trace.Options{})
	q := trace.Query{Tracks: []trace.TrackID{{Kind: trace.TrackProc, ID: 0}}, From: time.Second, To: time.Second + 500*time.Millisecond, Columns: 4}
	if r := query(t, a, q)[0]; r.Shares == nil || r.Intervals != nil {
		t.Errorf("4 columns show %d intervals", len(r.Intervals))
	}
	q.To, q.Columns = q.From+2*time.Millisecond, 1000
	if r := query(t, a, q)[0]; r.Shares != nil {
		t.Error("2 ms in 1000 columns are not shown one by one")
	}
}

func TestImpossibleQueriesSaySo(t *testing.T) {
	a := analyze(t, open(t, planted()), trace.Options{})
	tests := []struct {
		q    trace.Query
		want string
	}{
		{trace.Query{To: 1, Columns: 0}, "a timeline of 0 columns cannot be drawn: ask for 1 to 8192"},
		{trace.Query{From: 2, To: 2, Columns: 1}, "a timeline from 2ns to 2ns has no time in it: ask for a window that ends after it begins"},
		{trace.Query{To: 1, Columns: 1, Tracks: make([]trace.TrackID, 2000)}, "a timeline of 2000 tracks is too large: ask for at most 1024 at once"},
	}
	for _, tt := range tests {
		if _, err := a.Timeline.Query(context.Background(), tt.q); ops.KindOf(err) != ops.Invalid || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	// What is not there is empty.
	rows := query(t, a, trace.Query{To: time.Hour, Columns: 10, Tracks: []trace.TrackID{{Kind: trace.TrackProc, ID: -5}, {Kind: trace.TrackGroup, ID: 1 << 40}, {Kind: trace.TrackGoroutine, ID: -1}}})
	for _, r := range rows {
		if r.Total.Total() != 0 || len(r.Intervals) != 0 {
			t.Errorf("%+v", r)
		}
	}
}
