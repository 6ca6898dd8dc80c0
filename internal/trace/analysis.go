package trace

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Options of Analyze. The zero value is for a centre that shows a trace to
// people.
type Options struct {
	// Workers read generations at the same time; 0 = GOMAXPROCS. Each needs the
	// memory of the goroutines that live in one generation.
	Workers int
	// Goroutines is how many to list one by one, longest lived first; 0 = 10 000.
	Goroutines int
	// Every lists also those that began and ended within one generation, which
	// are else only in the totals of their group.
	Every bool
	// Keep takes every interval of every goroutine and P, about seven bytes each, so
	// that the Timeline answers from there and not from the trace; nil = none. It
	// must last as long as the Timeline does.
	Keep Store
	// Progress is told after each generation how many of all have been read; nil =
	// nobody wants to know.
	Progress func(done, all int)
}

// Analysis is what the goroutines of a trace did. It needs nothing of the trace's
// file.
type Analysis struct {
	Duration time.Duration
	Events   int64
	// Kinds counts the events by EventKind.
	Kinds [256]int64
	// Procs is GOMAXPROCS as last heard; 0 = never said.
	Procs int
	// Created counts goroutines that began within the trace, Seen all.
	Created, Seen int64

	// Groups by start function, most running and runnable time first.
	Groups []Group
	// Sites where goroutines waited or were in syscalls, longest total first.
	Sites []Site
	// Wakes says who ended the waits, longest total first; at most 131,072 pairs
	// per generation.
	Wakes []Wake
	// Creations are the go statements that were reached, most often first.
	Creations []Creation
	// Latency is of goroutines that were ready to run until they did.
	Latency Latency
	// Goroutines as Options say, longest lived first.
	Goroutines []Goroutine

	GC  []Range // the concurrent mark phases
	STW []Range // the world is stopped
	// Stops are those of STW by who asked for them, longest total first.
	Stops []Stop
	Heap  []HeapPoint

	Tasks   []Annotation // by name, longest total first
	Regions []Annotation
	Logs    []Log // the first thousand

	// Yields are the calls of runtime.Gosched, by stack, most first.
	Yields []SampleCount
	// Samples of the CPU profiler that ran at the same time, by stack, most first.
	Samples []SampleCount

	Timeline *Timeline
	// Loss says what could not be read; nil = everything was.
	Loss *ops.Loss
}

// Times are how long goroutines were in each state.
type Times [NumStates]time.Duration

// Total of all states.
func (t *Times) Total() (sum time.Duration) {
	for _, d := range t {
		sum += d
	}
	return sum
}

// Group is all goroutines that began with one function; those that a helper such
// as (*sync.WaitGroup).Go began count with the function handed to it, if any of
// their stacks shows it.
type Group struct {
	ID         GroupID
	Func       string // "" = not shown by the trace
	Goroutines int64
	// Born and Died are how many of them began and ended within the trace.
	Born, Died int64
	Times      Times
	// Waits are the waiting times by the runtime's reason.
	Waits [NumReasons]time.Duration
	// Starts is how often they got a P after being ready, MaxLatency the longest
	// that one was ready without.
	Starts     int64
	MaxLatency time.Duration
}

// Goroutine is one goroutine.
type Goroutine struct {
	ID    GoID
	Group GroupID
	// Begin and End within the trace; Born and Died say whether these are its
	// own.
	Begin, End time.Duration
	Born, Died bool
	Times      Times
	Starts     int64
	MaxLatency time.Duration
}

// Site is a stack at which goroutines waited for a reason, or made a syscall
// (State is StateSyscall then).
type Site struct {
	Stack  StackID // 0 = the wait began before the trace and no stack is in it
	Group  GroupID
	Reason Reason
	State  State // StateIdle = waits that mean nothing
	Lock   LockKind
	// Count of waits, their Total and the longest. Waits that began before the
	// trace or go on after it count with what is inside.
	Count      int64
	Total, Max time.Duration
	// Longest is whose the longest was, which began at LongestFrom; NoGoroutine if
	// all were shorter than the trace's clock can tell.
	Longest     GoID
	LongestFrom time.Duration
	// Open waits had not ended when the trace did; Whole ones were there from its
	// beginning to its end.
	Open, Whole int64
	// Visits are the waits to which a goroutine came from elsewhere: the first at the
	// stack since it began or was last idle, as a server's goroutine is between two
	// requests. Count / Visits is how often a request waits here one time after the
	// other. Of a goroutine that waits at more than four stacks by turns, every wait is
	// a visit, so that there are rather too many of them. 0 of syscalls.
	Visits int64
}

