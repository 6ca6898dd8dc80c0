package waits

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// pool is something of which there is a limited number, and for which goroutines
// wait: the connections of a library's pool, or the turns at a semaphore.
type pool struct {
	client string // of a library's pool; "" = the program's own
	places []place
	busy   float64 // waiting at a time
	// holders are waits of goroutines that have what the others wait for.
	holders []*wait
	held    float64 // how many of them at a time
	stats   *evidence.Pool
	// given reports whether anything was given back while the trace ran; givers are
	// the functions that did.
	given  bool
	givers map[string]bool
}

// pools are those for which somebody waits, the most waiting first.
func (v *view) pools() (out []*pool) {
	at := map[string]*pool{}
	for _, w := range v.waits {
		if w.kind != acquire {
			continue
		}
		p := at[w.client]
		if p == nil {
			p = &pool{client: w.client}
			at[w.client], out = p, append(out, p)
		}
		p.add(w.user, w)
	}
	out = append(out, v.gates()...)
	for _, p := range out {
		v.fill(p)
	}
	slices.SortStableFunc(out, func(a, b *pool) int { return cmp.Or(cmp.Compare(b.busy, a.busy), cmp.Compare(a.client, b.client)) })
	return out
}

func (p *pool) add(user *evidence.Frame, w *wait) {
	for i := range p.places {
		if p.places[i].user == user {
			p.places[i].waits = append(p.places[i].waits, w)
			return
		}
	}
	p.places = append(p.places, place{user: user, waits: []*wait{w}})
}

func (v *view) fill(p *pool) {
	for i := range p.places {
		pl := &p.places[i]
		pl.busy = v.busyAll(pl.waits)
		pl.delay, pl.atLeast, pl.known = v.queueTime(pl.waits)
		pl.upTo = v.capped(pl.waits)
		p.busy += pl.busy
		for _, w := range pl.waits {
			p.given = p.given || slices.ContainsFunc(v.wakers(w), gives)
		}
	}
	slices.SortStableFunc(p.places, func(a, b place) int { return cmp.Or(cmp.Compare(b.busy, a.busy), compareFrames(a.user, b.user)) })
	p.stats, p.givers = v.statsOf(p), v.givers(p)
	if p.holders == nil {
		p.holders = v.holdersOf(p)
	}
	slices.SortStableFunc(p.holders, func(a, b *wait) int { return cmp.Compare(v.busy(b), v.busy(a)) })
	p.held = v.busyAll(p.holders)
}

// gives reports whether a wait ended because something was given back, and not
// because whoever waited gave up: then it is their own context that wakes them.
func gives(x evidence.Wake) bool {
	return !x.Waker.Has("context.(*cancelCtx).cancel", "context.(*timerCtx).cancel")
}

// dry reports whether nothing came back in a whole trace while all who wait gave
// up or wait still: then whoever is further on in a caller of what acquires came
// there with an error in his hands, not with a connection.
func (v *view) dry(p *pool) bool {
	if v.e.Trace == nil || p.given || p.client == "" {
		return false
	}
	var ws []*wait
	for _, pl := range p.places {
		ws = append(ws, pl.waits...)
	}
	s := sum(ws)
	return s.count > 0 && s.open > 0
}

// queueTime is how long the waits of one place last, by the trace, else by the
// block profile, else at least by a dump's ages.
func (v *view) queueTime(ws []*wait) (d time.Duration, atLeast, ok bool) {
	s := sum(ws)
	if d, atLeast, ok = v.mean(&s); ok {
		return d, atLeast, ok
	}
	if s.blocked > 0 {
		return s.delay / time.Duration(s.blocked), false, true
	}
	return s.aged, true, s.aged > 0
}

