package trace

import (
	"math/bits"
)

// genStates takes the events of one generation and accounts what its goroutines
// and Ps did. What begins before the generation (heads) and what ends after it
// (tails) is left to the merge, which knows its neighbours.
type genStates struct {
	t     *Trace
	d     *decoder
	g     *loaded
	every bool // keep goroutines that live within the generation, too

	min, max uint64 // ticks: of the first batch, of the last event
	reasons  []Reason
	ids      []StackID // global, by index into loaded.stacks
	entries  []stackEntry
	gos      []goAcct // by decoder index
	waits    []siteAcct
	syscalls []siteAcct
	others   map[siteKey]*siteAcct // a stack with a second reason
	edges    edgeTable
	births   edgeTable // group and creating stack
	latency  latencies
	procs    []procAcct
	bins     *bins
	kept     *keptGen // nil = intervals are not kept

	groups      []groupAcct // by GroupID: goroutines that lived within the generation
	records     []record
	pending     []pendingSpan
	samples     []uint32 // by stack
	yields      []uint32 // by stack
	counts      [256]int64
	user        []userEvent
	ranges      []rangeEvent
	heap        []heapPoint
	procsN      int
	freePending int32 // index + 1 of pending; chained by before
	// lastHeap is an index + 1 of heap: of live bytes and of goals.
	lastHeap    [2]int
	millisecond uint64 // ticks
}

// goAcct is what a living goroutine did in this generation; times in ticks.
type goAcct struct {
	id      GoID
	since   uint64 // of the current state
	headEnd uint64
	total   [NumStates]uint64
	stack   uint32 // of the current state, local
	woke    uint32 // who ended the head, local
	headStk uint32 // of the head, local
	pends   uint8
	state   uint8 // as decoder's
	reason  Reason
	head    uint8 // state at the beginning; goBad = born here
	inHead  bool
	assist  bool
	worker  bool // of the GC
	known   bool // group is
	group   GroupID
	starts  uint32
	// lastPending is an index + 1 of genStates.pending; 0 = none.
	lastPending int32
	// kept is the number in keptGen.gos, by that of who made it runnable, at the
	// local byStack; made says that it was by creating it.
	kept, by, byStack uint32
	made              bool
	maxWait           uint64 // for a P
	// seen are the local stacks of its last different waits since it was idle; first are
	// those of its first visits in the generation, until it was idle for the first time.
	seen, first [lately]uint32
	firsts      uint8
	idled       bool
}

// lately is how many stacks a goroutine may wait at by turns without coming anew.
const lately = 4

// record is a goroutine that the merge must know of.
type record struct {
	goAcct
	stackID, wokeID, headID StackID
	byID                    GoID
	byStackID               StackID
	traits, headTraits      traits
	died, born              bool
	// Of goAcct's seen and first.
	seenID [lately]StackID
	visits [lately]siteKey
}

type siteKey struct {
	stack  StackID
	reason Reason
}

type siteAcct struct {
	n, total, max uint64 // ticks
	visits        uint64
	// maxOf is whose the longest was, which began at maxAt.
	maxOf  GoID
	maxAt  uint64
	reason Reason
}

func (s *siteAcct) add(d uint64) {
	s.n++
	s.total += d
	s.max = max(s.max, d)
}

// addOf is add for a time that g has had since a moment. Of several that lasted
// equally long, as what lasts all of the trace does, the lowest number is told, so that
// one trace is told the same each time.
func (s *siteAcct) addOf(d uint64, g GoID, since uint64) {
	if d > s.max || d == s.max && g < s.maxOf {
		s.maxOf, s.maxAt = g, since
	}
	s.add(d)
}

type groupAcct struct {
	n, starts uint64
	// born and died are how many began and ended within the trace; only the merge
	// of generations counts them.
	born, died uint64
	total      [NumStates]uint64
	maxWait    uint64
}

// procAcct is what a P does.
type procAcct struct {
	seen         bool
	state        uint8 // procStates or procNothing
	first, since uint64
	g            GoID // that is on it
}

type pendingSpan struct {
	id       GoID
	from, to uint64
	state    State
	before   int32 // index + 1 of the goroutine's one before; 0 = none
}

