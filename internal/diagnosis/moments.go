package diagnosis

import (
	"cmp"
	"path"
	"slices"
	"strings"

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
				if proofs[j].Artifact != ops.KindTrace {
					continue
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
func momentOf(where []ops.Place, sites []evidence.Site) *ops.Moment {
	for _, p := range where {
		var at []*evidence.Site
		for i := range sites {
			s := &sites[i]
			if s.Longest > 0 && s.Max > 0 && s.State != trace.StateIdle && slices.ContainsFunc(s.Stack, func(f *evidence.Frame) bool { return isAt(f, p) }) {
				at = append(at, s)
			}
		}
		if len(at) == 0 {
			continue
		}
		slices.SortStableFunc(at, func(a, b *evidence.Site) int { return cmp.Compare(b.Max, a.Max) })
		m := &ops.Moment{From: at[0].LongestFrom, To: at[0].LongestFrom + at[0].Max}
		for _, s := range at {
			if id := int64(s.Longest); len(m.Goroutines) < momentGoroutines && !slices.Contains(m.Goroutines, id) {
				m.Goroutines = append(m.Goroutines, id)
			}
		}
		return m
	}
	return nil
}

func isAt(f *evidence.Frame, p ops.Place) bool {
	return f.Function == p.Function && (p.Line == 0 || f.Line == p.Line && path.Base(strings.ReplaceAll(f.File, `\`, "/")) == p.File)
}