// statsOf is what the agent was told of the pool: of several of its kind the
// fullest.
func (v *view) statsOf(p *pool) (best *evidence.Pool) {
	if v.e.Runtime == nil || p.client == "" {
		return nil
	}
	for i := range v.e.Runtime.Pools {
		s := &v.e.Runtime.Pools[i]
		k := strings.ToLower(s.Kind)
		fits := strings.Contains(k, strings.ToLower(p.client)) || p.client == "database/sql" && strings.Contains(k, "sql") || p.client == "pgxpool" && strings.Contains(k, "pgx")
		if fits && (best == nil || full(s) > full(best)) {
			best = s
		}
	}
	return best
}

// full is the share of a pool's limit that is in use; 0 = unknown.
func full(s *evidence.Pool) float64 {
	if s == nil || s.MaxOpen <= 0 {
		return 0
	}
	used, ok := s.Mean("in_use")
	if !ok {
		return 0
	}
	return used / float64(s.MaxOpen)
}

// holdersOf are the waits inside the pool's client, and those further on in a
// function that has acquired a connection and keeps it.
func (v *view) holdersOf(p *pool) (out []*wait) {
	dry := v.dry(p)
	for _, w := range v.waits {
		if w.user == nil || w.kind == acquire && w.client == p.client || v.busy(w) == 0 && v.counted(w) == 0 {
			continue
		}
		if p.uses(w) || p.beyond(w) != nil && (!dry || p.within(w) || w.whole > 0) {
			out = append(out, w)
		}
	}
	return out
}

// within reports whether a goroutine is further on in the very function that asks
// the pool, and no caller of it.
func (p *pool) within(w *wait) bool {
	b := p.beyond(w)
	return b != nil && slices.ContainsFunc(p.places, func(pl place) bool { return pl.user.Function == b.Function })
}

// uses reports whether a wait is on one of the pool's connections.
func (p *pool) uses(w *wait) bool {
	switch {
	case !w.asks() && w.kind != other:
		return false
	case p.client == "database/sql":
		return w.sql && w.asks()
	case p.client == "pgxpool":
		return w.client == "pgx" && !w.sql || w.client == "pgxpool" && w.kind == dial
	}
	return w.asks() && w.client == p.client
}

// beyond returns the frame at which a goroutine is past an acquire that keeps
// what it got; nil if it is not. Callers of what was seen to give back have nothing.
func (p *pool) beyond(w *wait) *evidence.Frame {
	for _, pl := range p.places {
		for _, a := range pl.waits {
			if !keeps(a) {
				continue
			}
			for _, s := range w.all {
				inAcquire, inWait, ok := evidence.Shared(a.stack, s)
				if ok && inWait.Line > inAcquire.Line && (inWait.Function == a.user.Function || !p.givers[a.user.Function]) {
					return inWait
				}
			}
		}
	}
	return nil
}

// keeps reports whether an acquire leaves the caller with a connection, rather
// than giving it back before it returns.
func keeps(w *wait) bool {
	return !w.stack[:max(0, w.at)].Has("database/sql.(*DB).Exec", "database/sql.(*DB).QueryRow", "database/sql.(*DB).Ping", "database/sql.(*DB).Prepare",
		"github.com/jackc/pgx/v5/pgxpool.(*Pool).Exec", "github.com/jackc/pgx/v5/pgxpool.(*Pool).QueryRow", "github.com/jackc/pgx/v5/pgxpool.(*Pool).CopyFrom",
		"github.com/jackc/pgx/v5/pgxpool.(*Pool).Ping", "github.com/redis/", "github.com/go-redis/", "go.mongodb.org/mongo-driver/")
}

