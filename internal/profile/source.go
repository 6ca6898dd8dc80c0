package profile

import "slices"

// function and frame are what a stack is made of, across all profiles put into
// one names. Unlike a Symbol, a function is told from another of its name.
type function struct {
	name, system, file string
	startLine          int64
	// address is set, and name is not, for what was never symbolized.
	address uint64
}

type frame struct {
	function uint32
	line     int64
}

// names interns the functions and frames of one or two profiles.
type names struct {
	functions   []function
	functionIDs map[function]uint32
	frames      []frame
	frameIDs    map[frame]uint32
}

func newNames() *names {
	return &names{functionIDs: map[function]uint32{}, frameIDs: map[frame]uint32{}}
}

func (n *names) function(f function) uint32 {
	id, ok := n.functionIDs[f]
	if !ok {
		id = uint32(len(n.functions))
		n.functionIDs[f] = id
		n.functions = append(n.functions, f)
	}
	return id
}

func (n *names) frame(f frame) uint32 {
	id, ok := n.frameIDs[f]
	if !ok {
		id = uint32(len(n.frames))
		n.frameIDs[f] = id
		n.frames = append(n.frames, f)
	}
	return id
}

// source is a profile as its reduced copy is made from it: stacks as frame ids
// from the root to the leaf, one after the other, and values in rows of one per
// sample type.
type source struct {
	*Profile
	mapping       Mapping // of the main binary
	frames        []uint32
	ends          []uint32 // of each sample's stack in frames
	valuesInOrder []int64
}

func (s *source) stack(i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	return s.frames[from:s.ends[i]]
}

// row is the values of sample i, one for each sample type.
func (s *source) row(i int) []int64 {
	return s.valuesInOrder[i*len(s.Types) : (i+1)*len(s.Types)]
}

// readSource decodes raw. Labels are left out.
func readSource(raw []byte, lim Limits, n *names) (*source, error) {
	p := &Profile{}
	if err := p.decode(raw, lim, &scratch{}); err != nil {
		return nil, err
	}
	s := &source{Profile: p}
	if len(p.Mappings) > 0 {
		s.mapping = p.Mappings[0]
	}
	functions := make([]uint32, len(p.Functions))
	for i, f := range p.Functions {
		functions[i] = n.function(function{name: p.Strings[f.Name], system: p.Strings[f.SystemName], file: p.Strings[f.File], startLine: f.StartLine})
	}
	lines := make([]uint32, 0, len(p.Lines)+len(p.Locations))
	at := make([]span, len(p.Locations))
	for i, l := range p.Locations {
		at[i].from = uint32(len(lines))
		for _, line := range p.Lines[l.From:l.To] {
			lines = append(lines, n.frame(frame{function: functions[line.Function], line: line.Line}))
		}
		if l.From == l.To {
			lines = append(lines, n.frame(frame{function: n.function(function{address: l.Address})}))
		}
		at[i].to = uint32(len(lines))
	}
	s.ends = make([]uint32, 0, p.samples)
	s.valuesInOrder = make([]int64, 0, p.samples*len(p.Types))
	s.frames = make([]uint32, 0, len(p.stacks))
	for i := range p.samples {
		for _, l := range slices.Backward(p.Stack(i)) {
			for _, f := range slices.Backward(lines[at[l].from:at[l].to]) {
				s.frames = append(s.frames, f)
			}
		}
		s.ends = append(s.ends, uint32(len(s.frames)))
		for _, column := range p.Values {
			s.valuesInOrder = append(s.valuesInOrder, column[i])
		}
	}
	p.stacks, p.Values = nil, nil // have become frames and rows
	return s, nil
}
