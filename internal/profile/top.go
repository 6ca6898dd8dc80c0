package profile

import (
	"cmp"
	"slices"
)

// Row is one symbol of a table.
type Row struct {
	Symbol Symbol
	// Flat is what the symbol itself is worth, Cum with everything it calls; a
	// sample counts once however often the symbol is in its stack.
	Flat, Cum int64
}

// Table is a profile by function, the largest Flat first, as pprof -top has it.
type Table struct {
	// Total is what percentages refer to: the sum of the absolute values of all
	// samples, those that the filter drops too.
	Total int64
	Rows  []Row
}

// sums are flat and cum by symbol.
type sums struct {
	flat, cum []int64
	seen      []uint32 // the sample that last counted a symbol, plus one
}

func (v *View) sums(values []int64) *sums {
	n := len(v.Symbols.Symbols)
	s := &sums{flat: make([]int64, n), cum: make([]int64, n), seen: make([]uint32, n)}
	// The frames of a location, outermost first, as symbols: no search per sample.
	symbols := make([]SymbolID, len(v.frames))
	for i, f := range v.frames {
		symbols[i] = v.Symbols.Frames[f].Symbol
	}
	for i, r := range v.rows {
		value := values[r.sample]
		if value == 0 {
			continue
		}
		leaf, found := SymbolID(0), false
		for _, l := range v.Profile.stacks[r.from:r.to] {
			from := uint32(0)
			if l > 0 {
				from = v.ends[l-1]
			}
			for _, id := range symbols[from:v.ends[l]] {
				if !found {
					leaf, found = id, true
				}
				if s.seen[id] != uint32(i)+1 {
					s.seen[id] = uint32(i) + 1
					s.cum[id] += value
				}
			}
		}
		if found {
			s.flat[leaf] += value
		}
	}
	return s
}

// Top returns the table of one sample type.
func (v *View) Top(typ int) Table {
	t := Table{Total: v.Profile.Total(typ)}
	s := v.sums(v.Profile.Values[typ])
	for id, symbol := range v.Symbols.Symbols {
		if s.flat[id] != 0 || s.cum[id] != 0 {
			t.Rows = append(t.Rows, Row{Symbol: symbol, Flat: s.flat[id], Cum: s.cum[id]})
		}
	}
	slices.SortFunc(t.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(magnitude(b.Flat), magnitude(a.Flat)), cmp.Compare(a.Symbol.String(), b.Symbol.String()),
			cmp.Compare(magnitude(b.Cum), magnitude(a.Cum)))
	})
	return t
}

// magnitude is the absolute value; the smallest number has none and is largest.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// Edge is what one function is worth in calls from or to another.
type Edge struct {
	Symbol Symbol
	Value  int64
}

// Around is a function with who calls it and whom it calls, as pprof -peek has
// it. A sample counts once for each edge; a call of the function by itself is no
// edge.
type Around struct {
	Row
	Callers, Callees []Edge
}

// Around returns a function's surroundings. NotFound if there is no such symbol.
func (v *View) Around(typ int, name string) (Around, error) {
	id, ok := v.Symbols.Find(name)
	if !ok {
		return Around{}, noFunction(name)
	}
	values := v.Profile.Values[typ]
	out := Around{Row: Row{Symbol: v.Symbols.Symbols[id]}}
	callers, callees := map[SymbolID]int64{}, map[SymbolID]int64{}
	var from, to []SymbolID // of this sample
	v.Each(func(sample int, stack []FrameID) {
		value := values[sample]
		if value == 0 {
			return
		}
		from, to = from[:0], to[:0]
		seen := false
		for i, f := range stack {
			here := v.Symbols.Frames[f].Symbol
			seen = seen || here == id
			if i == 0 {
				continue
			}
			caller := v.Symbols.Frames[stack[i-1]].Symbol
			switch {
			case caller == here:
			case here == id && !slices.Contains(from, caller):
				from = append(from, caller)
				callers[caller] += value
			case caller == id && !slices.Contains(to, here):
				to = append(to, here)
				callees[here] += value
			}
		}
		if seen {
			out.Cum += value
			if v.Symbols.Frames[stack[len(stack)-1]].Symbol == id {
				out.Flat += value
			}
		}
	})
	out.Callers, out.Callees = v.edges(callers), v.edges(callees)
	return out, nil
}

func (v *View) edges(of map[SymbolID]int64) (out []Edge) {
	for id, value := range of {
		out = append(out, Edge{Symbol: v.Symbols.Symbols[id], Value: value})
	}
	slices.SortFunc(out, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(magnitude(b.Value), magnitude(a.Value)), cmp.Compare(a.Symbol.String(), b.Symbol.String()))
	})
	return out
}
