package flame

import (
	"context"
	"encoding/binary"

	"github.com/opscenter/opscenter/internal/profile"
)

// BoxesAtMost is how many boxes a page draws at once.
const BoxesAtMost = 200_000

// Frame is what a box stands for.
type Frame struct {
	Name, File string
	// Line is where the function begins, or, with lines told apart, where it was;
	// 0 = unknown.
	Line int64
}

// Graph is a call tree in preorder, parents before their children and those by
// name, in columns of little-endian numbers; box 0 is the whole. A box is worth
// its own value and those of all below it.
//
// What was too small is a leaf of profile.PrunedFrame under what called it, so
// that every other box is worth what it was.
type Graph struct {
	Subject
	Frames []Frame
	// Frame is uint32, a place in Frames; Depth is uint16.
	Frame, Depth []byte
	// Self and BaseSelf are float64, exact up to 2⁵³; BaseSelf is nil without a
	// base.
	Self, BaseSelf []byte
	Boxes          int
	// Pruned is how many branches were too small, PrunedShare the least share of
	// the whole that a box has which was not.
	Pruned      int
	PrunedShare float64
	// Negative and BaseNegative are the sums of what has no width.
	Negative, BaseNegative int64
}

// Graph answers with at most so many boxes; 0 = BoxesAtMost.
func (r *Reader) Graph(ctx context.Context, q Query, boxes int) (*Graph, error) {
	if boxes <= 0 || boxes > BoxesAtMost {
		boxes = BoxesAtMost
	}
	before, after, err := r.both(ctx, q)
	if err != nil {
		return nil, err
	}
	var g Graph
	var tree *profile.Tree
	var pruned profile.Pruned
	if before == nil {
		tree, pruned, err = g.one(after, q, boxes)
	} else {
		tree, pruned, err = g.two(before, after, q, boxes)
	}
	if err != nil {
		return nil, err
	}
	g.Pruned, g.PrunedShare = pruned.Subtrees, pruned.Share
	g.fill(tree.Flame(profile.FlameOptions{Nodes: tree.Len()}), before != nil)
	return &g, nil
}

func (g *Graph) one(p *loaded, q Query, boxes int) (*profile.Tree, profile.Pruned, error) {
	typ, err := p.Type(q.Type)
	if err != nil {
		return nil, profile.Pruned{}, err
	}
	g.Subject = about(p.Types, typ, nil, p, false)
	v, err := p.View(q.Filter)
	if err != nil {
		return nil, profile.Pruned{}, err
	}
	tree, pruned := v.Largest(typ, boxes)
	return tree, pruned, nil
}

func (g *Graph) two(before, after *loaded, q Query, boxes int) (*profile.Tree, profile.Pruned, error) {
	c, err := profile.Compare(before.Profile, after.Profile, q.Filter, q.Normalise)
	if err != nil {
		return nil, profile.Pruned{}, err
	}
	typ, err := c.Type(q.Type)
	if err != nil {
		return nil, profile.Pruned{}, err
	}
	g.Subject = about(c.Types, typ, before, after, q.Normalise)
	tree, pruned := c.Largest(typ, boxes)
	return tree, pruned, nil
}

// fill takes over the boxes of a flame graph. Of a comparison, column 0 is the
// base.
func (g *Graph) fill(f profile.Flame, compared bool) {
	own := len(f.Self) - 1
	g.Boxes, g.Depth, g.Self, g.Negative = f.Boxes, f.Depth, f.Self[own], f.Negative[own]
	if compared {
		g.BaseSelf, g.BaseNegative = f.Self[0], f.Negative[0]
	}
	// A name at different lines is different frames.
	type key struct{ name, line uint32 }
	frames := map[key]uint32{}
	g.Frame = make([]byte, 4*f.Boxes)
	for i := range f.Boxes {
		k := key{binary.LittleEndian.Uint32(f.Name[4*i:]), binary.LittleEndian.Uint32(f.Line[4*i:])}
		id, ok := frames[k]
		if !ok {
			id = uint32(len(g.Frames))
			frames[k] = id
			line := int64(k.line)
			if line == 0 {
				line = f.Starts[k.name]
			}
			g.Frames = append(g.Frames, Frame{f.Names[k.name], f.Files[k.name], line})
		}
		binary.LittleEndian.PutUint32(g.Frame[4*i:], id)
	}
}