type userEvent struct {
	time   uint64
	kind   EventKind
	g      GoID
	id     uint64 // task
	parent uint64
	name   uint32 // in symbols
	text   string
	stack  StackID
}

type rangeEvent struct {
	time  uint64
	kind  EventKind
	name  uint32
	g     GoID
	stack StackID // where it was asked for
}

type heapPoint struct {
	time, bytes uint64
	goal        bool
}

// maxListed bounds what one generation may list of rare things.
const maxListed = 1 << 18

// reset prepares for a generation; memory is kept from the one before.
func (a *genStates) reset(t *Trace, geo geometry, d *decoder, g *loaded, every bool) {
	a.t, a.d, a.g, a.every = t, d, g, every
	a.min, a.max = g.min, max(g.min, g.last())
	a.reasons = make([]Reason, max(1, len(g.strings.values)))
	for i := range a.reasons {
		if i == 0 {
			a.reasons[0] = ReasonCoroutine
			continue
		}
		a.reasons[i] = reasonOf(g.strings.values[i])
	}
	a.ids = t.symbols.intern(g)
	a.entries = t.symbols.entries(a.ids)
	a.waits = make([]siteAcct, len(a.ids))
	a.syscalls = make([]siteAcct, len(a.ids))
	a.samples = make([]uint32, len(a.ids))
	a.yields = make([]uint32, len(a.ids))
	a.others = map[siteKey]*siteAcct{}
	a.edges.reset()
	a.births.reset()
	a.latency = latencies{}
	a.gos, a.procs = a.gos[:0], a.procs[:0]
	if a.groups == nil {
		a.groups = make([]groupAcct, maxGroups)
	}
	clear(a.groups)
	a.records, a.pending, a.user, a.ranges, a.heap = a.records[:0], a.pending[:0], a.user[:0], a.ranges[:0], a.heap[:0]
	a.freePending = 0
	a.counts = [256]int64{}
	a.procsN, a.lastHeap = 0, [2]int{}
	a.millisecond = uint64(1e6 / t.nsTick)
	a.bins = newBins(geo, a.min, a.max)
	if a.kept != nil {
		a.kept.reset()
	}
}

func (a *genStates) goAt(i int32) *goAcct {
	for int(i) >= len(a.gos) {
		a.gos = append(a.gos, goAcct{})
	}
	return &a.gos[i]
}

// stateOf is the state in which a goroutine shows.
func stateOf(state uint8, reason Reason, assist bool, tr traits) State {
	switch state {
	case goRunning:
		if assist {
			return StateAssist
		}
		return StateRunning
	case goRunnable:
		return StateRunnable
	case goSyscall:
		return StateSyscall
	}
	if tr.idle {
		return StateIdle
	}
	return waitStates[reason]
}

// to ends what the goroutine did and begins something else.
func (a *genStates) to(g *goAcct, now uint64, state uint8) {
	if now < g.since {
		now = g.since // see event.own
	}
	if g.inHead {
		g.inHead = false
		g.headEnd = now
		if g.assist && g.head == goRunning {
			g.head = headAssist
		}
		g.since, g.state = now, state
		return
	}
	d := now - g.since
	st := StateRunning
	switch g.state {
	case goRunning:
		if g.assist {
			st = StateAssist
		}
	case goRunnable:
		st = StateRunnable
		if state == goRunning {
			a.latency.addOf(d, g.id, g.since)
			g.starts++
			g.maxWait = max(g.maxWait, d)
		}
	case goSyscall:
		st = StateSyscall
		a.syscalls[g.stack].addOf(d, g.id, g.since)
	default:
		st = stateOf(goWaiting, g.reason, false, a.entries[g.stack].traits)
		w := &a.waits[g.stack]
		if w.n == 0 && w.visits == 0 {
			w.reason = g.reason
		}
		if w.reason == g.reason {
			w.addOf(d, g.id, g.since)
		} else {
			a.otherSite(siteKey{a.ids[g.stack], g.reason}).addOf(d, g.id, g.since)
		}
	}
	g.total[st] += d
	a.show(g, g.since, now, st)
	if a.bins.watched != nil {
		a.bins.goroutine(g.id, span{from: g.since, to: now, state: st, reason: g.reason, g: NoGoroutine, stack: a.ids[g.stack]}.tidy(g.state))
	}
	if a.kept != nil {
		a.kept.add(a, g, now, st)
		g.by, g.byStack, g.made = 0, 0, false
	}
	g.since, g.state = now, state
}

