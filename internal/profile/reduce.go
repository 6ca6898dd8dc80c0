package profile

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
)

// The names of the frames that stand for what was cut off.
const (
	PrunedFrame = "(pruned)"
	// PrunedNegativeFrame is apart so that the sum of absolute values, which
	// pprof calls the total, stays what it was.
	PrunedNegativeFrame = "(pruned, negative)"
)

// A profile is shown whole up to this size: pprof's pages hold about a kilobyte
// for each sample.
const (
	wholeSamples = 5_000
	wholeMemory  = 32 << 20
)

// The reduced copy keeps frames of at least this share of the total, so that
// what is cut off is thinner than a pixel. More than maxNodes of them, and only
// larger shares are kept.
const (
	keepShare = 1.0 / 4000
	maxNodes  = 60_000
)

// Shown is what a browser will be shown of a profile.
type Shown struct {
	// SampleTypes in the profile's order.
	SampleTypes []string
	// Reduced is false if the profile is shown whole.
	Reduced bool
	// Share is the smallest share of the total that a frame of a reduced copy has.
	Share float64
}

// ForBrowser writes the copy of a profile that pprof's web pages can work on,
// and of the base it is compared with, if any (base and wBase are both nil
// without one). Small profiles stay whole; larger ones are reduced: stacks keep
// their functions with file and line, but no addresses and no labels, and what
// lies under a frame of less than 1/4000 of the total, in every sample type and
// on both sides, becomes one explicit "(pruned)" leaf, so that the sum of each
// sample type, and of each frame that is left, is exactly what it was. A frame
// whose function is large enough while none of its lines is has line 0.
//
// Names that pprof's pages do not escape are made harmless in either case.
func ForBrowser(w, wBase io.Writer, lim Limits, main, base io.Reader) (Shown, error) {
	lim = lim.withDefaults()
	var shown Shown
	rawMain, mainShape, err := readRaw(main, lim)
	if err != nil {
		return shown, err
	}
	var rawBase []byte
	var baseShape shape
	if base != nil {
		if rawBase, baseShape, err = readRaw(base, lim); err != nil {
			return shown, fmt.Errorf("the profile to compare with: %w", err)
		}
	}

	var copies []*pprof.Profile
	if mainShape.small() && baseShape.small() {
		copies, err = parseBoth(rawMain, rawBase)
	} else {
		shown.Reduced = true
		copies, shown.Share, err = reduceBoth(rawMain, rawBase, lim)
	}
	if err != nil {
		return shown, err
	}
	for _, t := range copies[0].SampleType {
		shown.SampleTypes = append(shown.SampleTypes, t.Type)
	}
	if shown.Reduced {
		copies[0].Comments = append(copies[0].Comments, fmt.Sprintf("Reduced copy: frames under %.3g %% of the total are summed up as %s; labels and addresses are left out. The capture's download has everything.", shown.Share*100, PrunedFrame))
	}
	for i, p := range copies {
		sanitize(p)
		if err := p.WriteUncompressed([]io.Writer{w, wBase}[i]); err != nil {
			return shown, fmt.Errorf("write reduced profile: %w", err)
		}
	}
	return shown, nil
}

// readRaw does not hold the estimate of google/pprof's memory against the
// profile: its objects are made of small profiles only.
func readRaw(r io.Reader, lim Limits) ([]byte, shape, error) {
	raw, err := Decompress(r, lim)
	if err != nil {
		return nil, shape{}, err
	}
	unestimated := lim
	unestimated.MemoryBytes = 1 << 60
	sh, err := inspect(raw, unestimated)
	if err == nil && sh.columns() > lim.MemoryBytes {
		err = ops.Errorf(ops.Exhausted, "the profile would take about %d MiB of memory and the limit is %d MiB: download it and open it with go tool pprof", sh.columns()>>20, lim.MemoryBytes>>20)
	}
	return raw, sh, err
}

// columns estimates what readSource allocates.
func (s shape) columns() int64 {
	return int64(s.rawBytes) + int64(s.strings)*24 + int64(s.functions)*200 + int64(s.locations+s.lines)*64 + int64(s.frames)*8 + int64(s.samples)*(16+16*int64(s.sampleTypes))
}

func (s shape) small() bool { return s.samples <= wholeSamples && s.memory() <= wholeMemory }

