package profile

import (
	"math"
	"unsafe"

	"github.com/opscenter/opscenter/internal/ops"
)

// maxSampleTypes is more than any profiler writes.
const maxSampleTypes = 32

// scratch is what decoding needs besides the columns; kept, it makes reading
// the next profile cost no memory.
type scratch struct {
	header, samples, functions, locations, mappings []span
	functionIDs, locationIDs, mappingIDs            index
}

// span is a message within the profile's bytes.
type span struct{ from, to uint32 }

// index finds entries by the ids that a profile gave them, which usually count
// from one.
type index struct {
	dense  []uint32
	sparse map[uint64]uint32
}

// none stands for an index that is not there.
const none = ^uint32(0)

func (x *index) reset(n int) {
	x.dense = resize(x.dense, n+2)
	for i := range x.dense {
		x.dense[i] = none
	}
	clear(x.sparse)
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
		return true
	}
	if x.sparse == nil {
		x.sparse = map[uint64]uint32{}
	}
	x.sparse[id] = v
	return true
}

// resize returns s with n elements of any content.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// decode makes p the profile that raw holds, reusing p's memory. The strings
// are views of raw, which must not change while p is in use. What it allocates
// is in proportion to raw and refused beyond lim.MemoryBytes.
func (p *Profile) decode(raw []byte, lim Limits, s *scratch) error {
	room, err := p.decodeTables(raw, lim, s)
	if err != nil {
		return err
	}
	return p.decodeSamples(raw, s, lim, room)
}

// decodeTables is decode without the samples, which are left in s. It returns how
// much memory they may take.
func (p *Profile) decodeTables(raw []byte, lim Limits, s *scratch) (room int64, err error) {
	if len(raw) > math.MaxUint32/2 {
		return 0, tooLarge(math.MaxUint32 / 2)
	}
	p.Header = Header{Types: p.Types[:0], Comments: p.Comments[:0]}
	p.Strings = p.Strings[:0]
	h, err := p.split(raw, s)
	if err != nil {
		return 0, err
	}
	switch {
	case h.types > maxSampleTypes:
		return 0, ops.Errorf(ops.Exhausted, "the profile has %d sample types and the limit is %d: download it and open it with go tool pprof", h.types, maxSampleTypes)
	case len(s.samples) > lim.Samples:
		return 0, ops.Errorf(ops.Exhausted, "the profile has %d samples and the limit is %d: download it and open it with go tool pprof", len(s.samples), lim.Samples)
	}
	// The ids of functions and locations are an index each, besides their rows.
	fixed := int64(len(raw)) + int64(len(p.Strings))*16 + int64(len(s.functions))*40 + int64(len(s.locations))*40 +
		int64(len(s.mappings))*48 + int64(len(s.samples))*int64(12+8*h.types)
	if fixed > lim.MemoryBytes {
		return 0, ops.Errorf(ops.Exhausted, "the profile would take about %d MiB of memory and the limit is %d MiB: download it and open it with go tool pprof", fixed>>20, lim.MemoryBytes>>20)
	}
	if err := p.decodeHeader(raw, h, s); err != nil {
		return 0, err
	}
	if err := p.decodeMappings(raw, s); err != nil {
		return 0, err
	}
	if err := p.decodeFunctions(raw, s); err != nil {
		return 0, err
	}
	if err := p.decodeLocations(raw, s, lim.MemoryBytes-fixed); err != nil {
		return 0, err
	}
	return lim.MemoryBytes - fixed - int64(len(p.Lines))*24, nil
}

// headerFields are what the header says in numbers of strings, which may stand
// behind it.
type headerFields struct {
	types                  int
	drop, keep, defaultTyp uint64
}

