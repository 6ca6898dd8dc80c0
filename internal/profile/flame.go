package profile

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
)

// FlameOptions bound a flame graph.
type FlameOptions struct {
	// Nodes is how many boxes it has at most; 0 = 100,000, which a page draws at
	// once.
	Nodes int
	// Share drops boxes of less than that share of the whole in every column; 0
	// drops none for their size.
	Share float64
}

// Flame is a call tree as a page draws it: boxes in preorder, a parent before
// its children and those by name, in columns of little-endian numbers that are
// typed arrays without any parsing. Box 0 is the whole.
//
// Widths are of positive values only: what a difference of two snapshots lost
// has no width and is stated as Negative. Under a box that is drawn, children
// that are not leave a gap: its value is more than its self and its children's
// values.
type Flame struct {
	// Names are those that Name refers to; 0 is "", the whole's.
	Names []string
	// Files has a source file for each of Names, or "", and Starts the line where
	// it begins, or 0.
	Files  []string
	Starts []int64
	// Name and Line (0 = none) are uint32, Depth is uint16 (of the whole: 0).
	Name, Line, Depth []byte
	// Value and Self have float64 for each column of the tree, exact up to 2⁵³.
	Value, Self [][]byte
	// Boxes is how many there are.
	Boxes int
	// Dropped is how many boxes are left out, Share the share of the whole that
	// those at least have that are drawn, and Hidden what is left out in all, by
	// column: the self values of what is not drawn.
	Dropped int
	Share   float64
	Hidden  []int64
	// Negative is the sum of the negative values of each column.
	Negative []int64
}

const flameNodes = 100_000

// Flame returns the boxes of a tree.
func (t *Tree) Flame(o FlameOptions) Flame {
	if o.Nodes <= 0 {
		o.Nodes = flameNodes
	}
	f := Flame{Names: []string{""}, Files: []string{""}, Starts: []int64{0}, Hidden: make([]int64, t.columns), Negative: make([]int64, t.columns)}
	for i, v := range t.self {
		f.Negative[i%t.columns] += min(v, 0)
	}
	totals := t.sums(func(v int64) int64 { return max(v, 0) })
	f.Share = t.threshold(totals, o)
	drawn := func(n NodeID) bool { return n == 0 || t.share(totals, n) >= f.Share && t.share(totals, n) > 0 }

	list, ends := t.kids()
	children := func(n NodeID) []NodeID {
		from := uint32(0)
		if n > 0 {
			from = ends[n-1]
		}
		return list[from:ends[n]]
	}
	f.Value, f.Self = make([][]byte, t.columns), make([][]byte, t.columns)
	names := map[SymbolID]uint32{}
	type open struct {
		node  NodeID
		depth int
	}
	todo := []open{{}}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		f.Boxes++
		name, line := uint32(0), int64(0)
		if at.node != 0 {
			frame := t.Frame(at.node)
			id, ok := names[frame.Symbol]
			if !ok {
				id = uint32(len(f.Names))
				names[frame.Symbol] = id
				f.Names = append(f.Names, t.Symbols.Symbols[frame.Symbol].String())
				f.Files = append(f.Files, t.Symbols.Symbols[frame.Symbol].File)
				f.Starts = append(f.Starts, t.Symbols.Symbols[frame.Symbol].StartLine)
			}
			name, line = id, frame.Line
			if frame.Address != 0 { // a box for each address, named by it
				name = uint32(len(f.Names))
				f.Names = append(f.Names, f.Names[id]+" 0x"+strconv.FormatUint(frame.Address, 16))
				f.Files, f.Starts = append(f.Files, ""), append(f.Starts, 0)
			}
		}
		f.Name = binary.LittleEndian.AppendUint32(f.Name, name)
		f.Line = binary.LittleEndian.AppendUint32(f.Line, uint32(min(max(line, 0), math.MaxUint32)))
		f.Depth = binary.LittleEndian.AppendUint16(f.Depth, uint16(min(at.depth, math.MaxUint16)))
		for c := range t.columns {
			i := int(at.node)*t.columns + c
			f.Value[c] = binary.LittleEndian.AppendUint64(f.Value[c], math.Float64bits(float64(totals[i])))
			f.Self[c] = binary.LittleEndian.AppendUint64(f.Self[c], math.Float64bits(float64(max(t.self[i], 0))))
		}
		kids := children(at.node)
		slices.SortFunc(kids, t.byName)
		for _, k := range slices.Backward(kids) {
			if drawn(k) {
				todo = append(todo, open{k, at.depth + 1})
			}
		}
	}
	for n := 1; n < len(t.parents); n++ {
		if !drawn(NodeID(n)) {
			for c := range t.columns {
				f.Hidden[c] += max(0, t.self[n*t.columns+c])
			}
		}
	}
	f.Dropped = len(t.parents) - f.Boxes
	return f
}

// share is the largest part of the whole that n has in any column.
func (t *Tree) share(totals []int64, n NodeID) (largest float64) {
	for c := range t.columns {
		if whole := totals[c]; whole > 0 {
			largest = max(largest, float64(totals[int(n)*t.columns+c])/float64(whole))
		}
	}
	return largest
}

// threshold is the least share of a box that is drawn. A child's is never more
// than its parent's, so that what is drawn is connected.
func (t *Tree) threshold(totals []int64, o FlameOptions) float64 {
	if len(t.parents) <= o.Nodes {
		return o.Share
	}
	shares := make([]float64, 0, len(t.parents)-1)
	for n := 1; n < len(t.parents); n++ {
		shares = append(shares, t.share(totals, NodeID(n)))
	}
	slices.Sort(shares)
	// The largest share that has to go; all of that size go with it.
	out := shares[len(shares)-o.Nodes]
	return max(o.Share, math.Nextafter(out, 2))
}
