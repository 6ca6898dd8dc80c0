package timeline

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// Interval is a time that a goroutine spent in one state.
type Interval struct {
	From, To  time.Duration
	State     trace.State
	Reason    trace.Reason
	Stack     Stack
	Goroutine trace.GoID
	// Waker ended it, at WakerStack; NoGoroutine = a timer, the network, or the trace
	// does not say.
	Waker      trace.GoID
	WakerStack Stack
	WakerGroup string
}

// Goroutines lists those of a group which were longest in a state; a state that
// does not exist = those that were busy longest. total is how many there are.
func (v *View) Goroutines(ctx context.Context, group string, state trace.State, most int) (list []trace.Goroutine, total int64, err error) {
	switch {
	case most == 0:
		most = 1000
	case most < 0 || most > 10_000:
		return nil, 0, ops.Errorf(ops.Invalid, "%d goroutines are too many to list: ask for 1 to 10,000", most)
	}
	id, err := v.group(group)
	if err != nil {
		return nil, 0, err
	}
	return v.analysis.Timeline.Members(ctx, id, most, func(t *trace.Times) time.Duration {
		if state < trace.NumStates {
			return t[state]
		}
		return busy(t)
	})
}

// busy is the time that means something.
func busy(t *trace.Times) (d time.Duration) {
	for s, v := range t {
		if means(trace.State(s)) {
			d += v
		}
	}
	return d
}

// Goroutine is what one goroutine did.
type Goroutine struct {
	trace.Goroutine
	Func string // it began with
	// Creator started it at CreatedAt, if it was Born within the trace.
	Creator   trace.GoID
	CreatedAt Stack
	// Interval at the moment that was asked for; nil = it was not there.
	Interval  *Interval
	Sites     []Site
	Intervals int64
}

// goroutineSites is how many places are told of a goroutine or a selection.
const goroutineSites = 30

// Goroutine tells of a goroutine, and what it did at a moment; negative = its
// longest wait that means something.
func (v *View) Goroutine(ctx context.Context, id trace.GoID, at time.Duration) (Goroutine, error) {
	out := Goroutine{Goroutine: trace.Goroutine{ID: id}, Creator: trace.NoGoroutine}
	group, ok := v.analysis.Timeline.GroupOf(id)
	if !ok {
		return out, ops.Errorf(ops.NotFound, "goroutine %d did nothing in this trace: search for one that did", id)
	}
	out.Group, out.Func = group, v.trace.GroupName(group)
	sites := newSums(v)
	var chosen trace.Interval
	found := false
	track := trace.TrackID{Kind: trace.TrackGoroutine, ID: int64(id)}
	err := v.analysis.Timeline.Each(ctx, track, 0, v.end(), func(iv *trace.Interval) bool {
		if out.Intervals == 0 || iv.From < out.Begin {
			out.Begin = iv.From
		}
		out.End = max(out.End, iv.To)
		out.Intervals++
		if iv.Created {
			out.Born, out.Creator, out.CreatedAt = true, iv.Waker, v.stack(iv.WakerStack)
		}
		sites.add(iv, 0, v.end())
		longest := at < 0 && means(iv.State) && iv.State != trace.StateRunning && (!found || iv.To-iv.From > chosen.To-chosen.From)
		if longest || at >= iv.From && at < iv.To {
			chosen, found = *iv, true
		}
		return true
	})
	if err != nil {
		return out, err
	}
	out.Times, out.Sites = sites.times, sites.list(goroutineSites, true)
	if found {
		iv, err := v.interval(ctx, &chosen)
		if err != nil {
			return out, err
		}
		out.Interval = &iv
	}
	return out, nil
}

// end is a time that all intervals begin before.
func (v *View) end() time.Duration { return v.analysis.Duration + time.Nanosecond }

