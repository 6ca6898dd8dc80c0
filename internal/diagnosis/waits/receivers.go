package waits

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/trace"
)

// receiver is a kind of goroutine that receives what a sender waits to send.
type receiver struct {
	start string          // the function they began with
	at    *evidence.Frame // where they receive; nil = not known
	n     int64           // how many there are; 0 = not known
	// does is what they do when they do not receive, and slow the wait in which
	// they spend most of it; nil = none.
	does activity
	slow *wait
	// spare is set if some of them idle in the receive while the sender waits.
	spare bool
	// busy is how many of them at a time are at work or wait for something else,
	// idling how many are in the receive.
	busy, idling float64
	// guessed is set if nobody was seen to receive, and they are those that do
	// elsewhere.
	guessed bool
}

// activity is what a receiver spends its time with.
type activity uint8

const (
	unseen  activity = iota
	atWork           // runs, or is ready to
	waiting          // for the network, a lock, a downstream, a disk
	paced            // sleeps, or waits for a timer or its turn
)

// receiversOf are those who ended the waits, most often first; where nobody was
// seen to, those of whom some receive and others are busy.
func (v *view) receiversOf(s *sender) (out []receiver) {
	count := map[string]int64{}
	for _, w := range s.waits {
		for _, x := range v.wakers(w) {
			at := x.Waker.User()
			if at == nil || !own(at) {
				continue
			}
			start := startOf(x.Waker)
			count[start] += x.Count
			if !slices.ContainsFunc(out, func(r receiver) bool { return r.start == start }) {
				out = append(out, receiver{start: start, at: at})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b receiver) int {
		return cmp.Or(cmp.Compare(count[b.start], count[a.start]), cmp.Compare(a.start, b.start))
	})
	if len(out) == 0 {
		out = v.guessReceivers(s)
	}
	for i := range out {
		v.watch(&out[i])
	}
	return out
}

// guessReceivers looks for goroutines of one kind of which some are parked in a
// receive and others are not: the writers of a hub. Those whose receiver type the
// sender's line calls, or which are in its package, come first. Who got on while
// nobody received anything from the sender is another channel's receiver.
func (v *view) guessReceivers(s *sender) (out []receiver) {
	for _, w := range v.waits {
		if w.kind != receive && w.kind != choose || w.user == nil || w.handler || v.counted(w) == 0 && v.busy(w) == 0 || !w.direct() {
			continue
		}
		if w.user.Package != s.user.Package || slices.ContainsFunc(s.waits, func(x *wait) bool { return x.start == w.start }) {
			continue
		}
		if slices.ContainsFunc(v.byStart[w.start], func(x *wait) bool {
			return x.user != nil && x.user != w.user && x.kind != receive && x.kind != choose && v.counted(x) > 0 && (!s.stuck || v.stands(x))
		}) {
			out = append(out, receiver{start: w.start, at: w.user, guessed: true})
		}
	}
	slices.SortStableFunc(out, func(a, b receiver) int {
		return cmp.Or(cmp.Compare(affinity(b, s), affinity(a, s)), compareFrames(a.at, b.at))
	})
	return out[:min(1, len(out))]
}

// stands reports whether one of those who wait did not get on while it was looked.
func (v *view) stands(w *wait) bool {
	if v.e.Trace != nil {
		return w.whole > 0
	}
	return w.now > 0 && w.before > 0
}

// affinity is 1 if the receiver's function has the type of a method in the
// sender's stack.
func affinity(r receiver, s *sender) int {
	typ := typeOf(r.at.Plain())
	if typ != "" && s.waits[0].stack.Index(func(f *evidence.Frame) bool { return typeOf(f.Plain()) == typ }) >= 0 {
		return 1
	}
	return 0
}

// typeOf is "main.(*client)" of "main.(*client).push"; "" of a plain function.
func typeOf(function string) string {
	if i := strings.LastIndex(function, ")."); i > 0 {
		return function[:i+1]
	}
	return ""
}

// watch looks at what the receivers do with their time.
func (v *view) watch(r *receiver) {
	var times trace.Times
	if v.e.Trace != nil {
		for _, g := range v.e.Trace.Groups {
			if g.Func == r.start {
				r.n, times = r.n+g.Goroutines, g.Times
			}
		}
	}
	busiest := 0.0
	for _, w := range v.waits {
		if w.start != r.start {
			continue
		}
		n := v.busy(w)
		switch {
		case w.user == r.at && (w.kind == receive || w.kind == choose):
			r.idling += n
		case w.kind == idle:
		default:
			r.busy += n
			if n > busiest {
				r.slow, busiest = w, n
			}
		}
	}
	if r.n == 0 {
		r.n = int64(r.idling + v.othersOf(r))
	}
	work := 0.0
	if d := v.traced(); d > 0 {
		work = float64(times[trace.StateRunning]+times[trace.StateRunnable]+times[trace.StateAssist]) / float64(d)
	}
	r.busy += work
	switch {
	case work > busiest:
		r.does, r.slow = atWork, nil
	case r.slow == nil:
		r.does = unseen
	case r.slow.paces(v):
		r.does = paced
	default:
		r.does = waiting
	}
	// One that is idle for moments between two items is none to spare.
	r.spare = r.n > 1 && r.idling >= 0.5 && (r.does != unseen || r.guessed)
}

func (v *view) othersOf(r *receiver) (n float64) {
	for _, w := range v.waits {
		if w.start == r.start && w.user != r.at {
			n += v.counted(w)
		}
	}
	return n
}

// paces reports whether a wait is for time to pass.
func (w *wait) paces(v *view) bool {
	switch {
	case w.state == goroutines.Sleep, w.kind == limit:
		return true
	case w.kind == receive || w.kind == choose:
		// A timer wakes without being anybody: nobody else is seen to.
		return w.total > time.Millisecond && len(v.wakers(w)) == 0 && w.whole == 0
	}
	return false
}
