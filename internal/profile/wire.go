package profile

import (
	"encoding/binary"
	"math/bits"

	"github.com/opscenter/opscenter/internal/ops"
)

// The numbers of profile.proto's fields that are read here.
const (
	fieldSampleType        = 1
	fieldSample            = 2
	fieldMapping           = 3
	fieldLocation          = 4
	fieldFunction          = 5
	fieldString            = 6
	fieldDropFrames        = 7
	fieldKeepFrames        = 8
	fieldTimeNanos         = 9
	fieldDurationNanos     = 10
	fieldPeriodType        = 11
	fieldPeriod            = 12
	fieldComment           = 13
	fieldDefaultSampleType = 14
	fieldDocURL            = 15
)

// The wire types of protocol buffers.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// decoder walks the fields of one message. Bad input ends the walk and sets bad.
type decoder struct {
	b   []byte
	bad bool

	field int
	wire  int
	num   uint64 // of a varint
	data  []byte // of a length-delimited field; aliases the input
}

// next moves to the next field; false at the end or at bad input.
func (d *decoder) next() bool {
	if len(d.b) == 0 || d.bad {
		return false
	}
	key, n := uint64(d.b[0]), 1
	if key >= 0x80 {
		key, n = uvarint(d.b)
	}
	if n <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
		d.bad = true
		return false
	}
	b := d.b[n:]
	d.field, d.wire, d.num, d.data = int(key>>3), int(key&7), 0, nil
	switch d.wire {
	case wireVarint:
		if len(b) > 0 && b[0] < 0x80 {
			d.num, n = uint64(b[0]), 1
		} else {
			d.num, n = uvarint(b)
		}
	case wireFixed64:
		n = 8
	case wireFixed32:
		n = 4
	case wireBytes:
		var size uint64
		if len(b) > 0 && b[0] < 0x80 {
			size, n = uint64(b[0]), 1
		} else {
			size, n = uvarint(b)
		}
		if n <= 0 || size > uint64(len(b)-n) {
			d.bad = true
			return false
		}
		d.data = b[n : n+int(size) : n+int(size)]
		n += int(size)
	default:
		n = -1
	}
	if n <= 0 || n > len(b) {
		d.bad = true
		return false
	}
	d.b = b[n:]
	return true
}

// numbers calls fn for each number of a repeated integer field, packed or not.
func (d *decoder) numbers(fn func(uint64)) {
	switch d.wire {
	case wireVarint:
		fn(d.num)
	case wireBytes:
		for b := d.data; len(b) > 0; {
			v, n := uvarint(b)
			if n <= 0 {
				d.bad = true
				return
			}
			fn(v)
			b = b[n:]
		}
	default:
		d.bad = true
	}
}

// count returns how many numbers a repeated integer field holds, without
// decoding them: each ends with the only byte that has no continuation bit.
func (d *decoder) count() (n int) {
	if d.wire != wireBytes {
		return 1
	}
	for _, c := range d.data {
		if c < 0x80 {
			n++
		}
	}
	return n
}

