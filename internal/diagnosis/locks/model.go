package locks

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// site is a line that locks, and who waits there.
type site struct {
	locking
	frame *evidence.Frame
	stack evidence.Stack
	// From the trace: waits that ended, those of a millisecond and more, and what
	// all of them took with those that had not ended.
	ended, slow, open, whole int64
	gone                     int64 // that ended, by another count: it has also those that began before
	slowTotal, endedTotal    time.Duration
	total, max               time.Duration
	// From the block profile.
	blocked   int64
	blockedBy time.Duration
	// waiting in each scene.
	waiting []int
	aged    bool // some have waited for a minute and more
}

// release is a line that unlocks.
type release struct {
	frame *evidence.Frame
	stack evidence.Stack
	// holds that ended there and how long they were, by the trace.
	holds int64
	held  time.Duration
	// From the mutex profile: what it made others wait.
	contentions int64
	delay       time.Duration
}

// lock is what is taken for one lock, or one kind of lock: places that lock and
// unlock it.
type lock struct {
	sites    []*site    // most waiting first
	releases []*release // longest held first
	classes  []*evidence.Lock
	deferred bool // Unlock is deferred: its lines say nothing
}

// scene is what goroutines did at one moment; in the trace, what they did all
// the time.
type scene struct {
	kind ops.Kind
	// earlier is set of the snapshot at the window's start: a link leads to the later one.
	earlier bool
	actors  []actor
	// Which actors have a function, and a method of a type, in their stacks: a dump
	// may have thousands of groups and hundreds of locks.
	function, method map[string][]int
}

// arrange fills in who has what in their stacks.
func (sc *scene) arrange() {
	sc.function, sc.method = map[string][]int{}, map[string][]int{}
	add := func(m map[string][]int, name string, i int) {
		if had := m[name]; name != "" && (len(had) == 0 || had[len(had)-1] != i) {
			m[name] = append(had, i)
		}
	}
	for i := range sc.actors {
		a := &sc.actors[i]
		if a.does == idle || a.does == condition || a.stack.Watched() {
			continue // holds nothing
		}
		for _, f := range a.stack {
			add(sc.function, f.Plain(), i)
			add(sc.method, receiver(f), i)
		}
	}
}

// actor is goroutines at one place.
type actor struct {
	stack   evidence.Stack
	count   int
	does    doing
	wait    goroutines.Wait
	created *evidence.Frame // nil = not known
	site    *site           // where they wait for a lock; nil = they do not
	at      int             // the index in stack of the frame that wants it
}

// model is all locks that somebody waited for.
type model struct {
	e *evidence.Evidence
	// lifelong is set if all that is known are block and mutex profiles that count
	// since the process began.
	lifelong bool
	scenes   []scene
	locks    []*lock // most waiting first
	of       map[*site]*lock

	sites    map[spot]*site
	releases map[spot]*release
	parent   map[any]any // *site or *release, to its group
}

// build joins what the artifacts say of locks.
func build(e *evidence.Evidence) *model {
	m := &model{e: e, of: map[*site]*lock{}, sites: map[spot]*site{}, releases: map[spot]*release{}, parent: map[any]any{}}
	m.lifelong = missing(e) && (e.Mutex == nil || e.Mutex.Whole) && (e.Block == nil || e.Block.Whole)
	m.addScenes()
	m.addTrace()
	m.addProfiles()
	m.join()
	return m
}

func (m *model) site(s evidence.Stack) *site {
	l, ok := lockWait(s)
	if !ok {
		return nil
	}
	f := s[l.at]
	x := m.sites[spotOf(f)]
	if x == nil {
		x = &site{locking: l, frame: f, stack: s, waiting: make([]int, len(m.scenes))}
		m.sites[spotOf(f)] = x
	}
	return x
}

func (m *model) release(s evidence.Stack) *release {
	i := unlocker(s)
	if i >= len(s) {
		return nil
	}
	x := m.releases[spotOf(s[i])]
	if x == nil {
		x = &release{frame: s[i], stack: s}
		m.releases[spotOf(s[i])] = x
	}
	return x
}

