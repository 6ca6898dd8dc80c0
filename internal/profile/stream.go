package profile

import (
	"encoding/binary"
	"math/bits"

	"github.com/opscenter/opscenter/internal/ops"
)

// stream puts the samples of a profile whose tables are decoded into the tree as
// they are read, one by one: its stacks are known by their hashes, most of them, and
// need not be made. What is refused is what decodeSamples refuses.
func (s *Sum) stream(raw []byte, room int64) error {
	p := &s.profile
	s.view.whole(p, s.filter)
	s.view.resolve(nil)
	s.hash()
	s.hashesByID()
	samples := s.scratch.samples
	s.leaves, s.values = resize(s.leaves, len(samples)), resize(s.values, len(samples)*len(p.Types))
	w := walk{sum: s, types: len(p.Types), strings: uint64(len(p.Strings)), deepest: 1}
	for _, l := range p.Locations {
		w.deepest = max(w.deepest, int64(l.To-l.From))
	}
	framesRoom := min(s.limits.MemoryBytes/4, 1<<31)
	made := int64(0) // frames of the stacks that had to be made
	s.last, s.lost = 0, 0
	for i, at := range samples {
		m := raw[at.from:at.to]
		hash, err := w.sample(m, s.values[i*w.types:][:w.types])
		switch {
		case err != nil:
			return err
		case w.locations*4+w.labels*32 > room:
			return ops.Errorf(ops.Exhausted, "the profile would take more than %d MiB of memory, which is the limit: download it and open it with go tool pprof", s.limits.MemoryBytes>>20)
		}
		found := s.find(hash)
		if found < 0 {
			stack := s.stackOf(m)
			if made += p.framesIn(stack); made > framesRoom {
				return tooManyFrames(framesRoom)
			}
			if found, err = s.grow(hash, stack); err != nil {
				return err
			}
		}
		s.leaves[i] = s.seen[found].leaf
	}
	if w.locations*w.deepest > framesRoom { // it may be: count them
		total := int64(0)
		for _, at := range samples {
			if total += p.framesIn(s.stackOf(raw[at.from:at.to])); total > framesRoom {
				return tooManyFrames(framesRoom)
			}
		}
	}
	return nil
}

// hashesByID spares a step for each location of each stack: for ids that are
// dense, as they usually are, and for those of two bytes.
func (s *Sum) hashesByID() {
	ids := &s.scratch.locationIDs
	s.byID = resize(s.byID, max(len(ids.dense), nearIDs))
	clear(s.byID)
	for id, l := range ids.dense {
		if l != none {
			s.byID[id] = s.hashes[l]
		}
	}
	for id, l := range ids.sparse {
		if id < uint64(len(s.byID)) {
			s.byID[id] = s.hashes[l]
		}
	}
}

// nearIDs is how many ids take two bytes at most.
const nearIDs = 1 << 14

// stackOf is the stack of a sample that was found to be whole, in memory that is
// used again.
func (s *Sum) stackOf(m []byte) []LocID {
	s.stack = s.stack[:0]
	d := decoder{b: m}
	for d.next() {
		if d.field == 1 {
			d.numbers(func(id uint64) { s.stack = append(s.stack, LocID(s.scratch.locationIDs.get(id))) })
		}
	}
	return s.stack
}

// framesIn is how many frames a stack has with the inlined functions.
func (p *Profile) framesIn(stack []LocID) (n int64) {
	for _, l := range stack {
		at := &p.Locations[l]
		n += int64(max(1, at.To-at.From))
	}
	return n
}

func tooManyFrames(room int64) error {
	return ops.Errorf(ops.Exhausted, "the profile's stacks have more than %d frames in all, which is the limit: download it and open it with go tool pprof", room)
}

// walk reads the samples of one profile.
type walk struct {
	sum               *Sum
	types             int
	strings           uint64
	deepest           int64 // the most lines of a location
	locations, labels int64 // of all samples so far
}

// sample reads a sample: its values, and a hash for its stack.
func (w *walk) sample(m []byte, values []int64) (uint64, error) {
	stack := stackHash{keys: &w.sum.keys}
	n, labels, depth := 0, 0, 0
	for at := 0; at < len(m); {
		var v uint64
		tag := uint64(m[at])
		if at++; tag >= 0x80 {
			tag, at = number(m, at-1)
		}
		switch tag {
		case 1<<3 | wireBytes:
			var part []byte
			if part, at = bytesAt(m, at); at > len(m) {
				return 0, damagedSample()
			}
			d, ok := w.sum.foldStack(&stack, part)
			if !ok {
				return 0, damaged("a sample names a location that is not there")
			}
			depth += d
		case 1<<3 | wireVarint:
			if v, at = number(m, at); at > len(m) {
				return 0, damagedSample()
			}
			h := w.sum.hashOf(v)
			if h == 0 {
				return 0, damaged("a sample names a location that is not there")
			}
			stack.add(h)
			depth++
		case 2<<3 | wireBytes:
			var part []byte
			if part, at = bytesAt(m, at); at > len(m) {
				return 0, damagedSample()
			}
			for k := 0; k < len(part); n++ {
				v = uint64(part[k])
				if k++; v >= 0x80 {
					if v, k = number(part, k-1); k > len(part) {
						return 0, damagedSample()
					}
				}
				if n < len(values) {
					values[n] = int64(v)
				}
			}
		case 2<<3 | wireVarint:
			if at < len(m) && m[at] < 0x80 {
				v, at = uint64(m[at]), at+1
			} else {
				v, at = number(m, at)
			}
			if n < len(values) {
				values[n] = int64(v)
			}
			n++
		case 3<<3 | wireBytes:
			var part []byte
			if part, at = bytesAt(m, at); at > len(m) {
				return 0, damagedSample()
			}
			if labels++; labels > w.sum.limits.Labels {
				return 0, ops.Errorf(ops.Exhausted, "the profile has a sample with more than %d labels, which is the limit: download it and open it with go tool pprof", w.sum.limits.Labels)
			}
			if !w.label(part) {
				return 0, damaged("a label cannot be read")
			}
		default:
			if at = skip(m, at, tag); tag>>3 <= 3 || at > len(m) {
				return 0, damagedSample()
			}
		}
		if at > len(m) {
			return 0, damagedSample()
		}
	}
	w.locations += int64(depth)
	switch {
	case n != len(values):
		return 0, damaged("a sample has not one value for each sample type")
	case depth > w.sum.limits.Depth:
		return 0, ops.Errorf(ops.Exhausted, "the profile has a stack of %d frames and the limit is %d: download it and open it with go tool pprof", depth, w.sum.limits.Depth)
	}
	return stack.sum(w.sum.seed), nil
}

