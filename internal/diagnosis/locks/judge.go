package locks

import (
	"slices"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// nature is what is wrong with a lock; each has at most one fault.
type nature int

const (
	calm      nature = iota // nobody waits for long
	acrossIO                // held while its holder waits for something
	logging                 // the same, and what it waits for is the log
	contended               // held for computing, or often, or nobody knows
	behind                  // its holder waits for another lock, which is to blame
	stuck                   // never given back, and nothing outside is being waited for
)

// verdict is what is known of one lock.
type verdict struct {
	*lock
	nature  nature
	score   int
	impact  impact
	blame   float64
	held    held
	trace   holding
	traced  bool // trace is filled in
	seen    sighting
	sighted bool
	// stuck is how many have waited for as long as anybody looked.
	stuck int
	// seldom is set for waits that came all at once.
	seldom  bool
	blocker *lock // of nature behind
	// fromTrace, fromScenes and fromMutex are what agree about what the holder does.
	fromTrace, fromScenes, fromMutex bool
}

// judge says what is wrong with each lock.
func (m *model) judge() []*verdict {
	out := make([]*verdict, 0, len(m.locks))
	for _, l := range m.locks {
		if len(l.sites) == 0 && len(l.releases) == 0 {
			continue
		}
		out = append(out, m.verdict(l))
	}
	return out
}

// matters reports whether a lock can come to a finding at all. There may be
// thousands of others.
func (m *model) matters(l *lock) bool {
	i := m.impact(l)
	return i.score() > 5 || i.wait == 0 && i.waiters > 0 || m.stuck(l) > 0
}

func (m *model) verdict(l *lock) *verdict {
	v := &verdict{lock: l, impact: m.impact(l), blame: l.blame(), stuck: m.stuck(l), seldom: m.seldom(l), held: held{at: -1}}
	if !m.matters(l) {
		return v
	}
	v.deferred = m.defers(l)
	v.trace, v.traced = m.inTrace(l)
	v.seen, v.sighted = m.sight(l, v.stuck > 0 || m.e.Trace == nil)
	v.nature = m.natureOf(v)
	if v.nature == acrossIO && v.isLog() {
		v.nature = logging
	}
	v.fromMutex = m.blames(v)
	v.score = v.worth()
	return v
}

// defers reports whether the lock is given back by a deferred Unlock, whose line is
// that of any return, so that what is done behind that line may still be under the
// lock. It shows by holds that seem to have ended unseen: with others waiting all
// the time that cannot be, for every Unlock wakes one of them.
func (m *model) defers(l *lock) bool {
	var exact, stale int64
	for _, c := range l.classes {
		exact += c.Exact.Count
		stale += c.Stale
	}
	return stale*5 > exact+stale && m.traceImpact(l).waiters >= 2
}

func (m *model) natureOf(v *verdict) nature {
	if v.pooled() {
		return calm // a pool's own waiting, which is about connections
	}
	if v.stuck > 0 {
		return m.stuckNature(v)
	}
	if v.traced {
		switch {
		case v.trace.most.does.waits():
			v.held, v.fromTrace = v.trace.most, true
			if v.sighted && v.seen.does == v.held.does {
				v.fromScenes = true
				if v.held.change == nil {
					v.held.stack, v.held.at, v.held.change = v.seen.stack, v.seen.at, v.seen.change
				}
			}
			return acrossIO
		case v.trace.most.does == otherLock:
			if v.blocker = m.of[v.trace.other]; v.blocker != nil && v.blocker != v.lock {
				return behind
			}
			v.blocker = nil
		}
		if v.impact.kind == ops.KindTrace {
			return contended
		}
	}
	if v.sighted && v.seen.does.waits() && v.plausible() {
		v.held, v.fromScenes = v.seen.held, true
		return acrossIO
	}
	return contended
}

// plausible reports whether goroutines behind the Lock hold it. With an Unlock on
// the other side they do. Else more have to wait than are behind it: I/O after
// the lock was given back has as many as there are.
func (v *verdict) plausible() bool {
	if v.stuck > 0 || v.seen.proof == beforeUnlock {
		return true
	}
	if v.seen.at >= 0 {
		f := v.seen.stack[v.seen.at]
		for _, r := range v.releases {
			if r.frame.Function == f.Function && f.Line <= r.frame.Line {
				return true
			}
		}
	}
	return v.seen.waiting >= 2*v.seen.holding
}

// stuck counts goroutines that wait for the lock and have waited all the time: as
// long as the trace was, if whoever else waited for it was served in a fraction of
// that; or a minute and more, by the dump.
func (m *model) stuck(l *lock) (n int) {
	aged := 0
	for _, s := range l.sites {
		if t := m.e.Trace; t != nil && s.whole > 0 && (s.ended == 0 || s.max < t.Duration/4) {
			n += int(s.whole)
		}
		if s.aged {
			for _, w := range s.waiting {
				aged = max(aged, w)
			}
		}
	}
	if n == 0 && (m.e.Trace == nil || l.ended() == 0) {
		n = aged
	}
	return n
}

func (l *lock) ended() (n int64) {
	for _, s := range l.sites {
		n += s.ended
	}
	return n
}

// stuckNature is of a lock that is not given back for as long as anybody looked.
func (m *model) stuckNature(v *verdict) nature {
	if !v.sighted {
		if m.computes(v.lock) {
			return contended
		}
		return stuck
	}
	switch d := v.seen.does; {
	case d.outside():
		v.held, v.fromScenes = v.seen.held, true
		return acrossIO
	case d == otherLock:
		if b := m.wanted(v.lock, v.seen); b != nil && b != v.lock && m.moves(b, 0) {
			v.blocker = b
			return behind
		}
		return stuck
	case d == running:
		v.held = v.seen.held
		return contended
	}
	// It waits for other goroutines. If these could still come, it is they who are
	// slow; else they wait for the lock.
	v.held, v.fromScenes = v.seen.held, true
	if m.circular(v) {
		return stuck
	}
	return acrossIO
}

// wanted is the lock that those wait for who are seen to hold l.
func (m *model) wanted(l *lock, s sighting) *lock {
	for _, sc := range m.scenes {
		for _, h := range l.holders(sc, s.proof == sameType) {
			if h.does == otherLock && h.site != nil {
				return m.of[h.site]
			}
		}
	}
	return nil
}

// moves reports whether a lock will be given back some day, as far as is seen:
// others got it, or its holder, or the last of a chain of them, waits for
// something outside or computes.
func (m *model) moves(l *lock, depth int) bool {
	if m.stuck(l) == 0 {
		return true
	}
	s, ok := m.sight(l, true)
	switch {
	case !ok:
		return m.computes(l)
	case depth > 8: // a chain that comes back to its beginning
		return false
	case s.does == otherLock:
		next := m.wanted(l, s)
		return next != nil && next != l && m.moves(next, depth+1)
	}
	return s.does.outside() || s.does == running
}

// computes reports whether the lock's holder may be one that computes: the CPU
// profile has somebody behind a Lock of it for a fifth of the window, or there is
// no snapshot in which one who runs would be seen.
func (m *model) computes(l *lock) bool {
	if m.e.Goroutines == nil && m.e.GoroutinesBefore == nil && m.e.Dump == nil {
		return true
	}
	p := m.e.CPU
	cpu := p.Sum(p.Type("cpu"), func(s evidence.Stack) bool {
		_, ok := l.holds(&actor{stack: s, does: running}, false)
		return ok
	})
	return cpu > 0 && cpu*5 >= int64(m.e.Window)
}

// pooled reports whether the lock is that of a pool or a limiter.
func (v *verdict) pooled() bool {
	return len(v.sites) > 0 && byWaitOf(v.sites[0].stack) == pool
}

// blames reports whether the mutex profile blames a function that holds the lock,
// by the findings of the others, for most of what it has of this lock.
func (m *model) blames(v *verdict) bool {
	if v.held.at < 0 || len(v.held.stack) == 0 {
		return false
	}
	var sum, his int64
	f := v.held.stack[v.held.at]
	for _, r := range v.releases {
		sum += int64(r.delay)
		if outer(r.frame) == outer(f) || activation(r.stack, f) >= 0 {
			his += int64(r.delay)
		}
	}
	return sum > 0 && float64(his) >= mostly*float64(sum)
}

// worth is the score. Of what only scenes show, how long they wait is not known:
// if the holder is seen waiting it is as long as I/O is, else it may be nothing.
func (v *verdict) worth() int {
	i := v.impact
	i.waiters *= fair(v.blame)
	score := i.score()
	if i.wait == 0 && v.nature != calm {
		score = ops.Score(i.waiters, waiters75)
		if v.nature == contended {
			score = min(score, 45)
		}
	}
	if v.stuck > 0 && v.nature != calm {
		// One that waits for good is an incident, and so are those that will come.
		score = max(score, ops.Score(float64(v.stuck)+1, 2))
	}
	if v.seldom && v.stuck == 0 {
		score = min(score, 49)
	}
	if len(v.sites) > 0 && v.ownSite() == nil {
		score = score * 2 / 3 // nobody can change it but those who wrote the library
	}
	return score
}

// ownSite is the first place of the program's own code that waits.
func (v *verdict) ownSite() *evidence.Frame {
	for _, s := range v.sites {
		if f := s.user(); f != nil && f.Origin == evidence.OwnCode {
			return f
		}
	}
	return nil
}

// user is the frame of the program's own code that wants the lock.
func (s *site) user() *evidence.Frame {
	if s.frame.Origin == evidence.OwnCode {
		return s.frame
	}
	return s.stack.UserAbove(s.at - 1)
}

func (r *release) user() *evidence.Frame {
	if r.frame.Origin == evidence.OwnCode {
		return r.frame
	}
	return r.stack.UserAbove(unlocker(r.stack) - 1)
}

// kind is that of the lock, and once whether it is within a sync.Once.
func (l *lock) kind() (kind trace.LockKind, once, file bool) {
	kind = trace.LockMutex
	for _, s := range l.sites {
		if s.kind == trace.LockRead || s.kind == trace.LockWrite {
			kind = trace.LockWrite
		}
		once, file = once || s.once, file || s.file
	}
	for _, r := range l.releases {
		if slices.ContainsFunc(r.stack[:min(len(r.stack), 6)], func(f *evidence.Frame) bool {
			return f.Package == "sync" && f.Plain()[:min(len(f.Plain()), 14)] == "sync.(*RWMutex"
		}) {
			kind = trace.LockWrite
		}
	}
	return kind, once, file
}
