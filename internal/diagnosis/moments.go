package diagnosis

import (
	"cmp"
	"slices"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// momentGoroutines is how many goroutines a proof names: enough to look at.
const momentGoroutines = 5

// moments tells where in the trace to look for what findings say of it: the longest
// waits at their places.
func moments(d *ops.Diagnosis, t *evidence.Trace) {
	if t == nil {
		return
	}
	for i := range d.Findings {
		f := &d.Findings[i]
		var m *ops.Moment
		for _, proofs := range [][]ops.Proof{f.Evidence, f.CounterEvidence} {
			for j := range proofs {
				if proofs[j].Artifact != ops.KindTrace || proofs[j].Moment != nil {
					continue
				}
				if proofs[j].Metric == "wait_seconds" {
					if proofs[j].Moment = momentOfQueue(f.Where, t.Sites); proofs[j].Moment != nil {
						continue
					}
				}
				if m == nil {
					if m = momentOf(f.Where, t.Sites); m == nil {
						break
					}
				}
				proofs[j].Moment = m
			}
		}
	}
}

// momentOf is the longest wait at the first of the places at which anybody waited.
// Who keeps others waiting comes before those: the first goroutine is the one to
// look at, and a queue says nothing of what it stands for. Last comes one that waits.
func momentOf(where []ops.Place, sites []evidence.Site) *ops.Moment {
	places := slices.Clone(where)
	slices.SortStableFunc(places, func(a, b ops.Place) int { return cmp.Compare(blockRank(a.Role), blockRank(b.Role)) })
	var m *ops.Moment
	for _, p := range places {
		at := waitsAt(p, sites)
		if len(at) == 0 {
			continue
		}
		if m != nil {
			if queues(p.Role) {
				m.Goroutines = appendNew(m.Goroutines, at[:1])
				break
			}
			continue
		}
		m = &ops.Moment{From: at[0].LongestFrom, To: at[0].LongestFrom + at[0].Max}
		m.Goroutines = appendNew(nil, at[:min(len(at), momentGoroutines-1)])
		if queues(p.Role) {
			break
		}
	}
	return m
}

// momentOfQueue is the longest wait at any of the places that wait for somebody else;
// nil = nobody waited at one.
func momentOfQueue(where []ops.Place, sites []evidence.Site) *ops.Moment {
	var at []*evidence.Site
	for _, p := range where {
		if queues(p.Role) {
			at = append(at, waitsAt(p, sites)...)
		}
	}
	if len(at) == 0 {
		return nil
	}
	slices.SortStableFunc(at, func(a, b *evidence.Site) int { return cmp.Compare(b.Max, a.Max) })
	return &ops.Moment{From: at[0].LongestFrom, To: at[0].LongestFrom + at[0].Max, Goroutines: appendNew(nil, at[:min(len(at), momentGoroutines-1)])}
}

// waitsAt is the waits at a place, the longest first.
func waitsAt(p ops.Place, sites []evidence.Site) (at []*evidence.Site) {
	for i := range sites {
		s := &sites[i]
		if s.Longest > 0 && s.Max > 0 && s.State != trace.StateIdle && slices.ContainsFunc(s.Stack, func(f *evidence.Frame) bool { return isAt(f, p) }) {
			at = append(at, s)
		}
	}
	slices.SortStableFunc(at, func(a, b *evidence.Site) int { return cmp.Compare(b.Max, a.Max) })
	return at
}

func appendNew(ids []int64, sites []*evidence.Site) []int64 {
	for _, s := range sites {
		if id := int64(s.Longest); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// queues reports whether who is at such a place waits for somebody else of the program.
func queues(r ops.Role) bool {
	return r == ops.RoleWait || r == ops.RoleSend || r == ops.RoleAcquire
}

func blockRank(r ops.Role) int {
	switch {
	case r == ops.RoleIO || r == ops.RoleHold:
		return 0
	case !queues(r):
		return 1
	}
	return 2
}

func isAt(f *evidence.Frame, p ops.Place) bool {
	return f.Function == p.Function && (p.Line == 0 || f.Line == p.Line && f.Told() == p.File)
}
