package evidence

import (
	"context"
	"time"

	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/trace"
)

// OfProfile makes stacks of a profile.
func OfProfile(kind ops.Kind, p *profile.Profile, frames *Frames) *Profile {
	out := &Profile{Kind: kind, Duration: time.Duration(p.DurationNanos), Types: p.Types, Observer: make([]int64, len(p.Types)), Source: p}
	// Most locations are in many stacks: each is made into frames once.
	byLoc := make([]Stack, len(p.Locations))
	out.Rows = make([]Row, 0, p.Samples())
	for i := range p.Samples() {
		locs := p.Stack(i)
		stack := make(Stack, 0, len(locs)+4)
		for _, l := range locs {
			if byLoc[l] == nil {
				byLoc[l] = locationFrames(p, &p.Locations[l], frames)
			}
			stack = append(stack, byLoc[l]...)
		}
		values := make([]int64, len(p.Types))
		for t := range values {
			values[t] = p.Values[t][i]
		}
		if stack.Watched() {
			for t, v := range values {
				out.Observer[t] += v
			}
			continue
		}
		r := Row{Stack: stack, Values: values}
		if len(locs) > 0 {
			r.Address = p.Locations[locs[0]].Address
		}
		for _, l := range p.Labels(i) {
			if r.Labels == nil {
				r.Labels = map[string]string{}
			}
			r.Labels[p.Strings[l.Key]] = p.LabelText(l)
		}
		out.Rows = append(out.Rows, r)
	}
	return out
}

func locationFrames(p *profile.Profile, l *profile.Location, frames *Frames) Stack {
	lines := p.Lines[l.From:l.To]
	out := make(Stack, 0, max(1, len(lines)))
	for _, ln := range lines {
		fn := p.Functions[ln.Function]
		out = append(out, frames.Of(p.Strings[fn.Name], p.Strings[fn.File], int(ln.Line)))
	}
	if len(out) == 0 {
		out = append(out, frames.Of("", "", 0))
	}
	return out
}

// OfGoroutines makes stacks of a snapshot.
func OfGoroutines(s *goroutines.Snapshot, frames *Frames) *Goroutines {
	out := &Goroutines{Format: s.Format, Taken: s.Taken, Source: s}
	for i := range s.Groups {
		g := &s.Groups[i]
		to := Group{
			Count: g.Count, State: g.State, Forever: g.Forever, Wait: g.Wait, Labels: g.Labels,
			Aged: g.Aged, Youngest: g.Youngest, Oldest: g.Oldest, Locked: g.Locked, Stack: make(Stack, len(g.Stack)),
		}
		for k, f := range g.Stack {
			to.Stack[k] = frames.Of(f.Function, f.File, int(f.Line))
		}
		if g.CreatedBy != nil {
			to.CreatedBy = frames.Of(g.CreatedBy.Function, g.CreatedBy.File, int(g.CreatedBy.Line))
		}
		if to.Stack.Watched() || to.CreatedBy != nil && to.CreatedBy.Origin == ObserverCode {
			continue
		}
		out.Groups = append(out.Groups, to)
		out.Total += to.Count
	}
	return out
}

