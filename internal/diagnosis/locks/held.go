package locks

import (
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/trace"
)

// holding is what the trace says of a lock's holds.
type holding struct {
	// exact holds, and those that were at least as long as said.
	// count and mean are of the holds that ended where most of the time went: both
	// ends of them are in the trace if exact is set, else they were at least so long.
	count int64
	mean  time.Duration
	exact bool
	// waiting is the share of the holds that waited inside.
	waiting float64
	total   time.Duration
	// most is what it is mostly held for: the share is of total.
	most held
	// running is the share of the time in which the holder ran.
	running float64
	// other is a lock whose holder the holder of this one waits for.
	other *site
}

// inTrace sums up what holders did. ok is false if the trace saw nobody hold it.
func (m *model) inTrace(l *lock) (h holding, ok bool) {
	h.exact = true
	var times trace.Times
	skip := map[*evidence.Holds]bool{}
	for _, c := range l.classes {
		skip[&c.Exact] = !m.ownEnds(c)
	}
	var waiting, n int64
	sum := tally{by: map[tallyKey]*tallied{}}
	for _, c := range l.classes {
		take := []*evidence.Holds{&c.Exact, &c.AtLeast}
		for _, x := range take {
			if skip[x] {
				continue
			}
			if x == &c.AtLeast {
				if !skip[&c.Exact] && c.Exact.Count >= sure && 2*c.Exact.Total > x.Total {
					continue // a bound, where the length itself is known
				}
				h.exact = h.exact && x.Count == 0
			}
			n += x.Count
			waiting += x.Waiting
			for s, d := range x.Times {
				times[s] += d
			}
			sum.add(m, l, x)
		}
	}
	h.total = times.Total() - times[trace.StateOther] - times[trace.StateIdle]
	if n == 0 || h.total <= 0 {
		return h, false
	}
	h.count, h.mean, h.waiting = n, h.total/time.Duration(n), float64(waiting)/float64(n)
	h.exact = h.exact && n >= sure
	if r := l.releases; !h.exact && len(r) > 0 && r[0].holds > 0 {
		h.count, h.mean = r[0].holds, r[0].held/time.Duration(r[0].holds)
	}
	h.running = float64(times[trace.StateRunning]+times[trace.StateAssist]) / float64(h.total)
	sum.rest(m, l, times)
	h.most, h.other = sum.most(h.total, times[trace.StateRunnable])
	return h, true
}

// ownEnds reports whether the exact holds of a class mostly ended in the function
// that locked. Else what ended was another lock, taken later by the same request.
func (m *model) ownEnds(c *evidence.Lock) bool {
	s := m.site(c.Lock)
	var own, all time.Duration
	for _, end := range c.Exact.Ends {
		all += end.Total
		if s != nil && ownEnd(s, m.release(end.Stack)) {
			own += end.Total
		}
	}
	return all == 0 || 2*own >= all
}

func ownEnd(s *site, r *release) bool { return r != nil && outer(r.frame) == outer(s.frame) }

type tallyKey struct {
	does   doing
	change spot
}

type tallied struct {
	held
	total time.Duration
	other *site
}

// tally sums what holders waited for by what it is and where.
type tally struct {
	by   map[tallyKey]*tallied
	keys []tallyKey // in the order of their first time
	seen trace.Times
}

func (t *tally) put(h held, d time.Duration, other *site) {
	k := tallyKey{does: h.does}
	if h.change != nil {
		k.change = spotOf(h.change)
	}
	x := t.by[k]
	if x == nil {
		x = &tallied{held: h, other: other}
		t.by[k] = x
		t.keys = append(t.keys, k)
	}
	x.total += d
}

func (t *tally) add(m *model, l *lock, x *evidence.Holds) {
	for _, w := range x.Inside {
		d := inHeld(w.Stack, w.State, w.Reason, w.Wait)
		if !d.waits() && d != otherLock {
			continue
		}
		t.seen[w.State] += w.Total
		h := held{does: d, wait: w.Wait, stack: w.Stack, at: l.activationIn(w.Stack)}
		var other *site
		if h.at >= 0 {
			h.change = toChange(w.Stack, h.at)
		}
		if d == otherLock {
			other = m.site(w.Stack)
		}
		t.put(h, w.Total, other)
	}
}

// activationIn is the index of the frame of s that holds the lock: that of a
// function that locks or unlocks it.
func (l *lock) activationIn(s evidence.Stack) int {
	best := -1
	for _, x := range l.sites {
		if i := activation(s, x.frame); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	for _, x := range l.releases {
		if i := activation(s, x.frame); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	if best < 0 && len(l.sites) > 0 {
		best = parts(l.sites[0].stack, s)
	}
	return best
}

// rest is for what holders waited for outside of the function that locks, as
// below sync.Once: how long is known, and where is looked up among all waits.
func (t *tally) rest(m *model, l *lock, times trace.Times) {
	for state, d := range times {
		state := trace.State(state)
		switch state {
		case trace.StateNetwork, trace.StateSleep, trace.StateSyscall, trace.StateChan:
		default:
			continue
		}
		left := d - t.seen[state]
		if left <= 0 {
			continue
		}
		var best *evidence.Site
		at := -1
		for i := range m.e.Trace.Sites {
			x := &m.e.Trace.Sites[i]
			if x.State != state || best != nil && x.Total <= best.Total {
				continue
			}
			a := actor{stack: x.Stack, does: inHeld(x.Stack, x.State, x.Reason, x.Wait)}
			if h, ok := l.holds(&a, false); ok && a.does.waits() {
				best, at = x, h.at
			}
		}
		if best != nil {
			h := held{does: inHeld(best.Stack, best.State, best.Reason, best.Wait), wait: best.Wait, stack: best.Stack, at: at, change: toChange(best.Stack, at)}
			t.put(h, min(left, best.Total), nil)
		}
	}
}

// most is the largest of what is waited for, with the share of all waits of that
// kind that happen at one line. The time in which the holder was ready and had no
// processor says nothing of what the lock is held for.
func (t *tally) most(total, ready time.Duration) (held, *site) {
	var best *tallied
	sum := map[doing]time.Duration{}
	all := time.Duration(0)
	for _, k := range t.keys {
		x := t.by[k]
		sum[x.does] += x.total
		if x.does != otherLock {
			all += x.total
		}
		if best == nil || x.total > best.total {
			best = x
		}
	}
	if best == nil {
		return held{does: running, at: -1}, nil
	}
	out := best.held
	out.share = min(1, float64(all)/float64(total))
	if best.does == otherLock {
		out.share = min(1, float64(sum[otherLock])/float64(total))
	}
	if out.share < needed(total, ready) {
		return held{does: running, at: -1}, nil
	}
	return out, best.other
}

// needed is the share of the time held that has to be what a lock is mostly held for.
func needed(total, ready time.Duration) float64 {
	return max(partly, mostly*(1-float64(ready)/float64(total)))
}
