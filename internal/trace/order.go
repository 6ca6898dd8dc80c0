package trace

import (
	"math"
	"math/bits"
	"math/rand/v2"
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
	args         [4]uint64
}

// sink takes events; they are valid during the call.
type sink interface{ event(e *event) }

// goSlot is a goroutine while it lives.
type goSlot struct {
	id     GoID
	seq    uint64
	status uint8
	assist bool
}

type procSlot struct {
	seq    uint64
	status uint8
	sweep  bool
}

type threadSlot struct {
	id   ThreadID
	g, p int32
	seen bool // it had its turn
}

// source is what one thread wrote and has not been taken yet, with the next event
// decoded.
type source struct {
	data    []byte
	at      int
	batches []batchBody
	m       int32
	kind    EventKind
	time    uint64
	args    [4]uint64
}

type heapEntry struct {
	time uint64
	src  int32
}

// decoder puts the events of a generation into an order in which they can have
// happened: by time as far as sequence numbers allow, which is how the runtime's
// own reader orders them. It can be used for one generation after the other.
type decoder struct {
	gen     *loaded
	first   bool // no generation before this one tells of ranges that it only ends
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
	time       uint64
	events     int64
	slow       int64 // events found out of turn
	sink       sink
	err        error // damage
	halt       error // set by the sink: hand out no more
}

// maxLive bounds the goroutines that live at one time, maxProcs the Ps.
const (
	maxLive  = 4 << 20
	maxProcs = 1 << 16
)

// run hands all events of g to out. An error is damage; everything before has
// been handed out.
func (d *decoder) run(g *loaded, first bool, out sink) error {
	d.gen, d.first, d.sink = g, first, out
	d.gs, d.free, d.ps, d.ms = d.gs[:0], d.free[:0], d.ps[:0], d.ms[:0]
	d.byID.reset()
	d.mByID = map[uint64]int32{}
	d.sources, d.heap, d.samples = d.sources[:0], d.heap[:0], g.samples
	d.sampleUntil(0)
	d.gcSeq, d.gcState, d.time, d.events, d.slow, d.err, d.halt = 0, 0, 0, 0, 0, nil, nil
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
			return damaged("an event of generation %d cannot be read", g.number)
		}
	}
	for i := len(d.heap)/2 - 1; i >= 0; i-- {
		d.down(i)
	}
	var e event
	for len(d.heap) > 0 {
		if err := d.turn(&e); err != nil {
			return err
		}
	}
	d.sampleUntil(math.MaxUint64)
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
		d.emit(src, e)
		if d.halt != nil {
			return d.halt
		}
		switch src.next() {
		case sourceBad:
			return damaged("an event of generation %d cannot be read", d.gen.number)
		case sourceEnd:
			n := len(d.heap) - 1
			d.heap[0] = d.heap[n]
			d.heap = d.heap[:n]
			if n > 0 {
				d.down(0)
			}
			return nil
		}
		d.heap[0].time = src.time
		if src.time > limit {
			d.down(0)
			return nil
		}
	}
}