// split finds the messages and the strings.
func (p *Profile) split(raw []byte, s *scratch) (h headerFields, err error) {
	s.samples, s.functions, s.locations, s.mappings, s.header = s.samples[:0], s.functions[:0], s.locations[:0], s.mappings[:0], s.header[:0]
	times := 0
	for at := 0; at < len(raw); {
		before := uint32(at)
		tag := uint64(raw[at])
		if at++; tag >= 0x80 {
			tag, at = number(raw, at-1)
		}
		var num uint64
		var m span
		switch tag & 7 {
		case wireBytes:
			var size uint64
			if at < len(raw) && raw[at] < 0x80 {
				size, at = uint64(raw[at]), at+1
			} else {
				size, at = number(raw, at)
			}
			if at > len(raw) || size > uint64(len(raw)-at) {
				return h, damaged("it is not a protocol buffer, or it is cut off")
			}
			m = span{uint32(at), uint32(at) + uint32(size)}
			at += int(size)
		case wireVarint:
			num, at = number(raw, at)
		default:
			at = skip(raw, at, tag)
		}
		field := tag >> 3
		if at > len(raw) || field == 0 || field > 1<<29 {
			return h, damaged("it is not a protocol buffer, or it is cut off")
		}
		if field <= fieldString && tag&7 != wireBytes {
			return h, damaged("a message has the wrong type")
		}
		switch field {
		case fieldSampleType:
			h.types++
			s.header = append(s.header, span{before, m.to})
		case fieldPeriodType, fieldComment:
			s.header = append(s.header, span{before, uint32(at)})
		case fieldSample:
			s.samples = append(s.samples, m)
		case fieldMapping:
			s.mappings = append(s.mappings, m)
		case fieldLocation:
			s.locations = append(s.locations, m)
		case fieldFunction:
			s.functions = append(s.functions, m)
		case fieldString:
			p.Strings = append(p.Strings, unsafe.String(unsafe.SliceData(raw[m.from:]), m.to-m.from))
		case fieldDropFrames:
			h.drop = num
		case fieldKeepFrames:
			h.keep = num
		case fieldTimeNanos:
			if times++; times > 1 && p.TimeNanos != 0 {
				return h, damaged("it is several profiles, one after the other")
			}
			p.TimeNanos = int64(num)
		case fieldDurationNanos:
			p.DurationNanos = int64(num)
		case fieldPeriod:
			p.Period = int64(num)
		case fieldDefaultSampleType:
			h.defaultTyp = num
		}
	}
	switch {
	case h.types == 0 || len(p.Strings) == 0:
		return h, ops.Errorf(ops.Corrupt, "this is not a pprof profile: it names no sample type")
	case p.Strings[0] != "":
		return h, damaged("its first string is not empty")
	}
	return h, nil
}

// text checks the number of a string; bad is set if there is none.
func (p *Profile) text(i uint64, bad *bool) StringID {
	if i >= uint64(len(p.Strings)) {
		*bad = true
		return 0
	}
	return StringID(i)
}

func (p *Profile) decodeHeader(raw []byte, h headerFields, s *scratch) error {
	bad := false
	text := func(i uint64) string { return p.Strings[p.text(i, &bad)] }
	valueType := func(b []byte) (v ValueType) {
		m := decoder{b: b}
		for m.next() {
			switch m.field {
			case 1:
				v.Type = text(m.num)
			case 2:
				v.Unit = text(m.num)
			}
		}
		bad = bad || m.bad
		return v
	}
	for _, at := range s.header {
		d := decoder{b: raw[at.from:at.to]}
		d.next()
		switch d.field {
		case fieldSampleType:
			p.Types = append(p.Types, valueType(d.data))
		case fieldPeriodType:
			p.PeriodType = valueType(d.data)
		case fieldComment:
			d.numbers(func(i uint64) {
				if len(p.Comments) < 100 {
					p.Comments = append(p.Comments, text(i))
				}
			})
			bad = bad || d.bad
		}
	}
	p.DropFrames, p.KeepFrames, p.DefaultType = text(h.drop), text(h.keep), text(h.defaultTyp)
	if bad {
		return damaged("its header cannot be read")
	}
	return nil
}

