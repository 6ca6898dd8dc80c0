package flame

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

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
	// PrunedBoxes were too small, PrunedShare is the least share of a box that was
	// not.
	PrunedBoxes int
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
	if before == nil {
		tree, err = g.one(after, q)
	} else {
		tree, err = g.two(before, after, q)
	}
	if err != nil {
		return nil, err
	}
	// What is pruned needs boxes too: at worst one under each that is left.
	for _, nodes := range []int{boxes, boxes * 3 / 4, boxes / 2} {
		drawn := Graph{Subject: g.Subject}
		drawn.fill(tree.Flame(profile.FlameOptions{Nodes: max(1, nodes)}), before != nil)
		if g = drawn; g.Boxes <= boxes {
			break
		}
	}
	return &g, nil
}

func (g *Graph) one(p *loaded, q Query) (*profile.Tree, error) {
	typ, err := p.Type(q.Type)
	if err != nil {
		return nil, err
	}
	g.Subject = about(p.Types, typ, nil, p, false)
	v, err := p.View(q.Filter)
	if err != nil {
		return nil, err
	}
	return v.Tree(typ, profile.TreeOptions{})
}

func (g *Graph) two(before, after *loaded, q Query) (*profile.Tree, error) {
	c, err := profile.Compare(before.Profile, after.Profile, q.Filter, q.Normalise)
	if err != nil {
		return nil, err
	}
	typ, err := c.Type(q.Type)
	if err != nil {
		return nil, err
	}
	g.Subject = about(c.Types, typ, before, after, q.Normalise)
	return c.Tree(typ, profile.TreeOptions{})
}

// fill takes over the boxes of a flame graph, and puts a leaf where some are
// missing. Of a comparison, column 0 is the base.
func (g *Graph) fill(f profile.Flame, compared bool) {
	// What is worth nothing is dropped too, and nobody misses it.
	if slices.Max(f.Hidden) > 0 {
		g.PrunedBoxes, g.PrunedShare = f.Dropped, f.Share
	}
	own := len(f.Self) - 1
	g.Negative = f.Negative[own]
	if compared {
		g.BaseNegative = f.Negative[0]
	}
	type key struct{ name, line uint32 }
	frames := map[key]uint32{}
	frame := func(k key) uint32 {
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
		return id
	}
	pruned, noFrame := uint32(0), true
	put := func(frame uint32, depth int, own, base float64) {
		g.Boxes++
		g.Frame = binary.LittleEndian.AppendUint32(g.Frame, frame)
		g.Depth = binary.LittleEndian.AppendUint16(g.Depth, uint16(min(depth, math.MaxUint16)))
		g.Self = binary.LittleEndian.AppendUint64(g.Self, math.Float64bits(own))
		if compared {
			g.BaseSelf = binary.LittleEndian.AppendUint64(g.BaseSelf, math.Float64bits(base))
		}
	}
	// The boxes on the way to the one at hand, with what their children lack.
	type open struct{ own, base float64 }
	var path []open
	shut := func(depth int) {
		for len(path) > depth {
			last := path[len(path)-1]
			if last.own > 0 || last.base > 0 {
				if noFrame {
					pruned, noFrame = uint32(len(g.Frames)), false
					g.Frames = append(g.Frames, Frame{Name: profile.PrunedFrame})
				}
				put(pruned, len(path), last.own, last.base)
			}
			path = path[:len(path)-1]
		}
	}
	for i := range f.Boxes {
		depth := int(binary.LittleEndian.Uint16(f.Depth[2*i:]))
		shut(depth)
		value, self := number(f.Value[own], i), number(f.Self[own], i)
		baseValue, baseSelf := 0.0, 0.0
		if compared {
			baseValue, baseSelf = number(f.Value[0], i), number(f.Self[0], i)
		}
		if depth > 0 {
			up := &path[depth-1]
			up.own, up.base = up.own-value, up.base-baseValue
		}
		put(frame(key{binary.LittleEndian.Uint32(f.Name[4*i:]), binary.LittleEndian.Uint32(f.Line[4*i:])}), depth, self, baseSelf)
		path = append(path, open{value - self, baseValue - baseSelf})
	}
	shut(0)
}

func number(column []byte, i int) float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(column[8*i:]))
}
