package trace

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// LockClass is all locks that are locked at one place: the function and line that
// calls Lock, and its caller. A trace names no lock: a class whose holds overlap
// (Conflicts) is several of them.
type LockClass struct {
	// Lock is a stack of one that waited for it.
	Lock StackID
	Kind LockKind
	// Waits for it that ended, how long they took, and how long those who were
	// woken then waited for a P, during which nobody else got the lock.
	Waits              int64
	WaitTotal, WaitMax time.Duration
	Handoff            time.Duration
	// Slow waits are those of a millisecond and more.
	Slow      int64
	SlowTotal time.Duration
	// Exact holds are those whose holder had waited for the lock: both ends are
	// in the trace. They are those under contention, and longer than all the
	// others that nobody had to wait for.
	Exact Holds
	// AtLeast are holds whose beginning is not in the trace: at least since
	// somebody waited for it.
	AtLeast Holds
	// Unlocks are where the waits were ended, most first.
	Unlocks []StackCount
	// Conflicts are holds that overlapped another one of the class, Stale ones
	// turned out to have ended before, without anybody waiting.
	Conflicts, Stale int64
}

// Holds of a lock and what their holders did meanwhile.
type Holds struct {
	Count              int64
	Total, Max, Median time.Duration
	Times              Times
	// Inside are the waits and syscalls of the holders between Lock and Unlock in
	// the same activation of the function that locks, longest total first.
	// Waiting is how many holds had any, and InsideTotal how long.
	Inside      []HeldWait
	Waiting     int64
	InsideTotal time.Duration
	// Ends are where the holds ended, longest total first.
	Ends []HoldEnd
}

// HoldEnd is an Unlock and the holds that it ended.
type HoldEnd struct {
	Stack StackID
	Count int64
	Total time.Duration
}

// HeldWait is what a holder waited for.
type HeldWait struct {
	Stack  StackID
	State  State
	Reason Reason
	Count  int64
	Total  time.Duration
}

// StackCount counts a stack.
type StackCount struct {
	Stack StackID
	Count int64
}

const (
	// lockHistory is how many intervals of a goroutine are remembered; what a
	// holder did before is not in its Times.
	lockHistory = 64
	maxClasses  = 1 << 14
	maxSamples  = 1 << 10 // of holds, for the median
	maxInside   = 1 << 10
	// maxHelpers is how many functions such as (*Room).lock can be between the
	// function that holds a lock and the one that locks it.
	maxHelpers = 3
	// lockAhead is for how many generations, which are a second each, whoever takes
	// part is followed before that: a holder is known when it wakes somebody, and what
	// it waited for until then began long before.
	lockAhead = 4
	slowWait  = time.Millisecond // a busy lock keeps people waiting for less
)

// Locks finds out what goroutines did while they held locks for which others
// waited. It reads the trace up to twice, and keeps something only of goroutines
// that took part. Locks that nobody waited for leave no trace. Damage ends a
// generation; Analyze states it. Classes come longest waits first.
func (t *Trace) Locks(ctx context.Context) ([]LockClass, error) {
	s := &lockSink{t: t, classes: map[lockKey]*lockClass{}, carry: map[GoID]*lockGo{}, depths: map[uint64]int32{}}
	var scout, d decoder
	var buf buffer
	var ahead []map[GoID]bool // who takes part: in this generation, the next …
	for n := range t.ix.Generations {
		for k := n + len(ahead); k < len(t.ix.Generations) && len(ahead) <= lockAhead; k++ {
			l := lockTakers{d: &scout, found: map[GoID]bool{}}
			err := t.load(k, &buf, func(g *loaded) error {
				l.entries = t.symbols.entries(t.symbols.intern(g))
				return scout.run(ctx, g, k == 0, &l)
			})
			if damage := (*damage)(nil); err != nil && !asDamage(err, &damage) {
				return nil, err
			}
			ahead = append(ahead, l.found)
		}
		s.expect(ahead)
		ahead = ahead[1:]
		if len(s.takers) == 0 {
			s.keep(true, nil)
			continue
		}
		err := t.load(n, &buf, func(g *loaded) error {
			s.generation(&d, g)
			return d.run(ctx, g, n == 0, s)
		})
		var damage *damage
		if err != nil && !asDamage(err, &damage) {
			return nil, err
		}
		s.keep(damage != nil && !damage.whole, ahead)
	}
	return s.result(), nil
}