func (p *Profile) decodeMappings(raw []byte, s *scratch) error {
	p.Mappings = p.Mappings[:0]
	s.mappingIDs.reset(len(s.mappings))
	for _, at := range s.mappings {
		var id uint64
		var m Mapping
		bad := false
		d := decoder{b: raw[at.from:at.to]}
		for d.next() {
			switch d.field {
			case 1:
				id = d.num
			case 2:
				m.Start = d.num
			case 3:
				m.Limit = d.num
			case 4:
				m.Offset = d.num
			case 5:
				m.File = p.text(d.num, &bad)
			case 6:
				m.BuildID = p.text(d.num, &bad)
			}
		}
		switch {
		case d.bad:
			return damaged("a mapping cannot be read")
		case bad:
			return damaged("a string is missing")
		case !s.mappingIDs.put(id, uint32(len(p.Mappings))):
			return damaged("two mappings have the same id, or one has none")
		}
		p.Mappings = append(p.Mappings, m)
	}
	return nil
}

func (p *Profile) decodeFunctions(raw []byte, s *scratch) error {
	p.Functions = p.Functions[:0]
	s.functionIDs.reset(len(s.functions))
	texts := uint64(len(p.Strings))
	for _, at := range s.functions {
		var f Function
		var id, name, system, file uint64
		m := raw[at.from:at.to]
		at := 0
		for at < len(m) {
			tag := uint64(m[at])
			if at++; tag >= 0x80 {
				tag, at = number(m, at-1)
			}
			if tag&7 != wireVarint || tag < 8 {
				at = skip(m, at, tag)
				continue
			}
			var v uint64
			switch {
			case at < len(m) && m[at] < 0x80:
				v, at = uint64(m[at]), at+1
			case at+1 < len(m) && m[at+1] < 0x80:
				v, at = uint64(m[at]&0x7f)|uint64(m[at+1])<<7, at+2
			default:
				v, at = number(m, at)
			}
			switch tag >> 3 {
			case 1:
				id = v
			case 2:
				name = v
			case 3:
				system = v
			case 4:
				file = v
			case 5:
				f.StartLine = int64(v)
			}
		}
		f.Name, f.SystemName, f.File = StringID(name), StringID(system), StringID(file)
		switch {
		case at > len(m):
			return damaged("a function cannot be read")
		case max(name, system, file) >= texts:
			return damaged("a string is missing")
		case !s.functionIDs.put(id, uint32(len(p.Functions))):
			return damaged("two functions have the same id, or one has none")
		}
		p.Functions = append(p.Functions, f)
	}
	return nil
}

func (p *Profile) decodeLocations(raw []byte, s *scratch, room int64) error {
	p.Locations, p.Lines = p.Locations[:0], p.Lines[:0]
	s.locationIDs.reset(len(s.locations))
	for _, at := range s.locations {
		var id uint64
		l := Location{Mapping: NoMapping, From: uint32(len(p.Lines))}
		m := raw[at.from:at.to]
		at := 0
		for at < len(m) {
			tag := uint64(m[at])
			if at++; tag >= 0x80 {
				tag, at = number(m, at-1)
			}
			var v uint64
			if tag&7 == wireVarint || tag == 4<<3|wireBytes { // a number, or how long a line is
				switch {
				case at < len(m) && m[at] < 0x80:
					v, at = uint64(m[at]), at+1
				case at+1 < len(m) && m[at+1] < 0x80:
					v, at = uint64(m[at]&0x7f)|uint64(m[at+1])<<7, at+2
				default:
					v, at = number(m, at)
				}
			} else {
				at = skip(m, at, tag)
			}
			switch tag {
			case 1 << 3:
				id = v
			case 2 << 3:
				l.Mapping = MappingID(s.mappingIDs.get(v))
			case 3 << 3:
				l.Address = v
			case 4<<3 | wireBytes:
				if at > len(m) || v > uint64(len(m)-at) {
					return damaged("a location cannot be read")
				}
				end := at + int(v)
				line, ok := s.line(m[at:end])
				if !ok {
					return damaged("a location has a line without a function")
				}
				at = end
				p.Lines = append(p.Lines, line)
				if int64(len(p.Lines))*24 > room {
					return ops.Errorf(ops.Exhausted, "the profile has more than %d lines, which is the limit: download it and open it with go tool pprof", room/24)
				}
			default:
				if tag>>3 == 0 || tag>>3 == 4 {
					return damaged("a location cannot be read")
				}
			}
		}
		l.To = uint32(len(p.Lines))
		if at > len(m) {
			return damaged("a location cannot be read")
		}
		if !s.locationIDs.put(id, uint32(len(p.Locations))) {
			return damaged("two locations have the same id, or one has none")
		}
		p.Locations = append(p.Locations, l)
	}
	return nil
}