// gates are semaphores and pools of the program's own: a channel, a condition or
// a semaphore at which some wait until others, who have passed it in the same
// function, are done.
func (v *view) gates() (out []*pool) {
	for _, w := range v.waits {
		if p := v.gate(w); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// gate returns what w waits for if that is a gate.
func (v *view) gate(w *wait) *pool {
	switch {
	case w.user == nil || v.busy(w) == 0:
		return nil
	case w.kind == limit:
		if w.client != semaphores {
			return nil // a limiter or a bounded group: the caller is paced on purpose
		}
		if p := v.lost(w); p != nil {
			return p
		}
	case w.kind == send:
		if p := v.lost(w); p != nil {
			return p
		}
	case w.kind == receive || w.kind == choose || w.kind == cond:
		if !w.handler && !v.wokenBy(w, "runtime.chanrecv") {
			return nil // a worker without work waits just like this
		}
		if p := v.lost(w); p != nil {
			return p
		}
	default:
		return nil
	}
	at := v.givenBack(w)
	holders := v.past(w, at)
	if at == nil {
		// Nothing was given back: then whoever is past it must be seen to wait for
		// a downstream.
		if i := slices.IndexFunc(holders, (*wait).asks); i < 0 || len(v.wakers(w)) > 0 {
			return nil
		}
		at = w.user
	}
	p := &pool{holders: holders}
	if p.holders == nil {
		p.holders = []*wait{}
	}
	p.add(at, w)
	return p
}

// givenBack returns the line that passes the gate if most of the waits were
// ended further on in the function that waits, which is how a semaphore is
// released; nil if not.
func (v *view) givenBack(w *wait) *evidence.Frame {
	var all, same int64
	var at *evidence.Frame
	for _, x := range v.wakers(w) {
		all += x.Count
		if in, ok := further(x.Waiter, x.Waker, w.user); ok {
			same += x.Count
			at = in
		}
	}
	if same*2 < all {
		return nil
	}
	return at
}

// further finds the line in whose function one waits if another stack is further on
// in it: in what both were called through; or in the function user that waits, to which
// several requests come by ways of their own.
func further(waits, other evidence.Stack, user *evidence.Frame) (in *evidence.Frame, ok bool) {
	if in, beyond, ok := evidence.Shared(waits, other); ok && in.Line < beyond.Line {
		return in, true
	}
	at := other.Index(func(f *evidence.Frame) bool { return f.Function == user.Function })
	return user, at >= 0 && user.Line < other[at].Line
}

// wokenBy reports whether most of the waits were ended by that function of the
// runtime.
func (v *view) wokenBy(w *wait, name string) bool {
	var all, by int64
	for _, x := range v.wakers(w) {
		all += x.Count
		if x.Waker[:min(3, len(x.Waker))].Has(name) {
			by += x.Count
		}
	}
	return all > 0 && by*2 > all
}

// past are the waits of those who are further on in the activation that waits at
// the gate.
func (v *view) past(w *wait, at *evidence.Frame) (out []*wait) {
	for _, x := range v.waits {
		if x == w || x.user == nil || x.kind == idle || v.busy(x) == 0 {
			continue
		}
		in, ok := further(w.stack, x.stack, w.user)
		if ok && (at == nil || at.Function == in.Function) {
			out = append(out, x)
		}
	}
	return out
}

// stuckFor is how long nothing came back, at least, by the trace or a dump's ages.
func (v *view) stuckFor(p *pool) time.Duration {
	var s []*wait
	for _, pl := range p.places {
		s = append(s, pl.waits...)
	}
	t := sum(s)
	if v.e.Trace != nil && t.whole > 0 && t.count == t.open {
		return max(v.traced(), t.aged)
	}
	return t.aged
}

// pastAny counts goroutines of the last snapshot that are, in whatever state,
// past an acquire that keeps what it got.
func (v *view) pastAny(p *pool) (n int) {
	if v.now == nil {
		return 0
	}
	dry := v.dry(p)
	for i := range v.now.Groups {
		g := &v.now.Groups[i]
		o, at := look(g.Stack, g.State)
		if at < 0 || o.kind == acquire && o.client == p.client || g.State == goroutines.Runtime {
			continue
		}
		w := &wait{op: o, stack: g.Stack, at: at, user: g.Stack[at], all: []evidence.Stack{g.Stack}}
		if p.uses(w) || p.beyond(w) != nil && (!dry || p.within(w)) {
			n += g.Count
		}
	}
	return n
}
