package profile

import (
	"github.com/opscenter/opscenter/internal/ops"
)

// maxSampleTypes is more than any profiler writes.
const maxSampleTypes = 32

// none stands for an index that is not there.
const none = ^uint32(0)

// header is what a profile says of itself.
type header struct {
	types                    []valueType
	period                   int64
	periodType               valueType
	timeNanos, durationNanos int64
	dropFrames, keepFrames   string
	defaultType              string
	comments                 []string
}

type valueType struct{ name, unit string }

// function and frame are what a stack is made of, across all profiles read into
// one names.
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

// source is a profile read into columns: stacks as frame ids from the root to
// the leaf, one after the other, and values in rows of one per sample type.
type source struct {
	header
	mapping mapping // of the main binary
	frames  []uint32
	ends    []uint32 // of each sample's stack in frames
	values  []int64
}

type mapping struct {
	start, limit, offset uint64
	file, buildID        string
}

func (s *source) stack(i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	return s.frames[from:s.ends[i]]
}

// row is the values of sample i, one for each sample type.
func (s *source) row(i int) []int64 { return s.values[i*len(s.types) : (i+1)*len(s.types)] }

// index finds entries by the ids that a profile gave them, which usually count
// from one.
type index struct {
	dense  []uint32
	sparse map[uint64]uint32
}

func newIndex(n int) index {
	x := index{dense: make([]uint32, n+2), sparse: map[uint64]uint32{}}
	for i := range x.dense {
		x.dense[i] = none
	}
	return x
}

func (x *index) get(id uint64) uint32 {
	if id < uint64(len(x.dense)) {
		return x.dense[id]
	}
	if v, ok := x.sparse[id]; ok {
		return v
	}
	return none
}

// put adds an entry, unless the id is zero or taken.
func (x *index) put(id uint64, v uint32) bool {
	if id == 0 || x.get(id) != none {
		return false
	}
	if id < uint64(len(x.dense)) {
		x.dense[id] = v
	} else {
		x.sparse[id] = v
	}
	return true
}

// readSource decodes what inspect let through. Labels are left out. Memory is
// bounded by what is in raw and by lim.MemoryBytes.
func readSource(raw []byte, sh shape, lim Limits, n *names) (*source, error) {
	if sh.sampleTypes > maxSampleTypes {
		return nil, ops.Errorf(ops.Exhausted, "the profile has %d sample types and the limit is %d: download it and open it with go tool pprof", sh.sampleTypes, maxSampleTypes)
	}
	s := &source{}
	table := make([][]byte, 0, sh.strings)
	for d := (decoder{b: raw}); d.next(); {
		if d.field == fieldString {
			table = append(table, d.data)
		}
	}
	bad := false
	text := func(i uint64) string {
		if i >= uint64(len(table)) {
			bad = true
			return ""
		}
		return string(table[i])
	}

	if err := s.readHeader(raw, text); err != nil {
		return nil, err
	}
	functions, err := readFunctions(raw, sh, n, text)
	if err != nil {
		return nil, err
	}
	locations, err := readLocations(raw, sh, n, functions)
	if err != nil {
		return nil, err
	}
	if bad {
		return nil, damaged("a string is missing")
	}
	return s, s.readSamples(raw, sh, lim, locations)
}

func (s *source) readHeader(raw []byte, text func(uint64) string) error {
	valueTypeOf := func(b []byte) (v valueType, ok bool) {
		m := decoder{b: b}
		for m.next() {
			switch m.field {
			case 1:
				v.name = text(m.num)
			case 2:
				v.unit = text(m.num)
			}
		}
		return v, !m.bad
	}
	first := true
	for d := (decoder{b: raw}); d.next(); {
		ok := true
		switch d.field {
		case fieldSampleType:
			var v valueType
			v, ok = valueTypeOf(d.data)
			s.types = append(s.types, v)
		case fieldPeriodType:
			s.periodType, ok = valueTypeOf(d.data)
		case fieldPeriod:
			s.period = int64(d.num)
		case fieldTimeNanos:
			s.timeNanos = int64(d.num)
		case fieldDurationNanos:
			s.durationNanos = int64(d.num)
		case fieldDropFrames:
			s.dropFrames = text(d.num)
		case fieldKeepFrames:
			s.keepFrames = text(d.num)
		case fieldDefaultSampleType:
			s.defaultType = text(d.num)
		case fieldComment:
			d.numbers(func(i uint64) {
				if len(s.comments) < 100 {
					s.comments = append(s.comments, text(i))
				}
			})
			ok = !d.bad
		case fieldMapping:
			if !first {
				break
			}
			first = false
			m := decoder{b: d.data}
			for m.next() {
				switch m.field {
				case 2:
					s.mapping.start = m.num
				case 3:
					s.mapping.limit = m.num
				case 4:
					s.mapping.offset = m.num
				case 5:
					s.mapping.file = text(m.num)
				case 6:
					s.mapping.buildID = text(m.num)
				}
			}
			ok = !m.bad
		}
		if !ok {
			return damaged("its header cannot be read")
		}
	}
	return nil
}