// woken notes who made a goroutine runnable.
func (a *genStates) woken(g *goAcct, e *event, created bool) {
	if a.kept == nil {
		return
	}
	g.by, g.byStack, g.made = 0, e.stack, created
	if e.g >= 0 {
		g.by = a.kept.of(&a.gos[e.g])
	}
}

// visit notes that a goroutine begins to wait: it comes to the stack if that is none
// of those that it waited at lately, and begins anew once it was idle.
func (a *genStates) visit(g *goAcct) {
	if a.entries[g.stack].traits.idle {
		g.seen, g.idled = [lately]uint32{}, true
		return
	}
	for _, s := range g.seen {
		if s == g.stack {
			return
		}
	}
	copy(g.seen[1:], g.seen[:])
	g.seen[0] = g.stack
	w := &a.waits[g.stack]
	if w.n == 0 && w.visits == 0 {
		w.reason = g.reason
	}
	w.visits++
	if !g.idled && g.firsts < lately {
		g.first[g.firsts] = g.stack
		g.firsts++
	}
}

func (a *genStates) otherSite(k siteKey) *siteAcct {
	s := a.others[k]
	if s == nil {
		s = &siteAcct{reason: k.reason}
		a.others[k] = s
	}
	return s
}

// tidy forgets what does not belong to a state: goroutines keep the reason and
// stack of their last wait.
func (s span) tidy(state uint8) span {
	if state != goWaiting {
		s.reason = ReasonUnknown
	}
	if state != goWaiting && state != goSyscall {
		s.stack = 0
	}
	return s
}

// show adds an interval to the timeline of the goroutine's group, or remembers it
// until the group is known.
func (a *genStates) show(g *goAcct, from, to uint64, st State) {
	if g.known || g.pends >= 8 || a.freePending == 0 && len(a.pending) >= maxListed {
		a.bins.group(g.group, from, to, st)
		return
	}
	g.pends++
	p := pendingSpan{g.id, from, to, st, g.lastPending}
	if i := a.freePending; i != 0 {
		a.freePending, a.pending[i-1] = a.pending[i-1].before, p
		g.lastPending = i
		return
	}
	a.pending = append(a.pending, p)
	g.lastPending = int32(len(a.pending))
}

// settle shows what waited for the goroutine's group.
func (a *genStates) settle(g *goAcct) {
	for i := g.lastPending; i > 0; {
		p := &a.pending[i-1]
		a.bins.group(g.group, p.from, p.to, p.state)
		next := p.before
		p.from, p.before, a.freePending = p.to, a.freePending, i
		i = next
	}
	g.lastPending = 0
}

// headAssist is goRunning for a head that assisted the GC.
const headAssist = goStatuses

// learn takes the group from any stack of the goroutine's own.
func (a *genStates) learn(g *goAcct, stack uint32) {
	if !g.known && stack != 0 {
		if e := &a.entries[stack]; e.group != 0 && !e.weak {
			g.group, g.known = e.group, true
			a.settle(g)
		}
	}
}

// What a P does, as its timeline has it. A P that does nothing is idle.
const (
	procRuns uint8 = iota
	procAssists
	procCollects // a dedicated GC worker
	procCalls    // in a syscall
	numProcStates
	procNothing = numProcStates
)

var procStateNames = [numProcStates]State{StateRunning, StateAssist, StateGC, StateSyscall}

// proc ends what a P did and begins something else for a goroutine; nil if there
// is none.
func (a *genStates) proc(p int32, now uint64, state uint8, g *goAcct) {
	if p < 0 {
		return
	}
	x := a.procAt(p)
	if !x.seen {
		x.seen, x.first, x.since, x.state = true, now, now, procNothing
	}
	now = max(now, x.since)
	if x.state != procNothing {
		a.bins.proc(p, x.since, now, x.state, x.g)
		if a.kept != nil {
			a.kept.proc(p, x.since, now, x.state, x.g, a.min)
		}
	}
	x.since, x.state = now, state
	if g != nil {
		x.g = g.id
	}
}