func parseBoth(raws ...[]byte) ([]*pprof.Profile, error) {
	var out []*pprof.Profile
	for _, raw := range raws {
		if raw == nil {
			continue
		}
		p, err := parseRaw(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(out) == 2 && typesOf(out[0]) != typesOf(out[1]) {
		return nil, differentKinds(typesOf(out[0]), typesOf(out[1]))
	}
	return out, nil
}

func reduceBoth(rawMain, rawBase []byte, lim Limits) ([]*pprof.Profile, float64, error) {
	n := newNames()
	main, err := readSource(rawMain, lim, n)
	if err != nil {
		return nil, 0, err
	}
	sides := []*source{main}
	if rawBase != nil {
		base, err := readSource(rawBase, lim, n)
		if err != nil {
			return nil, 0, fmt.Errorf("the profile to compare with: %w", err)
		}
		if a, b := main.kind(), base.kind(); a != b {
			return nil, 0, differentKinds(a, b)
		}
		sides = append(sides, base)
	}
	share := keepShare
	t := reduce(sides, n, share)
	for len(t.nodes) > maxNodes && share < 1 {
		share *= 2
		t = reduce(sides, n, share)
	}
	var out []*pprof.Profile
	for i, s := range sides {
		out = append(out, t.profile(s, i))
	}
	return out, share, nil
}

// reduction is the pruned call tree of all sides. Node 0 is the root; a parent comes
// before its children.
type reduction struct {
	names *names
	types int
	nodes []node
	// self and pruned hold, for a node and side, one value for each sample type;
	// pruned holds a second row for what is negative.
	self   map[nodeSide][]int64
	pruned map[nodeSide][]int64
}

type node struct {
	parent, frame uint32
	// byFunction is the node's counterpart in the tree that knows no lines.
	byFunction uint32
}

type nodeSide struct {
	node uint32
	side int
}

// candidate is a possible child of a node, at one depth of the walk.
type candidate struct {
	node uint32 // what it became; none until decided
	// first is the frame of a line candidate; several tells that it stands for
	// other small lines of the function too.
	first   uint32
	several bool
}

// candidates are those of one depth, each with the weight of what goes through
// it, by side and sample type.
type candidates struct {
	ids     map[uint64]uint32
	all     []candidate
	weights []float64
	limits  []float64 // from which weight on a candidate is large
}

func newCandidates(limits []float64) *candidates {
	return &candidates{ids: map[uint64]uint32{}, limits: limits}
}

func (c *candidates) reset() {
	clear(c.ids)
	c.all, c.weights = c.all[:0], c.weights[:0]
}

// enter adds values to the candidate of that key, made if it is new; slot is the
// first of the side's.
func (c *candidates) enter(key uint64, slot int, values []int64) uint32 {
	id, ok := c.ids[key]
	if !ok {
		id = uint32(len(c.all))
		c.ids[key] = id
		c.all = append(c.all, candidate{node: none})
		for range c.limits {
			c.weights = append(c.weights, 0)
		}
	}
	at := int(id)*len(c.limits) + slot
	for i, v := range values {
		c.weights[at+i] += abs(v)
	}
	return id
}

func (c *candidates) large(id uint32) bool {
	at := int(id) * len(c.limits)
	for i, l := range c.limits {
		if l > 0 && c.weights[at+i] >= l {
			return true
		}
	}
	return false
}

// walker is a sample on its way from the root to its leaf.
type walker struct {
	side, sample uint32
	node         uint32
	line, fn     uint32 // its candidates at this depth
}

// reduce walks all stacks in step, one frame at a time from the root, and
// lets a sample end where the function it would go on to, on this path, is worth
// less than share of the total. Samples thus leave early and nothing is
// allocated for what is cut off.
func reduce(sides []*source, n *names, share float64) *reduction {
	types := len(sides[0].Types)
	t := &reduction{names: n, types: types, nodes: []node{{}}, self: map[nodeSide][]int64{}, pruned: map[nodeSide][]int64{}}
	limits := make([]float64, types*len(sides))
	var walking []walker
	for side, s := range sides {
		for i := range s.ends {
			walking = append(walking, walker{side: uint32(side), sample: uint32(i)})
			for k, v := range s.row(i) {
				limits[side*types+k] += abs(v)
			}
		}
	}
	for i := range limits {
		limits[i] *= share
	}

	functionNodes := uint32(1)
	lines, functions := newCandidates(limits), newCandidates(limits)
	// A line too small by itself shares one node with the other small lines of
	// its function under the same parent, and keeps its number if it is alone.
	shared := map[uint64]uint32{}
	sharedBy := func(w walker) uint64 { return uint64(w.node)<<32 | uint64(w.fn) }
	for depth := 0; len(walking) > 0; depth++ {
		lines.reset()
		functions.reset()
		clear(shared)
		left := walking[:0]
		for _, w := range walking {
			s, slot := sides[w.side], int(w.side)*types
			values, stack := s.row(int(w.sample)), s.stack(int(w.sample))
			if depth == len(stack) {
				add(t.self, nodeSide{w.node, int(w.side)}, values)
				continue
			}
			f := stack[depth]
			w.line = lines.enter(uint64(w.node)<<32|uint64(f), slot, values)
			w.fn = functions.enter(uint64(t.nodes[w.node].byFunction)<<32|uint64(n.frames[f].function), slot, values)
			lines.all[w.line].first = f
			left = append(left, w)
		}
		for i := range functions.all {
			if functions.large(uint32(i)) {
				functions.all[i].node = functionNodes
				functionNodes++
			}
		}
		for _, w := range left {
			if functions.all[w.fn].node == none || lines.large(w.line) {
				continue
			}
			if first, ok := shared[sharedBy(w)]; !ok {
				shared[sharedBy(w)] = w.line
			} else if first != w.line {
				lines.all[first].several = true
			}
		}
		walking = left[:0]
		for _, w := range left {
			byFunction := functions.all[w.fn].node
			if byFunction == none {
				t.prune(nodeSide{w.node, int(w.side)}, sides[w.side].row(int(w.sample)))
				continue
			}
			line := w.line
			if !lines.large(line) {
				line = shared[sharedBy(w)]
			}
			c := &lines.all[line]
			if c.node == none {
				f := c.first
				if c.several {
					f = n.frame(frame{function: n.frames[f].function})
				}
				c.node = uint32(len(t.nodes))
				t.nodes = append(t.nodes, node{parent: w.node, frame: f, byFunction: byFunction})
			}
			w.node = c.node
			walking = append(walking, w)
		}
	}
	return t
}

func add(to map[nodeSide][]int64, at nodeSide, values []int64) {
	row := to[at]
	if row == nil {
		row = make([]int64, len(values))
		to[at] = row
	}
	for i, v := range values {
		row[i] += v
	}
}

func (t *reduction) prune(at nodeSide, values []int64) {
	row := t.pruned[at]
	if row == nil {
		row = make([]int64, 2*t.types)
		t.pruned[at] = row
	}
	for i, v := range values {
		if v < 0 {
			i += t.types
		}
		row[i] += v
	}
}

// profile makes one side's share of the tree a profile.
func (t *reduction) profile(s *source, side int) *pprof.Profile {
	p := &pprof.Profile{
		TimeNanos: s.TimeNanos, DurationNanos: s.DurationNanos,
		Period: s.Period, PeriodType: &pprof.ValueType{Type: s.PeriodType.Type, Unit: s.PeriodType.Unit},
		DropFrames: s.DropFrames, KeepFrames: s.KeepFrames,
		DefaultSampleType: s.DefaultType, Comments: s.Comments,
		Mapping: []*pprof.Mapping{{
			ID: 1, Start: s.mapping.Start, Limit: s.mapping.Limit, Offset: s.mapping.Offset, File: s.Strings[s.mapping.File], BuildID: s.Strings[s.mapping.BuildID],
			HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
		}},
	}
	for _, v := range s.Types {
		p.SampleType = append(p.SampleType, &pprof.ValueType{Type: v.Type, Unit: v.Unit})
	}
	functions := map[uint32]*pprof.Function{}
	locations := map[uint32]*pprof.Location{}
	newLocation := func(fn *pprof.Function, line int64, address uint64) *pprof.Location {
		l := &pprof.Location{ID: uint64(len(p.Location) + 1), Mapping: p.Mapping[0], Address: address}
		if fn != nil {
			l.Line = []pprof.Line{{Function: fn, Line: line}}
		}
		p.Location = append(p.Location, l)
		return l
	}
	newFunction := func(f function) *pprof.Function {
		fn := &pprof.Function{ID: uint64(len(p.Function) + 1), Name: f.name, SystemName: f.system, Filename: f.file, StartLine: f.startLine}
		p.Function = append(p.Function, fn)
		return fn
	}
	location := func(id uint32) *pprof.Location {
		if l := locations[id]; l != nil {
			return l
		}
		f := t.names.frames[id]
		info := t.names.functions[f.function]
		var fn *pprof.Function
		if info.name != "" || info.address == 0 {
			if fn = functions[f.function]; fn == nil {
				fn = newFunction(info)
				functions[f.function] = fn
			}
		}
		locations[id] = newLocation(fn, f.line, info.address)
		return locations[id]
	}
	stack := func(id uint32) (out []*pprof.Location) {
		for ; id != 0; id = t.nodes[id].parent {
			out = append(out, location(t.nodes[id].frame))
		}
		return out
	}
	for _, at := range slices.SortedFunc(maps.Keys(t.self), byNode) {
		if at.side == side {
			p.Sample = append(p.Sample, &pprof.Sample{Location: stack(at.node), Value: t.self[at]})
		}
	}
	leaves := [2]*pprof.Location{}
	for _, at := range slices.SortedFunc(maps.Keys(t.pruned), byNode) {
		if at.side != side {
			continue
		}
		for i, name := range []string{PrunedFrame, PrunedNegativeFrame} {
			values := t.pruned[at][i*t.types : (i+1)*t.types]
			if !slices.ContainsFunc(values, func(v int64) bool { return v != 0 }) {
				continue
			}
			if leaves[i] == nil {
				leaves[i] = newLocation(newFunction(function{name: name, system: name}), 0, 0)
			}
			p.Sample = append(p.Sample, &pprof.Sample{Location: append([]*pprof.Location{leaves[i]}, stack(at.node)...), Value: values})
		}
	}
	return p
}

func byNode(a, b nodeSide) int { return cmp.Compare(a.node, b.node) }

func abs(v int64) float64 {
	if v < 0 {
		return -float64(v)
	}
	return float64(v)
}

// sanitize makes harmless what pprof's pages do not escape (the name of the main
// binary becomes the title of the graph, as it is) or would make a link of.
func sanitize(p *pprof.Profile) {
	for _, m := range p.Mapping {
		m.File = plainName(m.File[strings.LastIndexByte(m.File, '/')+1:])
		m.BuildID = plainName(m.BuildID)
		m.KernelRelocationSymbol = ""
	}
	for _, t := range append(slices.Clone(p.SampleType), p.PeriodType) {
		if t != nil {
			t.Type, t.Unit = plainName(t.Type), plainName(t.Unit)
		}
	}
	p.DefaultSampleType = plainName(p.DefaultSampleType)
	p.DocURL = ""
	for _, f := range p.Function {
		f.Name, f.SystemName, f.Filename = unquoted(f.Name), unquoted(f.SystemName), unquoted(f.Filename)
	}
	for _, s := range p.Sample {
		for k, v := range s.Label {
			for i := range v {
				v[i] = unquoted(v[i])
			}
			if clean := unquoted(k); clean != k {
				delete(s.Label, k)
				s.Label[clean] = append(s.Label[clean], v...)
			}
		}
		for k, v := range s.NumLabel {
			units := s.NumUnit[k]
			for i := range units {
				units[i] = plainName(units[i])
			}
			if clean := unquoted(k); clean != k {
				delete(s.NumLabel, k)
				delete(s.NumUnit, k)
				s.NumLabel[clean], s.NumUnit[clean] = v, units
			}
		}
	}
}

// quotes are what ends a string of Graphviz, or means something within one.
var quotes = strings.NewReplacer(`"`, "'", `\`, "/", "\n", " ", "\r", " ", "\x00", " ")

// unquoted makes a name safe within a quoted string of Graphviz, whether or not
// it is escaped there.
func unquoted(s string) string { return quotes.Replace(s) }

// plainName keeps letters, digits, dots, hyphens and underscores, and at most
// 100 characters of them.
func plainName(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, s)
}
