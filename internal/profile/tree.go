package profile

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/opscenter/opscenter/internal/ops"
)

// NodeID is a place in a Tree: 0 is the root, which stands for the whole
// profile. A node's parent has a smaller id than the node.
type NodeID uint32

// Tree is a call tree: each node is a frame under the same callers. It has one
// or more columns of values, which its maker names.
type Tree struct {
	Symbols *Symbols

	parents []NodeID
	frames  []FrameID
	columns int
	self    []int64 // a row of columns for each node
	total   []int64 // likewise, once it is asked for; nil after a change

	// children finds nodes by parent and frame: open addressing, node + 1. The
	// hash has a seed of its own, so that nobody can prepare a profile whose
	// nodes all collide.
	children []uint32
	seed     uint64
	// memory for Add
	parts   [][]byte
	targets [][]target
}

func newTree(s *Symbols, columns int) *Tree {
	t := &Tree{Symbols: s, columns: columns, seed: rand.Uint64(), children: make([]uint32, 1<<10)}
	t.parents, t.frames = append(t.parents, 0), append(t.frames, 0)
	t.self = make([]int64, columns)
	return t
}

// mix folds v into the seeded hash h.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v^0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93)
	return hi ^ lo
}

// child returns the node of a frame under a parent, made if it is new.
func (t *Tree) child(parent NodeID, f FrameID) NodeID {
	mask := uint64(len(t.children) - 1)
	for i := mix(t.seed, uint64(parent)<<32|uint64(f)) & mask; ; i = (i + 1) & mask {
		n := t.children[i]
		if n == 0 {
			id := NodeID(len(t.parents))
			t.parents, t.frames = append(t.parents, parent), append(t.frames, f)
			for range t.columns {
				t.self = append(t.self, 0)
			}
			t.children[i] = uint32(id) + 1
			if len(t.parents)*2 > len(t.children) {
				t.index(2 * len(t.children))
			}
			return id
		}
		if t.parents[n-1] == parent && t.frames[n-1] == f {
			return NodeID(n - 1)
		}
	}
}

// truncate takes out the nodes from that one on.
func (t *Tree) truncate(nodes int) {
	t.parents, t.frames, t.self, t.total = t.parents[:nodes], t.frames[:nodes], t.self[:nodes*t.columns], nil
	t.index(len(t.children))
}

// index makes children anew, of that size.
func (t *Tree) index(size int) {
	t.children = make([]uint32, size)
	mask := uint64(len(t.children) - 1)
	for n := 1; n < len(t.parents); n++ {
		i := mix(t.seed, uint64(t.parents[n])<<32|uint64(t.frames[n])) & mask
		for t.children[i] != 0 {
			i = (i + 1) & mask
		}
		t.children[i] = uint32(n) + 1
	}
}

// memory estimates what the tree takes.
func (t *Tree) memory() int64 {
	return int64(cap(t.parents))*8 + int64(cap(t.self))*8 + int64(len(t.children))*4
}

// Len is how many nodes there are, the root included.
func (t *Tree) Len() int { return len(t.parents) }

// Columns is how many values each node has.
func (t *Tree) Columns() int { return t.columns }

// Parent returns the caller of n; the root's is itself.
func (t *Tree) Parent(n NodeID) NodeID { return t.parents[n] }

// Frame returns what n stands for; the root stands for no frame.
func (t *Tree) Frame(n NodeID) Frame { return t.Symbols.Frames[t.frames[n]] }

// Symbol returns the function that n stands for.
func (t *Tree) Symbol(n NodeID) Symbol { return t.Symbols.Of(t.frames[n]) }

// Self is what n itself is worth, in that column.
func (t *Tree) Self(n NodeID, column int) int64 { return t.self[int(n)*t.columns+column] }

// Total is what n is worth with everything that it calls.
func (t *Tree) Total(n NodeID, column int) int64 {
	return t.totals()[int(n)*t.columns+column]
}

// Stack returns the frames from the root's child to n.
func (t *Tree) Stack(n NodeID) (out []Frame) {
	for ; n != 0; n = t.parents[n] {
		out = append(out, t.Frame(n))
	}
	slices.Reverse(out)
	return out
}