// addScenes reads the snapshots, and as another one what lasted all of the trace,
// or made up most of it.
func (m *model) addScenes() {
	e := m.e
	for _, g := range []struct {
		kind ops.Kind
		from *evidence.Goroutines
	}{{ops.KindGoroutine, e.GoroutinesBefore}, {ops.KindGoroutine, e.Goroutines}, {ops.KindGoroutineDump, e.Dump}} {
		if g.from == nil {
			continue
		}
		sc := scene{kind: g.kind, earlier: g.from == e.GoroutinesBefore}
		for i := range g.from.Groups {
			x := &g.from.Groups[i]
			sc.actors = append(sc.actors, actor{stack: x.Stack, count: x.Count, does: inGroup(x), wait: x.Wait, created: x.CreatedBy})
		}
		m.scenes = append(m.scenes, sc)
	}
	if e.Trace != nil {
		sc := scene{kind: ops.KindTrace}
		for i := range e.Trace.Sites {
			x := &e.Trace.Sites[i]
			n := int(x.Whole)
			does := inHeld(x.Stack, x.State, x.Reason, x.Wait)
			if n == 0 && does != otherLock && x.Total > e.Trace.Duration/2 {
				n = int((x.Total + e.Trace.Duration - 1) / e.Trace.Duration) // again and again
			}
			if n > 0 && x.State != trace.StateIdle && len(x.Stack) > 0 {
				sc.actors = append(sc.actors, actor{stack: x.Stack, count: n, does: does, wait: x.Wait})
			}
		}
		m.scenes = append(m.scenes, sc)
	}
	for k := range m.scenes {
		m.scenes[k].arrange()
		for i := range m.scenes[k].actors {
			a := &m.scenes[k].actors[i]
			if a.does != otherLock {
				continue
			}
			if l, ok := lockWait(a.stack); ok {
				a.site, a.at = m.site(a.stack), l.at
				a.site.waiting[k] += a.count
			}
		}
	}
	if e.Dump != nil {
		for i := range e.Dump.Groups {
			if x := m.site(e.Dump.Groups[i].Stack); x != nil && e.Dump.Groups[i].Aged > 0 {
				x.aged = true
			}
		}
	}
}

func (m *model) addTrace() {
	t := m.e.Trace
	if t == nil {
		return
	}
	for i := range t.Sites {
		x := &t.Sites[i]
		if x.State == trace.StateSyscall {
			continue
		}
		if s := m.site(x.Stack); s != nil {
			s.total += x.Total
			s.open += x.Open
			s.gone += x.Count - x.Open
			s.whole += x.Whole
			if s.file {
				m.fileWaits(s, x)
			}
		}
	}
	for i := range t.Locks {
		x := &t.Locks[i]
		s := m.site(x.Lock)
		if s == nil {
			continue
		}
		s.ended += x.Waits
		s.slow += x.Slow
		s.slowTotal += x.SlowTotal
		s.endedTotal += x.WaitTotal
		s.max = max(s.max, x.WaitMax)
		for _, u := range x.Unlocks {
			if r := m.release(u.Stack); r != nil {
				m.union(s, r)
			}
		}
		for _, h := range []*evidence.Holds{&x.Exact, &x.AtLeast} {
			for _, end := range h.Ends {
				if r := m.release(end.Stack); r != nil && (h == &x.AtLeast || ownEnd(s, r)) {
					r.holds += end.Count
					r.held += end.Total
					m.union(s, r)
				}
			}
		}
	}
}

// fileWaits takes the waits for an os.File's own lock, which are no locks to the
// trace: they are slow if they are on average.
func (m *model) fileWaits(s *site, x *evidence.Site) {
	n := x.Count - x.Open
	s.ended += n
	s.max = max(s.max, x.Max)
	if x.Count > 0 {
		s.endedTotal += x.Total * time.Duration(n) / time.Duration(x.Count)
	}
	if n > 0 && x.Total/time.Duration(x.Count) >= slowWait {
		s.slow += n
		s.slowTotal += x.Total * time.Duration(n) / time.Duration(x.Count)
	}
}

func (m *model) addProfiles() {
	if p := m.e.Block; p != nil && (!p.Whole || m.lifelong) {
		n, d := p.Type("contentions"), p.Type("delay")
		for i := range p.Rows {
			r := &p.Rows[i]
			if s := m.site(r.Stack); s != nil && n >= 0 && d >= 0 {
				s.blocked += r.Values[n]
				s.blockedBy += time.Duration(r.Values[d])
			}
		}
	}
	if p := m.e.Mutex; p != nil && (!p.Whole || m.lifelong) {
		n, d := p.Type("contentions"), p.Type("delay")
		for i := range p.Rows {
			r := &p.Rows[i]
			if u := m.release(r.Stack); u != nil && n >= 0 && d >= 0 {
				u.contentions += r.Values[n]
				u.delay += time.Duration(r.Values[d])
			}
		}
	}
}