// lockTakers finds the goroutines that wait for locks or end such waits.
type lockTakers struct {
	d       *decoder
	entries []stackEntry
	found   map[GoID]bool
}

func (l *lockTakers) event(e *event) {
	if e.kind != EvGoUnblock || !l.entries[e.stack].traits.unlock.lock() {
		return
	}
	l.found[l.d.gs[e.s].id] = true
	if e.g >= 0 {
		l.found[l.d.gs[e.g].id] = true
	}
}

// lockKey is the place that calls Lock, and its caller.
type lockKey struct{ at, caller uint64 }

type lockClass struct {
	LockClass
	exact, bound holdsAcct
	unlocks      map[StackID]int64
	lastUnlock   uint64 // ticks
}

type holdsAcct struct {
	n, total, max uint64
	sum           [NumStates]uint64
	inside        map[heldKey]*siteAcct
	ends          map[StackID]*siteAcct
	waiting       int64
	insideTotal   uint64
	samples       []uint64
}

type heldKey struct {
	stack  StackID
	state  State
	reason Reason
}

// heldLock is a lock that a goroutine got after waiting for it.
type heldLock struct {
	stack StackID
	since uint64
}

// lockGo is a goroutine that takes part.
type lockGo struct {
	id     GoID
	now    span // to is not set
	wait   StackID
	block  uint64 // when it began to wait; the first time, if it had to again
	wake   uint64 // 0 = not yet
	start  uint64 // 0 = not yet
	held   []heldLock
	ring   []span // the last ones, ring[n%lockHistory] is the next to go
	n      int
	burst  StackID // of its last unlock
	burstN int     // n then: it has done nothing else since
}

type lockSink struct {
	t       *Trace
	d       *decoder
	g       *loaded
	ids     []StackID
	entries []stackEntry
	all     []stackEntry // by StackID
	frames  []frameEntry
	reasons []Reason
	takers  map[GoID]bool // in this generation, or in one of the next
	gos     []*lockGo     // by decoder index; nil = does not take part
	carry   map[GoID]*lockGo
	classes map[lockKey]*lockClass
	depths  map[uint64]int32
}

func (s *lockSink) generation(d *decoder, g *loaded) {
	s.d, s.g = d, g
	s.ids = s.t.symbols.intern(g)
	s.entries = s.t.symbols.entries(s.ids)
	s.t.symbols.mu.RLock()
	s.all, s.frames = s.t.symbols.stacks, s.t.symbols.frames // what is in them never changes
	s.t.symbols.mu.RUnlock()
	s.reasons = make([]Reason, max(1, len(g.strings.values)))
	for i := range s.reasons {
		if i > 0 {
			s.reasons[i] = reasonOf(g.strings.values[i])
		}
	}
}

// expect makes ready for the first of the generations ahead.
func (s *lockSink) expect(ahead []map[GoID]bool) {
	s.takers, s.gos = map[GoID]bool{}, s.gos[:0]
	for _, found := range ahead {
		maps.Copy(s.takers, found)
	}
	for id := range s.carry {
		s.takers[id] = true
	}
}

// keep takes what is under way into the next generation.
func (s *lockSink) keep(damaged bool, ahead []map[GoID]bool) {
	clear(s.carry)
	for _, x := range s.gos {
		if x == nil || damaged {
			continue
		}
		expected := slices.ContainsFunc(ahead, func(found map[GoID]bool) bool { return found[x.id] })
		if x.wait != 0 || len(x.held) > 0 || expected {
			x.burst = 0
			s.carry[x.id] = x
		}
	}
	if len(s.depths) > 1<<18 {
		clear(s.depths)
	}
}

// goAt is the goroutine at a decoder's index if it takes part, else nil.
func (s *lockSink) goAt(i int32) *lockGo {
	if uint(i) >= uint(len(s.gos)) {
		return nil
	}
	return s.gos[i]
}

// begin makes a goroutine that takes part known.
func (s *lockSink) begin(i int32, now uint64, state State, stack StackID) {
	id := s.d.gs[i].id
	if x := s.carry[id]; x != nil {
		delete(s.carry, id)
		s.set(i, x)
		return
	}
	if old := s.goAt(i); !s.takers[id] || old != nil && old.id == id {
		return
	}
	x := &lockGo{id: id, now: span{from: now, state: state, stack: stack}, ring: make([]span, 0, lockHistory)}
	if stack != 0 {
		if tr := s.all[stack].traits; tr.lock.lock() {
			// It has been waiting since before: at least since now.
			x.wait, x.block, x.now.reason = stack, now, ReasonSync
		}
	}
	s.set(i, x)
}

