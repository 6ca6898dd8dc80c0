package agent

import (
	"context"
	"math"
	"net/http"
	"runtime"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// Slow tells the agent how long something of the service's took, for rules that
// watch for slow ones. Without such a rule it costs a few nanoseconds:
//
//	began := time.Now()
//	receipt, err := s.placeBet(ctx, bet)
//	a.Slow(ctx, "place-bet", time.Since(began))
//
// It never blocks. In a trace that runs, or that the flight recorder keeps, a call
// that a rule watches for leaves a mark.
func (a *Agent) Slow(ctx context.Context, name string, took time.Duration) {
	if a == nil {
		return
	}
	a.slow(ctx, name, took, 2)
}

// slow is Slow; skip leads to the line of the service that is told.
func (a *Agent) slow(ctx context.Context, name string, took time.Duration, skip int) {
	watches := a.rules.signals.Load()
	if watches == nil {
		return
	}
	for _, w := range *watches {
		if !w.trigger.matches(name) {
			continue
		}
		w.counts.add(took)
		if took < w.trigger.longer {
			continue
		}
		if trace.IsEnabled() {
			trace.Log(ctx, "slow", name+" took "+took.String())
		}
		w.counts.slow(name, took, callerOf(skip+1))
		select {
		case a.rules.poke <- struct{}{}:
		default:
		}
	}
}

func callerOf(skip int) string {
	if skip < 0 {
		return ""
	}
	_, file, line, ok := runtime.Caller(skip)
	if !ok {
		return ""
	}
	return file[strings.LastIndexByte(file, '/')+1:] + ":" + strconv.Itoa(line)
}

// noLine says that the caller is the agent's own.
const noLine = math.MinInt / 2

// UnaryServerInterceptor tells Slow how long each unary call took, as
// "grpc:/package.Service/Method".
func (a *Agent) UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if a == nil {
			return handler(ctx, req)
		}
		began := time.Now()
		defer func() { a.slow(ctx, "grpc:"+info.FullMethod, time.Since(began), noLine) }()
		return handler(ctx, req)
	}
}

// StreamServerInterceptor tells Slow how long each streaming call took from its
// beginning to its end.
func (a *Agent) StreamServerInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if a == nil {
			return handler(srv, stream)
		}
		began := time.Now()
		defer func() { a.slow(stream.Context(), "grpc:"+info.FullMethod, time.Since(began), noLine) }()
		return handler(srv, stream)
	}
}

// Middleware tells Slow how long each request took, as "http:PATTERN" with the
// pattern of the http.ServeMux that matched, or "http:METHOD /path" without one.
// What asks for another protocol, as WebSockets do, is a conversation and not
// timed.
func (a *Agent) Middleware(next http.Handler) http.Handler {
	if a == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			next.ServeHTTP(w, r)
			return
		}
		began := time.Now()
		defer func() {
			name := r.Pattern
			if name == "" {
				name = r.Method + " " + r.URL.Path
			}
			a.slow(r.Context(), "http:"+name, time.Since(began), noLine)
		}()
		next.ServeHTTP(w, r)
	})
}

// counter counts the calls that one rule watches. add is for every call and takes
// no lock; slow is for those over the threshold.
type counter struct {
	t    trigger
	now  func() time.Time
	base time.Time // which epochs count from

	// slots are sixths of the window, with all calls in each and the slow ones;
	// only where a quantile is asked for.
	slots [counterSlots]counterSlot

	mu    sync.Mutex // guards what follows
	calls []countedCall
	// fresh is the longest call that judge has not seen yet; its name is "" = none.
	fresh, last slowCall
}

// countedCall is one over the threshold.
type countedCall struct {
	at   time.Time
	took time.Duration
}

// slowCall is what such a call was.
type slowCall struct {
	name, line string
	took       time.Duration
}

const (
	counterSlots = 6
	// maxCounted slow calls are remembered: no rule needs more to fire.
	maxCounted = 1024
	// crowdedFrom is how many calls over the threshold within its time make it one that
	// ordinary calls reach: the rare ones that somebody wants to see would find the
	// rule cooling down.
	crowdedFrom = 20
)

type counterSlot struct{ epoch, calls, slow atomic.Int64 }

