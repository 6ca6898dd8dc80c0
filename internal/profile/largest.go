package profile

import (
	"cmp"
	"slices"
)

// Pruned is what a tree of the largest nodes leaves out.
type Pruned struct {
	// Subtrees is how many were cut off, the least number of nodes that are
	// missing.
	Subtrees int
	// Share is the least share of the whole that a node has which is there; 0 if
	// all are.
	Share float64
}

// Largest returns the call tree of one sample type without its smallest nodes,
// so that so many are left at most. What is cut off is a leaf of PrunedFrame (or
// PrunedNegativeFrame) under what called it: every other node is worth what it
// is in Tree. It takes memory for what is left, not for what there is.
func (v *View) Largest(typ, nodes int) (*Tree, Pruned) {
	return largest(v.Symbols, []*View{v}, [][]int64{v.Profile.Values[typ]}, nodes)
}

// Largest is View's, of the union of both call trees: column 0 is before, column
// 1 after. A node counts by its larger share of either whole.
func (c *Comparison) Largest(typ, nodes int) (*Tree, Pruned) {
	return largest(c.symbols, []*View{c.before, c.after}, [][]int64{c.beforeValues[typ], c.afterValues[typ]}, nodes)
}

// largest opens the largest node that is known until there are enough. A child
// is never larger than its parent, so these are the largest of all.
func largest(s *Symbols, views []*View, values [][]int64, nodes int) (*Tree, Pruned) {
	o := &opener{views: views, symbols: s, most: max(1, nodes)}
	root := branchEnd{}
	rows := 0
	for _, v := range views {
		rows += len(v.rows)
	}
	o.items = make([]cursor, 0, rows)
	for column, v := range views {
		for _, r := range v.rows {
			value := values[column][r.sample]
			if value == 0 {
				continue
			}
			o.items = append(o.items, cursor{value: value, pos: r.to, from: r.from, column: uint16(column)})
			root.add(column, value)
		}
	}
	o.whole = root.up
	root.to, root.share = uint32(len(o.items)), 1
	o.open(root, -1)
	for len(o.ends) > 0 && len(o.nodes) < o.most {
		end := o.ends.pop()
		o.open(end, end.parent)
	}
	for _, end := range o.ends {
		o.cut(end)
	}
	kept := o.fit()
	return o.tree(kept), Pruned{Subtrees: o.pruned, Share: o.least(kept)}
}

// cursor is a sample on its way from the root to its leaf.
type cursor struct {
	value     int64
	pos, from uint32 // the locations to fetch are stacks[from:pos]
	sub       uint32 // frames left of the location at hand
	column    uint16
	left      uint16
	// Locations that were fetched: ahead[left] is at hand, the one before it is
	// next. Samples are soon in another order than their stacks, so that each
	// fetch waits for memory: with one for each step they took two thirds of the
	// time.
	ahead [6]LocID
}

// branchEnd is a node that is known and not opened.
type branchEnd struct {
	parent   int
	frame    FrameID
	from, to uint32 // its samples: items[from:to]
	up, down [2]int64
	share    float64
}

func (b *branchEnd) add(column int, value int64) {
	if value > 0 {
		b.up[column] += value
	} else {
		b.down[column] += value
	}
}

type openNode struct {
	parent   int
	frame    FrameID
	self     [2]int64
	up, down [2]int64 // all of it
	share    float64
	// what was cut off under it
	cutUp, cutDown [2]int64
	cuts           int
}

type opener struct {
	views   []*View
	symbols *Symbols
	most    int
	whole   [2]int64

	items  []cursor
	nodes  []openNode
	ends   branchEnds
	pruned int

	// floor is the share that enough of the known ends have.
	floor float64

	// of the node that is being opened: which of its children a frame is, which
	// each sample belongs to, and how many samples each child has
	childOf  []int32
	groups   []int32
	children []branchEnd
	sizes    []uint32
}

// open makes a node of an end, and ends of its children.
func (o *opener) open(end branchEnd, parent int) {
	at := len(o.nodes)
	o.nodes = append(o.nodes, openNode{parent: parent, frame: end.frame, up: end.up, down: end.down, share: end.share})
	items := o.items[end.from:end.to]
	o.groups = resize(o.groups, len(items))
	for len(o.childOf) < len(o.symbols.Frames) {
		o.childOf = append(o.childOf, 0)
	}
	// Group 0 are those that end here.
	children, sizes := append(o.children[:0], branchEnd{}), append(o.sizes[:0], 0)
	for i := range items {
		c := &items[i]
		g := int32(0)
		if f, more := c.next(o.views[c.column]); !more {
			o.nodes[at].self[c.column] += c.value
		} else {
			if g = o.childOf[f]; g == 0 {
				g = int32(len(children))
				o.childOf[f] = g
				children, sizes = append(children, branchEnd{parent: at, frame: f}), append(sizes, 0)
			}
			children[g].add(int(c.column), c.value)
		}
		sizes[g]++
		o.groups[i] = g
	}
	sideBySide(items, o.groups, sizes)
	to := end.from + sizes[0]
	for g := 1; g < len(children); g++ {
		child := &children[g]
		o.childOf[child.frame] = 0
		child.from = to
		to += sizes[g]
		child.to = to
		for c, whole := range o.whole {
			if whole > 0 {
				child.share = max(child.share, float64(child.up[c])/float64(whole))
			}
		}
		if child.share < o.floor || child.share == 0 { // nothing, or too little
			o.cut(*child)
		} else {
			o.ends.push(*child)
		}
	}
	o.children, o.sizes = children, sizes
	o.forget()
}

