package locks

import (
	"cmp"
	"slices"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// proof is how it is known that somebody holds a lock, the best first.
type proof int

const (
	// pastLock is in the function that locks, behind the line of the Lock.
	pastLock proof = iota
	// beforeUnlock is in a function that unlocks it, before that line.
	beforeUnlock
	// sameType is in another method of the type whose methods lock.
	sameType
)

// holder is goroutines that probably hold a lock in a scene.
type holder struct {
	*actor
	proof
	at int // index in the stack of the frame that holds
}

// held is what a lock is held for.
type held struct {
	does  doing
	share float64 // of the time that it is held; 0 = not known
	wait  goroutines.Wait
	stack evidence.Stack
	at    int // index of the frame that holds; -1 = not known
	// change is the line to change first; nil = not known.
	change *evidence.Frame
}

// holders finds those who hold the lock in a scene. Goroutines of methods of the
// same type are taken only if loose is set.
func (l *lock) holders(sc scene, loose bool) (out []holder) {
	for _, i := range l.suspects(sc, loose) {
		if h, ok := l.holds(&sc.actors[i], loose); ok {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b holder) int {
		return cmp.Or(cmp.Compare(a.proof, b.proof), cmp.Compare(b.count, a.count))
	})
	return out
}

// suspects are the actors, in their order, with a function in their stacks that
// locks or unlocks, or a method of the same type if loose is set.
func (l *lock) suspects(sc scene, loose bool) (out []int) {
	add := func(f *evidence.Frame) {
		out = append(out, sc.function[f.Plain()]...)
		if loose {
			out = append(out, sc.method[receiver(f)]...)
		}
	}
	for _, s := range l.sites {
		add(s.frame)
	}
	for _, r := range l.releases {
		add(r.frame)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (l *lock) holds(a *actor, loose bool) (holder, bool) {
	for _, s := range l.sites {
		i := activation(a.stack, s.frame)
		if i < 0 {
			continue
		}
		if s.once && a.stack[i].Line == s.frame.Line && (a.site == nil || a.site.frame != a.stack[i]) {
			if k := a.stack[:i].Index(evidence.Named("sync.(*Once).")); k >= 0 {
				return holder{a, pastLock, k}, true
			}
		}
		if s.file && a.site == nil && a.does.waits() && a.stack[i].Line == s.frame.Line {
			return holder{a, pastLock, i}, true
		}
		if l.inside(a.stack[i], s.frame) {
			return holder{a, pastLock, i}, true
		}
	}
	if a.site != nil && slices.Contains(l.sites, a.site) {
		return holder{}, false // it waits for this lock itself
	}
	for _, r := range l.releases {
		i := activation(a.stack, r.frame)
		if i >= 0 && a.stack[i].Line <= r.frame.Line && !l.locksIn(r.frame) {
			return holder{a, beforeUnlock, i}, true
		}
	}
	if loose {
		if i := a.stack.Index(l.sharesType); i >= 0 {
			return holder{a, sameType, i}, true
		}
	}
	return holder{}, false
}

// inside reports whether a line of a function is behind a Lock, and not behind
// the last Unlock before the next Lock.
func (l *lock) inside(f, locked *evidence.Frame) bool {
	if f.Line <= locked.Line {
		return false
	}
	next := 1 << 30
	from := locked.Line
	for _, s := range l.sites {
		if s.frame.Plain() != f.Plain() {
			continue
		}
		switch line := s.frame.Line; {
		case line < f.Line && line > from:
			from = line
		case line >= f.Line && line < next:
			next = line
		}
	}
	last := 0
	for _, r := range l.releases {
		if !l.deferred && r.frame.Plain() == f.Plain() && r.frame.Line >= from && r.frame.Line <= next {
			last = max(last, r.frame.Line)
		}
	}
	return last == 0 || f.Line <= last
}

func (l *lock) locksIn(f *evidence.Frame) bool {
	return slices.ContainsFunc(l.sites, func(s *site) bool { return s.frame.Plain() == f.Plain() })
}

// sharesType reports whether a frame is of a method of a type whose methods lock.
func (l *lock) sharesType(f *evidence.Frame) bool {
	t := receiver(f)
	if t == "" || f.Origin == evidence.StdCode || f.Origin == evidence.RuntimeCode {
		return false
	}
	for _, s := range l.sites {
		if receiver(s.frame) == t {
			return true
		}
	}
	for _, r := range l.releases {
		if receiver(r.frame) == t {
			return true
		}
	}
	return false
}

func (h holder) held() held {
	x := held{does: h.does, wait: h.wait, stack: h.stack, at: h.at}
	x.change = toChange(h.stack, h.at)
	return x
}

// sighting is what the scenes show of a lock's holders.
type sighting struct {
	held
	proof
	// agreeing are the scenes in which somebody waits and somebody is seen to hold
	// it, doing this; waiting and holding the goroutines of them all.
	agreeing         int
	waiting, holding int
}

// sight looks at the holders in all scenes, and returns what most of them do.
func (m *model) sight(l *lock, loose bool) (best sighting, ok bool) {
	var all []sighting
	for k, sc := range m.scenes {
		waiting := 0
		for _, s := range l.sites {
			waiting += s.waiting[k]
		}
		if waiting == 0 {
			continue
		}
		var seen []doing // once per scene
		for _, h := range l.holders(sc, loose) {
			x := h.held()
			i := slices.IndexFunc(all, func(o sighting) bool { return o.does == x.does && sameSpot(o.change, x.change) })
			if i < 0 {
				i = len(all)
				all = append(all, sighting{held: x, proof: h.proof})
			}
			o := &all[i]
			o.holding += h.count
			if !slices.Contains(seen, x.does) {
				seen = append(seen, x.does)
				o.agreeing++
				o.waiting += waiting
			}
		}
	}
	slices.SortStableFunc(all, func(a, b sighting) int {
		return cmp.Or(cmp.Compare(a.proof, b.proof), cmp.Compare(b.agreeing, a.agreeing), cmp.Compare(b.holding, a.holding))
	})
	if len(all) == 0 {
		return sighting{held: held{at: -1}}, false
	}
	return all[0], true
}
