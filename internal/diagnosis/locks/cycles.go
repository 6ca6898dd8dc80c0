package locks

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/trace"
)

// knot is why nothing moves any more.
type knot int

const (
	selfLock   knot = iota // wants a lock that it holds
	lockOrder              // several hold what the others want
	lockAndGo              // holds a lock that those it waits for want
	forgotten              // nobody holds it any more who could give it back
	eachOther              // the same of several locks: who waits for one may hold the other
	sendAndGo              // waits for goroutines that wait to send to it
	sendCircle             // all send, nobody receives
	fullGroup              // all of a limited group wait to start others in it
)

// standstill is goroutines that nothing can wake.
type standstill struct {
	knot  knot
	v     *verdict // nil if there is no lock in it
	count int
	kind  ops.Kind // where it was seen
	// change is the line to change first; then come those that stand.
	change *evidence.Frame
	role   ops.Role
	others []*evidence.Frame
	wants  *lock // that its holder waits for; nil = none that is known
	proof  proof
	does   doing // of the holder
}

// circular reports whether the holder of a stuck lock, who waits for other
// goroutines, waits for one that wants the lock. It is seen by one that began with
// a function of its own, as those who serve a channel do, and by that nobody else
// of the program is about anything that could end.
func (m *model) circular(v *verdict) bool {
	for k, sc := range m.scenes {
		hs := v.holders(sc, true)
		if len(hs) == 0 {
			continue
		}
		h := hs[0]
		family := slices.ContainsFunc(sc.actors, func(a actor) bool {
			if a.site == nil || m.of[a.site] != v.lock || a.site.waiting[k] == 0 {
				return false
			}
			return root(a.stack) != nil && (h.does == workers && startedBy(&a, h.stack) || !sameRoot(a.stack, h.stack))
		})
		if family && !m.alive(sc, v.lock) {
			return true
		}
	}
	return false
}

// startedBy reports whether a goroutine was started by a function of a stack.
func startedBy(a *actor, by evidence.Stack) bool {
	if len(a.stack) == 0 {
		return false
	}
	parent := ""
	if a.created != nil {
		parent = outer(a.created)
	} else if len(a.stack) > 0 {
		for i := len(a.stack) - 1; i >= 0 && parent == ""; i-- {
			if f := a.stack[i]; f.Origin == evidence.OwnCode {
				parent = closureOf(f)
				break
			}
		}
	}
	return parent != "" && slices.ContainsFunc(by, func(f *evidence.Frame) bool { return outer(f) == parent })
}

// alive reports whether a goroutine of the program does something that can end by
// itself: computes, is in I/O, sleeps. Those who wait for an answer of an HTTP or
// RPC server may be those who load this process; and whoever slept there more than
// once in the trace has been round a loop and helped nobody.
func (m *model) alive(sc scene, but *lock) bool {
	return slices.ContainsFunc(sc.actors, func(a actor) bool {
		if a.site != nil && m.of[a.site] == but || a.does == sleep && m.loops(a.stack) {
			return false
		}
		if !a.does.outside() && a.does != running || byWait(a.wait) == network && strings.HasPrefix(string(a.wait.Class), "http") || a.wait.Class == "rpc client" {
			return false
		}
		return slices.ContainsFunc(a.stack, func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode })
	})
}

// loops reports whether waits at a stack ended at least as often in the trace as it
// takes each of the goroutines there to come round twice.
func (m *model) loops(s evidence.Stack) bool {
	if m.e.Trace == nil {
		return false
	}
	var ended, open int64
	for i := range m.e.Trace.Sites {
		if x := &m.e.Trace.Sites[i]; x.State == trace.StateSleep && sameSpot(x.Stack.User(), s.User()) {
			ended, open = ended+x.Count-x.Open, open+x.Open
		}
	}
	return ended >= 2*max(1, open)
}

// standstills finds everything that stands for good.
func (m *model) standstills(verdicts []*verdict) (out []standstill) {
	for _, v := range verdicts {
		if v.nature == stuck {
			out = append(out, m.lockKnot(v))
		}
	}
	if len(out) == 0 {
		if s, ok := m.channelKnot(); ok {
			out = append(out, s)
		}
	}
	out = crossed(ring(circles(out)))
	slices.SortStableFunc(out, func(a, b standstill) int { return cmp.Compare(b.count, a.count) })
	return out
}

