package cpu

import (
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/trace"
)

// yields finds who calls runtime.Gosched, and how much of the scheduler's work
// that makes: it runs on a stack of its own, so that only the calls themselves
// are seen under the program's lines. The sweeper yields, too; the scheduler's
// work is divided between them by their calls. These take next to no time, so that
// a trace that counts them is a better account than the samples in them.
func yields(e *evidence.Evidence, typ int) (callers map[*evidence.Frame]evidence.Stack, each map[*evidence.Frame]int64) {
	callers, each = map[*evidence.Frame]evidence.Stack{}, map[*evidence.Frame]int64{}
	var scheduling, calls int64
	for i := range e.CPU.Rows {
		s, v := e.CPU.Rows[i].Stack, e.CPU.Rows[i].Values[typ]
		switch {
		case s.Has("runtime.gosched_m", "runtime.goyield_m"):
			scheduling += v
		case s.Has("runtime.Gosched", "runtime.goschedIfBusy"):
			calls += v
			if at, isOwn := place(s); isOwn {
				callers[s[at]] = s[at:]
				each[s[at]] += v
			}
		}
	}
	if len(each) == 0 && 2*scheduling >= e.CPU.Total(typ) {
		if s := yielder(e); s != nil {
			return map[*evidence.Frame]evidence.Stack{s[0]: s}, map[*evidence.Frame]int64{s[0]: scheduling}
		}
		if s := spinner(e, typ); s != nil {
			return map[*evidence.Frame]evidence.Stack{s[0]: s}, map[*evidence.Frame]int64{s[0]: scheduling}
		}
	}
	for f, v := range each {
		each[f] = int64(float64(scheduling) * float64(v) / float64(max(1, calls)))
	}
	return callers, each
}

// yielder is where most of the calls of Gosched in the trace were made, if they are
// the program's own.
func yielder(e *evidence.Evidence) evidence.Stack {
	if e.Trace == nil {
		return nil
	}
	for _, y := range e.Trace.Yields { // most first
		if at, isOwn := place(y.Stack); isOwn {
			return y.Stack[at:]
		}
	}
	return nil
}

// spinner is where a goroutine that is scheduled all the time was seen, if its
// calls of Gosched, which take next to no time themselves, were not: at the line
// with most CPU time of those that began with what got a processor most often.
func spinner(e *evidence.Evidence, typ int) evidence.Stack {
	if e.Trace == nil {
		return nil
	}
	var most *trace.Group
	for i := range e.Trace.Groups {
		if g := &e.Trace.Groups[i]; most == nil || g.Starts > most.Starts {
			most = g
		}
	}
	if most == nil || background(most.Func) {
		return nil
	}
	stacks := map[*evidence.Frame]evidence.Stack{}
	for _, p := range e.CPU.By(typ, func(s evidence.Stack) *evidence.Frame {
		at, isOwn := place(s)
		if !isOwn || s[len(s)-1].Function != most.Func {
			return nil
		}
		stacks[s[at]] = s[at:]
		return s[at]
	}) {
		return stacks[p.Frame] // the largest
	}
	return nil
}

// addYields gives those who yield all the time what that costs.
func addYields(e *evidence.Evidence, typ int, by map[string]*spot) {
	callers, each := yields(e, typ)
	for f, v := range each {
		key := outer(f.Function)
		if by[key] == nil {
			by[key] = newSpot(true)
		}
		by[key].charge(callers[f], 0, v, named("yielding"))
	}
}
