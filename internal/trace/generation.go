package trace

import (
	"cmp"
	"math"
	"slices"
)

// loaded is one generation with its tables read and its batches found. The
// batches and strings alias the bytes it was loaded from.
type loaded struct {
	number  uint64
	nsTick  float64 // nanoseconds per tick
	min     uint64  // ticks; the time of the earliest batch
	threads []thread
	strings idTable[[]byte]
	stacks  idTable[rawStack]
	frames  []rawFrame
	samples []sample // by time
}

// thread is what one thread wrote, in its own order.
type thread struct {
	id      uint64
	batches []batchBody
}

type batchBody struct {
	time uint64 // ticks, of the beginning
	data []byte
}

// rawStack is a range of loaded.frames, innermost first.
type rawStack struct{ first, end uint32 }

// rawFrame is a frame whose strings are ids of the generation.
type rawFrame struct{ pc, fn, file, line uint64 }

// sample is a CPU sample.
type sample struct {
	time    uint64 // ticks
	thread  uint64
	proc, g uint64
	stack   uint32 // in loaded.stacks
}

// idTable maps the ids of a generation to small numbers from 1 on; 0 is id 0, what
// is not there. Its memory follows what was read, never what ids claim.
type idTable[T any] struct {
	values []T // [0] is empty
	dense  []uint32
	sparse map[uint64]uint32
}

// add reports whether the id is new.
func (t *idTable[T]) add(id uint64, v T) bool {
	if len(t.values) == 0 {
		t.values = append(t.values, *new(T))
	}
	if id == 0 || t.index(id) != 0 {
		return false
	}
	n := uint32(len(t.values))
	t.values = append(t.values, v)
	if id < uint64(4*len(t.values)+1024) {
		for uint64(len(t.dense)) <= id {
			t.dense = append(t.dense, 0)
		}
		t.dense[id] = n
		return true
	}
	if t.sparse == nil {
		t.sparse = map[uint64]uint32{}
	}
	t.sparse[id] = n
	return true
}

// index is 0 for id 0 and for those that are not there.
func (t *idTable[T]) index(id uint64) uint32 {
	if id < uint64(len(t.dense)) {
		if n := t.dense[id]; n != 0 {
			return n
		}
	}
	if t.sparse == nil {
		return 0
	}
	return t.sparse[id]
}

// ref is index for a reference: ok if it leads anywhere or nowhere on purpose.
func (t *idTable[T]) ref(id uint64) (n uint32, ok bool) {
	if id < uint64(len(t.dense)) {
		n = t.dense[id]
		if n != 0 {
			return n, true
		}
	}
	if id == 0 {
		return 0, true
	}
	n = t.sparse[id]
	return n, n != 0
}

func (t *idTable[T]) at(n uint32) T {
	if uint64(n) < uint64(len(t.values)) {
		return t.values[n]
	}
	return *new(T)
}

// load reads the tables of a generation whose frame the index has read. It
// returns what there is and the damage that ended it; without a clock there is
// nothing.
func load(b []byte, minor int) (*loaded, error) {
	g := &loaded{min: math.MaxUint64}
	threads := map[uint64]int{}
	c := cursor{b: b}
	synced, snapped := false, false
	for len(c.b) > 0 {
		typ := EventKind(c.byte())
		if typ == evEndOfGeneration {
			break
		}
		if typ == evExperimentalBatch {
			c.byte()
		} else if typ != evEventBatch {
			return nil, damaged("a batch does not begin where one should")
		}
		number, id, time, size := c.uvarint(), c.uvarint(), c.uvarint(), c.uvarint()
		if c.bad || size > uint64(len(c.b)) {
			return nil, damaged("a batch is longer than what there is")
		}
		g.number = number
		body := c.b[:size]
		c.b = c.b[size:]
		g.min = min(g.min, time)
		if typ == evExperimentalBatch || size == 0 && minor < 25 {
			continue
		}
		var kind EventKind
		if size > 0 {
			kind = EventKind(body[0])
		}
		var err error
		switch {
		case kind == evStrings:
			err = g.addStrings(cursor{b: body[1:]})
		case kind == evStacks:
			err = g.addStacks(cursor{b: body[1:]})
		case kind == evCPUSamples:
			err = g.addSamples(cursor{b: body[1:]})
		case kind == evFrequency && minor < 25, kind == evSync && minor >= 25:
			err = g.addSync(body, &synced, &snapped, minor)
		default:
			n, ok := threads[id]
			if !ok {
				n = len(g.threads)
				threads[id] = n
				g.threads = append(g.threads, thread{id: id})
			}
			g.threads[n].batches = append(g.threads[n].batches, batchBody{time, body})
		}
		if err != nil {
			return nil, err
		}
	}
	if !synced || minor >= 25 && !snapped {
		return nil, damaged("it has no clock")
	}
	if err := g.checkFrames(); err != nil {
		return nil, err
	}
	for i := range g.samples {
		s := &g.samples[i]
		n, ok := g.stacks.ref(uint64(s.stack))
		if !ok {
			return nil, damaged("a CPU sample has no stack")
		}
		s.stack = n
	}
	slices.SortStableFunc(g.samples, func(a, b sample) int { return cmp.Compare(a.time, b.time) })
	return g, nil
}