func (a *genStates) procAt(p int32) *procAcct {
	for int(p) >= len(a.procs) {
		a.procs = append(a.procs, procAcct{state: procNothing})
	}
	return &a.procs[p]
}

func runsOn(g *goAcct) uint8 {
	switch {
	case g.worker:
		return procCollects
	case g.assist:
		return procAssists
	}
	return procRuns
}

func (a *genStates) event(e *event) {
	now := e.own
	a.counts[e.kind]++
	a.max = max(a.max, e.time)
	switch e.kind {
	case EvGoStart:
		g := &a.gos[e.s]
		a.to(g, now, goRunning)
		a.proc(e.p, now, runsOn(g), g)
	case EvGoUnblock:
		g := &a.gos[e.s]
		if g.inHead {
			g.woke = e.stack
		} else {
			a.edges.add(g.stack, e.stack, max(now, g.since)-g.since)
		}
		a.to(g, now, goRunnable)
		a.woken(g, e, false)
	case EvGoBlock:
		g := &a.gos[e.g]
		a.learn(g, e.stack)
		a.to(g, now, goWaiting)
		g.reason, g.stack = a.reasons[e.str], e.stack
		a.visit(g)
		a.proc(e.p, now, procNothing, nil)
	case EvGoStop:
		g := &a.gos[e.g]
		a.learn(g, e.stack)
		if a.reasons[e.str] == ReasonGosched {
			a.yields[e.stack]++
		}
		a.to(g, now, goRunnable)
		a.proc(e.p, now, procNothing, nil)
	case EvGoSyscallBegin:
		g := &a.gos[e.g]
		a.learn(g, e.stack)
		a.to(g, now, goSyscall)
		g.stack = e.stack
		if a.entries[e.stack].traits.idle {
			g.seen = [4]uint32{} // reads the next request, which was there already
		}
		a.proc(e.p, now, procCalls, g)
	case EvGoSyscallEnd:
		g := &a.gos[e.g]
		a.to(g, now, goRunning)
		a.proc(e.p, now, runsOn(g), g)
	case EvGoSyscallEndBlocked:
		a.to(&a.gos[e.g], now, goRunnable)
	case EvGoCreate, EvGoCreateBlocked, EvGoCreateSyscall:
		g := a.goAt(e.s)
		*g = goAcct{id: a.d.gs[e.s].id, since: now, state: goRunnable, known: true}
		switch e.kind {
		case EvGoCreateBlocked:
			g.state, g.reason = goWaiting, ReasonCoroutine
		case EvGoCreateSyscall:
			g.state = goSyscall
		}
		start := &a.entries[e.start]
		g.group, g.known = start.group, !start.weak
		a.woken(g, e, true)
		a.births.add(uint32(start.group), e.stack, 0)
	case EvGoDestroy, EvGoDestroySyscall:
		g := &a.gos[e.g]
		a.to(g, now, goBad)
		a.ended(g)
		a.proc(e.p, now, procNothing, nil)
	case EvGoSwitch, EvGoSwitchDestroy:
		next, g := &a.gos[e.s], &a.gos[e.g]
		a.to(next, now, goRunning)
		if e.kind == EvGoSwitch {
			a.to(g, now, goWaiting)
			g.reason, g.stack = ReasonCoroutine, 0
		} else {
			a.to(g, now, goBad)
			a.ended(g)
		}
	case EvGoStatus, EvGoStatusStack:
		a.status(e)
	default:
		a.rare(e)
	}
}

