package locks

import (
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// impact is how much a lock makes others wait, and by which artifact that is known.
type impact struct {
	kind ops.Kind
	// waiters is how many goroutines waited for it on average, without waits of less
	// than a millisecond where they are known.
	waiters float64
	// wait is the mean of these waits, 0 = unknown, and longest the longest.
	wait, longest time.Duration
	// count of them, and the whole time.
	count int64
	total time.Duration
	// lifelong: counted since the process began, so that how many wait at a time is
	// not known.
	lifelong bool
}

// score is the lower of how many wait and how long each waits: see wait75. A lock
// that a queue stands at all the time is never free, and everybody goes at its pace:
// shorter waits weigh as much there.
func (i impact) score() int {
	if i.lifelong {
		if i.total < lifelongWaits {
			return 0
		}
		return min(ops.Score(float64(i.wait), float64(wait75)), 45)
	}
	long := float64(wait75)
	if i.waiters >= standing {
		long /= 2
	}
	return min(ops.Score(i.waiters, waiters75), ops.Score(float64(i.wait), long))
}

// impact takes the artifact that shows the most: a trace sees the end of the
// window only, and a mutex profile is blind to a queue that stood when profiling
// began and never emptied.
func (m *model) impact(l *lock) impact {
	best := impact{}
	for _, i := range []impact{m.traceImpact(l), m.blockImpact(l), m.mutexImpact(l), m.sceneImpact(l)} {
		switch {
		case best.kind == "" || i.score() > best.score():
			best = i
		case i.score() == best.score() && i.waiters > best.waiters && best.score() == 0:
			best = i
		}
	}
	return best
}

// seldom reports whether the profiles of the window have waits of which the trace,
// which covers a good part of it, has none: everyone came at once, a moment in
// which processors are as short as the lock, and did not come again.
func (m *model) seldom(l *lock) bool {
	t := m.e.Trace
	return t != nil && 4*t.Duration >= m.e.Window && m.traceImpact(l).count == 0 && m.e.Lost(ops.KindTrace) == nil
}

func (m *model) traceImpact(l *lock) impact {
	t := m.e.Trace
	if t == nil || t.Duration <= 0 {
		return impact{}
	}
	i := impact{kind: ops.KindTrace}
	for _, s := range l.sites {
		i.count += s.slow
		i.total += s.slowTotal
		i.longest = max(i.longest, s.max)
		// Those that began before the trace, or went on after it, are not among the
		// slow ones.
		others, rest := s.open+max(0, s.gone-s.ended), s.total-s.endedTotal
		if others > 0 && rest >= time.Duration(others)*slowWait {
			i.count += others
			i.total += rest
		}
		if s.whole > 0 {
			i.longest = max(i.longest, t.Duration)
		}
	}
	return i.over(t.Duration)
}

func (i impact) over(d time.Duration) impact {
	if i.count > 0 {
		i.wait = i.total / time.Duration(i.count)
	}
	if d > 0 && !i.lifelong {
		i.waiters = float64(i.total) / float64(d)
	}
	return i
}

func (m *model) blockImpact(l *lock) impact {
	i := impact{kind: ops.KindBlock, lifelong: m.lifelong}
	for _, s := range l.sites {
		i.count += s.blocked
		i.total += s.blockedBy
	}
	return i.over(m.e.Window)
}

func (m *model) mutexImpact(l *lock) impact {
	i := impact{kind: ops.KindMutex, lifelong: m.lifelong}
	for _, r := range l.releases {
		i.count += r.contentions
		i.total += r.delay
	}
	return i.over(m.e.Window)
}

// sceneImpact knows how many wait but not how long, which a trace does.
func (m *model) sceneImpact(l *lock) impact {
	i, n := impact{kind: ops.KindGoroutine}, 0
	if m.e.Trace != nil {
		return i
	}
	for k, sc := range m.scenes {
		if sc.kind == ops.KindTrace {
			continue
		}
		n++
		for _, s := range l.sites {
			i.count += int64(s.waiting[k])
		}
	}
	if n > 0 {
		i.waiters = float64(i.count) / float64(n)
		i.count /= int64(n)
	}
	return i
}

// blame is the share of the time between two owners in which the lock's holder
// got something done or waited for something. The rest of it, it was ready to run
// and had no processor, or the GC stopped it, which is no fault of the lock.
func (l *lock) blame() float64 {
	var own, all time.Duration
	for _, c := range l.classes {
		for _, h := range []*evidence.Holds{&c.Exact, &c.AtLeast} {
			for _, s := range []trace.State{trace.StateRunning, trace.StateSyscall, trace.StateNetwork, trace.StateChan, trace.StateSleep} {
				own += h.Times[s]
			}
			for _, w := range h.Inside {
				if w.State == trace.StateSync && (len(w.Stack) == 0 || w.Stack[0].Package != "runtime") {
					own += w.Total
				}
			}
			all += h.Times.Total() - h.Times[trace.StateOther] - h.Times[trace.StateIdle]
		}
		if c.Kind != trace.LockRead {
			all += c.Handoff // of readers, who are woken together, nobody waits for the other
		}
	}
	if all <= 0 {
		return 1
	}
	return min(1, float64(own)/float64(all))
}

// fair is how much of the waits count by the blame: all from three quarters on;
// none up to a quarter, where the same waits would be there without the lock.
func fair(blame float64) float64 { return min(1, max(0, (blame-0.25)/0.5)) }