// checkFrames makes sure that frames have names. What a PC means is said with every
// frame that has it: only the first one counts.
func (g *loaded) checkFrames() error {
	var first map[uint64]int
	named := func(f *rawFrame) bool {
		_, fn := g.strings.ref(f.fn)
		_, file := g.strings.ref(f.file)
		return fn && file
	}
	for i := range g.frames {
		f := &g.frames[i]
		if named(f) {
			continue
		}
		if first == nil {
			first = make(map[uint64]int, len(g.frames))
			for n := len(g.frames) - 1; n >= 0; n-- {
				first[g.frames[n].pc] = n
			}
		}
		if n := first[f.pc]; n < i {
			*f = g.frames[n]
			continue
		}
		return damaged("a frame has no name or file")
	}
	return nil
}

func (g *loaded) addStrings(c cursor) error {
	for len(c.b) > 0 {
		if EventKind(c.byte()) != evString {
			return damaged("a table of strings holds something else")
		}
		id, n := c.uvarint(), c.uvarint()
		if c.bad || n > maxString || n > uint64(len(c.b)) {
			return damaged("a string is longer than what there is")
		}
		if !g.strings.add(id, c.b[:n:n]) {
			return damaged("two strings have one number")
		}
		c.b = c.b[n:]
	}
	return nil
}

func (g *loaded) addStacks(c cursor) error {
	for len(c.b) > 0 {
		if EventKind(c.byte()) != evStack {
			return damaged("a table of stacks holds something else")
		}
		id, n := c.uvarint(), c.uvarint()
		if c.bad || n > maxFrames {
			return damaged("a stack has too many frames")
		}
		s := rawStack{first: uint32(len(g.frames))}
		for range n {
			g.frames = append(g.frames, rawFrame{pc: c.uvarint(), fn: c.uvarint(), file: c.uvarint(), line: c.uvarint()})
		}
		if c.bad {
			return damaged("a stack has fewer frames than it says")
		}
		s.end = uint32(len(g.frames))
		if !g.stacks.add(id, s) {
			return damaged("two stacks have one number")
		}
	}
	return nil
}

func (g *loaded) addSamples(c cursor) error {
	for len(c.b) > 0 {
		if EventKind(c.byte()) != EvCPUSample {
			return damaged("a table of CPU samples holds something else")
		}
		s := sample{time: c.uvarint(), thread: c.uvarint(), proc: c.uvarint(), g: c.uvarint()}
		stack := c.uvarint()
		if c.bad || stack > math.MaxUint32 {
			return damaged("a CPU sample is cut off")
		}
		s.stack = uint32(stack)
		g.samples = append(g.samples, s)
	}
	return nil
}

func (g *loaded) addSync(body []byte, synced, snapped *bool, minor int) error {
	c := cursor{b: body}
	if minor >= 25 {
		c.byte()
	}
	for len(c.b) > 0 {
		switch kind := EventKind(c.byte()); {
		case kind == evFrequency && !*synced:
			f := c.uvarint()
			*synced = true
			g.nsTick = 1e9 / float64(f)
			if f == 0 {
				c.bad = true
			}
		case kind == evClockSnapshot && minor >= 25 && !*snapped:
			*snapped = true
			for range 4 {
				c.uvarint()
			}
		default:
			c.bad = true
		}
		if c.bad {
			return damaged("its clock cannot be read")
		}
	}
	return nil
}

// last is the time of the latest event, from the last batch of every thread. It
// needs no order and so no more than some batches.
func (g *loaded) last() uint64 {
	end := g.min
	for _, t := range g.threads {
		if len(t.batches) == 0 {
			continue
		}
		b := t.batches[len(t.batches)-1]
		c := cursor{b: b.data}
		time := b.time
		for len(c.b) > 0 {
			s := shapes[c.byte()]
			dt := c.uvarint()
			for range s.args {
				c.uvarint()
			}
			if c.bad || !s.timed {
				break
			}
			time += dt
		}
		end = max(end, time)
	}
	return end
}