// Wake counts waits at one stack that were ended from another.
type Wake struct {
	// Waiter is where they waited, Waker where somebody ended it: 0 = a timer or
	// the network.
	Waiter, Waker StackID
	Count         int64
	Total         time.Duration // of the waits
}

// Creation counts goroutines of one group that were started at one stack; 0 = by
// the runtime itself. What a helper such as (*sync.WaitGroup).Go starts is here of
// the helper's group: when it is created, nobody knows yet what it will run.
type Creation struct {
	Stack StackID
	Group GroupID
	Count int64
}

// Latency is a distribution of durations.
type Latency struct {
	Count      int64
	Total, Max time.Duration
	// Longest is whose the longest was, which began at LongestFrom; NoGoroutine if
	// nobody waited.
	Longest     GoID
	LongestFrom time.Duration
	buckets     []Bucket
}

// Bucket counts durations below an end.
type Bucket struct {
	Below time.Duration
	Count int64
}

// Buckets are those that are not empty, ascending; four per doubling.
func (l *Latency) Buckets() []Bucket { return slices.Clone(l.buckets) }

// Quantile is the duration that q (0 to 1) of all stay below, to a quarter of a
// doubling.
func (l *Latency) Quantile(q float64) time.Duration {
	want := int64(math.Ceil(q * float64(l.Count)))
	for _, b := range l.buckets {
		if want -= b.Count; want <= 0 {
			return min(b.Below, l.Max)
		}
	}
	return l.Max
}

// Range is something that went on for a time.
type Range struct {
	From, To time.Duration
	// Text is the reason of a stop of the world.
	Text string
	// Open says that it began before the trace or did not end within.
	Open bool
}

// HeapPoint is what the heap's live bytes, or the goal for them, became; the last
// value of each millisecond in which they changed.
type HeapPoint struct {
	Time  time.Duration
	Bytes uint64
	Goal  bool
}

// Annotation is all tasks or regions of runtime/trace with one name.
type Annotation struct {
	Name       string
	Count      int64 // ended ones
	Total, Max time.Duration
	// Open ones did not end within the trace.
	Open int64
	// Stack of the slowest's beginning.
	Stack StackID
}

// Stop sums up how often, and for how long, the world was stopped from one stack:
// from the call that asked for it until all goroutines could go on.
type Stop struct {
	Stack      StackID
	Reason     string // in the runtime's words, such as "read mem stats"
	Count      int64
	Total, Max time.Duration
}

// Log is a message of runtime/trace.
type Log struct {
	Time           time.Duration
	Goroutine      GoID
	Task           uint64
	Category, Text string
	Stack          StackID
}

// SampleCount counts what was seen at a stack: CPU samples, usually of 10 ms each,
// or calls.
type SampleCount struct {
	Stack StackID
	Count int64
}

func mostFirst(counts map[StackID]int64) (out []SampleCount) {
	for id, n := range counts {
		out = append(out, SampleCount{id, n})
	}
	slices.SortFunc(out, func(a, b SampleCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Stack, b.Stack))
	})
	return out
}

const maxLogs = 1000