// line reads a line of a location.
func (s *scratch) line(m []byte) (Line, bool) {
	line := Line{Function: FuncID(none)}
	at := 0
	for at < len(m) {
		tag := uint64(m[at])
		if at++; tag >= 0x80 {
			tag, at = number(m, at-1)
		}
		if tag&7 != wireVarint || tag < 8 {
			at = skip(m, at, tag)
			continue
		}
		var v uint64
		switch {
		case at < len(m) && m[at] < 0x80:
			v, at = uint64(m[at]), at+1
		case at+1 < len(m) && m[at+1] < 0x80:
			v, at = uint64(m[at]&0x7f)|uint64(m[at+1])<<7, at+2
		default:
			v, at = number(m, at)
		}
		switch tag >> 3 {
		case 1:
			line.Function = FuncID(s.functionIDs.get(v))
		case 2:
			line.Line = int64(v)
		case 3:
			line.Column = int64(v)
		}
	}
	return line, at <= len(m) && uint32(line.Function) != none
}

func damagedSample() error { return damaged("a sample cannot be read") }

// decodeSamples is where the time goes: samples are nearly all of a profile.
func (p *Profile) decodeSamples(raw []byte, s *scratch, lim Limits, room int64) error {
	n := len(s.samples)
	p.samples = n
	p.Values = resize(p.Values, len(p.Types))
	for t := range p.Values {
		p.Values[t] = resize(p.Values[t], n)
	}
	p.stackEnds, p.stacks = resize(p.stackEnds, n), p.stacks[:0]
	p.labels, p.labelEnds = p.labels[:0], p.labelEnds[:0]
	deepest := uint32(1) // the most lines of a location
	for _, l := range p.Locations {
		deepest = max(deepest, l.To-l.From)
	}
	frames := int64(0) // when every location were the deepest
	for i, at := range s.samples {
		before, values, labels := len(p.stacks), 0, 0
		missing := false
		m := decoder{b: raw[at.from:at.to]}
		for m.next() {
			switch {
			case m.field == 1 && m.wire == wireBytes:
				var ok bool
				if missing, ok = p.decodeStack(m.data, s); !ok {
					return damagedSample()
				}
			case m.field == 1 && m.wire == wireVarint:
				l := s.locationIDs.get(m.num)
				missing = l == none
				p.stacks = append(p.stacks, LocID(l))
			case m.field == 2 && m.wire == wireBytes:
				for b := m.data; len(b) > 0; values++ {
					v, size := uint64(b[0]), 1
					if v >= 0x80 {
						if v, size = uvarint(b); size <= 0 {
							return damagedSample()
						}
					}
					b = b[size:]
					if values < len(p.Values) {
						p.Values[values][i] = int64(v)
					}
				}
			case m.field == 2 && m.wire == wireVarint:
				if values < len(p.Values) {
					p.Values[values][i] = int64(m.num)
				}
				values++
			case m.field <= 2:
				return damagedSample()
			case m.field == 3:
				if labels++; labels > lim.Labels {
					return ops.Errorf(ops.Exhausted, "the profile has a sample with more than %d labels, which is the limit: download it and open it with go tool pprof", lim.Labels)
				}
				if err := p.decodeLabel(m.data, m.wire); err != nil {
					return err
				}
			}
			if missing {
				return damaged("a sample names a location that is not there")
			}
		}
		depth := len(p.stacks) - before
		frames += int64(depth) * int64(deepest)
		switch {
		case m.bad:
			return damagedSample()
		case values != len(p.Values):
			return damaged("a sample has not one value for each sample type")
		case depth > lim.Depth:
			return ops.Errorf(ops.Exhausted, "the profile has a stack of %d frames and the limit is %d: download it and open it with go tool pprof", depth, lim.Depth)
		case int64(len(p.stacks))*4+int64(len(p.labels))*32 > room:
			return ops.Errorf(ops.Exhausted, "the profile would take more than %d MiB of memory, which is the limit: download it and open it with go tool pprof", lim.MemoryBytes>>20)
		}
		p.stackEnds[i] = uint32(len(p.stacks))
		if len(p.labels) > 0 || len(p.labelEnds) > 0 {
			for len(p.labelEnds) < i { // no label until now
				p.labelEnds = append(p.labelEnds, 0)
			}
			p.labelEnds = append(p.labelEnds, uint32(len(p.labels)))
		}
	}
	return p.checkFrames(frames, min(lim.MemoryBytes/4, 1<<31))
}

