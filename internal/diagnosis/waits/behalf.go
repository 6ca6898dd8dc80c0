package waits

import (
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// A request may wait for an answer by way of others: at a channel for one of a few
// workers, in a WaitGroup or an errgroup
// for goroutines that it started and that ask, or in singleflight for one that asks
// on behalf of all. What those ask is asked for the request.

// adopt marks the waits for an answer of goroutines that a waiting request has
// started, and the waits of those requests.
func (v *view) adopt() {
	for _, h := range v.waits {
		if !h.handler || h.asks() || h.state != goroutines.Semaphore && h.kind != receive && h.kind != choose {
			continue
		}
		for _, w := range v.waits {
			switch {
			case w.handler || !w.asks():
			case startedIn(w, h.stack):
				w.parents, h.parent = append(w.parents, h), true
			case v.worksFor(w, h):
				w.parents, h.parent, w.queued, h.queued = append(w.parents, h), true, true, true
			}
		}
	}
	for _, w := range v.waits {
		w.handler = w.handler || len(w.parents) > 0
	}
}

// worksFor reports whether a request that waits at a channel is woken by goroutines
// which stay, and which spend most of their time waiting for answers: a few workers
// that ask for all. If others wake most of those that wait there, it is events that
// they wait for, of which the answer is but one.
func (v *view) worksFor(w, h *wait) bool {
	if v.traced() == 0 || h.state == goroutines.Semaphore || !h.direct() || w.start == "" {
		return false
	}
	var by, all int64
	for _, x := range v.wakers(h) {
		all += x.Count
		if startOf(x.Waker) == w.start {
			by += x.Count
		}
	}
	if by == 0 || by*answersOf < all {
		return false
	}
	for i := range v.e.Trace.Groups {
		if g := &v.e.Trace.Groups[i]; g.Func == w.start {
			return g.Born == 0 && v.busy(w) >= mostlyAsks*float64(g.Goroutines)
		}
	}
	return false
}

// answersOf: of so many requests that are woken at a place one has to be woken by the
// same workers. There may be a few kinds of them.
const answersOf = 3

// mostlyAsks is the share of their time that workers wait for answers from which on
// more of them would ask more.
const mostlyAsks = 0.6

// forRequests is how long requests wait for the last of several answers that they ask
// for at once at a place, or, queued, until one of those who ask is free; 0 = they do
// not.
func (v *view) forRequests(p *place) (longest time.Duration, queued bool) {
	for _, w := range p.waits {
		for _, h := range w.parents {
			if d, _, known := v.mean(h); known && d > longest {
				longest, queued = d, w.queued
			}
		}
	}
	return longest, queued
}

// startedIn reports whether the function that a goroutine began with is written in
// one of those of a stack, be that a closure itself.
func startedIn(w *wait, s evidence.Stack) bool {
	start := plainName(w.start)
	for {
		at := strings.LastIndexAny(start, ".-")
		if at < 0 || !strings.Contains(start, ".func") {
			return false
		}
		start = start[:at]
		if s.Index(func(f *evidence.Frame) bool { return own(f) && f.Plain() == start }) >= 0 {
			return true
		}
	}
}

func plainName(function string) string { return (&evidence.Frame{Function: function}).Plain() }

// sharers are the waits in singleflight for the answer that a place asks for.
func (v *view) sharers(p *place) (out []*wait) {
	inFlight := evidence.Named("golang.org/x/sync/singleflight.(*Group).")
	for _, w := range v.waits {
		at := w.stack.Index(inFlight)
		f := w.stack.UserAbove(at)
		if at < 0 || w.asks() || f == nil || !own(f) || v.busy(w) == 0 {
			continue
		}
		if slices.ContainsFunc(p.waits, func(x *wait) bool {
			return slices.ContainsFunc(x.stack, func(g *evidence.Frame) bool { return g == f })
		}) {
			out = append(out, w)
		}
	}
	return out
}
