package trace

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Timeline answers what tracks look like in a window of time. Wide windows come
// from what Analyze has summed up, narrow ones from the intervals that it kept
// (Options.Keep). Without those they are read from the trace again, which must
// still be open. It may be asked at the same time.
type Timeline struct {
	t      *Trace
	bins   *bins
	kept   *keeper // nil = narrow windows are read from the trace
	tracks []Track
}

// TrackKind is what a row of a timeline is about.
type TrackKind uint8

// The kinds of tracks.
const (
	TrackProc      TrackKind = iota // what runs on a P; ID is a ProcID
	TrackGroup                      // all goroutines of a group; ID is a GroupID
	TrackGoroutine                  // one goroutine; ID is a GoID
)

// TrackID names a track.
type TrackID struct {
	Kind TrackKind
	ID   int64
}

// Track is a row that a timeline can have.
type Track struct {
	TrackID
	Name string
	// Times in each state over the whole trace; a P's idle time is not in it.
	Times Times
}

// Query asks for tracks × time × pixels.
type Query struct {
	Tracks   []TrackID
	From, To time.Duration // since the trace began
	// Columns is how many pixels wide a row is: 1 to 8192. Queries whose times and
	// columns are powers of two give the same rows again and are worth caching.
	Columns int
}

// Row is what a track looks like: Intervals if they are known one by one and are
// at most four per column, else Shares.
type Row struct {
	Track TrackID
	// Intervals in the order of time, whole at the edges of the window. A P is
	// idle where none is.
	Intervals []Interval
	// Shares has NumStates numbers for each column: how many goroutines were in
	// the state on average. Those of a P or a goroutine are at most 1 together;
	// what a P misses to 1 it was idle.
	Shares []float32
	// Total in each state within the window, in goroutine-time.
	Total Times
}

// Interval is a time spent in one state.
type Interval struct {
	From, To time.Duration
	State    State
	// Reason and Stack of a wait or a syscall of a goroutine, where they are known.
	Reason Reason
	Stack  StackID
	// Goroutine that was on a P; NoGoroutine in rows of goroutines.
	Goroutine GoID
	// Waker is who made the goroutine runnable, and WakerStack where; Created says
	// that it did so by starting it. They are known of kept intervals alone;
	// NoGoroutine = nobody, a timer or the network.
	Waker      GoID
	WakerStack StackID
	Created    bool
}

const (
	maxColumns = 8192
	maxTracks  = 1024
)

func newTimeline(t *Trace, b *bins, k *keeper, groups []Group) *Timeline {
	l := &Timeline{t: t, bins: b, kept: k}
	for p, cells := range b.procs {
		if cells == nil {
			continue
		}
		x := Track{TrackID: TrackID{TrackProc, int64(p)}, Name: fmt.Sprintf("P %d", p)}
		for _, c := range cells {
			for s, v := range c {
				x.Times[procStateNames[s]] += t.span(uint64(v))
			}
		}
		l.tracks = append(l.tracks, x)
	}
	for _, g := range groups {
		l.tracks = append(l.tracks, Track{TrackID: TrackID{TrackGroup, int64(g.ID)}, Name: g.Func, Times: g.Times})
	}
	return l
}

// Tracks are the Ps in their order, then the groups in that of the Analysis.
func (l *Timeline) Tracks() []Track { return slices.Clone(l.tracks) }

// Query answers in the order of the query's tracks; unknown ones have empty rows.
func (l *Timeline) Query(ctx context.Context, q Query) ([]Row, error) {
	switch {
	case q.Columns < 1 || q.Columns > maxColumns:
		return nil, ops.Errorf(ops.Invalid, "a timeline of %d columns cannot be drawn: ask for 1 to %d", q.Columns, maxColumns)
	case len(q.Tracks) > maxTracks:
		return nil, ops.Errorf(ops.Invalid, "a timeline of %d tracks is too large: ask for at most %d at once", len(q.Tracks), maxTracks)
	case q.From < 0 || q.To <= q.From:
		return nil, ops.Errorf(ops.Invalid, "a timeline from %v to %v has no time in it: ask for a window that ends after it begins", q.From, q.To)
	}
	w := window{t: l.t, q: q, zero: l.t.zero, from: l.t.ticks(q.From) - l.t.zero, to: l.t.ticks(q.To) - l.t.zero}
	w.to = max(w.to, w.from+1)
	if l.kept != nil {
		return l.queryKept(ctx, w)
	}
	width := (w.to - w.from) / uint64(q.Columns)
	exact := l.bins
	for _, id := range q.Tracks {
		if id.Kind == TrackGoroutine || id.Kind == TrackProc && width < 1<<l.bins.procShift || id.Kind == TrackGroup && width < 1<<l.bins.groupShift {
			b, err := l.read(ctx, w)
			if err != nil {
				return nil, err
			}
			exact = b
			break
		}
	}
	rows := make([]Row, 0, len(q.Tracks))
	for _, id := range q.Tracks {
		switch id.Kind {
		case TrackProc:
			b := l.bins
			if width < 1<<l.bins.procShift {
				b = exact
			}
			rows = append(rows, w.proc(b, id))
		case TrackGroup:
			b := l.bins
			if width < 1<<l.bins.groupShift {
				b = exact
			}
			var cells []groupCell
			if id.ID >= 0 && id.ID < int64(len(b.groups)) {
				cells = b.groups[id.ID]
			}
			r := Row{Track: id}
			w.groupShares(&r, b, cells)
			rows = append(rows, r)
		default:
			rows = append(rows, w.goroutine(exact, id))
		}
	}
	return rows, nil
}

