package heaptypes

import (
	"cmp"
	"math"
	"slices"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
)

// Growth is what became of one type between two profiles of one process.
type Growth struct {
	Name          string
	Form          guest.Form
	Before, After Amount
	// Error is the standard error of the difference in objects, in objects, as if
	// the samples of both profiles were independent; those that are in both are
	// not, so the truth is better.
	Error float64
	// Type is a place in the later Heap's Types, -1 if nothing of it is left.
	Type int
}

// Objects and Bytes are what it grew by.
func (g Growth) Objects() int64 { return g.After.Objects - g.Before.Objects }

// Bytes is Objects' counterpart.
func (g Growth) Bytes() int64 { return g.After.Bytes - g.Before.Bytes }

// Grew compares two profiles by type, the largest growth of live bytes first.
func Grew(before, after *Heap) []Growth {
	all := map[typeKey]*Growth{}
	at := func(t LiveType) *Growth {
		k := typeKey{t.Name, t.Form, t.Size}
		if all[k] == nil {
			all[k] = &Growth{Name: t.Name, Form: t.Form, Type: -1}
		}
		return all[k]
	}
	for _, t := range before.Types {
		at(t).Before.add(t.Amount)
	}
	for i, t := range after.Types {
		g := at(t)
		g.After.add(t.Amount)
		g.Type = i
	}
	out := make([]Growth, 0, len(all))
	for _, g := range all {
		g.Error = math.Sqrt(g.Before.objectsVar + g.After.objectsVar)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Growth) int {
		return cmp.Or(cmp.Compare(b.Bytes(), a.Bytes()), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Form, b.Form))
	})
	return out
}