// ring makes one of several functions of which each seems to lock what it holds, at
// a second Lock of its own: where one lock ends and the other begins cannot be seen
// when nobody unlocks, and more likely than that all of these lock twice is that each
// wants what the next one has.
func ring(in []standstill) (out []standstill) {
	first := -1
	for _, s := range in {
		switch {
		case s.knot != selfLock || s.role != ops.RoleWait || s.proof == sameType:
		case first < 0:
			first = len(out)
		default:
			r := &out[first]
			r.knot = lockOrder
			r.count += s.count
			r.others = append([]*evidence.Frame{s.change}, append(r.others, s.others...)...)
			continue
		}
		out = append(out, s)
	}
	return out
}

// crossed makes one of several locks of one package that nobody is seen to hold.
// That two were forgotten is less likely than that two goroutines took them in
// opposite order and each stands with one in its hand; and where it is one lock with
// several callers, who left it locked is one question too.
func crossed(in []standstill) (out []standstill) {
	first := -1
	for _, s := range in {
		switch {
		case s.knot != forgotten || s.change == nil:
		case first < 0:
			first = len(out)
		case profile.Package(out[first].change.Function) == profile.Package(s.change.Function) && out[first].change != s.change:
			r := &out[first]
			r.knot = eachOther
			r.count += s.count
			r.others = slices.Insert(append(r.others, s.others...), 0, s.change)
			continue
		}
		out = append(out, s)
	}
	return out
}

// circles makes one of two locks whose holders want each other's.
func circles(in []standstill) (out []standstill) {
	gone := make([]bool, len(in))
	for i := range in {
		s := in[i]
		for j := i + 1; j < len(in); j++ {
			if o := in[j]; !gone[i] && !gone[j] && s.wants != nil && o.v != nil && o.wants != nil && (s.wants == o.v.lock || o.wants == s.v.lock) {
				gone[j] = true
				s.count += o.count
				s.others = append(append([]*evidence.Frame{o.change}, s.others...), o.others...)
			}
		}
		if !gone[i] {
			out = append(out, s)
		}
	}
	return out
}

// lockKnot says why a lock is never given back.
func (m *model) lockKnot(v *verdict) standstill {
	s := standstill{v: v, count: v.stuck, role: ops.RoleWait, kind: ops.KindGoroutine, proof: v.seen.proof, does: v.seen.does}
	if m.e.Trace != nil {
		s.kind = ops.KindTrace
	}
	for _, x := range v.sites {
		s.others = append(s.others, x.user())
	}
	if v.sighted && v.seen.does != otherLock && v.seen.does != running {
		s.knot, s.change, s.role = lockAndGo, v.seen.change, v.seen.does.role()
		// The one that should come began with a function of its own.
		slices.SortStableFunc(v.sites, func(a, b *site) int { return cmp.Compare(elsewhere(b, v), elsewhere(a, v)) })
		s.others = nil
		for _, x := range v.sites {
			s.others = append(s.others, x.user())
		}
		return s
	}
	hs, n := m.lockedHolders(v)
	if len(hs) == 0 {
		return m.innerCall(v, s)
	}
	h := hs[0]
	s.proof = h.proof
	wants := h.stack[h.actor.at]
	// The line in the function that holds: where it calls what locks, or locks the
	// second time itself.
	s.change = toChange(h.stack, h.at)
	s.role = ops.RoleCall
	if s.change == wants {
		s.role = ops.RoleWait
	}
	s.others = append([]*evidence.Frame{wants}, s.others...)
	s.knot, s.wants = selfLock, m.of[h.site]
	if (n > 1 || len(hs) > 1 || m.of[h.site] != v.lock) && !v.readsTwice(hs, m) {
		// Of two orders either can be turned round: at the Lock that closes the circle.
		s.knot = lockOrder
		calls := []*evidence.Frame{s.change}
		s.change, s.role = wants, ops.RoleWait
		for _, o := range hs[1:] {
			s.others = append([]*evidence.Frame{o.stack[o.actor.at]}, s.others...)
			calls = append(calls, o.stack[o.at])
		}
		s.others = append(s.others, calls...)
	}
	return s
}

