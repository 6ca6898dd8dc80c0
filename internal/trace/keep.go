package trace

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"
)

// Store keeps what is too much for memory, such as a file does. It is written and
// read at the same time, never both at one place.
type Store interface {
	io.WriterAt
	io.ReaderAt
}

// keeper has every interval of a trace in a store, in segments: one of each
// generation, and one of what reached over its beginning. Within a segment the
// intervals of a goroutine are together, and the goroutines of a group. An interval
// follows the one before without a gap as a rule, so that it takes about seven
// bytes.
type keeper struct {
	store Store
	size  atomic.Int64 // of what is reserved in it

	segments []segment
	// bridges and tails are of the generation that is being merged.
	bridges []bridge
	tails   []procTail
	// late has the groups of goroutines of which something was kept before theirs
	// was known.
	late map[GoID]GroupID
	// intervals of goroutines.
	intervals int64
}

func newKeeper(s Store) *keeper {
	if s == nil {
		return nil
	}
	return &keeper{store: s, late: map[GoID]GroupID{}}
}

// segment is where intervals are. What is in it begins and ends between from and
// to; its encoded times count from base.
type segment struct {
	at             int64 // in the store
	base, from, to uint64
	// gos are ordered by group and id; the intervals of gos[i] are the bytes from
	// offs[i] to offs[i+1].
	gos    []GoID
	offs   []uint32
	groups []segmentGroup
	procs  []segmentProc
	cells  cells
	// bridges is set if the intervals reached over the beginning of a generation.
	bridges bool
}

// segmentGroup is the goroutines of one group: those from first to the first of
// the next one.
type segmentGroup struct {
	id    GroupID
	first uint32
}

type segmentProc struct {
	p       int32
	off, to uint32
}

// bridge is an interval that began in an earlier generation.
type bridge struct {
	group GroupID
	spanOf
}

type procTail struct {
	p        int32
	state    uint8
	from, to uint64
	g        GoID
}

// Flags of an encoded interval, above its state.
const (
	spanState   = 0x0f
	spanGap     = 0x10 // the time since the one before follows
	spanStack   = 0x20
	spanBy      = 0x40 // who ended the wait before, and where
	spanCreated = 0x80 // the goroutine's first
	maxSpan     = 64   // bytes
)

func waits(s State) bool { return s >= StateNetwork }

// encode appends an interval of the goroutine x.g; gap is the time since the one
// before.
func (x *spanOf) encode(b []byte, gap uint64) []byte {
	flags := byte(x.state)
	stack := x.stack != 0 && (waits(x.state) || x.state == StateSyscall)
	if gap != 0 {
		flags |= spanGap
	}
	if stack {
		flags |= spanStack
	}
	if x.by > 0 {
		flags |= spanBy
	}
	if x.created {
		flags |= spanCreated
	}
	b = append(b, flags)
	if gap != 0 {
		b = binary.AppendUvarint(b, gap)
	}
	b = binary.AppendUvarint(b, x.to-x.from)
	if waits(x.state) {
		b = append(b, byte(x.reason))
	}
	if stack {
		b = binary.AppendUvarint(b, uint64(x.stack))
	}
	if x.by > 0 {
		b = binary.AppendVarint(b, int64(x.by-x.g))
		b = binary.AppendUvarint(b, uint64(x.byStack))
	}
	return b
}

// bridge keeps a state that reached over the beginning of a generation.
func (k *keeper) bridge(c *carried, end uint64, st State) {
	if end <= c.since && !c.made {
		return
	}
	c.anonymous = c.anonymous || c.Group == 0
	k.bridges = append(k.bridges, bridge{c.Group, spanOf{
		span: span{from: c.since, to: max(end, c.since), state: st, reason: c.reason, g: c.ID, stack: c.stack},
		by:   c.by, byStack: c.byStack, created: c.made,
	}})
}

func (k *keeper) tail(p int32, from, to uint64, state uint8, g GoID) {
	if to > from {
		k.tails = append(k.tails, procTail{p, state, from, to, g})
	}
}