// outOfTurn finds the earliest event that can happen before the earliest one.
func (d *decoder) outOfTurn(e *event) error {
	d.slow++
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
		switch src.next() {
		case sourceBad:
			return damaged("an event of generation %d cannot be read", d.gen.number)
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
	d.events++
	d.sink.event(e)
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

// next decodes the next event.
func (s *source) next() sourceState {
	for s.at >= len(s.data) {
		if len(s.batches) == 0 {
			return sourceEnd
		}
		s.data, s.time, s.at = s.batches[0].data, s.batches[0].time, 0
		s.batches = s.batches[1:]
	}
	b := s.data[s.at:]
	s.kind = EventKind(b[0])
	sh := &shapes[b[0]]
	if !sh.timed {
		return sourceBad
	}
	i := uint(1)
	for k := -1; k < int(sh.args); k++ {
		if i >= uint(len(b)) {
			return sourceBad
		}
		x := uint64(b[i])
		i++
		if x >= 0x80 {
			x &= 0x7f
			for shift := uint(7); ; shift += 7 {
				if i >= uint(len(b)) || shift > 63 {
					return sourceBad
				}
				c := b[i]
				i++
				x |= uint64(c&0x7f) << shift
				if c < 0x80 {
					break
				}
			}
		}
		if k < 0 {
			s.time += x
		} else {
			s.args[k&3] = x
		}
	}
	s.at += int(i)
	return sourceMore
}

// thread returns the index of a thread and makes it known.
func (d *decoder) thread(id uint64) int32 {
	m, ok := d.mByID[id]
	if !ok {
		m = int32(len(d.ms))
		d.mByID[id] = m
		d.ms = append(d.ms, threadSlot{id: ThreadID(id), g: -1, p: -1})
	}
	return m
}

// fail is damage: the event can never happen.
func (d *decoder) fail(what string) bool {
	d.err = damaged("generation %d is inconsistent: %s", d.gen.number, what)
	return false
}

// create gives a goroutine a slot; the id must be new.
func (d *decoder) create(id uint64, status uint8) int32 {
	var i int32
	if n := len(d.free); n > 0 {
		i = d.free[n-1]
		d.free = d.free[:n-1]
	} else {
		i = int32(len(d.gs))
		d.gs = append(d.gs, goSlot{})
	}
	d.gs[i] = goSlot{id: GoID(id), status: status}
	d.byID.put(GoID(id), i, d.gs)
	return i
}

func (d *decoder) destroy(i int32) {
	d.byID.remove(d.gs[i].id, d.gs)
	d.gs[i].status = goBad
	d.free = append(d.free, i)
}

func (d *decoder) find(id uint64) int32 { return d.byID.get(GoID(id), d.gs) }

// proc is the P with a number; nil if it has not been heard of.
func (d *decoder) proc(id uint64) *procSlot {
	if id < uint64(len(d.ps)) && d.ps[id].status != procBad {
		return &d.ps[id]
	}
	return nil
}

// lacks says what the thread lacks for an event; "" = nothing.
func (m *threadSlot) lacks(p, g bool) string {
	switch {
	case m == nil:
		return "an event needs a thread"
	case p && m.p < 0:
		return "an event needs a P"
	case g && m.g < 0:
		return "an event needs a goroutine"
	}
	return ""
}

// advance lets the source's event happen if it can now, and fills e. False
// without d.err means not yet.
func (d *decoder) advance(src *source, e *event) bool {
	var m *threadSlot
	e.kind, e.m, e.p, e.g, e.s = src.kind, src.m, -1, -1, -1
	if src.m >= 0 {
		m = &d.ms[src.m]
		m.seen = true
		e.p, e.g = m.p, m.g
	}
	// One by one: to load two at a time what was stored singly stalls.
	e.args[0], e.args[1], e.args[2], e.args[3] = src.args[0], src.args[1], src.args[2], src.args[3]
	e.stack, e.start, e.str, e.str2 = 0, 0, 0, 0
	if sh := &shapes[src.kind]; sh.stack|sh.str != 0 && !d.refs(sh, src, e) {
		return d.fail("an event refers to a stack or string that is not there")
	}
	switch src.kind {
	case EvGoStart:
		i := d.find(src.args[0])
		if i < 0 {
			return false
		}
		g := &d.gs[i]
		if g.status != goRunnable || src.args[1] != g.seq+1 {
			return false
		}
		if what := m.lacks(true, false); what != "" {
			return d.fail(what)
		}
		if m.g >= 0 {
			return d.fail("a goroutine starts on a thread that has one")
		}
		g.status = goRunning
		g.seq = src.args[1]
		m.g = i
		e.s = i
	case EvGoUnblock:
		i := d.find(src.args[0])
		if i < 0 {
			return false
		}
		g := &d.gs[i]
		if g.status != goWaiting || src.args[1] != g.seq+1 {
			return false
		}
		g.status = goRunnable
		g.seq = src.args[1]
		e.s = i
	case EvGoBlock, EvGoStop, EvGoDestroy:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
		g := &d.gs[m.g]
		if g.status != goRunning {
			return d.fail("a goroutine stops that does not run")
		}
		switch src.kind {
		case EvGoBlock:
			g.status = goWaiting
		case EvGoStop:
			g.status = goRunnable
		default:
			d.destroy(m.g)
		}
		m.g = -1
	case EvGoSyscallBegin:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
		g, p := &d.gs[m.g], &d.ps[m.p]
		if g.status != goRunning {
			return d.fail("a goroutine enters a syscall that does not run")
		}
		if src.args[0] != p.seq+1 {
			return d.fail("a syscall is out of sequence")
		}
		g.status = goSyscall
		p.status = procSyscall
		p.seq = src.args[0]
	case EvGoSyscallEnd:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
		g, p := &d.gs[m.g], &d.ps[m.p]
		if g.status != goSyscall || p.status != procSyscall {
			return d.fail("a goroutine leaves a syscall that it is not in")
		}
		g.status = goRunning
		p.status = procRunning
	case EvGoSyscallEndBlocked:
		if m != nil && m.p >= 0 && d.ps[m.p].status == procSyscall {
			return false
		}
		if what := m.lacks(false, true); what != "" {
			return d.fail(what)
		}
		if d.gs[m.g].status != goSyscall {
			return d.fail("a goroutine leaves a syscall that it is not in")
		}
		d.gs[m.g].status = goRunnable
		m.g = -1
	case EvGoCreate, EvGoCreateBlocked:
		if what := m.lacks(true, false); what != "" {
			return d.fail(what)
		}
		if m.g >= 0 && d.gs[m.g].status != goRunning {
			return d.fail("a goroutine creates another and does not run")
		}
		if d.find(src.args[0]) >= 0 {
			return d.fail("a goroutine is created twice")
		}
		if len(d.gs)-len(d.free) >= maxLive {
			return d.fail("it has too many goroutines")
		}
		status := goRunnable
		if src.kind == EvGoCreateBlocked {
			status = goWaiting
		}
		e.s = d.create(src.args[0], status)
	case EvGoStatus, EvGoStatusStack:
		return d.goStatus(src, m, e)
	default:
		return d.advanceRare(src, m, e)
	}
	return true
}

// refs looks up what the event refers to.
func (d *decoder) refs(sh *shape, src *source, e *event) bool {
	ok := true
	if sh.stack != 0 {
		e.stack, ok = d.gen.stacks.ref(src.args[(sh.stack-1)&3])
	}
	if sh.start|sh.str|sh.str2 == 0 || !ok {
		return ok
	}
	if sh.start != 0 {
		e.start, ok = d.gen.stacks.ref(src.args[(sh.start-1)&3])
	}
	if sh.str != 0 && ok {
		e.str, ok = d.gen.strings.ref(src.args[(sh.str-1)&3])
	}
	if sh.str2 != 0 && ok {
		e.str2, ok = d.gen.strings.ref(src.args[(sh.str2-1)&3])
	}
	return ok
}

func (d *decoder) goStatus(src *source, m *threadSlot, e *event) bool {
	if src.args[2] == 0 || src.args[2] >= uint64(goStatuses) {
		return d.fail("a goroutine has no valid status")
	}
	status := uint8(src.args[2])
	i := d.find(src.args[0])
	if i >= 0 {
		if d.gs[i].status != status {
			return d.fail("a goroutine is not in the state that it is said to be in")
		}
		d.gs[i].seq = 0
	} else {
		if len(d.gs)-len(d.free) >= maxLive {
			return d.fail("it has too many goroutines")
		}
		i = d.create(src.args[0], status)
	}
	e.s = i
	switch status {
	case goRunning:
		if m == nil {
			return d.fail("an event needs a thread")
		}
		m.g = i
	case goSyscall:
		id := src.args[1]
		if id == math.MaxUint64 {
			return d.fail("a goroutine is in a syscall on no thread")
		}
		if m != nil && uint64(m.id) == id {
			m.g = i
			break
		}
		if len(d.ms) >= 1<<20 {
			return d.fail("it has too many threads")
		}
		// The P index is of another thread: that one sits in its syscall.
		other := &d.ms[d.thread(id)]
		if other.seen && other.g != i {
			return d.fail("a thread in a syscall has another goroutine")
		}
		other.seen = true
		other.g = i
	}
	return true
}

// advanceRare has the events that hardly ever happen.
func (d *decoder) advanceRare(src *source, m *threadSlot, e *event) bool {
	a := &src.args
	switch src.kind {
	case EvProcStart:
		p := d.proc(a[0])
		if p == nil || p.status != procIdle || a[1] != p.seq+1 || m != nil && m.p >= 0 {
			return false
		}
		if m == nil {
			return d.fail("an event needs a thread")
		}
		p.status = procRunning
		p.seq = a[1]
		m.p = int32(a[0])
	case EvProcStop:
		if what := m.lacks(true, false); what != "" {
			return d.fail(what)
		}
		p := &d.ps[m.p]
		if p.status != procRunning && p.status != procSyscall {
			return d.fail("a P stops that does not run")
		}
		p.status = procIdle
		m.p = -1
	case EvProcSteal:
		return d.procSteal(a, m)
	case EvProcStatus:
		return d.procStatus(a, m)
	case EvGoCreateSyscall:
		if m == nil || m.g >= 0 {
			return d.fail("a thread of C calls Go and is in Go")
		}
		if d.find(a[0]) >= 0 {
			return d.fail("a goroutine is created twice")
		}
		if len(d.gs)-len(d.free) >= maxLive {
			return d.fail("it has too many goroutines")
		}
		m.g = d.create(a[0], goSyscall)
		e.s = m.g
	case EvGoDestroySyscall:
		if what := m.lacks(false, true); what != "" {
			return d.fail(what)
		}
		if d.gs[m.g].status != goSyscall {
			return d.fail("a goroutine leaves a syscall that it is not in")
		}
		if m.p >= 0 {
			if d.ps[m.p].status != procSyscall {
				return d.fail("a P is not in the syscall of its goroutine")
			}
			d.ps[m.p].status = procAbandoned
			m.p = -1
		}
		d.destroy(m.g)
		m.g = -1
	case EvGoSwitch, EvGoSwitchDestroy:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
		if d.gs[m.g].status != goRunning {
			return d.fail("a goroutine stops that does not run")
		}
		i := d.find(a[0])
		if i < 0 {
			return false
		}
		g := &d.gs[i]
		if g.status != goWaiting || a[1] != g.seq+1 {
			return false
		}
		g.status = goRunning
		g.seq = a[1]
		if src.kind == EvGoSwitch {
			d.gs[m.g].status = goWaiting
		} else {
			d.destroy(m.g)
		}
		m.g = i
		e.s = i
	case EvGCActive, EvGCBegin, EvGCEnd:
		return d.gc(src, m)
	case EvGCSweepActive:
		p := d.proc(a[0])
		if p == nil {
			return d.fail("an unknown P sweeps")
		}
		p.sweep = true
	case EvGCSweepBegin, EvGCSweepEnd:
		if what := m.lacks(true, false); what != "" {
			return d.fail(what)
		}
		p := &d.ps[m.p]
		if p.sweep && src.kind == EvGCSweepBegin || !p.sweep && src.kind == EvGCSweepEnd && d.first {
			return d.fail("a sweep begins twice or ends without beginning")
		}
		p.sweep = src.kind == EvGCSweepBegin
	case EvGCMarkAssistActive:
		i := d.find(a[0])
		if i < 0 {
			return d.fail("an unknown goroutine assists the GC")
		}
		d.gs[i].assist = true
		e.s = i
	case EvGCMarkAssistBegin, EvGCMarkAssistEnd:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
		g := &d.gs[m.g]
		if g.assist && src.kind == EvGCMarkAssistBegin || !g.assist && src.kind == EvGCMarkAssistEnd && d.first {
			return d.fail("a GC assist begins twice or ends without beginning")
		}
		g.assist = src.kind == EvGCMarkAssistBegin
	case EvHeapAlloc, EvHeapGoal:
		if what := m.lacks(true, false); what != "" {
			return d.fail(what)
		}
	case EvProcsChange, EvSTWBegin, EvSTWEnd, EvGoLabel,
		EvUserTaskBegin, EvUserTaskEnd, EvUserRegionBegin, EvUserRegionEnd, EvUserLog:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
	default: // experiments
		if m == nil {
			return d.fail("an event needs a thread")
		}
	}
	return true
}

func (d *decoder) gc(src *source, m *threadSlot) bool {
	seq := src.args[0]
	if d.gcState == 0 && src.kind != EvGCEnd {
		d.gcSeq, d.gcState = seq, 2
		return true
	}
	if d.gcState == 0 {
		return false // what it ends is said first
	}
	if seq != d.gcSeq+1 {
		return false
	}
	if what := m.lacks(true, true); what != "" {
		return d.fail(what)
	}
	switch {
	case src.kind == EvGCBegin && d.gcState == 2, src.kind == EvGCActive:
		return d.fail("a GC cycle begins within another")
	case src.kind == EvGCEnd && d.gcState != 2:
		return d.fail("a GC cycle ends that has not begun")
	}
	d.gcSeq, d.gcState = seq, 1
	if src.kind == EvGCBegin {
		d.gcState = 2
	}
	return true
}

func (d *decoder) procStatus(a *[4]uint64, m *threadSlot) bool {
	if a[1] == 0 || a[1] >= uint64(procStatuses) {
		return d.fail("a P has no valid status")
	}
	if a[0] >= maxProcs {
		return d.fail("a P has an impossible number")
	}
	status := uint8(a[1])
	for uint64(len(d.ps)) <= a[0] {
		d.ps = append(d.ps, procSlot{})
	}
	p := &d.ps[a[0]]
	switch {
	case p.status == procBad:
		p.status = status
	case status == procAbandoned && (p.status == procSyscall || p.status == procAbandoned):
	case p.status != status:
		return d.fail("a P is not in the state that it is said to be in")
	}
	p.seq = 0
	if status == procRunning || status == procSyscall {
		if m == nil {
			return d.fail("an event needs a thread")
		}
		m.p = int32(a[0])
	}
	return true
}

func (d *decoder) procSteal(a *[4]uint64, m *threadSlot) bool {
	p := d.proc(a[0])
	if p == nil || p.status != procSyscall && p.status != procAbandoned || a[1] != p.seq+1 {
		return false
	}
	if m == nil {
		return d.fail("an event needs a thread")
	}
	old := p.status
	p.status = procIdle
	p.seq = a[1]
	if old == procAbandoned {
		return true
	}
	i, ok := d.mByID[a[2]]
	if !ok || !d.ms[i].seen {
		return d.fail("a P is stolen from an unknown thread")
	}
	if d.ms[i].p != int32(a[0]) {
		return d.fail("a P is stolen from a thread that does not have it")
	}
	d.ms[i].p = -1
	return true
}

// goTable finds the slots of goroutines by their ids: open addressing, the keys
// being in the slots. The multiplier is random, so that no trace can be written to
// make it slow.
type goTable struct {
	slots []int32 // index + 1; 0 = free
	n     int
	shift uint
	mul   uint64
}

func (t *goTable) reset() {
	if t.slots == nil {
		t.mul = rand.Uint64() | 1
		t.grow(1<<10, nil)
	}
	clear(t.slots)
	t.n = 0
}

func (t *goTable) grow(size int, gs []goSlot) {
	old := t.slots
	t.slots = make([]int32, size)
	t.shift = uint(64 - bits.TrailingZeros(uint(size)))
	for _, s := range old {
		if s != 0 {
			t.slots[t.place(gs[s-1].id, gs)] = s
		}
	}
}

// place is where an id is, or where it would be.
func (t *goTable) place(id GoID, gs []goSlot) uint64 {
	mask := uint64(len(t.slots) - 1)
	i := uint64(id) * t.mul >> t.shift
	for {
		s := t.slots[i&mask]
		if s == 0 || gs[s-1].id == id {
			return i & mask
		}
		i++
	}
}

// get returns the slot's index, -1 if the id has none.
func (t *goTable) get(id GoID, gs []goSlot) int32 { return t.slots[t.place(id, gs)] - 1 }

func (t *goTable) put(id GoID, i int32, gs []goSlot) {
	if t.n++; 2*t.n > len(t.slots) {
		t.grow(4*len(t.slots), gs)
	}
	t.slots[t.place(id, gs)] = i + 1
}

func (t *goTable) remove(id GoID, gs []goSlot) {
	mask := uint64(len(t.slots) - 1)
	i := t.place(id, gs)
	if t.slots[i] == 0 {
		return
	}
	t.n--
	// Close the gap with what would have been here or before.
	for j := i; ; {
		j = (j + 1) & mask
		s := t.slots[j]
		if s == 0 {
			break
		}
		home := uint64(gs[s-1].id) * t.mul >> t.shift
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i] = s
			i = j
		}
	}
	t.slots[i] = 0
}