func newCounter(t trigger, now func() time.Time) *counter {
	return &counter{t: t, now: now, base: now()}
}

func (c *counter) epoch(now time.Time) int64 {
	return int64(now.Sub(c.base) / (c.t.within / counterSlots))
}

// add counts a call for the quantile. Two that begin a slot at the same instant
// may lose a call between them, which no quantile shows.
func (c *counter) add(took time.Duration) {
	if c.t.quantile == 0 {
		return
	}
	// Since reads the monotonic clock alone, which is half of what Now costs here.
	e := int64(time.Since(c.base) / (c.t.within / counterSlots))
	s := &c.slots[e%counterSlots]
	if old := s.epoch.Load(); old != e && s.epoch.CompareAndSwap(old, e) {
		s.calls.Store(0)
		s.slow.Store(0)
	}
	s.calls.Add(1)
	if took >= c.t.longer {
		s.slow.Add(1)
	}
}

// slow notes a call over the threshold.
func (c *counter) slow(name string, took time.Duration, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls = append(c.calls, countedCall{c.now(), took}); len(c.calls) > maxCounted {
		c.calls = c.calls[1:]
	}
	c.last = slowCall{name, line, took}
	if c.fresh.name == "" || took > c.fresh.took {
		c.fresh = c.last
	}
}

// judge says whether the condition holds now, and the value that decided it. It
// holds by a call that has just ended, unless the rule wants it to last: of one that
// ended while the rule cooled down the flight recorder holds nothing any more. Where
// the threshold is one that ordinary calls reach, only one longer than all of these
// counts: what happens all the time must not use up what is for the worst.
func (c *counter) judge(now time.Time) (holds bool, value float64, why *agentv1.RuleReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	holds, value, why = c.count(now)
	fresh := c.fresh
	c.fresh = slowCall{}
	if c.t.hold > 0 {
		return holds, value, why
	}
	if !holds || fresh.name == "" || c.crowded(int(value)) && fresh.took < c.longest() {
		return false, value, nil
	}
	return true, value, why
}

// crowded reports whether so many calls over the threshold are ordinary ones.
func (c *counter) crowded(calls int) bool {
	return c.t.quantile == 0 && calls >= max(crowdedFrom, 4*c.t.times)
}

// longest is that of the calls within the window; the caller holds mu.
func (c *counter) longest() (d time.Duration) {
	for _, call := range c.calls {
		d = max(d, call.took)
	}
	return d
}

// count judges the calls within the window; the caller holds mu.
func (c *counter) count(now time.Time) (holds bool, value float64, why *agentv1.RuleReason) {
	old := 0
	for old < len(c.calls) && now.Sub(c.calls[old].at) > c.t.within {
		old++
	}
	c.calls = c.calls[old:]
	said := c.last
	if c.fresh.name != "" {
		said = c.fresh
	}
	n, t := numbers{"took": said.took.Seconds(), "longer": c.t.longer.Seconds(), "within": c.t.within.Seconds()}, texts{"name": said.name, "line": said.line}
	if c.t.quantile == 0 {
		calls := len(c.calls)
		if calls < c.t.times {
			return false, float64(calls), nil
		}
		code := whyCall
		if n["calls"] = float64(calls); c.t.times > 1 {
			code = whyCalls
		}
		return true, float64(calls), because(code, n, t)
	}
	share, calls := c.slower(now)
	if calls < int64(c.t.times) || share < 1-c.t.quantile {
		return false, share, nil
	}
	n["share"], n["calls"], n["quantile"] = share, float64(calls), c.t.quantile
	return true, share, because(whyQuantile, n, t)
}

// slower is the share of calls over the threshold, and how many there were.
func (c *counter) slower(now time.Time) (share float64, calls int64) {
	e := c.epoch(now)
	slow := int64(0)
	for i := range c.slots {
		s := &c.slots[i]
		if at := s.epoch.Load(); at > e-counterSlots && at <= e {
			calls += s.calls.Load()
			slow += s.slow.Load()
		}
	}
	if calls == 0 {
		return 0, 0
	}
	return float64(slow) / float64(calls), calls
}

// reset forgets what was slow.
func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
	for i := range c.slots {
		c.slots[i].epoch.Store(-1)
	}
}