func (m *model) find(x any) any {
	for {
		p, ok := m.parent[x]
		if !ok || p == x {
			return x
		}
		if pp, ok := m.parent[p]; ok {
			m.parent[x] = pp
		}
		x = p
	}
}

func (m *model) union(a, b any) {
	if a, b = m.find(a), m.find(b); a != b {
		m.parent[a] = b
	}
}

// join says which places are about one lock: those that the trace saw wake each
// other; places of one function; and, where the trace saw nothing of it, methods
// of one type.
func (m *model) join() {
	traced := map[*site]bool{} // sites with an unlock of their own
	if m.e.Trace != nil {
		for i := range m.e.Trace.Locks {
			if x := &m.e.Trace.Locks[i]; len(x.Unlocks) > 0 {
				if s := m.site(x.Lock); s != nil {
					traced[s] = true
				}
			}
		}
	}
	sites, releases := ordered(m.sites), ordered(m.releases)
	first := map[string]any{}
	near := func(key string, x any) {
		if other, ok := first[key]; ok {
			m.union(x, other)
		} else {
			first[key] = x
		}
	}
	for _, s := range sites {
		if traced[s] {
			near(outer(s.frame), s)
		}
	}
	for _, s := range sites {
		if !traced[s] {
			near(outer(s.frame), s)
			if t := receiver(s.frame); t != "" && s.frame.Origin != evidence.StdCode {
				near("type "+t, s)
			}
		}
	}
	for _, r := range releases {
		if _, ok := m.parent[r]; ok {
			continue // woke somebody in the trace
		}
		if _, ok := first[outer(r.frame)]; ok {
			near(outer(r.frame), r)
		} else if t := receiver(r.frame); t != "" && r.frame.Origin != evidence.StdCode {
			near("type "+t, r)
		} else {
			near(outer(r.frame), r)
		}
	}
	m.collect(sites, releases)
}

func (m *model) collect(sites []*site, releases []*release) {
	locks := map[any]*lock{}
	get := func(x any) *lock {
		g := m.find(x)
		l := locks[g]
		if l == nil {
			l = &lock{}
			locks[g] = l
			m.locks = append(m.locks, l)
		}
		return l
	}
	for _, s := range sites {
		l := get(s)
		l.sites = append(l.sites, s)
		m.of[s] = l
	}
	for _, r := range releases {
		l := get(r)
		l.releases = append(l.releases, r)
	}
	if m.e.Trace != nil {
		for i := range m.e.Trace.Locks {
			if s := m.site(m.e.Trace.Locks[i].Lock); s != nil {
				l := m.of[s]
				l.classes = append(l.classes, &m.e.Trace.Locks[i])
			}
		}
	}
	for _, l := range m.locks {
		slices.SortStableFunc(l.sites, func(a, b *site) int { return cmp.Compare(b.weight(), a.weight()) })
		slices.SortStableFunc(l.releases, func(a, b *release) int {
			return cmp.Or(cmp.Compare(b.held, a.held), cmp.Compare(b.delay, a.delay))
		})
	}
	waiters := make(map[*lock]float64, len(m.locks))
	for _, l := range m.locks {
		waiters[l] = m.impact(l).waiters
	}
	slices.SortStableFunc(m.locks, func(a, b *lock) int { return cmp.Compare(waiters[b], waiters[a]) })
}

// spot is a line of a function, whose type arguments a trace and a profile write
// differently.
type spot struct {
	function string
	line     int
}

func sameSpot(a, b *evidence.Frame) bool {
	return a == b || a != nil && b != nil && spotOf(a) == spotOf(b)
}

func spotOf(f *evidence.Frame) spot { return spot{f.Plain(), f.Line} }

// ordered are a map's values by their places, so that results do not depend on
// the order of maps.
func ordered[T any](in map[spot]T) []T {
	spots := make([]spot, 0, len(in))
	for f := range in {
		spots = append(spots, f)
	}
	slices.SortFunc(spots, func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.function, b.function), cmp.Compare(a.line, b.line))
	})
	out := make([]T, len(spots))
	for i, f := range spots {
		out[i] = in[f]
	}
	return out
}

// weight orders sites by who waits there most.
func (s *site) weight() time.Duration {
	w := max(s.total, s.slowTotal, s.blockedBy)
	if w == 0 {
		for _, n := range s.waiting {
			w += time.Duration(n)
		}
	}
	return w
}