func (t *Tree) totals() []int64 {
	if t.total == nil {
		t.total = t.sums(func(v int64) int64 { return v })
	}
	return t.total
}

// sums adds up of(self) of each node and all below it: children have larger ids
// than their parents, so one pass from the end does.
func (t *Tree) sums(of func(int64) int64) []int64 {
	out := make([]int64, len(t.self))
	for i, v := range t.self {
		out[i] = of(v)
	}
	for n := len(t.parents) - 1; n > 0; n-- {
		parent := int(t.parents[n]) * t.columns
		for c := range t.columns {
			out[parent+c] += out[n*t.columns+c]
		}
	}
	return out
}

// kids returns the children of all nodes: those of n are list[ends[n-1]:ends[n]].
func (t *Tree) kids() (list []NodeID, ends []uint32) {
	ends = make([]uint32, len(t.parents)+1)
	for n := 1; n < len(t.parents); n++ {
		ends[t.parents[n]+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	list = make([]NodeID, len(t.parents)-1)
	// ends[p] is where p's children begin; filling moves it to where they end.
	for n := 1; n < len(t.parents); n++ {
		p := t.parents[n]
		list[ends[p]] = NodeID(n)
		ends[p]++
	}
	return list, ends[:len(t.parents)]
}

// TreeOptions choose one of the trees of a view.
type TreeOptions struct {
	// Root shows only samples that have this symbol, from its outermost frame on;
	// "" is all samples from their root.
	Root string
	// Callers turns the tree round: from the leaf to the root, or, with Root, from
	// that symbol's outermost frame to its callers.
	Callers bool
}

// Tree returns the call tree of one sample type. NotFound if o.Root is no symbol
// of the view.
func (v *View) Tree(typ int, o TreeOptions) (*Tree, error) {
	t := newTree(v.Symbols, 1)
	b := &branch{tree: t, options: o}
	if err := b.find(v.Symbols); err != nil {
		return nil, err
	}
	v.Each(func(sample int, stack []FrameID) {
		if value := v.Profile.Values[typ][sample]; value != 0 {
			b.add(stack, 0, value)
		}
	})
	return t, nil
}

// branch puts stacks into a tree as TreeOptions ask for.
type branch struct {
	tree    *Tree
	options TreeOptions
	root    SymbolID
}

func (b *branch) find(s *Symbols) error {
	if b.options.Root == "" {
		return nil
	}
	id, ok := s.Find(b.options.Root)
	if !ok {
		return noFunction(b.options.Root)
	}
	b.root = id
	return nil
}

func noFunction(name string) error {
	return ops.Errorf(ops.NotFound, "the profile has no function %q: take a name from its table of functions", name)
}

// add puts value where the stack, from the root to the leaf, ends.
func (b *branch) add(stack []FrameID, column int, value int64) {
	t := b.tree
	if b.options.Root != "" {
		i := slices.IndexFunc(stack, func(f FrameID) bool { return t.Symbols.Frames[f].Symbol == b.root })
		if i < 0 {
			return
		}
		if b.options.Callers {
			stack = stack[:i+1]
		} else {
			stack = stack[i:]
		}
	}
	n := NodeID(0)
	if b.options.Callers {
		for _, f := range slices.Backward(stack) {
			n = t.child(n, f)
		}
	} else {
		for _, f := range stack {
			n = t.child(n, f)
		}
	}
	t.self[int(n)*t.columns+column] += value
	t.total = nil
}

// byName orders nodes by printed name, then by line and address, so that the
// same tree is always drawn the same way and two trees that are compared have
// their parts in the same order.
func (t *Tree) byName(a, b NodeID) int {
	fa, fb := t.Frame(a), t.Frame(b)
	if fa == fb {
		return cmp.Compare(a, b)
	}
	return cmp.Or(
		cmp.Compare(t.Symbols.Symbols[fa.Symbol].String(), t.Symbols.Symbols[fb.Symbol].String()),
		cmp.Compare(fa.Line, fb.Line), cmp.Compare(fa.Address, fb.Address), cmp.Compare(fa.Symbol, fb.Symbol))
}
