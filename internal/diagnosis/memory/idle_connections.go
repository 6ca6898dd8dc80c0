package memory

import (
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// idleConnections finds idle connections of HTTP clients that come on and are not
// used again: somebody makes a Transport for each call, whose connection stays until
// the other side ends it. Their readLoops read from the network, as those of any idle
// connection do; what tells is that half of the calls and more take a new one, though
// there are more and more idle ones, and that next to none ends. nil = none.
//
// It must not be confused with a pool that fills up under load, whose connections
// carry many calls each, nor with bodies that are not closed (response-body-leak).
func (l *leakSearch) idleConnections() *leakSuspect {
	const start = "net/http.(*persistConn).readLoop"
	g, known := l.c.born[start]
	if !known || l.c.traced == 0 || g.Born < 10 || 10*g.Died > g.Born {
		return nil
	}
	calls := int64(0)
	for i := range l.e.Trace.Sites {
		if s := &l.e.Trace.Sites[i]; s.Stack.Index(roundTrips) >= 0 {
			calls += s.Count
		}
	}
	// A call waits about twice, to send and for the answer.
	if 4*g.Born < calls {
		return nil
	}
	var idle *crowd
	for _, x := range l.c.all {
		if x.start == start && x.state != goroutines.Select && (idle == nil || x.after > idle.after) {
			idle = x
		}
	}
	if idle == nil || !l.c.grew(idle) || !l.c.goesOn(l.e, idle) || l.c.rate(idle) < 1 {
		return nil
	}
	return &leakSuspect{crowd: idle, growing: true, library: httpLibrary, most: 70, sources: 2, value: l.c.rate(idle) / 3}
}

const httpLibrary = "net/http"

// caller is the program's line that calls HTTP clients most: by what they hold, else
// by what they allocate. nil = not seen.
func (l *leakSearch) caller() (at *evidence.Frame) {
	b := &bodySearch{e: l.e, c: l.c}
	most := 0.0
	for _, of := range []map[*evidence.Frame]float64{b.rows(l.e.Heap, "inuse_space", httpCalls), b.rows(l.e.Allocs, "alloc_space", dials), b.waits(dials), b.rows(l.e.Allocs, "alloc_space", httpCalls), b.waits(httpCalls)} {
		for f, v := range of {
			if v > most || v == most && at != nil && f.Function < at.Function {
				at, most = f, v
			}
		}
		if at != nil {
			return at
		}
	}
	return nil
}
