package cpu

import "github.com/opscenter/opscenter/internal/evidence"

// yields finds who calls runtime.Gosched, and how much of the scheduler's work
// that makes: it runs on a stack of its own, so that only the calls themselves
// are seen under the program's lines. The sweeper yields, too; the scheduler's
// work is divided between them by their calls.
func yields(p *evidence.Profile, typ int) (callers map[*evidence.Frame]evidence.Stack, each map[*evidence.Frame]int64) {
	callers, each = map[*evidence.Frame]evidence.Stack{}, map[*evidence.Frame]int64{}
	var scheduling, calls int64
	for i := range p.Rows {
		s, v := p.Rows[i].Stack, p.Rows[i].Values[typ]
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
	for f, v := range each {
		each[f] = int64(float64(scheduling) * float64(v) / float64(max(1, calls)))
	}
	return callers, each
}

// addYields gives those who yield all the time what that costs.
func addYields(p *evidence.Profile, typ int, by map[string]*spot) {
	callers, each := yields(p, typ)
	for f, v := range each {
		key := outer(f.Function)
		if by[key] == nil {
			by[key] = newSpot(true)
		}
		by[key].charge(callers[f], 0, v, named("yielding"))
	}
}