func (a *genStates) status(e *event) {
	g := a.goAt(e.s)
	id := a.d.gs[e.s].id
	if g.id == id && g.state != goBad {
		return // said again
	}
	state := uint8(e.args[2])
	*g = goAcct{id: id, since: a.min, state: state, head: state, inHead: true, stack: e.stack, headStk: e.stack}
	g.seen[0] = e.stack // it came there before
	a.learn(g, e.stack)
	if g.known {
		g.worker = a.entries[e.stack].traits.reason == ReasonSystem && state == goRunning
	}
	if e.p < 0 {
		return
	}
	switch state {
	case goRunning:
		a.proc(e.p, e.own, runsOn(g), g)
	case goSyscall:
		if x := a.procAt(e.p); x.seen && x.state == procNothing {
			a.proc(e.p, e.own, procCalls, g)
		}
	}
}

func (a *genStates) rare(e *event) {
	now := e.own
	switch e.kind {
	case EvProcStart:
		a.proc(e.p, now, procNothing, nil)
	case EvProcStop:
		a.proc(e.p, now, procNothing, nil)
	case EvProcSteal:
		a.proc(int32(e.args[0]), now, procNothing, nil)
	case EvProcStatus:
		if x := a.procAt(int32(e.args[0])); !x.seen {
			x.seen, x.first, x.since = true, now, now
		}
	case EvProcsChange:
		a.procsN = int(min(e.args[0], maxProcs))
	case EvGoLabel:
		g := &a.gos[e.g]
		g.worker = true
		a.proc(e.p, now, procCollects, g)
	case EvGCMarkAssistBegin, EvGCMarkAssistEnd, EvGCMarkAssistActive:
		i := e.g
		if e.kind == EvGCMarkAssistActive {
			i = e.s
		}
		g := &a.gos[i]
		begins := e.kind != EvGCMarkAssistEnd
		if e.kind != EvGCMarkAssistActive {
			if g.inHead && !begins {
				g.assist = true // it began before the generation
			}
			a.to(g, now, g.state)
			defer func() { a.proc(e.p, now, runsOn(g), g) }()
		}
		g.assist = begins
	case EvCPUSample:
		a.samples[e.stack]++
	case EvHeapAlloc, EvHeapGoal:
		p := heapPoint{now, e.args[0], e.kind == EvHeapGoal}
		i := int(e.kind - EvHeapAlloc)
		if n := len(a.heap); a.lastHeap[i] > 0 && now < a.heap[a.lastHeap[i]-1].time+a.millisecond {
			a.heap[a.lastHeap[i]-1].bytes = p.bytes // one per millisecond will do
		} else if n < maxListed {
			a.heap = append(a.heap, p)
			a.lastHeap[i] = n + 1
		}
	case EvGCActive, EvGCBegin, EvGCEnd, EvSTWBegin, EvSTWEnd:
		if len(a.ranges) < maxListed {
			r := rangeEvent{time: now, kind: e.kind, g: NoGoroutine}
			if e.str != 0 {
				r.name = a.t.symbols.lockedName(a.g.strings.at(e.str))
			}
			if e.g >= 0 {
				r.g = a.gos[e.g].id
			}
			if e.kind == EvSTWBegin {
				r.stack = a.ids[e.stack]
			}
			a.ranges = append(a.ranges, r)
		}
	case EvUserTaskBegin, EvUserTaskEnd, EvUserRegionBegin, EvUserRegionEnd, EvUserLog:
		if len(a.user) < maxListed {
			u := userEvent{time: now, kind: e.kind, g: a.gos[e.g].id, id: e.args[0], stack: a.ids[e.stack]}
			if e.kind == EvUserTaskBegin {
				u.parent = e.args[1]
			}
			if e.str != 0 {
				u.name = a.t.symbols.lockedName(a.g.strings.at(e.str))
			}
			if e.str2 != 0 && len(a.user) < maxLogs {
				u.text = string(a.g.strings.at(e.str2))
			}
			a.user = append(a.user, u)
		}
	}
}

// ended folds a goroutine that lived within the generation into its group; the
// others are for the merge.
func (a *genStates) ended(g *goAcct) {
	if g.head == goBad && !a.every {
		a.settle(g)
		a.groups[g.group].add(g)
		if a.kept != nil {
			a.kept.settle(g)
		}
	} else {
		a.keep(g, true)
	}
	g.state, g.id = goBad, NoGoroutine
}

func (x *groupAcct) add(g *goAcct) {
	x.n++
	x.starts += uint64(g.starts)
	x.maxWait = max(x.maxWait, g.maxWait)
	for i, v := range g.total {
		x.total[i] += v
	}
}