// decodeStack appends the locations of a packed list.
func (p *Profile) decodeStack(b []byte, s *scratch) (missing, ok bool) {
	dense, stacks := s.locationIDs.dense, p.stacks
	worst := uint32(0)
	for k := 0; k < len(b); {
		id := uint64(b[k])
		switch {
		case id < 0x80:
			k++
		case k+1 < len(b) && b[k+1] < 0x80:
			id = id&0x7f | uint64(b[k+1])<<7
			k += 2
		default:
			var size int
			if id, size = uvarint(b[k:]); size <= 0 {
				return false, false
			}
			k += size
		}
		var l uint32
		if id < uint64(len(dense)) {
			l = dense[id]
		} else {
			l = s.locationIDs.get(id)
		}
		worst = max(worst, l)
		stacks = append(stacks, LocID(l))
	}
	p.stacks = stacks
	return worst == none, true
}

// checkFrames refuses stacks that are longer than any reader should walk:
// inlined functions make a stack longer than its locations, and a few bytes can
// ask for billions of frames. The quick bound spares most profiles the count.
func (p *Profile) checkFrames(bound, room int64) error {
	if bound <= room {
		return nil
	}
	total := int64(0)
	for _, l := range p.stacks {
		at := &p.Locations[l]
		if total += int64(max(1, at.To-at.From)); total > room {
			return tooManyFrames(room)
		}
	}
	return nil
}

func (p *Profile) decodeLabel(b []byte, wire int) error {
	if wire != wireBytes {
		return damaged("a label cannot be read")
	}
	var l Label
	bad := false
	d := decoder{b: b}
	for d.next() {
		switch d.field {
		case 1:
			l.Key = p.text(d.num, &bad)
		case 2:
			l.Text = p.text(d.num, &bad)
		case 3:
			l.Number = int64(d.num)
		case 4:
			l.Unit = p.text(d.num, &bad)
		}
	}
	if d.bad || bad {
		return damaged("a label cannot be read")
	}
	switch {
	case l.Text != 0:
		l.Number, l.Unit = 0, 0
	case l.Number != 0 || l.Unit != 0:
		l.Numeric = true
	default:
		return nil // says nothing
	}
	p.labels = append(p.labels, l)
	return nil
}
