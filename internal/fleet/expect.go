package fleet

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Shortage is a service of which fewer instances are up than there should be.
type Shortage struct {
	Service ops.ServiceKey
	ops.Expectation
	Up int
	// Since is when there were too few first, as far as the centre was there to see.
	Since time.Time
	// Alarm is set once it has lasted: a deploy replaces instances, too.
	Alarm bool
}

// shortFor is how long a shortage lasts before it is an alarm: a process that is
// replaced is away for some seconds, and 30 s may pass before one that was killed is
// given up.
const shortFor = time.Minute

// watched is an expectation and how it stands. Fields are guarded by Fleet.mu.
type watched struct {
	ops.Expectation
	// declared is the operator's word, which counts whoever else says what.
	declared bool
	// known is that somebody of the service was once seen. Before, a source's word is
	// nothing to alarm anybody with: what it runs may have no agent.
	known bool
	up    int
	since time.Time // zero = there are enough
	alarm bool
}

// Expect replaces what the operator says there should be. What goes on being short
// is so since when it was.
func (f *Fleet) Expect(want map[ops.ServiceKey]ops.Expectation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.declared = want
	f.settleExpected()
	f.count(time.Now())
}

// expectOf takes what the sources say there should be.
func (f *Fleet) expectOf(said map[ops.ServiceKey]ops.Expectation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = said
	f.settleExpected()
}

// settleExpected makes what is watched what the operator says, and of the other
// services what the sources do. The caller holds f.mu.
func (f *Fleet) settleExpected() {
	next := make(map[ops.ServiceKey]*watched, len(f.declared)+len(f.said))
	take := func(k ops.ServiceKey, e ops.Expectation, declared bool) {
		w := f.expected[k]
		if w == nil {
			w = &watched{}
		}
		w.Expectation, w.declared = e, declared
		next[k] = w
	}
	for k, e := range f.said {
		take(k, e, false)
	}
	for k, e := range f.declared {
		take(k, e, true)
	}
	f.expected = next
}

// Shortages are the services that have too few instances now, those of the longest
// time first.
func (f *Fleet) Shortages() []Shortage {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Shortage
	for k, w := range f.expected {
		if !w.since.IsZero() {
			out = append(out, w.shortage(k))
		}
	}
	slices.SortFunc(out, func(a, b Shortage) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Service.String(), b.Service.String()))
	})
	return out
}

// Expectations returns what there should be of the services that count.
func (f *Fleet) Expectations() map[ops.ServiceKey]ops.Expectation {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[ops.ServiceKey]ops.Expectation{}
	for k, w := range f.expected {
		if w.declared || w.known {
			out[k] = w.Expectation
		}
	}
	return out
}

func (w *watched) shortage(k ops.ServiceKey) Shortage {
	return Shortage{Service: k, Expectation: w.Expectation, Up: w.up, Since: w.since, Alarm: w.alarm}
}

// count looks at who is there and returns the shortages that have become alarms. The
// caller holds f.mu.
func (f *Fleet) count(now time.Time) (alarms []Shortage) {
	if len(f.expected) == 0 {
		return nil
	}
	for _, w := range f.expected {
		w.up = 0
	}
	for _, m := range f.members {
		if w := f.expected[m.inst.Key()]; w != nil {
			w.known = true
			if m.inst.State == ops.InstanceUp {
				w.up++
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(f.expected), func(a, b ops.ServiceKey) int { return cmp.Compare(a.String(), b.String()) }) {
		w := f.expected[k]
		switch {
		case w.up >= w.Count-w.Away || !w.declared && !w.known:
			w.since, w.alarm = time.Time{}, false
		case w.since.IsZero():
			w.since = now
		case !w.alarm && now.Sub(w.since) >= shortFor && w.StaleSince.IsZero(): // it may have been scaled down meanwhile
			w.alarm = true
			alarms = append(alarms, w.shortage(k))
		}
	}
	return alarms
}

// watchOver counts, and tells of the alarms without the lock.
func (f *Fleet) watchOver(now time.Time) {
	if f.expects != nil {
		f.expectOf(f.expects())
	}
	f.mu.Lock()
	alarms := f.count(now)
	f.mu.Unlock()
	for _, s := range alarms {
		f.log.Warn("fewer instances than expected", "service", s.Service.String(), "up", s.Up, "expected", s.Count, "since", s.Since, "says", s.Says)
		if f.short != nil {
			f.short(s)
		}
	}
}