// sideBySide orders items by their groups, in place.
func sideBySide(items []cursor, groups []int32, sizes []uint32) {
	if len(sizes) == 1 || len(sizes) == 2 && sizes[0] == 0 {
		return
	}
	// Where the next item of each group goes.
	next := make([]uint32, len(sizes))
	end := uint32(0)
	for g, n := range sizes {
		next[g] = end
		end += n
	}
	end = 0
	for g, n := range sizes {
		end += n
		for i := next[g]; i < end; i = next[g] {
			h := groups[i]
			to := next[h]
			next[h]++
			if to != i {
				items[i], items[to] = items[to], items[i]
				groups[i], groups[to] = groups[to], h
			}
		}
	}
}

// next returns the frame after those that were returned.
func (c *cursor) next(v *View) (FrameID, bool) {
	for c.sub == 0 {
		if c.left == 0 {
			n := min(c.pos-c.from, uint32(len(c.ahead)))
			if n == 0 {
				return 0, false
			}
			copy(c.ahead[:n], v.Profile.stacks[c.pos-n:c.pos])
			c.pos -= n
			c.left = uint16(n)
		}
		c.left--
		c.sub = uint32(len(v.framesOf(c.ahead[c.left])))
	}
	c.sub--
	return v.framesOf(c.ahead[c.left])[c.sub], true
}

// forget drops ends that are too small for certain: there are enough larger ones.
func (o *opener) forget() {
	if len(o.ends) <= 4*o.most {
		return
	}
	slices.SortFunc(o.ends, larger) // in this order they are a heap too
	for _, end := range o.ends[o.most:] {
		o.cut(end)
	}
	o.ends = o.ends[:o.most]
	o.floor = o.ends[o.most-1].share
}

func (o *opener) cut(end branchEnd) {
	o.cutOff(end.parent, end.up, end.down)
}

func (o *opener) cutOff(parent int, up, down [2]int64) {
	n := &o.nodes[parent]
	for c := range up {
		n.cutUp[c] += up[c]
		n.cutDown[c] += down[c]
	}
	if up != [2]int64{} || down != [2]int64{} {
		n.cuts++
		o.pruned++
	}
}

// fit gives up the smallest nodes until the leaves for what is cut off have room
// too, and returns how many are left. Nodes are in the order of their size.
func (o *opener) fit() int {
	leaves := 0
	for i := range o.nodes {
		leaves += o.nodes[i].leaves()
	}
	kept := len(o.nodes)
	for kept > 1 && kept+leaves > o.most {
		kept--
		n := o.nodes[kept]
		leaves -= n.leaves() + o.nodes[n.parent].leaves()
		o.pruned -= n.cuts // they are part of this one now
		o.cutOff(n.parent, n.up, n.down)
		leaves += o.nodes[n.parent].leaves()
	}
	return kept
}

func (n *openNode) leaves() (leaves int) {
	if n.cutUp != [2]int64{} {
		leaves++
	}
	if n.cutDown != [2]int64{} {
		leaves++
	}
	return leaves
}

func (o *opener) least(kept int) float64 {
	if o.pruned == 0 {
		return 0
	}
	return o.nodes[kept-1].share
}

func (o *opener) tree(kept int) *Tree {
	columns := len(o.views)
	t := newTree(o.symbols, columns)
	ids := make([]NodeID, kept)
	put := func(n NodeID, values [2]int64) {
		for c := range columns {
			t.self[int(n)*columns+c] += values[c]
		}
	}
	leaf := func(under NodeID, name string, values [2]int64) {
		if values != [2]int64{} {
			put(t.child(under, o.symbols.frame(Frame{Symbol: o.symbols.symbol(name, "", 0)})), values)
		}
	}
	for i := range ids {
		n := &o.nodes[i]
		if i > 0 {
			ids[i] = t.child(ids[n.parent], n.frame)
		}
		put(ids[i], n.self)
		leaf(ids[i], PrunedFrame, n.cutUp)
		leaf(ids[i], PrunedNegativeFrame, n.cutDown)
	}
	return t
}

// larger orders ends: equal ones in the order in which they were found.
func larger(a, b branchEnd) int {
	return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.parent, b.parent), cmp.Compare(a.from, b.from))
}

// branchEnds is a heap with the largest first. container/heap would allocate each
// end anew, which was a quarter of the time.
type branchEnds []branchEnd

func (b *branchEnds) push(end branchEnd) {
	*b = append(*b, end)
	h := *b
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if larger(h[up], h[i]) < 0 {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (b *branchEnds) pop() branchEnd {
	h := *b
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*b = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && larger(h[child+1], h[child]) < 0 {
			child++
		}
		if larger(h[i], h[child]) < 0 {
			return top
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
