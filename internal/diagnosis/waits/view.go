package waits

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/trace"
)

// wait is everything known of waiting at one line of the program for one thing.
type wait struct {
	op
	state goroutines.State
	user  *evidence.Frame // the program's line; nil = none of its own
	at    int             // of user in stack
	// helper is the line below user that waits, if that is in a function through which
	// many ask; nil = user itself.
	helper *evidence.Frame
	stack  evidence.Stack
	// all are the stacks that were seen, at most maxStacks.
	all []evidence.Stack
	// start is the function that the goroutines began with.
	start string
	// handler is set if somebody outside waits for the answer of the function
	// that waits here.
	handler bool
	// parents are the waits of requests that started these goroutines and wait for
	// them; parent: it is such a wait.
	parents []*wait
	parent  bool
	// queued is set of both if the requests wait until these goroutines, which are few,
	// get at what they want.
	queued bool

	// Of the trace.
	count, open, whole int64
	total, max         time.Duration
	sites              []seenAt  // at most maxStacks
	longest            []stretch // of those sites and all others, the longest first, at most maxStretches
	// Of the block profile of the window.
	blocked int64
	delay   time.Duration
	// Of the snapshots at the window's ends.
	now, before int
	aged        time.Duration // at least so long, by a dump
	labels      []goroutines.Labels
}

// maxStacks bounds what one wait keeps for comparing.
const maxStacks = 12

type waitKey struct {
	op
	state goroutines.State
	user  *evidence.Frame
	start string
}

// view is the waits of a process, joined from its trace and its snapshots.
type view struct {
	e     *evidence.Evidence
	waits []*wait
	// byStart are the same by where their goroutines began.
	byStart map[string][]*wait
	byKey   map[waitKey]*wait
	// now and before are the snapshots; in debug=2 where nothing else is there.
	now, before *evidence.Goroutines
	// wakes are those of the trace that somebody ended, by what placeKey says of
	// the waiter's stack.
	wakes map[uint64][]int
	seed  maphash.Seed
	// callers are those of the program's functions that merely relay: see asker.
	callers map[string]map[string]bool
}

// viewOf joins. ok is false if there is neither a trace nor a snapshot.
func viewOf(e *evidence.Evidence) (v *view, ok bool) {
	v = &view{e: e, byKey: map[waitKey]*wait{}, wakes: map[uint64][]int{}, seed: maphash.MakeSeed(), now: e.Goroutines, before: e.GoroutinesBefore, callers: callersOf(e)}
	if v.now == nil {
		v.now, v.before = e.Dump, nil
	}
	if e.Trace == nil && v.now == nil {
		return v, false
	}
	if e.Trace != nil {
		for i := range e.Trace.Sites {
			v.addSite(&e.Trace.Sites[i])
		}
		for i, w := range e.Trace.Wakes {
			if len(w.Waker) > 0 && len(w.Waiter) > 0 {
				k := v.placeKey(w.Waiter)
				v.wakes[k] = append(v.wakes[k], i)
			}
		}
	}
	v.addBlock()
	v.addGoroutines(v.now, func(w *wait, n int) { w.now += n })
	v.addGoroutines(v.before, func(w *wait, n int) { w.before += n })
	if e.Dump != nil && e.Dump != v.now {
		v.addGoroutines(e.Dump, func(*wait, int) {})
	}
	v.adopt()
	v.leaveOutWrites()
	v.judgeReads()
	v.judgeDials()
	slices.SortStableFunc(v.waits, func(a, b *wait) int {
		return cmp.Or(cmp.Compare(v.busy(b), v.busy(a)), compareFrames(a.user, b.user), cmp.Compare(a.start, b.start), cmp.Compare(a.state, b.state), cmp.Compare(a.kind, b.kind))
	})
	v.byStart = map[string][]*wait{}
	for _, w := range v.waits {
		v.byStart[w.start] = append(v.byStart[w.start], w)
	}
	return v, true
}

