package goroutines

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/opscenter/opscenter/internal/ops"
)

// Growth is how the goroutines of one site changed between two snapshots.
type Growth struct {
	// Site is their go statement, or the function they were started with.
	Site          Frame
	Before, After int
	// Stacks are where they are, the largest growth first.
	Stacks []StackGrowth
}

// StackGrowth is how many goroutines are at one place.
type StackGrowth struct {
	// Group is that of the later snapshot, or of the earlier if nobody is left.
	Group         *Group
	Before, After int
}

// By is how many more there are.
func (g Growth) By() int { return g.After - g.Before }

// By is how many more there are.
func (g StackGrowth) By() int { return g.After - g.Before }

// Compare returns what changed, by creation site, the largest growth first; sites
// that did not change are left out, places within a site are not. Both must be in
// one format, for different ones name sites differently: otherwise Invalid.
func Compare(before, after *Snapshot) ([]Growth, error) {
	if before.Format != after.Format {
		return nil, ops.Errorf(ops.Invalid, "the goroutines were captured in two formats, which cannot be compared: choose two snapshots of one format")
	}
	type building struct {
		Growth
		stacks map[string]*StackGrowth
		order  []*StackGrowth
	}
	sites := map[Frame]*building{}
	var order []*building
	place := func(g *Group) *StackGrowth {
		site := g.Site()
		b := sites[site]
		if b == nil {
			b = &building{Growth: Growth{Site: site}, stacks: map[string]*StackGrowth{}}
			sites[site] = b
			order = append(order, b)
		}
		key := g.place()
		s := b.stacks[key]
		if s == nil {
			s = &StackGrowth{Group: g}
			b.stacks[key] = s
			b.order = append(b.order, s)
		}
		return s
	}
	for i := range after.Groups {
		g := &after.Groups[i]
		place(g).After += g.Count
		sites[g.Site()].After += g.Count
	}
	for i := range before.Groups {
		g := &before.Groups[i]
		place(g).Before += g.Count
		sites[g.Site()].Before += g.Count
	}
	var out []Growth
	for _, b := range order {
		if b.By() == 0 {
			continue
		}
		for _, s := range b.order {
			b.Stacks = append(b.Stacks, *s)
		}
		slices.SortStableFunc(b.Stacks, func(x, y StackGrowth) int { return cmp.Compare(y.By(), x.By()) })
		out = append(out, b.Growth)
	}
	slices.SortStableFunc(out, func(x, y Growth) int { return cmp.Compare(y.By(), x.By()) })
	return out, nil
}

// place is the stack as a key. The state is left out: the same call may be found
// running or waiting.
func (g *Group) place() string {
	var b []byte
	for _, f := range g.Stack {
		b = append(b, f.Function...)
		b = append(b, 0)
		b = strconv.AppendInt(b, f.Line, 36)
		b = append(b, 0)
	}
	return string(b)
}
