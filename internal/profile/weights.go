package profile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/opscenter/opscenter/internal/ops"
)

// Weights are what one profile is worth in a sum's tree: for each type, leaf
// nodes and their values, in a few bytes each. They can be added to that tree
// again without reading the profile.
//
// Each type is a part: its length in bytes, what all its values are multiples of
// (a CPU profile's are of its period), which part it is like, and its entries. A
// part that is like an earlier one has its entries (samples and nanoseconds of a
// CPU profile differ only in what they are multiples of) and names it by its
// number from 1 on; all others say 0, how many nodes have a value that is not zero
// and then, for each, the distance from the node before and the multiple. All
// numbers are varints.
type Weights []byte

// Weights returns those of the profile that was added last.
func (s *Sum) Weights() Weights {
	if s.Profiles == 0 {
		return nil
	}
	order := make([]uint32, len(s.leaves))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(s.leaves[a], s.leaves[b]) })
	var out []byte
	var parts [][]byte
	for column := range s.tree.columns {
		unit, entries := s.entries(order, column)
		like := 1 + slices.IndexFunc(parts, func(p []byte) bool { return bytes.Equal(p, entries) })
		parts = append(parts, entries)
		head := binary.AppendUvarint(binary.AppendUvarint(nil, unit), uint64(like))
		if like > 0 {
			entries = nil
		}
		out = binary.AppendUvarint(out, uint64(len(head)+len(entries)))
		out = slices.Concat(out, head, entries)
	}
	return out
}

// entries are those of a column: their number, then distances and multiples of
// the unit.
func (s *Sum) entries(order []uint32, column int) (unit uint64, out []byte) {
	var nodes []NodeID
	var values []int64
	for i := 0; i < len(order); {
		n, value := s.leaves[order[i]], int64(0)
		for ; i < len(order) && s.leaves[order[i]] == n; i++ {
			value += s.values[int(order[i])*s.tree.columns+column]
		}
		if value != 0 {
			nodes, values = append(nodes, n), append(values, value)
			unit = divisor(unit, magnitude(value))
		}
	}
	if unit > math.MaxInt64 {
		unit = 1
	}
	out = binary.AppendUvarint(nil, uint64(len(nodes)))
	last := NodeID(0)
	for i, n := range nodes {
		out = binary.AppendVarint(binary.AppendUvarint(out, uint64(n-last)), values[i]/int64(unit))
		last = n
	}
	return unit, out
}

// divisor is the greatest that both are multiples of.
func divisor(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// target is a column that entries are added to.
type target struct {
	column int
	unit   int64
}

// Add adds weights of profiles that were added to the sum that made the tree:
// the columns named, or all if none is. After Reset, the tree's values are theirs
// alone. Corrupt if they belong to another tree, as far as that shows; the tree's
// values are then part of them: Reset it.
func (t *Tree) Add(w Weights, columns ...int) error {
	t.total = nil
	t.parts, t.targets = t.parts[:0], resize(t.targets, t.columns)
	for c := range t.columns {
		size, n := uvarint(w)
		if n <= 0 || size > uint64(len(w)-n) {
			return foreignWeights()
		}
		part := w[n : n+int(size)]
		w = w[n+int(size):]
		unit, at := uvarint(part)
		if at <= 0 {
			return foreignWeights()
		}
		like, n := uvarint(part[at:])
		if n <= 0 || like > uint64(c) {
			return foreignWeights()
		}
		t.parts = append(t.parts, part[at+n:])
		t.targets[c] = t.targets[c][:0]
		of := c
		if like > 0 {
			of = int(like) - 1
			if len(part) != at+n {
				return foreignWeights()
			}
		}
		if len(columns) == 0 || slices.Contains(columns, c) {
			t.targets[of] = append(t.targets[of], target{c, int64(unit)})
		}
	}
	if len(w) > 0 {
		return foreignWeights()
	}
	for c, part := range t.parts {
		if len(t.targets[c]) > 0 {
			if err := t.addEntries(part, t.targets[c]); err != nil {
				return err
			}
		}
	}
	return nil
}

func foreignWeights() error {
	return ops.Errorf(ops.Corrupt, "the stored weights do not belong to this call tree: sum the profiles again")
}

// addEntries adds entries to one or more columns of the nodes.
func (t *Tree) addEntries(w []byte, to []target) error {
	count, at := uvarint(w)
	if at <= 0 || count > uint64(len(w)) {
		return foreignWeights()
	}
	node := uint64(0)
	for range count {
		var distance, multiple uint64
		if at+1 < len(w) && w[at]|w[at+1] < 0x80 {
			distance, multiple = uint64(w[at]), uint64(w[at+1])
			at += 2
		} else {
			var n, m int
			if distance, n = uvarint(w[at:]); n <= 0 {
				return foreignWeights()
			}
			if multiple, m = uvarint(w[at+n:]); m <= 0 {
				return foreignWeights()
			}
			at += n + m
		}
		if node += distance; node >= uint64(len(t.parents)) || distance > uint64(len(t.parents)) {
			return foreignWeights()
		}
		row := t.self[int(node)*t.columns:][:t.columns]
		v := int64(multiple>>1) ^ -int64(multiple&1)
		for _, c := range to {
			row[c.column] += v * c.unit
		}
	}
	if at != len(w) {
		return foreignWeights()
	}
	return nil
}

// Reset makes all values zero and keeps the nodes.
func (t *Tree) Reset() {
	clear(t.self)
	t.total = nil
}