func (v *view) addSite(s *evidence.Site) {
	if s.State == trace.StateIdle || s.State == trace.StateGC || s.State == trace.StateOther || len(s.Stack) == 0 {
		return
	}
	w := v.at(s.Stack, traceState(s), s.Start)
	w.count, w.open, w.whole = w.count+s.Count, w.open+s.Open, w.whole+s.Whole
	if len(w.sites) < maxStacks {
		w.sites = append(w.sites, seenAt{stack: s.Stack, count: s.Count - s.Whole, visits: s.Visits, total: s.Total})
	}
	w.total, w.max = w.total+s.Total, max(w.max, s.Max)
	if s.Longest > 0 && s.Max > 0 {
		w.longest = longestOf(append(w.longest, stretch{s.Longest, s.LongestFrom, s.Max}))
	}
}

// addBlock adds what the window's block profile says. It says nothing by being
// empty, and one that counts since the process began may be about last week.
func (v *view) addBlock() {
	b := v.e.Block
	count, delay := b.Type("contentions"), b.Type("delay")
	if b == nil || b.Whole || count < 0 || delay < 0 {
		return
	}
	for i := range b.Rows {
		r := &b.Rows[i]
		var st goroutines.State
		switch {
		case r.Stack.Has("runtime.chansend"):
			st = goroutines.ChanSend
		case r.Stack.Has("runtime.chanrecv"):
			st = goroutines.ChanReceive
		case r.Stack.Has("runtime.selectgo"):
			st = goroutines.Select
		case r.Stack.Has("sync.(*Cond).Wait"):
			st = goroutines.Cond
		default:
			continue
		}
		w := v.at(r.Stack, st, startOf(r.Stack))
		w.blocked, w.delay = w.blocked+r.Values[count], w.delay+time.Duration(r.Values[delay])
	}
}

func (v *view) addGoroutines(g *evidence.Goroutines, count func(*wait, int)) {
	if g == nil {
		return
	}
	for i := range g.Groups {
		x := &g.Groups[i]
		switch x.State {
		case goroutines.Running, goroutines.Runnable, goroutines.Runtime, goroutines.GC, goroutines.Unknown:
			continue
		}
		w := v.at(x.Stack, x.State, startOf(x.Stack))
		count(w, x.Count)
		w.labels = append(w.labels, x.Labels...)
		if x.Aged == x.Count {
			w.aged = max(w.aged, x.Youngest)
		}
	}
}

// at returns the wait that a stack belongs to.
func (v *view) at(s evidence.Stack, st goroutines.State, start string) *wait {
	o, i := look(s, st)
	var user, helper *evidence.Frame
	if i >= 0 && o.kind == ask && !o.sql && (o.client == "HTTP" || o.client == "gRPC" || o.client == "net/rpc") {
		if j := v.asker(s, i); j > i {
			helper, i = s[i], j
		}
	}
	if i >= 0 {
		user = s[i]
	}
	switch st {
	case goroutines.Mutex, goroutines.RWMutexRead, goroutines.RWMutexWrite, goroutines.WaitGroup, goroutines.Once:
		st = goroutines.Semaphore // as a trace has it
	}
	k := waitKey{o, st, user, start}
	w := v.byKey[k]
	if w == nil {
		w = &wait{op: o, state: st, user: user, helper: helper, at: i, stack: s, start: start, handler: s.Index(inHandler) > i}
		v.byKey[k] = w
		v.waits = append(v.waits, w)
	}
	if len(w.all) < maxStacks && !slices.ContainsFunc(w.all, func(a evidence.Stack) bool { return slices.Equal(a, s) }) {
		w.all = append(w.all, s)
	}
	return w
}

// startOf is the function that a goroutine began with, as a trace names it.
func startOf(s evidence.Stack) string {
	for i := len(s) - 1; i >= 0; i-- {
		switch name := s[i].Function; {
		case name == "runtime.goexit":
		case name == "runtime.main" && i > 0:
		case i > 0 && (name == "sync.(*WaitGroup).Go.func1" || strings.HasPrefix(name, "golang.org/x/sync/errgroup.(*Group)")):
		default:
			return name
		}
	}
	return ""
}