// generation takes what is known of one; own is nil for what only ended.
func (k *keeper) generation(own *keptGen) error {
	if own != nil && len(own.seg.gos)+len(own.seg.procs) > 0 {
		k.intervals += own.intervals
		k.segments = append(k.segments, own.seg)
	}
	if len(k.bridges) == 0 && len(k.tails) == 0 {
		return nil
	}
	seg, data := k.bridged()
	k.intervals += int64(len(k.bridges))
	k.bridges, k.tails = k.bridges[:0], k.tails[:0]
	seg.at = k.reserve(len(data))
	k.segments = append(k.segments, seg)
	return k.write(data, seg.at)
}

// reserve makes room in the store. It may be called at the same time.
func (k *keeper) reserve(n int) (at int64) { return k.size.Add(int64(n)) - int64(n) }

func (k *keeper) write(b []byte, at int64) error {
	if _, err := k.store.WriteAt(b, at); err != nil {
		return fmt.Errorf("keep the intervals of a trace: %w", err)
	}
	return nil
}

// bridged encodes what reached over the beginning of a generation.
func (k *keeper) bridged() (seg segment, data []byte) {
	seg.bridges, seg.from, seg.to = true, math.MaxUint64, 0
	for i := range k.bridges {
		seg.from, seg.to = min(seg.from, k.bridges[i].from), max(seg.to, k.bridges[i].to)
	}
	for _, t := range k.tails {
		seg.from, seg.to = min(seg.from, t.from), max(seg.to, t.to)
	}
	seg.base = seg.from
	slices.SortFunc(k.bridges, func(a, b bridge) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.g, b.g), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	var at uint64
	for i := range k.bridges {
		b := &k.bridges[i]
		gap := uint64(0)
		if i == 0 || b.g != k.bridges[i-1].g || b.group != k.bridges[i-1].group {
			seg.begin(b.group, b.g, len(data))
			data = binary.AppendUvarint(data, b.from-seg.base)
		} else {
			gap = b.from - min(at, b.from)
		}
		at = b.to
		data = b.encode(data, gap)
	}
	seg.offs = append(seg.offs, uint32(len(data)))
	slices.SortFunc(k.tails, func(a, b procTail) int { return cmp.Or(cmp.Compare(a.p, b.p), cmp.Compare(a.from, b.from)) })
	for i := 0; i < len(k.tails); {
		var e procEncoder
		p := k.tails[i].p
		for ; i < len(k.tails) && k.tails[i].p == p; i++ {
			t := &k.tails[i]
			e.add(t.from-seg.base, t.to-seg.base, t.state, t.g)
		}
		seg.procs = append(seg.procs, segmentProc{p, uint32(len(data)), uint32(len(data) + len(e.data))})
		data = append(data, e.data...)
	}
	return seg, data
}

// begin notes where the intervals of a goroutine begin.
func (s *segment) begin(group GroupID, id GoID, off int) {
	if n := len(s.groups); n == 0 || s.groups[n-1].id != group {
		s.groups = append(s.groups, segmentGroup{group, uint32(len(s.gos))})
	}
	s.gos = append(s.gos, id)
	s.offs = append(s.offs, uint32(off))
}

// procEncoder writes what a P did, in the order of time since the segment's base.
type procEncoder struct {
	data        []byte
	first, last uint64
	g           GoID
}

func (e *procEncoder) add(from, to uint64, state uint8, g GoID) {
	if len(e.data) == 0 {
		e.first = from
	}
	gap := from - min(e.last, from)
	flags := state
	if gap != 0 {
		flags |= spanGap
	}
	e.data = append(e.data, flags)
	if gap != 0 {
		e.data = binary.AppendUvarint(e.data, gap)
	}
	e.data = binary.AppendUvarint(e.data, to-from)
	e.data = binary.AppendVarint(e.data, int64(g-e.g))
	e.last, e.g = to, g
}
