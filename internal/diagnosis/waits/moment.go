package waits

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// stretch is one goroutine's wait in the trace.
type stretch struct {
	who  trace.GoID
	from time.Duration
	took time.Duration
}

// maxStretches is how many goroutines a proof names: enough to look at.
const maxStretches = 4

func longestOf(all []stretch) []stretch {
	slices.SortStableFunc(all, func(a, b stretch) int { return cmp.Compare(b.took, a.took) })
	return all[:min(len(all), maxStretches)]
}

// moment is the longest of just these waits, and who waits so long besides: a line may
// wait for several things, each of which a proof of its own tells. nil = the trace
// names none.
func moment(ws []*wait) *ops.Moment {
	var all []stretch
	for _, w := range ws {
		all = append(all, w.longest...)
	}
	if all = longestOf(all); len(all) == 0 {
		return nil
	}
	m := &ops.Moment{From: all[0].from, To: all[0].from + all[0].took}
	for _, s := range all {
		if id := int64(s.who); !slices.Contains(m.Goroutines, id) {
			m.Goroutines = append(m.Goroutines, id)
		}
	}
	return m
}