// readsTwice reports whether all who hold the lock and wait want to read, by another
// method of the type that they hold it in, while somebody waits to write to one of
// that type. Each waits for the writer, and that one for all of them: no second
// lock is in it, even if a read by one method and a write by another look like two.
func (l *lock) readsTwice(hs []holder, m *model) bool {
	for _, h := range hs {
		t := receiver(h.stack[h.actor.at])
		if t == "" || t != receiver(h.stack[h.at]) || h.site.kind != trace.LockRead {
			return false
		}
		writes := func(s *site) bool { return s.kind == trace.LockWrite && receiver(s.user()) == t }
		if !slices.ContainsFunc(l.sites, writes) && !slices.ContainsFunc(m.of[h.site].sites, writes) {
			return false
		}
	}
	return true
}

// elsewhere is 1 for a site that somebody else came to than those who hold the
// lock, by the functions that their goroutines began with.
func elsewhere(s *site, v *verdict) int {
	if root(s.stack) != nil && !sameRoot(s.stack, v.seen.stack) {
		return 1
	}
	return 0
}

// lockedHolders are those who hold the lock and wait for one, in the scene that
// shows most of them, and how many goroutines they are.
func (m *model) lockedHolders(v *verdict) (best []holder, most int) {
	for _, sc := range m.scenes {
		var hs []holder
		n := 0
		for _, h := range v.holders(sc, false) {
			if h.does == otherLock && h.site != nil {
				hs = append(hs, h)
				n += h.count
			}
		}
		if n > most {
			best, most = hs, n
		}
	}
	return best, most
}

// innerCall is for a lock that nobody seen holds. If just one goroutine came to
// its Lock by way of another method of the same type, that one probably locked it
// before; so did readers who all came so, if a writer waits for readers to go. Else
// somebody went without giving it back.
func (m *model) innerCall(v *verdict, s standstill) standstill {
	s.knot, s.proof = forgotten, sameType
	s.change = v.sites[0].user()
	for k, sc := range m.scenes {
		for i := range sc.actors {
			a := &sc.actors[i]
			if a.site == nil || m.of[a.site] != v.lock || a.site.waiting[k] == 0 {
				continue
			}
			t := receiver(a.stack[a.at])
			if t == "" {
				continue
			}
			for j := a.at + 1; j < len(a.stack); j++ {
				f := a.stack[j]
				if receiver(f) != t || f.Origin != evidence.OwnCode || outer(f) == outer(a.stack[a.at]) {
					continue
				}
				if a.count > 1 && a.count > v.stuck/2 && (a.site.kind != trace.LockRead || !v.writers()) {
					break // so did most: it is how one gets there
				}
				s.knot, s.change, s.role = selfLock, toChange(a.stack, j), ops.RoleCall
				s.others = append([]*evidence.Frame{a.stack[a.at]}, s.others...)
				return s
			}
		}
	}
	return s
}

// writers reports whether somebody waits to write.
func (l *lock) writers() bool {
	return slices.ContainsFunc(l.sites, func(s *site) bool { return s.kind == trace.LockWrite })
}

// standing are goroutines of the program that wait for a channel, a WaitGroup or
// a lock, in a scene, for as long as is known.
func (m *model) standing(k int) (out []*actor) {
	sc := &m.scenes[k]
	for i := range sc.actors {
		a := &sc.actors[i]
		if a.does != send && a.does != workers {
			continue
		}
		if f := a.stack.User(); f == nil || f.Origin != evidence.OwnCode {
			continue
		}
		if sc.kind == ops.KindTrace || m.stays(a, k) {
			out = append(out, a)
		}
	}
	return out
}

// stays reports whether no snapshot lacks the goroutines of an actor, of those
// that could have them, and there are at least two.
func (m *model) stays(a *actor, k int) bool {
	n := 0
	for i := range m.scenes {
		if m.scenes[i].kind != m.scenes[k].kind {
			continue
		}
		n++
		if !slices.ContainsFunc(m.scenes[i].actors, func(b actor) bool { return slices.Equal(a.stack, b.stack) && b.count >= a.count }) {
			return false
		}
	}
	return n >= 2
}