// readFunctions returns where each function id is in n.
func readFunctions(raw []byte, sh shape, n *names, text func(uint64) string) (index, error) {
	x := newIndex(sh.functions)
	for d := (decoder{b: raw}); d.next(); {
		if d.field != fieldFunction {
			continue
		}
		var id uint64
		var f function
		m := decoder{b: d.data}
		for m.next() {
			switch m.field {
			case 1:
				id = m.num
			case 2:
				f.name = text(m.num)
			case 3:
				f.system = text(m.num)
			case 4:
				f.file = text(m.num)
			case 5:
				f.startLine = int64(m.num)
			}
		}
		if m.bad {
			return x, damaged("a function cannot be read")
		}
		if !x.put(id, n.function(f)) {
			return x, damaged("two functions have the same id, or one has none")
		}
	}
	return x, nil
}

// locations are the frames of each location, from the innermost to the outermost.
type locations struct {
	index  index
	frames []uint32
	ends   []uint32
}

func (l *locations) at(i uint32) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = l.ends[i-1]
	}
	return l.frames[from:l.ends[i]]
}

func readLocations(raw []byte, sh shape, n *names, functions index) (*locations, error) {
	l := &locations{index: newIndex(sh.locations), frames: make([]uint32, 0, max(sh.lines, sh.locations)), ends: make([]uint32, 0, sh.locations)}
	for d := (decoder{b: raw}); d.next(); {
		if d.field != fieldLocation {
			continue
		}
		var id, address uint64
		before := len(l.frames)
		m := decoder{b: d.data}
		for m.next() {
			switch m.field {
			case 1:
				id = m.num
			case 3:
				address = m.num
			case 4:
				if m.wire != wireBytes {
					return nil, damaged("a location cannot be read")
				}
				f := frame{function: none}
				line := decoder{b: m.data}
				for line.next() {
					switch line.field {
					case 1:
						f.function = functions.get(line.num)
					case 2:
						f.line = int64(line.num)
					}
				}
				if line.bad || f.function == none {
					return nil, damaged("a location has a line without a function")
				}
				l.frames = append(l.frames, n.frame(f))
			}
		}
		if m.bad {
			return nil, damaged("a location cannot be read")
		}
		if len(l.frames) == before {
			l.frames = append(l.frames, n.frame(frame{function: n.function(function{address: address})}))
		}
		if !l.index.put(id, uint32(len(l.ends))) {
			return nil, damaged("two locations have the same id, or one has none")
		}
		l.ends = append(l.ends, uint32(len(l.frames)))
	}
	return l, nil
}

func (s *source) readSamples(raw []byte, sh shape, lim Limits, l *locations) error {
	types := len(s.types)
	s.ends = make([]uint32, 0, sh.samples)
	s.values = make([]int64, 0, sh.samples*types)
	s.frames = make([]uint32, 0, sh.frames)
	// Inlined functions make a stack longer than its locations; a few bytes can
	// ask for many frames.
	room := min(lim.MemoryBytes/4, 1<<31)
	var stack []uint32
	for d := (decoder{b: raw}); d.next(); {
		if d.field != fieldSample {
			continue
		}
		stack = stack[:0]
		missing := false
		values := 0
		m := decoder{b: d.data}
		for m.next() {
			switch m.field {
			case 1:
				m.numbers(func(id uint64) {
					i := l.index.get(id)
					missing = missing || i == none
					stack = append(stack, i)
				})
			case 2:
				m.numbers(func(v uint64) {
					if values++; values <= types {
						s.values = append(s.values, int64(v))
					}
				})
			}
		}
		switch {
		case m.bad:
			return damaged("a sample cannot be read")
		case missing:
			return damaged("a sample names a location that is not there")
		case values != types:
			return damaged("a sample has not one value for each sample type")
		}
		for i := len(stack) - 1; i >= 0; i-- {
			lines := l.at(stack[i])
			for j := len(lines) - 1; j >= 0; j-- {
				s.frames = append(s.frames, lines[j])
			}
			if int64(len(s.frames)) > room {
				return ops.Errorf(ops.Exhausted, "the profile's stacks have more than %d frames in all, which is the limit: download it and open it with go tool pprof", room)
			}
		}
		s.ends = append(s.ends, uint32(len(s.frames)))
	}
	return nil
}
