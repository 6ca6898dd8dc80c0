package trace

import (
	"context"
	"math"
	"slices"
)

// event is one event in the order in which things happened. Goroutines and
// threads are numbered densely while they live: g and s index decoder.gs and mean
// another goroutine after this one has ended.
type event struct {
	time uint64 // ticks; never before the previous event's
	// own is what the thread's clock said. A thread that is stopped while it writes
	// an event makes all that follow from it wait for its turn: their times are
	// true, but earlier than that of the event before.
	own  uint64
	kind EventKind
	p    int32 // P of the thread before the event; -1 = none
	m    int32 // thread, in decoder.ms; -1 = none
	g    int32 // goroutine of the thread before the event; -1 = none
	s    int32 // goroutine that it happens to, where that is another one; -1 = none
	// stack and start are indexes into loaded.stacks, str and str2 into
	// loaded.strings.
	stack, start uint32
	str, str2    uint32
	// args are those of the kind; what is behind them means nothing.
	args [4]uint64
	end  int // of the event in what its thread wrote
}

// sink takes events; they are valid during the call.
type sink interface{ event(e *event) }

// goSlot is a goroutine while it lives.
type goSlot struct {
	id     GoID
	seq    uint64
	status uint8
	assist bool
	ranges bool // ranges has something of it
	// shared is set if several threads said that they have it: its slot is not
	// given to another one then.
	shared bool
}

type procSlot struct {
	seq    uint64
	status uint8
	first  uint8 // the status that was said first
	known  bool  // it was said
	sweep  bool
}

type threadSlot struct {
	id   ThreadID
	g, p int32
	seen bool // it had its turn
}

// source is what one thread wrote and has not been taken yet. Of the next event,
// kind and time have been decoded; its arguments are from at on.
type source struct {
	data    []byte
	at      int
	time    uint64
	batches []batchBody
	m       int32
	kind    EventKind
}

type heapEntry struct {
	time uint64
	src  int32
}

// decoder puts the events of a generation into an order in which they can have
// happened: by time as far as sequence numbers allow, which is how the runtime's
// own reader orders them. It can be used for one generation after the other.
type decoder struct {
	ctx     context.Context
	gen     *loaded
	stacks  []uint32 // gen.stacks.dense
	first   bool     // no generation before this one tells of ranges that it only ends
	gs      []goSlot
	free    []int32
	byID    goTable
	ps      []procSlot
	ms      []threadSlot
	mByID   map[uint64]int32
	sources []source
	heap    []heapEntry
	samples []sample
	// nextSample is the time of the first of them.
	nextSample uint64
	gcSeq      uint64
	gcState    uint8 // 0 = unknown, 1 = off, 2 = on
	ranges     ranges
	time       uint64
	events     int64
	sink       sink
	current    event
	err        error // damage
	halt       error // the context's, or set by the sink: hand out no more
}

// askContext is after how many events the context is asked whether to go on.
const askContext = 1 << 14

// maxLive bounds the goroutines that live at one time, maxProcs the Ps.
const (
	maxLive  = 4 << 20
	maxProcs = 1 << 16
)

// run hands all events of g to out. An error is damage, the context's or what the
// sink halted with; everything before has been handed out.
func (d *decoder) run(ctx context.Context, g *loaded, first bool, out sink) error {
	d.ctx, d.gen, d.stacks, d.first, d.sink = ctx, g, g.stacks.dense, first, out
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.heap == nil { // large enough to be nobody else's cache lines as well
		d.ps, d.ms = make([]procSlot, 0, 64), make([]threadSlot, 0, 64)
		d.sources, d.heap = make([]source, 0, 64), make([]heapEntry, 0, 64)
	}
	d.gs, d.free, d.ps, d.ms = d.gs[:0], d.free[:0], d.ps[:0], d.ms[:0]
	d.byID.reset()
	d.mByID = map[uint64]int32{}
	d.sources, d.heap, d.samples = d.sources[:0], d.heap[:0], g.samples
	d.sampleUntil(0)
	d.gcSeq, d.gcState, d.time, d.events, d.err, d.halt = 0, 0, 0, 0, nil, nil
	d.ranges.reset()
	for _, t := range g.threads {
		s := source{batches: t.batches, m: -1}
		if t.id != math.MaxUint64 {
			s.m = d.thread(t.id)
		}
		d.sources = append(d.sources, s)
	}
	for i := range d.sources {
		switch d.sources[i].next() {
		case sourceMore:
			d.heap = append(d.heap, heapEntry{d.sources[i].time, int32(i)})
		case sourceBad:
			return d.unreadable()
		}
	}
	for i := len(d.heap)/2 - 1; i >= 0; i-- {
		d.down(i)
	}
	d.current = event{}
	for len(d.heap) > 0 {
		if err := d.turn(&d.current); err != nil {
			return err
		}
	}
	d.sampleUntil(math.MaxUint64)
	if d.halt == nil && d.ranges.misuse != nil {
		return d.ranges.misuse
	}
	return d.halt
}

