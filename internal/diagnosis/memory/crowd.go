package memory

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/trace"
)

// crowd is the goroutines that began with one function and are at one line.
type crowd struct {
	start string
	place *evidence.Frame // the innermost line of the program's own, else of a library
	stack evidence.Stack
	state goroutines.State
	wait  goroutines.Wait
	// handler is set if a server called the program: the goroutine is a request.
	handler bool
	forever bool // nothing can ever end the wait

	before, after int

	aged             int
	youngest, oldest time.Duration

	// Waits at the line within the trace: those that ended, and how long they took;
	// those that had not ended, and of these the ones that lasted all of it.
	ended       int64
	endedTotal  time.Duration
	timed       int64 // ended by a timer or the network
	open, whole int64
	leaked      int64 // by Go's own leak profile
}

func (c *crowd) growth() int { return c.after - c.before }

// endedMean is how long the waits were that ended.
func (c *crowd) endedMean() time.Duration {
	if c.ended == 0 {
		return 0
	}
	return c.endedTotal / time.Duration(c.ended)
}

// arrived is how many waits began, or ended, within the trace.
func (c *crowd) arrived() int64 { return c.ended + c.open - c.whole }

// crowds is what is known of all goroutines of a window.
type crowds struct {
	all []*crowd // largest first
	// window is the time between before and after; compared says that there are
	// both.
	window   time.Duration
	compared bool
	// traced is the length of the trace; 0 = there is none.
	traced time.Duration
	// total at the end of the window.
	total int
	born  map[string]trace.Group // by start function
	by    map[crowdKey]*crowd
	at    map[*evidence.Frame][]*crowd
}

type crowdKey struct {
	start string
	place *evidence.Frame
}

// gather joins the goroutine snapshots, the dump, the leak profile and the trace
// by function and line. It is nil if no artifact shows goroutines.
func gather(e *evidence.Evidence) *crowds {
	end := e.Goroutines
	if end == nil {
		end = e.Dump
	}
	if end == nil && e.Leaks == nil && (e.Trace == nil || e.Trace.Duration < time.Second) {
		return nil
	}
	c := &crowds{window: windowOf(e), born: map[string]trace.Group{}, by: map[crowdKey]*crowd{}, at: map[*evidence.Frame][]*crowd{}}
	if end != nil {
		c.total = end.Total
		c.snapshot(end, func(x *crowd, n int) { x.after += n })
		if e.GoroutinesBefore != nil && e.Goroutines != nil {
			c.compared = true
			c.snapshot(e.GoroutinesBefore, func(x *crowd, n int) { x.before += n })
		}
	}
	if e.Dump != nil {
		c.ages(e.Dump)
	}
	c.trace(e.Trace, end == nil)
	c.leaks(e.Leaks)
	slices.SortStableFunc(c.all, func(a, b *crowd) int { return cmp.Compare(b.after, a.after) })
	return c
}

// beginners are helpers that start what is handed to them.
var beginners = evidence.Named("runtime.goexit", "runtime.main", "sync.(*WaitGroup).Go", "golang.org/x/sync/errgroup.(*Group).Go")

// startOf is the function that a goroutine was started for.
func startOf(s evidence.Stack) string {
	for i := len(s) - 1; i >= 0; i-- {
		if !beginners(s[i]) {
			return s[i].Function
		}
	}
	if len(s) > 0 {
		return s[len(s)-1].Function
	}
	return ""
}

// servers call the program for each request.
var servers = evidence.Named("net/http.(*conn).serve", "net/http.(*http2serverConn).runHandler", "golang.org/x/net/http2.(*serverConn).runHandler",
	"google.golang.org/grpc.(*Server).")

func (c *crowds) of(s evidence.Stack, start string) *crowd {
	place := s.User()
	if place == nil {
		return nil
	}
	key := crowdKey{start, place}
	x := c.by[key]
	if x == nil {
		x = &crowd{start: start, place: place, stack: s, handler: place.Origin == evidence.OwnCode && s.Index(servers) >= 0}
		c.by[key] = x
		c.at[place] = append(c.at[place], x)
		c.all = append(c.all, x)
	}
	return x
}