// Analyze reads the whole trace once. Damage ends a generation and is stated in
// Loss; an error is the context's or that of the file.
func (t *Trace) Analyze(ctx context.Context, opts Options) (*Analysis, error) {
	geo := wholeTrace(t)
	m := newMerge(t, geo, opts)
	err := t.each(ctx, opts.Workers, 0, len(t.ix.Generations), func(n int, d *decoder, a *genStates, g *loaded) error {
		if m.keep != nil && a.kept == nil {
			a.kept = new(keptGen)
		}
		a.reset(t, geo, d, g, opts.Every)
		err := d.run(ctx, g, n == 0, a)
		return cmp.Or(a.finish(m.keep), err)
	}, func(n int, a *genStates, loss *damage) error {
		err := m.generation(n, a, loss)
		if opts.Progress != nil {
			opts.Progress(n+1, len(t.ix.Generations))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return m.result()
}

// worker is what reading one generation needs, kept for the next one.
type worker struct {
	_   [cacheLines]byte // see reader
	d   decoder
	buf buffer
	a   genStates
	_   [cacheLines]byte
}

// each reads the generations from to to at the same time and hands the results to
// merge in their order. Damage is handed to merge as well; any other error ends
// it. It returns when all that it started has ended.
func (t *Trace) each(ctx context.Context, workers, from, to int, read func(n int, d *decoder, a *genStates, g *loaded) error, merge func(n int, a *genStates, loss *damage) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, to-from)
	if workers == 0 {
		return ctx.Err()
	}
	type result struct {
		n   int
		w   *worker
		err error
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	jobs, results := make(chan result, workers), make(chan result, workers)
	defer close(jobs)
	for range workers {
		wg.Go(func() {
			for j := range jobs {
				j.err = t.load(j.n, &j.w.buf, func(g *loaded) error { return read(j.n, &j.w.d, &j.w.a, g) })
				results <- j
			}
		})
	}
	next, done := from, map[int]result{}
	for range workers {
		jobs <- result{n: next, w: new(worker)}
		next++
	}
	for n := from; n < to; {
		r, ok := done[n]
		if !ok {
			r = <-results
			done[r.n] = r
			continue
		}
		delete(done, n)
		var d *damage
		if r.err != nil && !asDamage(r.err, &d) {
			// Workers put what they have into the buffered channel and end.
			return r.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := merge(n, &r.w.a, d); err != nil {
			return err
		}
		n++
		if next < to {
			jobs <- result{n: next, w: r.w}
			next++
		}
	}
	return nil
}

// merge puts the generations together.
type merge struct {
	t    *Trace
	opts Options
	out  *Analysis

	carry   map[GoID]*carried
	procs   []procAcct
	ends    []procSlot // as the generation before left the Ps
	bins    *bins
	sites   map[siteKey]*siteTotal
	sys     map[StackID]*siteTotal
	edges   map[[2]StackID]*siteAcct
	births  map[birthKey]int64
	groups  []groupAcct
	latency latencies
	samples map[StackID]int64
	yields  map[StackID]int64
	again   map[siteKey]uint64 // visits that were counted in two generations
	keep    *keeper            // nil = intervals are not kept

	gcFrom  uint64
	gcOpen  bool
	stop    rangeEvent // the last that began
	stopped bool       // and has not ended
	stops   map[StackID]*Stop

	tasks, regions map[uint32]*Annotation
	openTasks      map[uint64]userEvent
	openRegions    map[GoID][]userEvent

	damaged  []*damage
	misuse   *damage // the first that costs nothing
	gap      bool    // the generation before was not read to its end
	previous uint64  // number of the generation before
	lastMax  uint64  // ticks; its end
	odd      int64   // goroutines and Ps in another state than the generation before left them in
	atZero   bool    // this generation is the trace's first
	follows  bool    // the generation before is known to its end
}

// carried is a goroutine between two generations.
type carried struct {
	Goroutine
	total   [NumStates]uint64
	since   uint64 // ticks
	state   uint8
	assist  bool
	before  bool // its state began before the trace, or before damage
	reason  Reason
	stack   StackID
	traits  traits
	known   bool
	maxWait uint64
	// by made it runnable, at byStack; made says that it was by creating it.
	by      GoID
	byStack StackID
	made    bool
	// anonymous is set if intervals of it were kept before its group was known.
	anonymous bool
	// seen are its last different waits since it was idle.
	seen [lately]StackID
}

// visited takes over where a goroutine waited in a generation, and takes back those of
// its visits there that went on from the one before.
func (m *merge) visited(c *carried, r *record) {
	for _, k := range r.visits[:r.firsts] {
		if slices.Contains(c.seen[:], k.stack) {
			m.again[k]++
		}
	}
	seen := r.seenID
	if !r.idled {
		n := slices.Index(seen[:], 0)
		for _, s := range c.seen {
			if s != 0 && n >= 0 && n < lately && !slices.Contains(seen[:], s) {
				seen[n] = s
				n++
			}
		}
	}
	c.seen = seen
}

type birthKey struct {
	group GroupID
	stack StackID
}

type siteTotal struct {
	siteAcct
	open, whole int64
}

func newMerge(t *Trace, geo geometry, opts Options) *merge {
	if opts.Goroutines <= 0 {
		opts.Goroutines = 10_000
	}
	return &merge{
		t: t, opts: opts, out: &Analysis{Duration: t.Duration()},
		carry: map[GoID]*carried{}, bins: newBins(geo, geo.zero, geo.end),
		sites: map[siteKey]*siteTotal{}, sys: map[StackID]*siteTotal{}, edges: map[[2]StackID]*siteAcct{}, births: map[birthKey]int64{},
		groups: make([]groupAcct, maxGroups), samples: map[StackID]int64{}, yields: map[StackID]int64{}, again: map[siteKey]uint64{}, stops: map[StackID]*Stop{},
		tasks: map[uint32]*Annotation{}, regions: map[uint32]*Annotation{},
		openTasks: map[uint64]userEvent{}, openRegions: map[GoID][]userEvent{},
		keep: newKeeper(opts.Keep),
	}
}

func (m *merge) site(k siteKey) *siteTotal { return entryOf(m.sites, k) }

// entryOf is the value of a key, made if there is none.
func entryOf[K comparable, V any](in map[K]*V, k K) *V {
	v := in[k]
	if v == nil {
		v = new(V)
		in[k] = v
	}
	return v
}

func (s *siteAcct) merge(o *siteAcct) {
	if o.max > s.max || o.max == s.max && o.maxOf < s.maxOf {
		s.maxOf, s.maxAt = o.maxOf, o.maxAt
	}
	s.n += o.n
	s.visits += o.visits
	s.total += o.total
	s.max = max(s.max, o.max)
}

// generation adds one that has been read; loss is why it ended early.
func (m *merge) generation(n int, a *genStates, loss *damage) error {
	number := m.t.ix.Generations[n].Number
	m.follows = m.previous != 0 && !m.gap && number == m.previous+1
	if m.previous != 0 && !m.follows {
		// What went on in between is not known.
		m.closeAll(m.lastMax)
	}
	m.previous, m.gap, m.atZero = number, loss != nil && !loss.whole, n == 0
	switch {
	case m.gap:
		m.damaged = append(m.damaged, loss)
	case loss != nil && m.misuse == nil:
		m.misuse = loss
	}
	if a.g == nil {
		return m.kept(nil) // not even its tables
	}
	for k, v := range a.counts {
		m.out.Kinds[k] += v
		m.out.Events += v
	}
	if a.procsN != 0 {
		m.out.Procs = a.procsN
	}
	m.latency.merge(&a.latency)
	m.bins.merge(a.bins)
	m.locals(a)
	m.procTails(a)

	carry := make(map[GoID]*carried, len(a.records))
	for i := range a.records {
		m.record(&a.records[i], a, carry)
	}
	for _, p := range a.pending {
		group := GroupID(0)
		if c := carry[p.id]; c != nil {
			group = c.Group
		}
		m.bins.group(group, p.from, p.to, p.state) // empty if it is settled
	}
	for id, c := range m.carry {
		if _, said := carry[id]; !said {
			carry[id] = c // the last generation may be too short to mention everyone
		}
	}
	for id, c := range carry {
		if c.Died {
			delete(carry, id)
			m.list(c)
		}
	}
	m.carry = carry
	m.events(a)
	a.g = nil
	m.lastMax = a.max
	if m.gap {
		m.closeAll(a.max)
	}
	return m.kept(a.kept)
}

// kept hands to the keeper what has ended.
func (m *merge) kept(own *keptGen) error {
	if m.keep == nil {
		return nil
	}
	return m.keep.generation(own)
}

// locals adds what is by stack.
func (m *merge) locals(a *genStates) {
	for i := range a.ids {
		if s := &a.waits[i]; s.n > 0 || s.visits > 0 {
			m.site(siteKey{a.ids[i], s.reason}).merge(s)
		}
		if s := &a.syscalls[i]; s.n > 0 {
			entryOf(m.sys, a.ids[i]).merge(s)
		}
		if n := a.samples[i]; n > 0 {
			m.samples[a.ids[i]] += int64(n)
		}
		if n := a.yields[i]; n > 0 {
			m.yields[a.ids[i]] += int64(n)
		}
	}
	for k, s := range a.others {
		m.site(k).merge(s)
	}
	for i := range a.edges.slots {
		if s := &a.edges.slots[i]; s.key != 0 {
			k := s.key - 1
			m.edge(a.ids[k>>32], a.ids[uint32(k)], s.n, s.total)
		}
	}
	for i := range a.births.slots {
		if s := &a.births.slots[i]; s.key != 0 {
			k := s.key - 1
			m.born(birthKey{GroupID(k >> 32), a.ids[uint32(k)]}, int64(s.n))
		}
	}
	for i := range a.groups {
		g, to := &a.groups[i], &m.groups[i]
		to.n += g.n
		to.born += g.n // those of one generation began and ended in it
		to.died += g.n
		to.starts += g.starts
		to.maxWait = max(to.maxWait, g.maxWait)
		for s, v := range g.total {
			to.total[s] += v
		}
		m.out.Seen += int64(g.n)
	}
}

func (m *merge) edge(wait, wake StackID, n, total uint64) {
	k := [2]StackID{wait, wake}
	if m.edges[k] == nil && len(m.edges) >= maxEdges {
		k[1] = 0
	}
	e := entryOf(m.edges, k)
	e.n += n
	e.total += total
}

// born counts a creation. Beyond the bound it counts as the runtime's own.
func (m *merge) born(k birthKey, n int64) {
	if _, ok := m.births[k]; !ok && len(m.births) >= maxEdges {
		k.stack = 0
	}
	m.births[k] += n
}

// procTails lets Ps go on from one generation to the next.
func (m *merge) procTails(a *genStates) {
	if !m.follows {
		m.ends = m.ends[:0]
	}
	for p := range a.d.ps {
		if p >= len(m.ends) {
			m.ends = append(m.ends, procSlot{})
		}
		now, end := &a.d.ps[p], &m.ends[p]
		if !now.known {
			continue
		}
		if end.known && now.first != end.status && (now.first != procAbandoned || end.status != procSyscall) {
			m.odd++
		}
		*end = *now
	}
	for p := range a.procs {
		x := &a.procs[p]
		if !x.seen {
			continue
		}
		for p >= len(m.procs) {
			m.procs = append(m.procs, procAcct{since: m.t.zero, state: procNothing})
		}
		if c := &m.procs[p]; c.state != procNothing {
			m.bins.proc(int32(p), c.since, x.first, c.state, c.g)
			if m.keep != nil {
				m.keep.tail(int32(p), c.since, x.first, c.state, c.g)
			}
		}
		m.procs[p] = *x
	}
}

// record continues a goroutine, or begins it.
func (m *merge) record(r *record, a *genStates, carry map[GoID]*carried) {
	c := m.carry[r.id]
	switch {
	case r.born, c == nil:
		if m.follows && r.born == (c != nil) {
			m.odd++ // created twice, or never
		}
		c = &carried{Goroutine: Goroutine{ID: r.id, Born: r.born, Begin: m.t.since(a.min)}, since: a.min, before: true, state: headState(r.head), by: NoGoroutine}
		if m.atZero {
			c.Begin, c.since = 0, m.t.zero
		}
		m.out.Seen++
		if carry[r.id] != nil { // an id used twice
			m.list(carry[r.id])
		}
	case c.state != headState(r.head):
		m.odd++
		m.closeOpen(c, a.min)
		c.since, c.before, c.state, c.reason, c.stack, c.traits = a.min, true, headState(r.head), 0, 0, traits{}
		c.by, c.byStack, c.made = NoGoroutine, 0, false
	}
	carry[r.id] = c
	m.visited(c, r)
	if !c.known && r.group != 0 {
		c.Group, c.known = r.group, r.known
	}
	c.anonymous = c.anonymous || r.kept != 0 && r.group == 0
	if !r.born {
		if c.stack == 0 && r.headID != 0 {
			c.stack, c.traits = r.headID, r.headTraits
			if c.reason == 0 {
				c.reason = r.headTraits.reason
			}
		}
		if r.inHead {
			return // all the generation long
		}
		c.assist = r.head == headAssist
		m.headEnds(c, r)
	}
	for s, v := range r.total {
		c.total[s] += v
	}
	c.Starts += int64(r.starts)
	c.maxWait = max(c.maxWait, r.maxWait)
	if r.born {
		c.Begin = m.bornAt(r)
	}
	c.since, c.state, c.reason, c.stack, c.traits, c.before, c.assist = r.since, r.state, r.reason, r.stackID, r.traits, false, r.assist
	c.by, c.byStack, c.made = r.byID, r.byStackID, r.made
	if r.died {
		c.Died, c.End = true, m.t.since(r.since)
	}
}

// bornAt is when a goroutine of the generation began: all that it did is in its
// totals.
func (m *merge) bornAt(r *record) time.Duration {
	begin := r.since
	for _, v := range r.total {
		begin -= min(begin, v)
	}
	return m.t.since(begin)
}

func headState(s uint8) uint8 {
	if s == headAssist {
		return goRunning
	}
	return s
}

// headEnds accounts a state that reaches over the beginning of a generation.
func (m *merge) headEnds(c *carried, r *record) {
	d := r.headEnd - min(c.since, r.headEnd)
	switch c.state {
	case goRunnable:
		if !c.before {
			m.latency.addOf(d, c.ID, c.since)
			c.Starts++
			c.maxWait = max(c.maxWait, d)
		}
	case goWaiting:
		m.edge(c.stack, r.wokeID, 1, d)
	}
	m.account(c, r.headEnd)
}

// account ends the state of c at a time.
func (m *merge) account(c *carried, end uint64) {
	d := end - min(c.since, end)
	st := stateOf(c.state, c.reason, c.assist, c.traits)
	c.total[st] += d
	m.bins.group(c.Group, c.since, end, st)
	if m.bins.watched != nil {
		m.bins.goroutine(c.ID, span{from: c.since, to: end, state: st, reason: c.reason, g: NoGoroutine, stack: c.stack}.tidy(c.state))
	}
	if m.keep != nil {
		m.keep.bridge(c, end, st)
	}
	switch c.state {
	case goWaiting:
		m.site(siteKey{c.stack, c.reason}).addOf(d, c.ID, c.since)
	case goSyscall:
		entryOf(m.sys, c.stack).addOf(d, c.ID, c.since)
	}
}

// closeOpen ends the state of c because the trace does.
func (m *merge) closeOpen(c *carried, end uint64) {
	m.account(c, end)
	var s *siteTotal
	switch c.state {
	case goWaiting:
		s = m.site(siteKey{c.stack, c.reason})
	case goSyscall:
		s = entryOf(m.sys, c.stack)
	default:
		return
	}
	s.open++
	if c.before && c.since <= m.t.zero && end >= m.t.last {
		s.whole++
	}
}

func (m *merge) closeOne(c *carried, end uint64) {
	m.closeOpen(c, end)
	c.End = m.t.since(max(end, c.since))
	m.list(c)
}

// closeAll ends everything that goes on.
func (m *merge) closeAll(end uint64) {
	for _, c := range m.carry {
		m.closeOne(c, max(end, c.since))
	}
	clear(m.carry)
	for p := range m.procs {
		if x := &m.procs[p]; x.state != procNothing && end > x.since {
			m.bins.proc(int32(p), x.since, end, x.state, x.g)
			if m.keep != nil {
				m.keep.tail(int32(p), x.since, end, x.state, x.g)
			}
		}
	}
	m.procs = m.procs[:0]
}

// list takes a goroutine that has ended into the totals of its group and into the
// list.
func (m *merge) list(c *carried) {
	g := &m.groups[c.Group]
	g.n++
	if c.Born {
		g.born++
	}
	if c.Died {
		g.died++
	}
	g.starts += uint64(c.Starts)
	g.maxWait = max(g.maxWait, c.maxWait)
	for s, v := range c.total {
		g.total[s] += v
		c.Times[s] = m.t.span(v)
	}
	c.MaxLatency = m.t.span(c.maxWait)
	if m.keep != nil && c.anonymous && c.Group != 0 {
		m.keep.late[c.ID] = c.Group
	}
	m.out.Goroutines = append(m.out.Goroutines, c.Goroutine)
	if len(m.out.Goroutines) >= 2*m.opts.Goroutines && !m.opts.Every {
		m.trim()
	}
}

func (m *merge) trim() {
	slices.SortFunc(m.out.Goroutines, func(a, b Goroutine) int {
		return cmp.Or(cmp.Compare(b.End-b.Begin, a.End-a.Begin), cmp.Compare(a.ID, b.ID))
	})
	if !m.opts.Every {
		m.out.Goroutines = m.out.Goroutines[:min(len(m.out.Goroutines), m.opts.Goroutines)]
	}
}

// events adds what was rare.
func (m *merge) events(a *genStates) {
	for _, h := range a.heap {
		if len(m.out.Heap) < maxListed {
			m.out.Heap = append(m.out.Heap, HeapPoint{m.t.since(h.time), h.bytes, h.goal})
		}
	}
	for _, r := range a.ranges {
		m.rangeEvent(r)
	}
	for _, u := range a.user {
		m.userEvent(u)
	}
}

func (m *merge) rangeEvent(r rangeEvent) {
	at := m.t.since(r.time)
	switch r.kind {
	case EvGCActive:
		if !m.gcOpen {
			m.gcOpen, m.gcFrom = true, m.t.zero
		}
	case EvGCBegin:
		m.gcOpen, m.gcFrom = true, r.time
	case EvGCEnd:
		from := m.gcFrom
		if !m.gcOpen {
			from = m.t.zero
		}
		m.gcOpen = false
		if len(m.out.GC) < maxListed {
			m.out.GC = append(m.out.GC, Range{From: m.t.since(from), To: at, Open: from == m.t.zero})
		}
	case EvSTWBegin:
		m.stopped, m.stop = true, r
	case EvSTWEnd:
		if m.stopped {
			m.stopEnded(r.time)
		}
		m.stopped = false
	}
}

// stopEnded counts the stop that began last.
func (m *merge) stopEnded(end uint64) {
	reason := m.t.symbols.text(m.stop.name)
	if len(m.out.STW) < maxListed {
		m.out.STW = append(m.out.STW, Range{From: m.t.since(m.stop.time), To: m.t.since(end), Text: reason})
	}
	s := entryOf(m.stops, m.stop.stack)
	d := m.t.span(end - min(m.stop.time, end))
	s.Stack, s.Reason = m.stop.stack, reason
	s.Count++
	s.Total += d
	s.Max = max(s.Max, d)
}

func (m *merge) userEvent(u userEvent) {
	switch u.kind {
	case EvUserTaskBegin:
		if len(m.openTasks) < maxListed {
			m.openTasks[u.id] = u
		}
	case EvUserTaskEnd:
		if begin, ok := m.openTasks[u.id]; ok {
			delete(m.openTasks, u.id)
			m.annotated(m.tasks, begin, u.time)
		}
	case EvUserRegionBegin:
		if open := m.openRegions[u.g]; len(open) < 1000 {
			m.openRegions[u.g] = append(open, u)
		}
	case EvUserRegionEnd:
		open := m.openRegions[u.g]
		for i := len(open) - 1; i >= 0; i-- {
			if open[i].name == u.name && open[i].id == u.id {
				m.annotated(m.regions, open[i], u.time)
				if open = slices.Delete(open, i, i+1); len(open) == 0 {
					delete(m.openRegions, u.g)
				} else {
					m.openRegions[u.g] = open
				}
				break
			}
		}
	case EvUserLog:
		if len(m.out.Logs) < maxLogs {
			m.out.Logs = append(m.out.Logs, Log{m.t.since(u.time), u.g, u.id, m.t.symbols.text(u.name), u.text, u.stack})
		}
	}
}

func (m *merge) annotated(in map[uint32]*Annotation, begin userEvent, end uint64) {
	x := entryOf(in, begin.name)
	d := m.t.span(end - min(begin.time, end))
	if x.Count++; d >= x.Max {
		x.Max, x.Stack = d, begin.stack
	}
	x.Total += d
}

// result closes everything and sorts.
func (m *merge) result() (*Analysis, error) {
	m.closeAll(m.t.last)
	if err := m.kept(nil); err != nil {
		return nil, err
	}
	m.bins.seal()
	m.trim()
	out, t := m.out, m.t
	if m.gcOpen {
		out.GC = append(out.GC, Range{From: t.since(m.gcFrom), To: out.Duration, Open: true})
	}
	if m.stopped {
		out.STW = append(out.STW, Range{From: t.since(m.stop.time), To: out.Duration, Text: t.symbols.text(m.stop.name), Open: true})
	}
	for _, s := range m.stops {
		out.Stops = append(out.Stops, *s)
	}
	slices.SortFunc(out.Stops, func(a, b Stop) int { return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Stack, b.Stack)) })
	for _, n := range [...]EventKind{EvGoCreate, EvGoCreateBlocked, EvGoCreateSyscall} {
		out.Created += out.Kinds[n]
	}
	waits := m.resultSites()
	for i := range m.groups {
		g := &m.groups[i]
		if g.n == 0 {
			continue
		}
		x := Group{ID: GroupID(i), Func: t.GroupName(GroupID(i)), Goroutines: int64(g.n), Born: int64(g.born), Died: int64(g.died), Starts: int64(g.starts), MaxLatency: t.span(g.maxWait), Waits: waits[GroupID(i)]}
		for s, v := range g.total {
			x.Times[s] = t.span(v)
		}
		out.Groups = append(out.Groups, x)
	}
	slices.SortFunc(out.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Times[StateRunning]+b.Times[StateRunnable], a.Times[StateRunning]+a.Times[StateRunnable]), cmp.Compare(a.Func, b.Func))
	})
	for k, e := range m.edges {
		out.Wakes = append(out.Wakes, Wake{k[0], k[1], int64(e.n), t.span(e.total)})
	}
	slices.SortFunc(out.Wakes, func(a, b Wake) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Waiter, b.Waiter), cmp.Compare(a.Waker, b.Waker))
	})
	for k, n := range m.births {
		out.Creations = append(out.Creations, Creation{k.stack, k.group, n})
	}
	slices.SortFunc(out.Creations, func(a, b Creation) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Stack, b.Stack))
	})
	out.Latency = Latency{Count: int64(m.latency.n), Total: t.span(m.latency.total), Max: t.span(m.latency.max), Longest: NoGoroutine}
	if m.latency.max > 0 {
		out.Latency.Longest, out.Latency.LongestFrom = m.latency.maxOf, t.since(m.latency.maxAt)
	}
	for i, n := range m.latency.counts {
		if n > 0 {
			out.Latency.buckets = append(out.Latency.buckets, Bucket{t.span(bucketEnd(i)), int64(n)})
		}
	}
	out.Samples, out.Yields = mostFirst(m.samples), mostFirst(m.yields)
	for _, u := range m.openTasks {
		entryOf(m.tasks, u.name).Open++
	}
	for _, open := range m.openRegions {
		for _, u := range open {
			entryOf(m.regions, u.name).Open++
		}
	}
	out.Tasks, out.Regions = m.annotations(m.tasks), m.annotations(m.regions)
	out.Timeline = newTimeline(t, m.bins, m.keep, out.Groups)
	out.Loss = m.loss()
	return out, nil
}