// foldStack adds the locations of a packed list to a hash and returns how many
// they are. This is where the time goes.
func (s *Sum) foldStack(stack *stackHash, ids []byte) (depth int, ok bool) {
	if stack.depth+len(ids) > len(stack.keys) {
		return s.foldLong(stack, ids)
	}
	byID, keys := s.byID, stack.keys[stack.depth:]
	hash, worst := stack.hash, ^uint64(0)
	at := 0
	// Ids of one and of two bytes come in any order, and a jump that depends on which
	// it is goes wrong too often: four at a time, by where in a word they end.
	near := (*[nearIDs]uint64)(byID)
	for at+8 <= len(ids) && depth+4 <= len(keys) {
		w := binary.LittleEndian.Uint64(ids[at:])
		ends1 := ^w & 0x8080808080808080
		ends2 := ends1 & (ends1 - 1)
		ends3 := ends2 & (ends2 - 1)
		ends4 := ends3 & (ends3 - 1)
		if ends4 == 0 {
			break
		}
		to1, to2, to3, to4 := bits.TrailingZeros64(ends1)+1, bits.TrailingZeros64(ends2)+1, bits.TrailingZeros64(ends3)+1, bits.TrailingZeros64(ends4)+1
		a := w << (-to1 & 63) >> (-to1 & 63)
		b := w << (-to2 & 63) >> ((to1 - to2) & 63)
		c := w << (-to3 & 63) >> ((to2 - to3) & 63)
		d := w << (-to4 & 63) >> ((to3 - to4) & 63)
		if (a|b|c|d)>>16 != 0 {
			break
		}
		a, b, c, d = a&0x7f|a>>1&0x3f80, b&0x7f|b>>1&0x3f80, c&0x7f|c>>1&0x3f80, d&0x7f|d>>1&0x3f80
		a, b, c, d = near[a%nearIDs], near[b%nearIDs], near[c%nearIDs], near[d%nearIDs]
		k := (*[4]uint64)(keys[depth:])
		hash += k[0]*a + k[1]*b + k[2]*c + k[3]*d
		worst = min(worst, a, b, c, d)
		at += to4 / 8
		depth += 4
	}
	for at < len(ids) && depth < len(keys) {
		id := uint64(ids[at])
		if at++; id >= 0x80 {
			if at < len(ids) && ids[at] < 0x80 {
				id = id&0x7f | uint64(ids[at])<<7
				at++
			} else if id, at = number(ids, at-1); at > len(ids) {
				return 0, false
			}
		}
		location := uint64(0)
		if id < uint64(len(byID)) {
			location = byID[id]
		} else {
			location = s.hashOf(id)
		}
		worst = min(worst, location)
		hash += keys[depth] * location
		depth++
	}
	stack.hash, stack.depth = hash, stack.depth+depth
	return depth, worst != 0
}

// foldLong is foldStack for stacks that may be deeper than there are keys.
func (s *Sum) foldLong(stack *stackHash, ids []byte) (depth int, ok bool) {
	ok = true
	for at := 0; at < len(ids); depth++ {
		var id uint64
		if id, at = number(ids, at); at > len(ids) {
			return 0, false
		}
		location := s.hashOf(id)
		ok = ok && location != 0
		stack.add(location)
	}
	return depth, ok
}

// hashOf is the hash of the location with that id; 0 if there is none.
func (s *Sum) hashOf(id uint64) uint64 {
	if l := s.scratch.locationIDs.get(id); l != none {
		return s.hashes[l]
	}
	return 0
}

// label checks a label, of which nothing is kept, and counts it if it says
// anything.
func (w *walk) label(m []byte) bool {
	says, known := uint64(0), true
	for at := 0; at < len(m); {
		tag := uint64(m[at])
		if at++; tag >= 0x80 {
			tag, at = number(m, at-1)
		}
		if tag&7 != wireVarint || tag < 8 {
			if at = skip(m, at, tag); at > len(m) {
				return false
			}
			continue
		}
		var v uint64
		if at < len(m) && m[at] < 0x80 {
			v, at = uint64(m[at]), at+1
		} else if v, at = number(m, at); at > len(m) {
			return false
		}
		switch tag >> 3 {
		case 1:
			known = known && v < w.strings
		case 2, 4:
			known = known && v < w.strings
			says |= v
		case 3:
			says |= v
		}
	}
	if says != 0 {
		w.labels++
	}
	return known
}