// OfTrace reads a trace whole, and the locks in it, and makes stacks of both. What
// slow calls did is looked up, first of all of the one that triggered the capture;
// nil = none did.
func OfTrace(ctx context.Context, t *trace.Trace, frames *Frames, trigger *ops.Call) (*Trace, *ops.Loss, error) {
	a, err := t.Analyze(ctx, trace.Options{Goroutines: 1})
	if err != nil {
		return nil, nil, err
	}
	locks, err := t.Locks(ctx)
	if err != nil {
		return nil, nil, err
	}
	c := traceStacks{t: t, frames: frames, stacks: map[trace.StackID]Stack{}}
	out := &Trace{
		Duration: a.Duration, Events: a.Events, Procs: a.Procs, Created: a.Created, Seen: a.Seen, Groups: a.Groups,
		GC: a.GC, STW: a.STW, Heap: a.Heap, Tasks: a.Tasks, Regions: a.Regions,
	}
	for i := range out.Groups {
		out.Groups[i].Func = withoutArguments(out.Groups[i].Func)
	}
	out.Latency = Latency{
		Count: a.Latency.Count, Total: a.Latency.Total, Max: a.Latency.Max,
		P50: a.Latency.Quantile(0.5), P99: a.Latency.Quantile(0.99), P999: a.Latency.Quantile(0.999),
		Longest: a.Latency.Longest, LongestFrom: a.Latency.LongestFrom,
	}
	for i := range a.Sites {
		s := &a.Sites[i]
		stack := c.of(s.Stack)
		if stack.Watched() {
			continue
		}
		out.Sites = append(out.Sites, Site{
			Stack: stack, Start: withoutArguments(t.GroupName(s.Group)), Reason: s.Reason, State: s.State, Lock: s.Lock, Wait: stack.Wait(),
			Count: s.Count, Total: s.Total, Max: s.Max, Longest: s.Longest, LongestFrom: s.LongestFrom, Open: s.Open, Whole: s.Whole, Visits: s.Visits,
		})
	}
	for _, l := range a.Logs {
		if call, ok := slowCall(l); ok {
			call.Stack = c.of(l.Stack)
			out.Slow = append(out.Slow, call)
		}
	}
	if err := c.follow(ctx, out.Slow, Triggering(out.Slow, trigger)); err != nil {
		return nil, nil, err
	}
	for _, w := range a.Wakes {
		out.Wakes = append(out.Wakes, Wake{Waiter: c.of(w.Waiter), Waker: c.of(w.Waker), Count: w.Count, Total: w.Total})
	}
	for _, b := range a.Creations {
		if stack := c.of(b.Stack); !stack.Watched() {
			out.Creations = append(out.Creations, Creation{Stack: stack, Start: withoutArguments(t.GroupName(b.Group)), Count: b.Count})
		}
	}
	for i := range locks {
		l := &locks[i]
		out.Locks = append(out.Locks, Lock{
			Lock: c.of(l.Lock), Kind: l.Kind, Waits: l.Waits, WaitTotal: l.WaitTotal, WaitMax: l.WaitMax, Handoff: l.Handoff,
			Slow: l.Slow, SlowTotal: l.SlowTotal, Exact: c.holds(&l.Exact), AtLeast: c.holds(&l.AtLeast), Unlocks: c.counts(l.Unlocks), Conflicts: l.Conflicts, Stale: l.Stale,
		})
	}
	for _, s := range a.Stops {
		if stack := c.of(s.Stack); !stack.Watched() {
			out.Stops = append(out.Stops, Stop{Stack: stack, Reason: s.Reason, Count: s.Count, Total: s.Total, Max: s.Max})
		}
	}
	out.Samples, out.Yields = c.samples(a.Samples), c.samples(a.Yields)
	return out, a.Loss, nil
}

// samples leaves out what watches the program.
func (c *traceStacks) samples(counts []trace.SampleCount) (out []Samples) {
	for _, s := range counts {
		if stack := c.of(s.Stack); !stack.Watched() {
			out = append(out, Samples{Stack: stack, Count: s.Count})
		}
	}
	return out
}

// traceStacks makes stacks of a trace's numbers, each once.
type traceStacks struct {
	t      *trace.Trace
	frames *Frames
	stacks map[trace.StackID]Stack
}

func (c *traceStacks) of(id trace.StackID) Stack {
	if id == 0 {
		return nil
	}
	s, ok := c.stacks[id]
	if !ok {
		for _, f := range c.t.Stack(id) {
			s = append(s, c.frames.Of(f.Func, f.File, f.Line))
		}
		c.stacks[id] = s
	}
	return s
}

func (c *traceStacks) counts(in []trace.StackCount) (out []Samples) {
	for _, s := range in {
		out = append(out, Samples{Stack: c.of(s.Stack), Count: s.Count})
	}
	return out
}

func (c *traceStacks) holds(h *trace.Holds) Holds {
	out := Holds{Count: h.Count, Total: h.Total, Max: h.Max, Median: h.Median, Times: h.Times, Waiting: h.Waiting, InsideTotal: h.InsideTotal}
	for _, w := range h.Inside {
		stack := c.of(w.Stack)
		out.Inside = append(out.Inside, HeldWait{Stack: stack, State: w.State, Reason: w.Reason, Wait: stack.Wait(), Count: w.Count, Total: w.Total})
	}
	for _, end := range h.Ends {
		out.Ends = append(out.Ends, HoldEnd{Stack: c.of(end.Stack), Count: end.Count, Total: end.Total})
	}
	return out
}

// Wait says what the stack waits in, as goroutines.WaitOf knows it.
func (s Stack) Wait() goroutines.Wait {
	frames := make([]goroutines.Frame, len(s))
	for i, f := range s {
		frames[i] = goroutines.Frame{Function: f.Function, File: f.File, Line: int64(f.Line)}
	}
	return goroutines.WaitOf(frames)
}