// interval finds out who ended an interval: who made the goroutine runnable that
// then was.
func (v *View) interval(ctx context.Context, iv *trace.Interval) (Interval, error) {
	out := Interval{From: iv.From, To: iv.To, State: iv.State, Reason: iv.Reason, Stack: v.stack(iv.Stack), Goroutine: iv.Goroutine, Waker: trace.NoGoroutine}
	if iv.State == trace.StateRunning || iv.State == trace.StateAssist {
		return out, nil
	}
	if iv.State == trace.StateRunnable {
		out.Waker, out.WakerStack = iv.Waker, v.stack(iv.WakerStack)
		out.WakerGroup = v.groupName(iv.Waker)
		return out, nil
	}
	// A tick of the trace's clock is at most some dozen nanoseconds.
	const slack = time.Microsecond
	id := trace.TrackID{Kind: trace.TrackGoroutine, ID: int64(iv.Goroutine)}
	err := v.analysis.Timeline.Each(ctx, id, max(0, iv.To-slack), iv.To+slack, func(next *trace.Interval) bool {
		if next.State == trace.StateRunnable && next.From >= iv.To-slack && next.Waker > 0 {
			out.Waker, out.WakerStack = next.Waker, v.stack(next.WakerStack)
			return false
		}
		return true
	})
	out.WakerGroup = v.groupName(out.Waker)
	return out, err
}

// Find returns the next interval of a track in a state that begins after a moment,
// or the previous one before it; nil = there is none.
func (v *View) Find(ctx context.Context, t Track, state trace.State, at time.Duration, backwards bool) (*Interval, error) {
	id, err := v.id(t)
	if err != nil {
		return nil, err
	}
	if state >= trace.NumStates {
		return nil, ops.Errorf(ops.Invalid, "there is no state %d: use one of the overview", state)
	}
	// Stretches that grow: the next one is near as a rule.
	for step, near := time.Millisecond, at; ; step *= 8 {
		from, to := near, min(near+step, v.end())
		if backwards {
			from, to = max(0, near-step), near
		}
		if from >= to {
			return nil, nil //nolint:nilnil // there is no other one
		}
		var best trace.Interval
		found := false
		if err := v.analysis.Timeline.Each(ctx, id, from, to, func(iv *trace.Interval) bool {
			if iv.State != state || iv.From < from || iv.From >= to || !backwards && iv.From <= at {
				return true
			}
			if !found || backwards == (iv.From > best.From) {
				best, found = *iv, true
			}
			return true
		}); err != nil {
			return nil, err
		}
		if found {
			out, err := v.interval(ctx, &best)
			if t.Kind == trace.TrackProc {
				out.Waker, out.WakerStack, out.WakerGroup = trace.NoGoroutine, nil, ""
			}
			return &out, err
		}
		near = to
		if backwards {
			near = from
		}
	}
}

// Search finds goroutines by number ("4412", "G4412"), groups and places by a part
// of a function's name.
func (v *View) Search(ctx context.Context, query string, most int) (Hits, error) {
	switch {
	case most == 0:
		most = 20
	case most < 0 || most > 100:
		return Hits{}, ops.Errorf(ops.Invalid, "%d hits are too many: ask for 1 to 100", most)
	}
	lower := strings.ToLower(strings.TrimSpace(query))
	if lower == "" {
		return Hits{}, nil
	}
	id, err := strconv.ParseInt(strings.TrimLeft(lower, "g#"), 10, 64)
	number := err == nil && id > 0
	if number {
		_, number = v.analysis.Timeline.GroupOf(trace.GoID(id))
	}
	if !number {
		return v.searchGroups(lower, most), nil // a function's name may be a number, too
	}
	g, err := v.Goroutine(ctx, trace.GoID(id), -1)
	return Hits{Goroutines: []trace.Goroutine{g.Goroutine}, GoroutineGroups: []string{g.Func}}, err
}

// Statistics are what tracks add up to in a stretch of time.
type Statistics struct {
	Times      trace.Times
	Goroutines int64
	Sites      []Site
	Intervals  int64
}

// Statistics sums up tracks from a time to another. What several tracks have in
// common counts as often.
func (v *View) Statistics(ctx context.Context, from, to time.Duration, tracks []Track) (Statistics, error) {
	switch {
	case len(tracks) > maxTileTracks:
		return Statistics{}, ops.Errorf(ops.Invalid, "a selection of %d tracks is too large: choose at most %d", len(tracks), maxTileTracks)
	case from < 0 || to <= from:
		return Statistics{}, ops.Errorf(ops.Invalid, "a selection from %v to %v has no time in it: choose one that ends after it begins", from, to)
	}
	var ids []trace.TrackID
	for _, t := range tracks {
		id, err := v.id(t)
		if err != nil {
			return Statistics{}, err
		}
		ids = append(ids, id)
	}
	parts := make(chan int)
	sums, errs := make([]*sums, min(4, runtime.GOMAXPROCS(0))), make([]error, 4)
	var wg sync.WaitGroup
	for n := range sums {
		sums[n] = newSums(v)
		wg.Go(func() {
			for part := range parts {
				for _, id := range ids {
					if errs[n] == nil {
						errs[n] = v.analysis.Timeline.EachOf(ctx, part, id, from, to, func(iv *trace.Interval) bool { sums[n].add(iv, from, to); return true })
					}
				}
			}
		})
	}
	for _, part := range v.analysis.Timeline.Parts(from, to) {
		parts <- part
	}
	close(parts)
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		return Statistics{}, err
	}
	all := sums[0]
	for _, s := range sums[1:] {
		all.join(s)
	}
	return Statistics{Times: all.times, Goroutines: all.goroutines(), Sites: all.list(goroutineSites, false), Intervals: all.intervals}, nil
}