// set makes x, or nobody, the goroutine at a decoder's index.
func (s *lockSink) set(i int32, x *lockGo) {
	if x == nil && int(i) >= len(s.gos) {
		return
	}
	for int(i) >= len(s.gos) {
		s.gos = append(s.gos, nil)
	}
	s.gos[i] = x
}

func (x *lockGo) to(now uint64, state State) {
	x.now.to = max(now, x.now.from)
	if len(x.ring) < lockHistory {
		x.ring = append(x.ring, x.now)
	} else {
		x.ring[x.n%lockHistory] = x.now
	}
	x.n++
	x.now = span{from: max(now, x.now.from), state: state}
}

// history calls fn with the intervals from the present backwards, until it returns
// false.
func (x *lockGo) history(now uint64, fn func(span) bool) {
	last := x.now
	last.to = max(now, last.from)
	if !fn(last) {
		return
	}
	for k := x.n - 1; k >= 0 && k >= x.n-len(x.ring); k-- {
		if !fn(x.ring[k%lockHistory]) {
			return
		}
	}
}

func (s *lockSink) event(e *event) {
	now := e.own
	switch e.kind {
	case EvGoStatus, EvGoStatusStack:
		s.begin(e.s, s.g.min, stateOf(uint8(e.args[2]), ReasonUnknown, false, traits{}), s.ids[e.stack])
	case EvGoCreate, EvGoCreateBlocked, EvGoCreateSyscall:
		s.set(e.s, nil)
		s.begin(e.s, now, StateRunnable, 0)
	case EvGoStart:
		if x := s.goAt(e.s); x != nil {
			x.to(now, StateRunning)
			if x.wait != 0 && x.wake != 0 {
				x.start = max(now, x.wake)
			}
		}
	case EvGoBlock:
		if x := s.goAt(e.g); x != nil {
			s.blocks(x, now, s.reasons[e.str], s.ids[e.stack])
		}
	case EvGoSyscallBegin:
		if x := s.goAt(e.g); x != nil {
			s.got(x, s.ids[e.stack])
			x.to(now, StateSyscall)
			x.now.stack = s.ids[e.stack]
		}
	case EvGoSyscallEnd:
		if x := s.goAt(e.g); x != nil {
			x.to(now, StateRunning)
		}
	case EvGoSyscallEndBlocked:
		if x := s.goAt(e.g); x != nil {
			x.to(now, StateRunnable)
		}
	case EvGoStop:
		if x := s.goAt(e.g); x != nil {
			s.got(x, s.ids[e.stack])
			x.to(now, StateRunnable)
		}
	case EvGoDestroy, EvGoDestroySyscall:
		s.set(e.g, nil)
	case EvGoSwitch, EvGoSwitchDestroy:
		if x := s.goAt(e.s); x != nil {
			x.to(now, StateRunning)
		}
		if e.kind == EvGoSwitchDestroy {
			s.set(e.g, nil)
		} else if x := s.goAt(e.g); x != nil {
			x.to(now, StateOther)
		}
	case EvGoUnblock:
		s.unblocks(e, now)
	}
}

func (s *lockSink) blocks(x *lockGo, now uint64, reason Reason, stack StackID) {
	tr := s.all[stack].traits
	s.got(x, stack)
	x.to(now, stateOf(goWaiting, reason, false, tr))
	x.now.reason, x.now.stack = reason, stack
	if reason != ReasonSync || !tr.lock.lock() {
		return
	}
	if x.wait != stack || x.wake == 0 {
		x.block = now // else it lost the race for the lock, and waits on
	}
	x.wait, x.wake, x.start = stack, 0, 0
}

func (s *lockSink) unblocks(e *event, now uint64) {
	w, u := s.goAt(e.s), s.goAt(e.g)
	stack := s.ids[e.stack]
	unlock := s.entries[e.stack].traits.unlock
	waits := w != nil && w.wait != 0 && w.now.reason == ReasonSync && w.wake == 0
	if u != nil {
		if waits && unlock.lock() {
			s.unlocks(u, w, stack, now)
		} else {
			s.got(u, stack)
		}
	}
	if w == nil {
		return
	}
	if waits {
		w.wake, w.start = max(now, w.block, 1), 0
	}
	w.to(now, StateRunnable)
}