// uvarint is binary.Uvarint; callers take the short way with numbers of one byte.
func uvarint(b []byte) (uint64, int) {
	if len(b) >= 8 {
		if w := binary.LittleEndian.Uint64(b); ^w&0x8080808080808080 != 0 {
			return short(w)
		}
	}
	var v uint64
	for i, c := range b {
		if i == 10 || i == 9 && c > 1 {
			return 0, -1
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// shape is what a profile holds, counted before anything is decoded.
type shape struct {
	rawBytes                                       int
	sampleTypes, samples, frames, values, labels   int
	mappings, locations, lines, functions, strings int
	comments                                       int
	timeNanos, durationNanos                       int64
	maxDepth                                       int
}

// memory estimates, from above, what google/pprof's objects for it take.
func (s shape) memory() int64 {
	return int64(s.rawBytes) + int64(s.samples)*160 + int64(s.frames)*24 + int64(s.values)*16 + int64(s.labels)*600 +
		int64(s.mappings)*256 + int64(s.locations)*200 + int64(s.lines)*96 + int64(s.functions)*220 + int64(s.strings)*48 + int64(s.comments)*32
}

// inspect counts what raw holds and refuses, without allocating, what is no
// profile or passes a limit.
func inspect(raw []byte, lim Limits) (shape, error) {
	s := shape{rawBytes: len(raw)}
	d := decoder{b: raw}
	for d.next() {
		if d.field <= fieldString && d.wire != wireBytes {
			return s, damaged("a message has the wrong type")
		}
		switch d.field {
		case fieldSampleType:
			s.sampleTypes++
		case fieldSample:
			s.samples++
			m := decoder{b: d.data}
			depth, labels := 0, 0
			for m.next() {
				switch m.field {
				case 1:
					depth += m.count()
				case 2:
					s.values += m.count()
				case 3:
					labels++
				}
			}
			if m.bad {
				return s, damaged("a sample cannot be read")
			}
			if depth > lim.Depth {
				return s, ops.Errorf(ops.Exhausted, "the profile has a stack of %d frames and the limit is %d: download it and open it with go tool pprof", depth, lim.Depth)
			}
			if labels > lim.Labels {
				return s, ops.Errorf(ops.Exhausted, "the profile has a sample with %d labels and the limit is %d: download it and open it with go tool pprof", labels, lim.Labels)
			}
			s.maxDepth = max(s.maxDepth, depth)
			s.frames += depth
			s.labels += labels
		case fieldMapping:
			s.mappings++
		case fieldLocation:
			s.locations++
			m := decoder{b: d.data}
			for m.next() {
				if m.field == 4 {
					s.lines++
				}
			}
			if m.bad {
				return s, damaged("a location cannot be read")
			}
		case fieldFunction:
			s.functions++
		case fieldString:
			s.strings++
		case fieldComment:
			s.comments += d.count()
		case fieldTimeNanos:
			s.timeNanos = int64(d.num)
		case fieldDurationNanos:
			s.durationNanos = int64(d.num)
		}
	}
	switch {
	case d.bad:
		return s, damaged("it is not a protocol buffer, or it is cut off")
	case s.sampleTypes == 0 || s.strings == 0:
		return s, ops.Errorf(ops.Corrupt, "this is not a pprof profile: it names no sample type")
	case s.samples > lim.Samples:
		return s, ops.Errorf(ops.Exhausted, "the profile has %d samples and the limit is %d: download it and open it with go tool pprof", s.samples, lim.Samples)
	case s.memory() > lim.MemoryBytes:
		return s, ops.Errorf(ops.Exhausted, "the profile would take about %d MiB of memory and the limit is %d MiB: download it and open it with go tool pprof", s.memory()>>20, lim.MemoryBytes>>20)
	}
	return s, nil
}

func damaged(what string) error {
	return ops.Errorf(ops.Corrupt, "the profile is damaged (%s): capture it again", what)
}

// number reads the varint at b[at:] and returns what comes behind it; that is
// beyond the end of b if it cannot be read. Together with bytesAt and skip it is
// for the messages that a profile has thousands of: in place of a decoder, which
// has to remember more.
func number(b []byte, at int) (uint64, int) {
	if at+8 <= cap(b) { // most of the time something stands behind the message
		if w := binary.LittleEndian.Uint64(b[at : at+8]); ^w&0x8080808080808080 != 0 {
			v, n := short(w)
			if at += n; at > len(b) {
				at = len(b) + 1
			}
			return v, at
		}
	}
	if at >= len(b) {
		return 0, len(b) + 1
	}
	v, n := uvarint(b[at:])
	if n <= 0 {
		return 0, len(b) + 1
	}
	return v, at + n
}

// short reads a varint of eight bytes at most, without a loop, and says how many
// they are.
func short(w uint64) (uint64, int) {
	ends := ^w & 0x8080808080808080
	w &= ends ^ (ends - 1)
	w = w&0x007f007f007f007f | w&0x7f007f007f007f00>>1
	w = w&0x00003fff00003fff | w&0x3fff00003fff0000>>2
	return w&0x0fffffff | w&0x0fffffff00000000>>4, bits.TrailingZeros64(ends)/8 + 1
}

// bytesAt reads a length and as many bytes.
func bytesAt(b []byte, at int) ([]byte, int) {
	var n uint64
	if at < len(b) && b[at] < 0x80 {
		n, at = uint64(b[at]), at+1
	} else {
		n, at = number(b, at)
	}
	if at > len(b) || n > uint64(len(b)-at) {
		return nil, len(b) + 1
	}
	return b[at : at+int(n)], at + int(n)
}

// skip returns what comes behind the field whose tag was read last.
func skip(b []byte, at int, tag uint64) int {
	if tag>>3 == 0 || tag>>3 > 1<<29 {
		return len(b) + 1
	}
	switch tag & 7 {
	case wireVarint:
		_, at = number(b, at)
	case wireFixed64:
		at += 8
	case wireFixed32:
		at += 4
	case wireBytes:
		_, at = bytesAt(b, at)
	default:
		at = len(b) + 1
	}
	return at
}