func (a *genStates) keep(g *goAcct, died bool) {
	r := record{
		goAcct: *g, died: died, born: g.head == goBad,
		stackID: a.ids[g.stack], wokeID: a.ids[g.woke], headID: a.ids[g.headStk], byID: NoGoroutine, byStackID: a.ids[g.byStack],
		traits: a.entries[g.stack].traits, headTraits: a.entries[g.headStk].traits,
	}
	for i, s := range g.seen {
		r.seenID[i] = a.ids[s]
	}
	for i, s := range g.first[:g.firsts] {
		r.visits[i] = siteKey{a.ids[s], a.waits[s].reason}
	}
	if a.kept != nil {
		a.kept.settle(g)
		r.byID = a.kept.gos[g.by].id
	}
	a.records = append(a.records, r)
}

// finish turns what still lives into records; an error is the store's.
func (a *genStates) finish(keep *keeper) error {
	for i := range a.gos {
		if g := &a.gos[i]; g.state != goBad {
			a.keep(g, false)
		}
	}
	if a.kept == nil {
		return nil
	}
	return a.kept.seal(keep, a.min, a.max)
}

// latencies is a histogram with four buckets per doubling.
type latencies struct {
	n, total, max uint64
	counts        [256]uint64
	// maxOf is whose the longest was, which began at maxAt.
	maxOf GoID
	maxAt uint64
}

func bucketOf(d uint64) int {
	if d < 4 {
		return int(d)
	}
	n := bits.Len64(d)
	return 4*(n-2) + int(d>>(n-3)&3)
}

// bucketEnd is the first number beyond a bucket.
func bucketEnd(i int) uint64 {
	if i < 4 {
		return uint64(i) + 1
	}
	n := i/4 + 2
	return (uint64(i%4) + 5) << (n - 3)
}

func (l *latencies) addOf(d uint64, g GoID, since uint64) {
	if d > l.max || d == l.max && g < l.maxOf {
		l.max, l.maxOf, l.maxAt = d, g, since
	}
	l.n++
	l.total += d
	l.counts[bucketOf(d)&255]++
}

func (l *latencies) merge(o *latencies) {
	l.n += o.n
	l.total += o.total
	if o.max > l.max || o.max == l.max && o.maxOf < l.maxOf {
		l.max, l.maxOf, l.maxAt = o.max, o.maxOf, o.maxAt
	}
	for i, v := range o.counts {
		l.counts[i] += v
	}
}

// edgeTable counts pairs of local stacks: where a goroutine waited and where it
// was woken.
type edgeTable struct {
	slots []edgeSlot
	n     int
}

type edgeSlot struct {
	key      uint64 // wait<<32 | wake, +1
	n, total uint64
}

// maxEdges bounds the pairs; what goes beyond counts as woken by nobody.
const maxEdges = 1 << 17

func (t *edgeTable) reset() {
	if t.slots == nil {
		t.slots = make([]edgeSlot, 1<<8)
	}
	clear(t.slots)
	t.n = 0
}

func (t *edgeTable) add(wait, wake uint32, d uint64) {
	key := (uint64(wait)<<32 | uint64(wake)) + 1
	for {
		mask := uint64(len(t.slots) - 1)
		i := key * 0x9e3779b97f4a7c15 >> 40
		for probes := 0; probes < 32; probes++ {
			s := &t.slots[i&mask]
			if s.key == 0 {
				if 2*t.n >= len(t.slots) {
					break
				}
				t.n++
				s.key = key
			}
			if s.key == key {
				s.n++
				s.total += d
				return
			}
			i++
		}
		if len(t.slots) >= 4*maxEdges {
			return
		}
		old := t.slots
		t.slots = make([]edgeSlot, 4*len(old))
		mask = uint64(len(t.slots) - 1)
		for _, s := range old {
			if s.key == 0 {
				continue
			}
			i := s.key * 0x9e3779b97f4a7c15 >> 40
			for t.slots[i&mask].key != 0 {
				i++
			}
			t.slots[i&mask] = s
		}
	}
}