func (c *crowds) snapshot(g *evidence.Goroutines, add func(*crowd, int)) {
	most := map[*crowd]int{}
	for i := range g.Groups {
		gr := &g.Groups[i]
		x := c.of(gr.Stack, startOf(gr.Stack))
		if x == nil {
			continue
		}
		add(x, gr.Count)
		x.forever = x.forever || gr.Forever
		if x.state == "" || gr.Count > most[x] {
			most[x] = gr.Count
			x.stack, x.state, x.wait = gr.Stack, gr.State, gr.Wait
		}
	}
}

// ages adds what only a dump knows.
func (c *crowds) ages(dump *evidence.Goroutines) {
	for i := range dump.Groups {
		g := &dump.Groups[i]
		place := g.Stack.User()
		x := c.by[crowdKey{startOf(g.Stack), place}]
		if x == nil {
			continue
		}
		x.forever = x.forever || g.Forever
		if g.Aged == 0 {
			continue
		}
		if x.aged == 0 || g.Youngest < x.youngest {
			x.youngest = g.Youngest
		}
		x.oldest = max(x.oldest, g.Oldest)
		x.aged += g.Aged
	}
}

// trace adds what the waits at each line came to. Where there is nothing else it
// is also the snapshot: what waited through all of it was there before.
func (c *crowds) trace(t *evidence.Trace, alone bool) {
	if t == nil || t.Duration < time.Second {
		return
	}
	c.traced = t.Duration
	for _, g := range t.Groups {
		c.born[g.Func] = g
	}
	if alone {
		c.compared, c.window = true, t.Duration
	}
	for i := range t.Sites {
		s := &t.Sites[i]
		if len(s.Stack) == 0 || s.State == trace.StateSyscall {
			continue
		}
		var x *crowd
		if alone {
			x = c.of(s.Stack, s.Start)
			x.before, x.after = x.before+int(s.Whole), x.after+int(s.Open)
			c.total += int(s.Open)
			if x.state == "" {
				x.state, x.wait = stateOf(s), s.Wait
			}
		} else if x = c.sited(s); x == nil {
			continue
		}
		x.open += s.Open
		x.whole += s.Whole
		x.ended += s.Count - s.Open
	}
	for i := range t.Wakes {
		w := &t.Wakes[i]
		if len(w.Waiter) == 0 {
			continue
		}
		for _, x := range c.at[w.Waiter.User()] {
			if x.ended == 0 {
				continue
			}
			x.endedTotal += w.Total
			if len(w.Waker) == 0 {
				x.timed += w.Count
			}
		}
	}
}

// sited is the crowd of a site. The trace names the start function as the
// snapshots do but where a helper began the goroutine.
func (c *crowds) sited(s *evidence.Site) *crowd {
	place := s.Stack.User()
	if x := c.by[crowdKey{s.Start, place}]; x != nil {
		return x
	}
	if at := c.at[place]; len(at) > 0 {
		return at[0]
	}
	return nil
}

func stateOf(s *evidence.Site) goroutines.State {
	switch s.Reason {
	case trace.ReasonChanSend:
		return goroutines.ChanSend
	case trace.ReasonChanReceive:
		return goroutines.ChanReceive
	case trace.ReasonSelect, trace.ReasonForever:
		return goroutines.Select
	case trace.ReasonSleep:
		return goroutines.Sleep
	case trace.ReasonCond:
		return goroutines.Cond
	case trace.ReasonNetwork:
		return goroutines.NetRead
	case trace.ReasonSync:
		switch s.Lock {
		case trace.LockMutex:
			return goroutines.Mutex
		case trace.LockRead:
			return goroutines.RWMutexRead
		case trace.LockWrite:
			return goroutines.RWMutexWrite
		case trace.LockWaitGroup:
			return goroutines.WaitGroup
		}
		return goroutines.Semaphore
	}
	return goroutines.Waiting
}

func (c *crowds) leaks(p *evidence.Profile) {
	if p == nil || len(p.Types) == 0 {
		return
	}
	for i := range p.Rows {
		r := &p.Rows[i]
		x := c.of(r.Stack, startOf(r.Stack))
		if x == nil {
			continue
		}
		x.leaked += r.Values[0]
		x.after = max(x.after, int(x.leaked))
	}
}

