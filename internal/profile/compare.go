package profile

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// Comparison is two profiles side by side.
type Comparison struct {
	// Types are those that both profiles have, in the order of the second.
	Types         []ValueType
	before, after *View
	// columns of each side for each of Types
	beforeValues, afterValues [][]int64
	symbols                   *Symbols
}

// Compare puts two profiles side by side under one filter. With normalise, the
// values of the second are scaled so that each type's sum is that of the first:
// what changed its share, not what got more work. Invalid if they have no sample
// type in common.
func Compare(before, after *Profile, f Filter, normalise bool) (*Comparison, error) {
	m, err := compile(f)
	if err != nil {
		return nil, err
	}
	c := &Comparison{symbols: newSymbols()}
	var ratios []float64
	for i, t := range after.Types {
		k := slices.Index(before.Types, t)
		if k < 0 {
			continue
		}
		c.Types = append(c.Types, t)
		c.beforeValues = append(c.beforeValues, before.Values[k])
		c.afterValues = append(c.afterValues, after.Values[i])
		ratio := 0.0
		if sum := total(after.Values[i]); sum != 0 {
			ratio = float64(total(before.Values[k])) / float64(sum)
		}
		ratios = append(ratios, ratio)
	}
	if len(c.Types) == 0 {
		return nil, differentKinds(before.kind(), after.kind())
	}
	if normalise {
		c.afterValues = scaled(c.afterValues, ratios)
	}
	c.before, c.after = &View{Symbols: c.symbols}, &View{Symbols: c.symbols}
	if err := c.before.set(before, m); err != nil {
		return nil, err
	}
	return c, c.after.set(after, m)
}

func total(values []int64) (sum int64) {
	for _, v := range values {
		sum += v
	}
	return sum
}

// scaled multiplies each column, rounded sample by sample. A sample all of whose
// scaled values are zero is gone, in columns of ratio 1 too, as in pprof.
func scaled(columns [][]int64, ratios []float64) [][]int64 {
	if !slices.ContainsFunc(ratios, func(r float64) bool { return r != 1 }) {
		return columns
	}
	out := make([][]int64, len(columns))
	for c := range columns {
		out[c] = slices.Clone(columns[c])
	}
	for i := range out[0] {
		kept := false
		for c, r := range ratios {
			if r != 1 {
				out[c][i] = int64(math.Round(float64(out[c][i]) * r))
				kept = kept || out[c][i] != 0
			}
		}
		for c := range ratios {
			if !kept {
				out[c][i] = 0
			}
		}
	}
	return out
}

// Type returns which of Types has that name; the second profile's default for "".
func (c *Comparison) Type(name string) (int, error) {
	h := Header{Types: c.Types, DefaultType: c.after.Profile.DefaultType}
	i, err := h.index(name)
	if err != nil {
		var names []string
		for _, t := range c.Types {
			names = append(names, t.Type)
		}
		return 0, ops.Errorf(ops.Invalid, "the profiles do not both have values of type %q: choose one of %s", name, strings.Join(names, ", "))
	}
	return i, nil
}

// Change is one symbol of a comparison.
type Change struct {
	Symbol                Symbol
	FlatBefore, FlatAfter int64
	CumBefore, CumAfter   int64
	OnlyBefore, OnlyAfter bool
}

// Flat and Cum are what changed, as pprof -diff_base prints it.
func (c Change) Flat() int64 { return c.FlatAfter - c.FlatBefore }

// Cum is Flat's counterpart with everything that the symbol calls.
func (c Change) Cum() int64 { return c.CumAfter - c.CumBefore }

// Changes is a comparison by function, the largest change of Flat first.
type Changes struct {
	// Total is what percentages refer to: the first profile's sum of absolute
	// values, or that of the second if it is zero.
	Total int64
	Rows  []Change
}

// Top returns the table of one of Types. Symbols that did not change are in it.
func (c *Comparison) Top(typ int) Changes {
	out := Changes{Total: absolute(c.beforeValues[typ])}
	if out.Total == 0 {
		out.Total = absolute(c.afterValues[typ])
	}
	b, a := c.before.sums(c.beforeValues[typ]), c.after.sums(c.afterValues[typ])
	for id, symbol := range c.symbols.Symbols {
		row := Change{Symbol: symbol, FlatBefore: b.flat[id], FlatAfter: a.flat[id], CumBefore: b.cum[id], CumAfter: a.cum[id]}
		row.OnlyBefore, row.OnlyAfter = a.seen[id] == 0, b.seen[id] == 0
		if row.OnlyBefore && row.OnlyAfter {
			continue
		}
		out.Rows = append(out.Rows, row)
	}
	slices.SortFunc(out.Rows, func(x, y Change) int {
		return cmp.Or(cmp.Compare(magnitude(y.Flat()), magnitude(x.Flat())), cmp.Compare(magnitude(y.Cum()), magnitude(x.Cum())),
			cmp.Compare(x.Symbol.String(), y.Symbol.String()))
	})
	return out
}

func absolute(values []int64) (sum int64) {
	for _, v := range values {
		sum += max(v, -v)
	}
	return sum
}

// Tree returns the union of both call trees: column 0 is before, column 1 after.
func (c *Comparison) Tree(typ int, o TreeOptions) (*Tree, error) {
	t := newTree(c.symbols, 2)
	b := &branch{tree: t, options: o}
	if err := b.find(c.symbols); err != nil {
		return nil, err
	}
	for column, side := range []*View{c.before, c.after} {
		values := [][][]int64{c.beforeValues, c.afterValues}[column][typ]
		side.Each(func(sample int, stack []FrameID) {
			if values[sample] != 0 {
				b.add(stack, column, values[sample])
			}
		})
	}
	return t, nil
}