// got: after having been woken from a wait for a lock, a goroutine does something.
// Unless that is to wait for it again, it has got it.
func (s *lockSink) got(x *lockGo, stack StackID) {
	if x.wait == 0 || x.start == 0 || stack == x.wait {
		return
	}
	c := s.class(x.wait)
	d := s.t.span(x.start - min(x.block, x.start))
	c.Waits++
	c.WaitTotal += d
	c.WaitMax = max(c.WaitMax, d)
	c.Handoff += s.t.span(x.start - x.wake)
	if d >= slowWait {
		c.Slow++
		c.SlowTotal += d
	}
	if len(x.held) >= 8 {
		x.held = slices.Delete(x.held, 0, 1)
	}
	x.held = append(x.held, heldLock{x.wait, x.start})
	x.wait, x.wake, x.start = 0, 0, 0
}

func (s *lockSink) class(stack StackID) *lockClass {
	e := s.all[stack]
	fr := s.frames[e.first:e.end]
	var k lockKey
	if u := int(e.traits.user); u < len(fr) {
		k.at = fr[u].pc
		if u+1 < len(fr) {
			k.caller = fr[u+1].pc
		}
	}
	c := s.classes[k]
	if c == nil {
		if len(s.classes) >= maxClasses {
			k = lockKey{}
			if c = s.classes[k]; c != nil {
				return c
			}
		}
		c = &lockClass{LockClass: LockClass{Lock: stack, Kind: e.traits.lock}, unlocks: map[StackID]int64{}}
		s.classes[k] = c
	}
	return c
}

// unlocks: u ends the wait of w.
func (s *lockSink) unlocks(u, w *lockGo, stack StackID, now uint64) {
	s.got(u, stack)
	c := s.class(w.wait)
	if c.unlocks[stack] > 0 || len(c.unlocks) < maxInside {
		c.unlocks[stack]++
	}
	// One Unlock of an RWMutex wakes many readers.
	if u.burst == stack && u.burstN == u.n {
		return
	}
	u.burst, u.burstN = stack, u.n
	for i := len(u.held) - 1; i >= 0; i-- {
		h := u.held[i]
		depth := s.common(h.stack, stack)
		if depth < 0 || s.all[h.stack].traits.lock != s.all[stack].traits.unlock || s.helpers(h.stack, depth) > maxHelpers || s.helpers(stack, depth) > maxHelpers {
			continue // another lock, which the same request took elsewhere
		}
		hc := s.class(h.stack)
		u.held = slices.Delete(u.held, i, i+1)
		lockLine, unlockLine := s.line(h.stack, depth), s.line(stack, depth)
		if lockLine < unlockLine && !s.consistent(u, h, now, depth, lockLine, unlockLine) {
			hc.Stale++
			break // it is another, later hold, whose beginning nobody saw
		}
		if hc.lastUnlock > h.since {
			hc.Conflicts++
		}
		hc.lastUnlock = now
		s.hold(&hc.exact, u, stack, h.since, now, func(wait StackID) bool { return s.common(h.stack, wait) >= 0 })
		return
	}
	since := max(w.block, c.lastUnlock)
	c.lastUnlock = now
	user := s.all[stack]
	line := s.line(stack, int32(user.end-user.first)-1-int32(user.traits.user))
	s.hold(&c.bound, u, stack, since, now, func(wait StackID) bool {
		// After the line of the Unlock in the same function is an earlier round of
		// its loop.
		depth := s.common(stack, wait)
		return depth >= 0 && s.line(wait, depth) <= max(line, s.line(stack, depth))
	})
}

// common is the depth (from the root) of the function activation that two stacks
// share: the same callers up to a function in which they are at different places.
// -1 if there is none above the locking itself.
func (s *lockSink) common(a, b StackID) int32 {
	if a == 0 || b == 0 {
		return -1
	}
	k := uint64(a)<<32 | uint64(b)
	if d, ok := s.depths[k]; ok {
		return d
	}
	ea, eb := s.all[a], s.all[b]
	i, j := int(ea.end)-1, int(eb.end)-1
	depth := int32(0)
	for i >= int(ea.first) && j >= int(eb.first) && s.frames[i].pc == s.frames[j].pc && s.frames[i].fn == s.frames[j].fn {
		i--
		j--
		depth++
	}
	d := int32(-1)
	if i >= int(ea.first)+int(ea.traits.user) && j >= int(eb.first) && s.frames[i].fn == s.frames[j].fn {
		d = depth
	}
	s.depths[k] = d
	return d
}

