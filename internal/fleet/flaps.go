package fleet

import "time"

// calmAfter ends a series of lost connections: what is lost less often is lost each
// time for a reason of its own.
const calmAfter = 10 * time.Minute

// flaps is a series of losses of one instance: each time its link or its heartbeats
// ended without a goodbye, in this run of the centre. Whoever comes back under the
// same boot id is the same process, so that it is one row that tells of it.
type flaps struct {
	times       int
	since, last time.Time
}

func (s *flaps) lost(now time.Time) {
	if s.last.IsZero() || now.Sub(s.last) >= calmAfter {
		*s = flaps{since: now}
	}
	s.times++
	s.last = now
}

// count is how often it was lost in the series that goes on; 0 = none does.
func (s *flaps) count(now time.Time) int {
	if s.last.IsZero() || now.Sub(s.last) >= calmAfter {
		return 0
	}
	return s.times
}