// channelKnot finds a standstill without locks: somebody waits for goroutines
// which wait to send to it; or whoever is left only sends.
func (m *model) channelKnot() (standstill, bool) {
	for k := len(m.scenes) - 1; k >= 0; k-- {
		all := m.standing(k)
		if m.e.Trace != nil && m.scenes[k].kind != ops.KindTrace || m.alive(m.scenes[k], nil) {
			continue // the trace knows better what stands
		}
		for _, w := range all {
			if w.does != workers || closes(w, all) {
				continue
			}
			s := standstill{knot: sendAndGo, count: w.count, kind: m.scenes[k].kind, change: w.stack.User(), role: ops.RoleWait, does: workers}
			for _, a := range all {
				if a.does == send && startedBy(a, w.stack) {
					s.count += a.count
					s.others = append(s.others, a.stack.User())
				}
			}
			if len(s.others) > 0 {
				return s, true
			}
		}
		if s, ok := m.sendCircle(k, all); ok {
			return s, true
		}
	}
	for k := len(m.scenes) - 1; k >= 0; k-- {
		if s, ok := m.fullGroup(k); ok && (m.e.Trace == nil || m.scenes[k].kind == ops.KindTrace) {
			return s, true
		}
	}
	return standstill{}, false
}

// closes reports whether a goroutine does nothing but wait for those who send: a
// function of its own that closes their channel when they have ended. Who would
// receive is somebody else, who has left.
func closes(w *actor, all []*actor) bool {
	var at *evidence.Frame
	for _, f := range w.stack {
		if f.Origin != evidence.OwnCode {
			continue
		}
		if at != nil {
			return false
		}
		at = f
	}
	if at == nil || closureOf(at) == "" {
		return false
	}
	return !slices.ContainsFunc(all, func(a *actor) bool {
		f := root(a.stack)
		return a.does == send && f != nil && strings.HasPrefix(f.Plain(), at.Plain()+".")
	})
}

// Of golang.org/x/sync/errgroup: what a task runs in, and what starts one, which
// waits while as many run as its limit allows.
var (
	groupTask  = evidence.Named("golang.org/x/sync/errgroup.(*Group).Go.func")
	groupStart = evidence.Named("golang.org/x/sync/errgroup.(*Group).Go")
)

// fullGroup finds tasks of an errgroup that wait for a free place in one, all of
// them and all the time: had one of them another group to wait for, somebody in
// that would be about something else.
func (m *model) fullGroup(k int) (standstill, bool) {
	s := standstill{knot: fullGroup, kind: m.scenes[k].kind, role: ops.RoleWait, does: pool}
	var most int
	for i := range m.scenes[k].actors {
		a := &m.scenes[k].actors[i]
		task := a.stack.Outermost(groupTask)
		if task < 0 {
			continue
		}
		start := a.stack[:task].Index(groupStart)
		f := a.stack.UserAbove(start)
		if a.wait.Class != goroutines.Limit || start < 0 || f == nil || f.Origin != evidence.OwnCode || m.scenes[k].kind != ops.KindTrace && !m.stays(a, k) {
			return s, false // one of a group is about something, and may end
		}
		s.count += a.count
		s.others = append(s.others, f)
		if a.count > most {
			most, s.change = a.count, f
		}
	}
	return s, s.count > 1
}

// sendCircle finds two that send while nobody receives, and that belong together:
// one started the other, or they began with methods of one type; or each is alone in
// what it does, as those are who serve a channel, and others wait to send as well: who
// does not receive from them is most likely the one to whom it sends.
func (m *model) sendCircle(k int, all []*actor) (standstill, bool) {
	for _, a := range all {
		for _, b := range all {
			if a == b || sameSpot(a.stack.User(), b.stack.User()) || a.does != send || b.does != send || a.count > b.count || !startedBy(b, a.stack) && !siblings(a.stack, b.stack) && !serveEachOther(a, b, all) {
				continue
			}
			s := standstill{knot: sendCircle, count: a.count + b.count, kind: m.scenes[k].kind, change: a.stack.User(), role: ops.RoleSend, does: send}
			s.others = append(s.others, b.stack.User())
			return s, true
		}
	}
	return standstill{}, false
}

// serveEachOther reports whether two goroutines of one package, each the only one that
// began with its function, stand at sends while somebody else waits to send, too.
func serveEachOther(a, b *actor, all []*actor) bool {
	x, y := root(a.stack), root(b.stack)
	if a.count != 1 || b.count != 1 || x == nil || y == nil || outer(x) == outer(y) || x.Package != y.Package {
		return false
	}
	return slices.ContainsFunc(all, func(c *actor) bool {
		return c != a && c != b && c.does == send && !sameRoot(c.stack, a.stack) && !sameRoot(c.stack, b.stack)
	})
}

// siblings reports whether two goroutines began with different methods of one type.
func siblings(a, b evidence.Stack) bool {
	x, y := root(a), root(b)
	return x != nil && y != nil && outer(x) != outer(y) && receiver(x) != "" && receiver(x) == receiver(y)
}
