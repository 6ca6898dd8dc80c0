package waits

import (
	"math"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
)

// A request may ask often, each time for an answer that is quick enough: once for
// each of its items, or here for a user and there for his guild. What it waits is the
// sum. A trace counts how often goroutines come to a line from elsewhere since they
// were last idle: of a loop's waits that is one in a request.

// chain is what a request waits for answers one after the other.
type chain struct {
	times int64
	delay time.Duration
	lines int
	// asleep is how much of delay it sleeps between two tries, and sleeps where.
	asleep time.Duration
	sleeps *evidence.Frame
}

// at is the waits of requests at one stack.
type at struct {
	user   *evidence.Frame
	stack  evidence.Stack
	visits int64
	count  float64
	total  float64
	asleep bool // it sleeps there, and asks nobody
}

// seenAt is what a trace's site adds to a wait.
type seenAt struct {
	stack  evidence.Stack
	count  int64 // that began within the trace
	visits int64
	total  time.Duration
}

// chains are those of requests that ask a downstream, by the line of each at which
// they wait longest.
func (v *view) chains(d *downstream) map[*evidence.Frame]chain {
	var all []at
	for i := range d.places {
		for _, w := range d.places[i].waits {
			if w.handler && len(w.parents) == 0 {
				all = append(all, w.visited()...)
			}
		}
	}
	if len(all) > 0 {
		for _, w := range v.waits {
			if w.handler && w.user != nil && w.state == goroutines.Sleep {
				for _, a := range w.visited() {
					a.asleep = true
					all = append(all, a)
				}
			}
		}
	}
	out := map[*evidence.Frame]chain{}
	done := make([]bool, len(all))
	for i := range all {
		if done[i] || all[i].asleep {
			continue
		}
		group := []*at{&all[i]}
		for j := i + 1; j < len(all); j++ {
			if !done[j] && inTurn(group[0].stack, all[j].stack) {
				done[j] = true
				group = append(group, &all[j])
			}
		}
		c, longest := sumUp(group)
		if c.delay > out[longest].delay {
			out[longest] = c
		}
	}
	return out
}

// visited is the wait's sites, without what leaveOutWrites has taken from it.
func (w *wait) visited() (out []at) {
	var count int64
	var total time.Duration
	for _, s := range w.sites {
		count, total = count+s.count, total+s.total
	}
	if count == 0 || total == 0 {
		return nil
	}
	n, t := float64(w.count-w.whole)/float64(count), float64(w.total)/float64(total)
	for _, s := range w.sites {
		if s.visits >= leastVisits {
			out = append(out, at{user: w.user, stack: s.stack, visits: s.visits, count: n * float64(s.count), total: t * float64(s.total)})
		}
	}
	return out
}

// leastVisits is how many requests a mean is made of at least.
const leastVisits = 3

// inTurn reports whether two waits happen one after the other in one activation of a
// function of the program: at different lines of it. What a server or a router of a
// library calls are different requests.
func inTurn(a, b evidence.Stack) bool {
	x, y, ok := evidence.Shared(a, b)
	return ok && x.Function == y.Function && x.Line != y.Line
}

// sumUp adds up the waits of requests that come to several stacks. As many requests
// are taken to come as to the stack where most do. By Little's law a request waits the
// average number of waiting goroutines over the rate of requests.
func sumUp(group []*at) (c chain, longest *evidence.Frame) {
	var requests int64
	var count, total, most, slept float64
	lines := map[*evidence.Frame]bool{}
	for _, a := range group {
		requests = max(requests, a.visits)
		total += a.total
		if a.asleep {
			c.asleep += time.Duration(a.total)
			if a.total > slept {
				slept, c.sleeps = a.total, a.user
			}
			continue
		}
		count += a.count
		lines[a.user] = true
		if a.total > most {
			most, longest = a.total, a.user
		}
	}
	c.times = int64(math.Round(count / float64(requests)))
	c.delay = time.Duration(total / float64(requests))
	c.asleep /= time.Duration(requests)
	c.lines = len(lines)
	return c, longest
}