// grew reports whether a crowd grew by more than chance: four standard deviations
// of a number that goes up and down by itself, and at least ten. Those who waited
// at the line for the whole trace do not come and go, and add nothing to chance.
func (c *crowds) grew(x *crowd) bool {
	if !c.compared {
		return false
	}
	moving := float64(x.before + x.after)
	if c.traced > 0 && x.open > 0 {
		moving = 2 * max(0, float64(x.after)-float64(x.whole))
	}
	return x.growth() >= 10 && float64(x.growth()) >= 4*math.Sqrt(moving)
}

// moved reports whether most of a growth at a line is goroutines of the same function
// that were elsewhere before: as a whole they are hardly more.
func (c *crowds) moved(x *crowd) bool {
	grown := 0
	for _, o := range c.all {
		if o.start == x.start {
			grown += o.growth()
		}
	}
	return 2*grown < x.growth()
}

// rate is by how many goroutines a second a crowd grows.
func (c *crowds) rate(x *crowd) float64 { return float64(x.growth()) / c.window.Seconds() }

// goesOn reports whether a growth seems to go on at the end of the window: as long
// as a trace shows, at least a quarter of what would be expected came on. With no
// trace the number of all goroutines must have grown in the second half, too.
func (c *crowds) goesOn(e *evidence.Evidence, x *crowd) bool {
	if c.traced > 0 && x.open > 0 {
		came := x.open - x.whole
		if g, ok := c.born[x.start]; ok && g.Born > came {
			came = g.Born
		}
		return float64(came) >= 0.25*c.rate(x)*min(c.traced, c.window).Seconds()
	}
	v := e.Runtime.Values("/sched/goroutines:goroutines")
	if len(v) < 6 {
		return true
	}
	half := len(v) / 2
	return v[len(v)-1]-v[half] >= 0.25*(v[half]-v[0])
}

// created is where the goroutines of a crowd are started: the go statement by the
// trace, or by the dump, else the function that it is written in, as far as its
// name tells; nil = not known.
func (c *crowds) created(e *evidence.Evidence, x *crowd) *evidence.Frame {
	found := c.started(e, x)
	if found == nil && x.place.Origin == evidence.OwnCode && outer(x.start) != x.start && outer(x.start) != "" {
		return &evidence.Frame{Function: outer(x.start), File: x.place.File, Package: x.place.Package, Origin: evidence.OwnCode}
	}
	return found
}

// started is the go statement that most of a crowd were started at, by the trace or
// the dump; nil = neither tells.
func (c *crowds) started(e *evidence.Evidence, x *crowd) (found *evidence.Frame) {
	best := map[*evidence.Frame]int64{}
	if e.Trace != nil {
		for _, b := range e.Trace.Creations {
			if f := b.Stack.User(); f != nil && f.Origin == evidence.OwnCode && (b.Start == x.start || beganBy(b.Start) && f.Function == outer(x.start)) {
				best[f] += b.Count
			}
		}
	}
	if g, ok := c.born[x.start]; ok && len(best) == 0 && e.Trace != nil && g.Born >= bornLeast {
		// A helper such as (*sync.WaitGroup).Go was handed a method: as many were begun so.
		for _, b := range e.Trace.Creations {
			if f := b.Stack.User(); f != nil && f.Origin == evidence.OwnCode && beganBy(b.Start) && 10*max(b.Count-g.Born, g.Born-b.Count) <= g.Born {
				best[f] += b.Count
			}
		}
	}
	if len(best) == 0 && e.Dump != nil {
		for i := range e.Dump.Groups {
			if g := &e.Dump.Groups[i]; g.CreatedBy != nil && g.CreatedBy.Origin == evidence.OwnCode && startOf(g.Stack) == x.start {
				best[g.CreatedBy] += int64(g.Count)
			}
		}
	}
	for f, n := range best {
		if found == nil || n > best[found] || n == best[found] && f.Line < found.Line {
			found = f
		}
	}
	return found
}

func beganBy(start string) bool { return beginners(&evidence.Frame{Function: start}) }

// byRequest reports whether a server's request starts goroutines of a function.
func (c *crowds) byRequest(e *evidence.Evidence, start string) bool {
	return e.Trace != nil && slices.ContainsFunc(e.Trace.Creations, func(b evidence.Creation) bool {
		return b.Start == start && b.Stack.Index(servers) >= 0
	})
}
