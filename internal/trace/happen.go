package trace

import (
	"math"
	"slices"
)

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
	g := &d.gs[i]
	d.byID.remove(g.id, d.gs)
	g.status = goBad
	if g.ranges {
		d.ranges.forget(i)
	}
	if !g.shared {
		d.free = append(d.free, i)
	}
}

func (d *decoder) find(id uint64) int32 { return d.byID.get(GoID(id), d.gs) }

// proc is the P with a number; nil if it has not been heard of.
func (d *decoder) proc(id uint64) *procSlot {
	if id < uint64(len(d.ps)) && d.ps[id].known {
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
// without d.err means not yet. The events that make up nine tenths of a trace read
// their arguments where they are used, each in its own way: so the processor can
// learn what comes next.
func (d *decoder) advance(src *source, e *event) bool {
	var m *threadSlot
	e.kind, e.m, e.p, e.g, e.s = src.kind, src.m, -1, -1, -1
	if src.m >= 0 {
		m = &d.ms[src.m]
		m.seen = true
		e.p, e.g = m.p, m.g
	}
	e.stack, e.start, e.str, e.str2 = 0, 0, 0, 0
	b, at := src.data, src.at
	switch src.kind {
	case EvGoStart:
		id := first(b, at)
		if at++; id >= 0x80 {
			id, at = rest(b, at, id)
		}
		seq := first(b, at)
		if at++; seq >= 0x80 {
			seq, at = rest(b, at, seq)
		}
		e.args[0], e.args[1], e.end = id, seq, at
		i := d.find(id)
		if i < 0 {
			return false
		}
		g := &d.gs[i]
		if g.status != goRunnable || seq != g.seq+1 {
			return false
		}
		if !m.has(needsP) {
			return d.lacking(m)
		}
		if m.g >= 0 {
			return d.fail("a goroutine starts on a thread that has one")
		}
		g.status = goRunning
		g.seq = seq
		m.g = i
		e.s = i
	case EvGoUnblock:
		id := first(b, at)
		if at++; id >= 0x80 {
			id, at = rest(b, at, id)
		}
		seq := first(b, at)
		if at++; seq >= 0x80 {
			seq, at = rest(b, at, seq)
		}
		stack := first(b, at)
		if at++; stack >= 0x80 {
			stack, at = rest(b, at, stack)
		}
		e.args[0], e.args[1], e.args[2], e.end = id, seq, stack, at
		i := d.find(id)
		if i < 0 {
			return false
		}
		g := &d.gs[i]
		if g.status != goWaiting || seq != g.seq+1 {
			return false
		}
		g.status = goRunnable
		g.seq = seq
		e.s = i
		if e.stack = d.near(stack); e.stack == 0 && !d.stack(e, stack) {
			return false
		}
	case EvGoBlock, EvGoStop:
		reason := first(b, at)
		if at++; reason >= 0x80 {
			reason, at = rest(b, at, reason)
		}
		stack := first(b, at)
		if at++; stack >= 0x80 {
			stack, at = rest(b, at, stack)
		}
		e.args[0], e.args[1], e.end = reason, stack, at
		if !m.has(needsG) {
			return d.lacking(m)
		}
		g := &d.gs[m.g]
		if g.status != goRunning {
			return d.fail("a goroutine stops that does not run")
		}
		g.status = goWaiting
		if src.kind == EvGoStop {
			g.status = goRunnable
		}
		m.g = -1
		var ok bool
		if e.str, ok = d.gen.strings.ref(reason); !ok {
			return d.missing()
		}
		if e.stack = d.near(stack); e.stack == 0 && !d.stack(e, stack) {
			return false
		}
	case EvGoDestroy:
		e.end = at
		if !m.has(needsG) {
			return d.lacking(m)
		}
		if d.gs[m.g].status != goRunning {
			return d.fail("a goroutine stops that does not run")
		}
		d.destroy(m.g)
		m.g = -1
	case EvGoSyscallBegin:
		seq := first(b, at)
		if at++; seq >= 0x80 {
			seq, at = rest(b, at, seq)
		}
		stack := first(b, at)
		if at++; stack >= 0x80 {
			stack, at = rest(b, at, stack)
		}
		e.args[0], e.args[1], e.end = seq, stack, at
		if !m.has(needsG) {
			return d.lacking(m)
		}
		g, p := &d.gs[m.g], &d.ps[m.p]
		if g.status != goRunning {
			return d.fail("a goroutine enters a syscall that does not run")
		}
		if seq != p.seq+1 {
			return d.fail("a syscall is out of sequence")
		}
		g.status = goSyscall
		p.status = procSyscall
		p.seq = seq
		if e.stack = d.near(stack); e.stack == 0 && !d.stack(e, stack) {
			return false
		}
	case EvGoSyscallEnd:
		e.end = at
		if !m.has(needsG) {
			return d.lacking(m)
		}
		g, p := &d.gs[m.g], &d.ps[m.p]
		if g.status != goSyscall || p.status != procSyscall {
			return d.fail("a goroutine leaves a syscall that it is not in")
		}
		g.status = goRunning
		p.status = procRunning
	case EvGoCreate:
		id := first(b, at)
		if at++; id >= 0x80 {
			id, at = rest(b, at, id)
		}
		start := first(b, at)
		if at++; start >= 0x80 {
			start, at = rest(b, at, start)
		}
		stack := first(b, at)
		if at++; stack >= 0x80 {
			stack, at = rest(b, at, stack)
		}
		e.args[0], e.args[1], e.args[2], e.end = id, start, stack, at
		if e.stack = d.near(stack); e.stack == 0 && !d.stack(e, stack) {
			return false
		}
		var ok bool
		if e.start, ok = d.gen.stacks.ref(start); !ok {
			return d.missing()
		}
		if !d.advanceOther(m, e) {
			return false
		}
	default:
		sh := &shapes[src.kind]
		for k := range sh.args {
			x := first(b, at)
			if at++; x >= 0x80 {
				x, at = rest(b, at, x)
			}
			e.args[k&3] = x
		}
		e.end = at
		if k := sh.stack; k != 0 && !d.stack(e, e.args[(k-1)&3]) {
			return false
		}
		if !d.refs(sh, e) || !d.advanceOther(m, e) {
			return false
		}
	}
	if e.end >= behindAll {
		d.err = d.unreadable()
		return false
	}
	return true
}

// first is the first byte of the argument at a position. From 0x80 on the argument
// goes on, and rest reads what follows.
func first(b []byte, at int) uint64 {
	if uint(at) < uint(len(b)) {
		return uint64(b[at])
	}
	return 0x80
}

// rest is behind everything if the argument cannot be read.
func rest(b []byte, at int, x uint64) (uint64, int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 { // two bytes: most of them
		return x&0x7f | uint64(b[at])<<7, at + 1
	}
	if at <= len(b) {
		if x, at = uvarint(b, at, x); at != 0 {
			return x, at
		}
	}
	return 0, behindAll
}

// behindAll is a position that no argument can be at.
const behindAll = math.MaxInt / 2

// What an event needs beside a thread.
const (
	needsP = false // a P
	needsG = true  // a P and a goroutine
)

func (m *threadSlot) has(g bool) bool { return m != nil && m.p >= 0 && (!g || m.g >= 0) }

// lacking is damage: the thread has not what the event needs.
func (d *decoder) lacking(m *threadSlot) bool { return d.fail(m.lacks(true, true)) }

// near is where stack finds nearly all stacks; 0 = ask it.
func (d *decoder) near(id uint64) uint32 {
	if id < uint64(len(d.stacks)) {
		return d.stacks[id]
	}
	return 0
}

// stack looks up the event's stack.
func (d *decoder) stack(e *event, id uint64) bool {
	if e.stack = d.near(id); e.stack == 0 && id != 0 {
		var ok bool
		if e.stack, ok = d.gen.stacks.ref(id); !ok {
			return d.fail("an event refers to a stack that is not there")
		}
	}
	return true
}

// refs looks up what the event refers to beside its stack.
func (d *decoder) refs(sh *shape, e *event) bool {
	ok := true
	if sh.start != 0 {
		e.start, ok = d.gen.stacks.ref(e.args[(sh.start-1)&3])
	}
	if sh.str != 0 && ok {
		e.str, ok = d.gen.strings.ref(e.args[(sh.str-1)&3])
	}
	if sh.str2 != 0 && ok {
		e.str2, ok = d.gen.strings.ref(e.args[(sh.str2-1)&3])
	}
	return ok || d.missing()
}

func (d *decoder) missing() bool {
	return d.fail("an event refers to a stack or string that is not there")
}

func (d *decoder) goStatus(m *threadSlot, e *event) bool {
	status := uint8(e.args[2])
	if status >= goStatuses || status == goBad && !d.first {
		return d.fail("a goroutine has no valid status")
	}
	i := d.find(e.args[0])
	if i >= 0 {
		if d.gs[i].status != status {
			return d.fail("a goroutine is not in the state that it is said to be in")
		}
		d.gs[i].seq = 0
	} else {
		if len(d.gs)-len(d.free) >= maxLive {
			return d.fail("it has too many goroutines")
		}
		i = d.create(e.args[0], status)
	}
	e.s = i
	switch status {
	case goRunning:
		d.bind(m, i)
	case goSyscall:
		id := e.args[1]
		if id == math.MaxUint64 {
			return d.fail("a goroutine is in a syscall on no thread")
		}
		if m != nil && uint64(m.id) == id {
			d.bind(m, i)
			break
		}
		if len(d.ms) >= 1<<20 {
			return d.fail("it has too many threads")
		}
		// The status is said by another thread: the one meant sits in its syscall.
		other := &d.ms[d.thread(id)]
		if other.seen && other.g != i {
			return d.fail("a thread in a syscall has another goroutine")
		}
		other.seen = true
		d.bind(other, i)
	}
	return true
}

// bind says that a thread has a goroutine.
func (d *decoder) bind(m *threadSlot, i int32) {
	if m == nil || m.g == i {
		return
	}
	for k := range d.ms {
		d.gs[i].shared = d.gs[i].shared || d.ms[k].g == i
	}
	m.g = i
}

// advanceOther has the events that happen less often; their arguments have been
// read.
func (d *decoder) advanceOther(m *threadSlot, e *event) bool {
	a := &e.args
	switch e.kind {
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
		if d.find(e.args[0]) >= 0 {
			return d.fail("a goroutine is created twice")
		}
		if len(d.gs)-len(d.free) >= maxLive {
			return d.fail("it has too many goroutines")
		}
		status := goRunnable
		if e.kind == EvGoCreateBlocked {
			status = goWaiting
		}
		e.s = d.create(e.args[0], status)
	case EvGoStatus, EvGoStatusStack:
		return d.goStatus(m, e)
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
		if e.kind == EvGoSwitch {
			d.gs[m.g].status = goWaiting
		} else {
			d.destroy(m.g)
		}
		m.g = i
		e.s = i
	case EvGCActive, EvGCBegin, EvGCEnd:
		return d.gc(e, m)
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
		if p.sweep == (e.kind == EvGCSweepBegin) {
			return d.fail("a sweep begins twice or ends without beginning")
		}
		p.sweep = e.kind == EvGCSweepBegin
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
		if g.assist == (e.kind == EvGCMarkAssistBegin) {
			return d.fail("a GC assist begins twice or ends without beginning")
		}
		g.assist = e.kind == EvGCMarkAssistBegin
	case EvHeapAlloc, EvHeapGoal:
		if what := m.lacks(true, false); what != "" {
			return d.fail(what)
		}
	case EvProcsChange, EvGoLabel, EvUserLog:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
	case EvSTWBegin, EvSTWEnd, EvUserTaskBegin, EvUserTaskEnd, EvUserRegionBegin, EvUserRegionEnd:
		if what := m.lacks(true, true); what != "" {
			return d.fail(what)
		}
		return d.follow(e)
	default: // experiments
		if m == nil {
			return d.fail("an event needs a thread")
		}
	}
	return true
}

func (d *decoder) gc(e *event, m *threadSlot) bool {
	seq := e.args[0]
	if d.gcState == 0 && e.kind != EvGCEnd {
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
	case e.kind == EvGCBegin && d.gcState == 2, e.kind == EvGCActive:
		return d.fail("a GC cycle begins within another")
	case e.kind == EvGCEnd && d.gcState != 2:
		return d.fail("a GC cycle ends that has not begun")
	}
	d.gcSeq, d.gcState = seq, 1
	if e.kind == EvGCBegin {
		d.gcState = 2
	}
	return true
}

func (d *decoder) procStatus(a *[4]uint64, m *threadSlot) bool {
	status := uint8(a[1])
	if status >= procStatuses {
		return d.fail("a P has no valid status")
	}
	if a[0] >= maxProcs {
		return d.fail("a P has an impossible number")
	}
	for uint64(len(d.ps)) <= a[0] {
		d.ps = append(d.ps, procSlot{})
	}
	p := &d.ps[a[0]]
	switch {
	case !p.known:
		p.known, p.first, p.status = true, status, status
	case status == procAbandoned && p.status == procSyscall:
		if !slices.ContainsFunc(d.ms, func(m threadSlot) bool { return m.p == int32(a[0]) }) {
			return d.fail("no thread has the P that is about to be stolen from it")
		}
	case p.status != status:
		return d.fail("a P is not in the state that it is said to be in")
	}
	p.seq = 0
	if m != nil && (status == procRunning || status == procSyscall) {
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