// turn lets the thread with the earliest event go on until another one has an
// earlier one.
func (d *decoder) turn(e *event) error {
	src := &d.sources[d.heap[0].src]
	limit := uint64(math.MaxUint64)
	if len(d.heap) > 1 {
		limit = d.heap[1].time
		if len(d.heap) > 2 {
			limit = min(limit, d.heap[2].time)
		}
	}
	for {
		if !d.advance(src, e) {
			if d.err != nil {
				return d.err
			}
			return d.outOfTurn(e)
		}
		// What emit does, without a call.
		if src.time > d.nextSample {
			d.sampleUntil(src.time)
		}
		d.time = max(d.time, src.time)
		e.time, e.own = d.time, src.time
		if d.events++; d.events%askContext == 0 && d.halt == nil {
			d.halt = d.ctx.Err()
		}
		d.sink.event(e)
		if d.halt != nil {
			return d.halt
		}
		// What next does for most events, without a call.
		now := src.time
		if b, at := src.data, e.end; uint(at)+1 < uint(len(b)) && b[at+1] < 0x80 && shapes[b[at]].timed {
			src.kind = EventKind(b[at])
			now += uint64(b[at+1])
			src.time, src.at = now, at+2
		} else {
			src.at = at
			switch src.next() {
			case sourceBad:
				return d.unreadable()
			case sourceEnd:
				n := len(d.heap) - 1
				d.heap[0] = d.heap[n]
				d.heap = d.heap[:n]
				if n > 0 {
					d.down(0)
				}
				return nil
			}
			now = src.time
		}
		if now > limit {
			d.heap[0].time = now
			d.down(0)
			return nil
		}
	}
}

// outOfTurn finds the earliest event that can happen before the earliest one.
func (d *decoder) outOfTurn(e *event) error {
	d.heap[0].time = d.sources[d.heap[0].src].time
	slices.SortFunc(d.heap, func(a, b heapEntry) int {
		switch {
		case a.time < b.time:
			return -1
		case a.time > b.time:
			return 1
		}
		return 0
	})
	for i := range d.heap {
		src := &d.sources[d.heap[i].src]
		if !d.advance(src, e) {
			if d.err != nil {
				return d.err
			}
			continue
		}
		d.emit(src, e)
		if d.halt != nil {
			return d.halt
		}
		src.at = e.end
		switch src.next() {
		case sourceBad:
			return d.unreadable()
		case sourceEnd:
			d.heap = slices.Delete(d.heap, i, i+1) // still sorted
		default:
			// Sorted but for this one, which can only have become later.
			d.heap[i].time = src.time
			d.down(i)
		}
		return nil
	}
	return damaged("the events of generation %d do not fit together", d.gen.number)
}

func (d *decoder) emit(src *source, e *event) {
	if src.time > d.nextSample {
		d.sampleUntil(src.time)
	}
	d.time = max(d.time, src.time)
	e.time, e.own = d.time, src.time
	if d.events++; d.events%askContext == 0 && d.halt == nil {
		d.halt = d.ctx.Err()
	}
	d.sink.event(e)
}

func (d *decoder) unreadable() error {
	return damaged("an event of generation %d cannot be read", d.gen.number)
}

// sampleUntil hands out the CPU samples taken before a time.
func (d *decoder) sampleUntil(time uint64) {
	for len(d.samples) > 0 && d.samples[0].time < time {
		s := d.samples[0]
		d.samples = d.samples[1:]
		d.time = max(d.time, s.time)
		e := event{time: d.time, own: s.time, kind: EvCPUSample, p: -1, m: -1, g: -1, s: -1, stack: s.stack, args: [4]uint64{s.thread, s.proc, s.g, 0}}
		if s.proc < maxProcs {
			e.p = int32(s.proc)
		}
		if m, ok := d.mByID[s.thread]; ok {
			e.m = m
		}
		if s.g != 0 {
			e.g = d.byID.get(GoID(s.g), d.gs)
		}
		d.events++
		d.sink.event(&e)
	}
	d.nextSample = math.MaxUint64
	if len(d.samples) > 0 {
		d.nextSample = d.samples[0].time
	}
}

func (d *decoder) down(i int) {
	h := d.heap
	e := h[i]
	for {
		l := 2*i + 1
		if l >= len(h) {
			break
		}
		if r := l + 1; r < len(h) && h[r].time < h[l].time {
			l = r
		}
		if h[l].time >= e.time {
			break
		}
		h[i] = h[l]
		i = l
	}
	h[i] = e
}

type sourceState uint8

const (
	sourceMore sourceState = iota
	sourceEnd
	sourceBad
)

// next decodes kind and time of the next event.
func (s *source) next() sourceState {
	for s.at >= len(s.data) {
		if len(s.batches) == 0 {
			return sourceEnd
		}
		s.data, s.time, s.at = s.batches[0].data, s.batches[0].time, 0
		s.batches = s.batches[1:]
	}
	b := s.data[s.at:]
	if len(b) < 2 || !shapes[b[0]].timed {
		return sourceBad
	}
	s.kind = EventKind(b[0])
	x, n := uint64(b[1]), 2
	if x >= 0x80 {
		if x, n = uvarint(b, 2, x); n == 0 {
			return sourceBad
		}
	}
	s.time += x
	s.at += n
	return sourceMore
}

// uvarint goes on with a number of which the first byte has been read. The
// returned position is behind it; 0 = it cannot be read.
func uvarint(b []byte, i int, x uint64) (uint64, int) {
	x &= 0x7f
	for shift := 7; i < len(b); shift += 7 {
		c := b[i]
		i++
		x |= uint64(c&0x7f) << (shift & 63)
		if c < 0x80 {
			if shift == 63 && c > 1 {
				break
			}
			return x, i
		}
		if shift == 63 {
			break
		}
	}
	return 0, 0
}