// read decodes the generations of a window, and the one before: it has the reasons
// of the waits that the window begins with.
func (l *Timeline) read(ctx context.Context, w window) (*bins, error) {
	gens := l.t.ix.Generations
	first, last := 0, 0
	for i, g := range gens {
		if g.Start <= w.q.From {
			first = i
		}
		if g.Start <= w.q.To {
			last = i
		}
	}
	geo := geometry{zero: l.t.zero + w.from, end: min(l.t.zero+w.to, max(l.t.last, l.t.zero+w.from)), watch: &watchList{procs: map[int32]bool{}, goroutines: map[GoID]bool{}, most: 4 * w.q.Columns}}
	// Twice as many bins as columns, lest their edges blur what is seen.
	geo.procShift = shiftFor(1, 1, (w.to-w.from)/2, uint64(w.q.Columns))
	geo.groupShift = geo.procShift
	for _, id := range w.q.Tracks {
		switch id.Kind {
		case TrackProc:
			geo.watch.procs[int32(min(id.ID, maxProcs))] = true
		case TrackGoroutine:
			geo.watch.goroutines[GoID(id.ID)] = true
		}
	}
	m := newMerge(l.t, geo, Options{Goroutines: 1})
	first = max(0, first-1)
	err := l.t.each(ctx, 0, first, last+1, func(n int, d *decoder, a *genStates, g *loaded) error {
		a.reset(l.t, geo, d, g, false)
		err := d.run(ctx, g, n == 0, a)
		return cmp.Or(a.finish(nil), err)
	}, m.generation)
	if err != nil {
		return nil, err
	}
	m.closeAll(geo.end)
	m.bins.seal()
	return m.bins, nil
}

// window is a query in ticks since the trace's beginning.
type window struct {
	t        *Trace
	q        Query
	zero     uint64
	from, to uint64
}

func (w *window) proc(b *bins, id TrackID) Row {
	r := Row{Track: id}
	var cells []procCell
	if id.ID >= 0 && id.ID < int64(len(b.procs)) {
		cells = b.procs[id.ID]
	}
	shares := make([]float32, w.q.Columns*int(NumStates))
	for i, c := range cells {
		for s, v := range c {
			if v != 0 {
				w.spread(&r, shares, b, (b.procFirst+uint64(i))<<b.procShift, uint64(1)<<b.procShift, procStateNames[s], uint64(v))
			}
		}
	}
	if b.watched != nil {
		if s := b.watched.procSpans[int32(min(id.ID, maxProcs))]; len(s) <= b.watched.most {
			r.Intervals = w.intervals(s)
			return r
		}
	}
	r.Shares = shares
	return r
}

func (w *window) goroutine(b *bins, id TrackID) Row {
	r := Row{Track: id}
	if b.watched == nil {
		return r
	}
	w.groupShares(&r, b, b.watched.goCells[GoID(id.ID)])
	if s := b.watched.goSpans[GoID(id.ID)]; len(s) <= b.watched.most {
		r.Intervals, r.Shares = w.intervals(s), nil
	}
	return r
}

func (w *window) groupShares(r *Row, b *bins, cells []groupCell) {
	r.Shares = make([]float32, w.q.Columns*int(NumStates))
	for i := range cells {
		for s, v := range cells[i].part {
			if v != 0 {
				w.spread(r, r.Shares, b, (b.groupFirst+uint64(i))<<b.groupShift, uint64(1)<<b.groupShift, State(s), v)
			}
		}
	}
}

// spread distributes a bin's ticks over the columns that it reaches into.
func (w *window) spread(r *Row, shares []float32, b *bins, start, size uint64, st State, ticks uint64) {
	start += b.zero - w.zero
	from, to := max(start, w.from), min(start+size, w.to)
	if from >= to {
		return
	}
	// The last bin of the geometry may be cut off by its end.
	size = min(size, max(b.end-w.zero, start+1)-start)
	density := min(float64(ticks)/float64(size), float64(ticks))
	to = min(to, start+size)
	if from >= to {
		return
	}
	r.Total[st] += w.t.span(uint64(density * float64(to-from)))
	column := float64(w.to-w.from) / float64(w.q.Columns)
	for at := float64(from - w.from); at < float64(to-w.from); {
		c := min(int(at/column), w.q.Columns-1)
		end := min(float64(c+1)*column, float64(to-w.from))
		if end <= at {
			end = float64(to - w.from)
		}
		shares[c*int(NumStates)+int(st)] += float32(density * (end - at) / column)
		at = end
	}
}

// intervals puts what the generations saw in order and joins what one of them
// ended and the next continued.
func (w *window) intervals(spans []span) []Interval {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	out := make([]Interval, 0, len(spans))
	for _, s := range spans {
		iv := Interval{From: w.t.since(s.from), To: w.t.since(s.to), State: s.state, Reason: s.reason, Stack: s.stack, Goroutine: s.g, Waker: NoGoroutine}
		if n := len(out); n > 0 && out[n-1].To == iv.From && out[n-1].State == iv.State && out[n-1].Goroutine == iv.Goroutine && out[n-1].Stack == iv.Stack && out[n-1].Reason == iv.Reason {
			out[n-1].To = iv.To
			continue
		}
		out = append(out, iv)
	}
	return out
}
