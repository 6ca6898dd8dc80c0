package waits

import (
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// A request may wait for an answer by way of others: in a WaitGroup or an errgroup
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
			if !w.handler && w.asks() && startedIn(w, h.stack) {
				w.parents, h.parent = append(w.parents, h), true
			}
		}
	}
	for _, w := range v.waits {
		w.handler = w.handler || len(w.parents) > 0
	}
}

// forRequests is how long requests wait for the last of several answers that they ask
// for at once at a place; 0 = they do not.
func (v *view) forRequests(p *place) (longest time.Duration) {
	for _, w := range p.waits {
		for _, h := range w.parents {
			if d, _, known := v.mean(h); known && d > longest {
				longest = d
			}
		}
	}
	return longest
}

// startedIn reports whether the function that a goroutine began with is written in
// one of those of a stack.
func startedIn(w *wait, s evidence.Stack) bool {
	parent, _, closure := strings.Cut(w.start, ".func")
	return closure && s.Index(func(f *evidence.Frame) bool { return own(f) && f.Plain() == plainName(parent) }) >= 0
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