// placeKey is equal for stacks of one place, whether the runtime's own frames are
// shown or not.
func (v *view) placeKey(s evidence.Stack) uint64 {
	var h maphash.Hash
	h.SetSeed(v.seed)
	for _, f := range s {
		if f.Origin != evidence.RuntimeCode {
			maphash.WriteComparable(&h, f)
		}
	}
	return h.Sum64()
}

// wakers are the waits of w that somebody ended, and by whom.
func (v *view) wakers(w *wait) (out []evidence.Wake) {
	seen := map[uint64]bool{}
	for _, s := range w.all {
		k := v.placeKey(s)
		if seen[k] {
			continue
		}
		seen[k] = true
		for _, i := range v.wakes[k] {
			out = append(out, v.e.Trace.Wakes[i])
		}
	}
	return out
}

// leaveOutWrites takes from the waits for HTTP's answers those for the request to
// be written, which end for every request before the other begins.
func (v *view) leaveOutWrites() {
	for _, w := range v.waits {
		if w.kind != ask || w.client != "HTTP" {
			continue
		}
		for _, x := range v.wakers(w) {
			if x.Waker.Has("net/http.(*persistConn).writeLoop") && x.Count < w.count {
				w.count, w.total = w.count-x.Count, w.total-x.Total
			}
		}
	}
}

func (v *view) traced() time.Duration {
	if v.e.Trace == nil {
		return 0
	}
	return v.e.Trace.Duration
}

// busy is how many goroutines were in the wait at a time: on average over the
// trace, else by the snapshots.
func (v *view) busy(w *wait) float64 {
	if d := v.traced(); d > 0 {
		return float64(w.total) / float64(d)
	}
	return v.counted(w)
}

// counted is how many goroutines were in the wait by the snapshots, on average.
func (v *view) counted(w *wait) float64 {
	if v.before == nil {
		return float64(w.now)
	}
	return float64(w.now+w.before) / 2
}

// mean is how long a wait lasts: by Little's law the average number of waiters
// over the rate at which waits end, which waits that are cut off by the trace's
// ends do not spoil. atLeast is set if none ended. ok is false without a trace.
func (v *view) mean(w *wait) (d time.Duration, atLeast, ok bool) {
	switch ended := w.count - w.open; {
	case w.count == 0 || v.traced() == 0:
		return 0, false, false
	case ended <= 0:
		return w.total / time.Duration(w.count), true, true
	default:
		d = w.total / time.Duration(ended)
		// More begin than end, or a wait is longer than the trace.
		if w.max > 0 && d > w.max {
			return w.max, w.max > v.traced()*9/10, true
		}
		return d, false, true
	}
}

// capped reports whether mean is the longest wait that was seen although others ended:
// it says how long a wait can be, and not how long each is.
func (v *view) capped(ws []*wait) bool {
	s := sum(ws)
	ended := s.count - s.open
	return ended > 0 && s.max > 0 && v.traced() > 0 && s.total/time.Duration(ended) > s.max
}

// sum adds up waits of one thing.
func sum(ws []*wait) (s wait) {
	for _, w := range ws {
		s.count, s.open, s.whole, s.total, s.max = s.count+w.count, s.open+w.open, s.whole+w.whole, s.total+w.total, max(s.max, w.max)
		s.blocked, s.delay = s.blocked+w.blocked, s.delay+w.delay
		s.now, s.before, s.aged = s.now+w.now, s.before+w.before, max(s.aged, w.aged)
		s.handler = s.handler || w.handler
	}
	return s
}

// pick returns the waits that take accepts, most waiting first.
func (v *view) pick(take func(*wait) bool) (out []*wait) {
	for _, w := range v.waits {
		if take(w) {
			out = append(out, w)
		}
	}
	return out
}

func compareFrames(a, b *evidence.Frame) int {
	switch {
	case a == b:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
}