// resultSites also sums up the waits of every group.
func (m *merge) resultSites() map[GroupID][NumReasons]time.Duration {
	waits := map[GroupID][NumReasons]time.Duration{}
	add := func(stack StackID, reason Reason, x *siteTotal, syscall bool) {
		e := m.t.symbols.entries([]StackID{stack})[0]
		s := Site{
			Stack: stack, Group: e.group, Reason: reason, Lock: e.traits.lock, Count: int64(x.n), Total: m.t.span(x.total), Max: m.t.span(x.max), Visits: int64(x.visits),
			Open: x.open, Whole: x.whole, State: stateOf(goWaiting, reason, false, e.traits), Longest: NoGoroutine,
		}
		if x.max > 0 {
			s.Longest, s.LongestFrom = x.maxOf, m.t.since(x.maxAt)
		}
		if syscall {
			s.State, s.Lock = StateSyscall, LockNone
		} else {
			w := waits[e.group]
			w[reason] += s.Total
			waits[e.group] = w
		}
		m.out.Sites = append(m.out.Sites, s)
	}
	for k, x := range m.sites {
		x.visits -= min(x.visits, m.again[k])
		add(k.stack, k.reason, x, false)
	}
	for k, x := range m.sys {
		add(k, ReasonUnknown, x, true)
	}
	slices.SortFunc(m.out.Sites, func(a, b Site) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Stack, b.Stack), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.State, b.State))
	})
	return waits
}

func (m *merge) annotations(in map[uint32]*Annotation) (out []Annotation) {
	for name, x := range in {
		x.Name = m.t.symbols.text(name)
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b Annotation) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// loss says what was not read.
func (m *merge) loss() *ops.Loss {
	switch n := len(m.damaged); {
	case n > 0:
		more := ""
		if n > 1 {
			more = fmt.Sprintf(" and %d others", n-1)
		}
		return &ops.Loss{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: fmt.Sprintf(
			"%d of %d parts of the trace could be read only to a damaged place (%s%s): times of that second are too short", n, len(m.t.ix.Generations), m.damaged[0].what, more)}
	case m.t.ix.Loss != nil:
		return m.t.ix.Loss
	case m.odd > 0:
		return &ops.Loss{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: fmt.Sprintf(
			"%d goroutines or Ps changed their state between two parts of the trace without an event: a part is missing", m.odd)}
	case m.misuse != nil:
		return &ops.Loss{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: fmt.Sprintf(
			"%s: all of the trace is shown, but go tool trace will not open it", m.misuse.what)}
	case m.t.symbols.overflow:
		return &ops.Loss{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: "the trace has more than a million call stacks: some waits are shown without one"}
	}
	return nil
}