// sums are of intervals, by place.
type sums struct {
	view      *View
	times     trace.Times
	intervals int64
	sites     map[place]*Site
	// who has a bit for each goroutine: their numbers are dense.
	who map[trace.GoID]uint64
	// The place and the bits that came last.
	last     *Site
	lastAt   place
	lastWho  trace.GoID
	lastBits uint64
}

type place struct {
	stack  trace.StackID
	state  trace.State
	reason trace.Reason
}

func newSums(v *View) *sums {
	return &sums{view: v, sites: map[place]*Site{}, who: map[trace.GoID]uint64{}, lastWho: trace.NoGoroutine}
}

func (s *sums) add(iv *trace.Interval, from, to time.Duration) {
	d := min(iv.To, to) - max(iv.From, from)
	s.times[iv.State] += d
	s.intervals++
	if word := iv.Goroutine >> 6; iv.Goroutine > 0 {
		if word != s.lastWho {
			s.who[s.lastWho] |= s.lastBits
			s.lastWho, s.lastBits = word, 0
		}
		s.lastBits |= 1 << (iv.Goroutine & 63)
	}
	if iv.State < trace.StateSyscall || !means(iv.State) {
		return
	}
	at := place{iv.Stack, iv.State, iv.Reason}
	if s.last == nil || at != s.lastAt {
		x := s.sites[at]
		if x == nil {
			x = &Site{State: iv.State, Reason: iv.Reason, Longest: trace.NoGoroutine}
			s.sites[at] = x
		}
		s.last, s.lastAt = x, at
	}
	s.last.Count++
	s.last.Total += d
	if d > s.last.Max {
		s.last.Max, s.last.Longest, s.last.From = d, iv.Goroutine, iv.From
	}
}

func (s *sums) join(o *sums) {
	o.goroutines()
	for i, d := range o.times {
		s.times[i] += d
	}
	s.intervals += o.intervals
	for w, b := range o.who {
		s.who[w] |= b
	}
	for at, x := range o.sites {
		to := s.sites[at]
		if to == nil {
			s.sites[at] = x
			continue
		}
		to.Count += x.Count
		to.Total += x.Total
		if x.Max > to.Max {
			to.Max, to.Longest, to.From = x.Max, x.Longest, x.From
		}
	}
}

// goroutines counts those that there were.
func (s *sums) goroutines() (n int64) {
	s.who[s.lastWho] |= s.lastBits
	for word, b := range s.who {
		if word == trace.NoGoroutine {
			continue
		}
		for ; b != 0; b &= b - 1 {
			n++
		}
	}
	return n
}

// list is the places with the longest total; with rest also those of goroutines that
// wait for work.
func (s *sums) list(most int, rest bool) []Site {
	keys := make([]place, 0, len(s.sites))
	for at := range s.sites {
		if rest || !atRest(s.view.stack(at.stack)) {
			keys = append(keys, at)
		}
	}
	slices.SortFunc(keys, func(a, b place) int {
		x, y := s.sites[a], s.sites[b]
		return cmp.Or(cmp.Compare(y.Total, x.Total), cmp.Compare(a.stack, b.stack), cmp.Compare(a.state, b.state), cmp.Compare(a.reason, b.reason))
	})
	out := make([]Site, 0, min(most, len(keys)))
	for _, at := range keys[:min(most, len(keys))] {
		x := *s.sites[at]
		x.Stack = s.view.stack(at.stack)
		if x.Longest > 0 {
			x.Group = s.view.groupName(x.Longest)
		}
		out = append(out, x)
	}
	return out
}