// helpers is how many calls are between the locking and the frame at a depth.
func (s *lockSink) helpers(stack StackID, depth int32) int {
	e := s.all[stack]
	return int(e.end-e.first) - 1 - int(depth) - int(e.traits.user)
}

// line of the frame at a depth from the root.
func (s *lockSink) line(stack StackID, depth int32) uint32 {
	e := s.all[stack]
	i := int(e.end) - 1 - int(depth)
	if i < int(e.first) || i >= int(e.end) {
		return 0
	}
	return s.frames[i].line
}

// consistent reports whether all waits since the lock was got are between its
// Lock and its Unlock in the activation that they share. Otherwise the lock was
// given back in between and nobody waited for it then.
func (s *lockSink) consistent(u *lockGo, h heldLock, now uint64, depth int32, lockLine, unlockLine uint32) bool {
	ok := true
	u.history(now, func(x span) bool {
		if x.to <= h.since {
			return false
		}
		if x.stack == 0 || x.from < h.since {
			return true
		}
		at := s.common(h.stack, x.stack)
		if at < depth {
			ok = false
		} else if at == depth {
			line := s.line(x.stack, depth)
			ok = line >= lockLine && line <= unlockLine
		}
		return ok
	})
	return ok
}

// hold accounts what u did between two times, the second at an Unlock.
func (s *lockSink) hold(to *holdsAcct, u *lockGo, unlock StackID, since, now uint64, inside func(StackID) bool) {
	d := now - min(since, now)
	if to.ends == nil {
		to.ends = map[StackID]*siteAcct{}
	}
	if to.ends[unlock] != nil || len(to.ends) < maxInside {
		entryOf(to.ends, unlock).add(d)
	}
	to.n++
	to.total += d
	to.max = max(to.max, d)
	if len(to.samples) < maxSamples {
		to.samples = append(to.samples, d)
	} else {
		to.samples[to.n*0x9e3779b97f4a7c15>>54] = d // 10 bits: any of them
	}
	waited := false
	u.history(now, func(x span) bool {
		if x.to <= since {
			return false
		}
		part := min(x.to, now) - min(max(x.from, since), now)
		to.sum[x.state] += part
		if x.stack == 0 || part == 0 || x.state == StateGC || x.reason == ReasonPreempted || !inside(x.stack) {
			return true
		}
		waited = true
		to.insideTotal += part
		k := heldKey{x.stack, x.state, x.reason}
		if to.inside == nil {
			to.inside = map[heldKey]*siteAcct{}
		}
		if to.inside[k] != nil || len(to.inside) < maxInside {
			entryOf(to.inside, k).add(part)
		}
		return true
	})
	if waited {
		to.waiting++
	}
}

func (s *lockSink) result() []LockClass {
	out := make([]LockClass, 0, len(s.classes))
	for _, c := range s.classes {
		c.Exact, c.AtLeast = s.holds(&c.exact), s.holds(&c.bound)
		for stack, n := range c.unlocks {
			c.Unlocks = append(c.Unlocks, StackCount{stack, n})
		}
		slices.SortFunc(c.Unlocks, func(a, b StackCount) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Stack, b.Stack))
		})
		out = append(out, c.LockClass)
	}
	slices.SortFunc(out, func(a, b LockClass) int {
		return cmp.Or(cmp.Compare(b.WaitTotal, a.WaitTotal), cmp.Compare(a.Lock, b.Lock))
	})
	return out
}

func (s *lockSink) holds(x *holdsAcct) Holds {
	h := Holds{Count: int64(x.n), Total: s.t.span(x.total), Max: s.t.span(x.max), Waiting: x.waiting, InsideTotal: s.t.span(x.insideTotal)}
	if len(x.samples) > 0 {
		slices.Sort(x.samples)
		h.Median = s.t.span(x.samples[len(x.samples)/2])
	}
	for i, v := range x.sum {
		h.Times[i] = s.t.span(v)
	}
	for k, v := range x.inside {
		h.Inside = append(h.Inside, HeldWait{k.stack, k.state, k.reason, int64(v.n), s.t.span(v.total)})
	}
	slices.SortFunc(h.Inside, func(a, b HeldWait) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Stack, b.Stack), cmp.Compare(a.Reason, b.Reason))
	})
	for stack, v := range x.ends {
		h.Ends = append(h.Ends, HoldEnd{stack, int64(v.n), s.t.span(v.total)})
	}
	slices.SortFunc(h.Ends, func(a, b HoldEnd) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Stack, b.Stack))
	})
	return h
}
