package evidence

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// SlowCall is a call that took long, as the service itself said when it ended.
type SlowCall struct {
	Name string
	// From and End are when it ran, since the trace began; From can be before it.
	From, End time.Duration
	Goroutine trace.GoID
	Stack     Stack // where it was told
	// Spent is what its goroutine did meanwhile, and Waits where it waited, the
	// longest total first. All of it is zero where the trace does not tell: it is
	// followed for the slowest calls, and for the one that a rule fired on.
	Spent trace.Times
	Waits []CallWait
}

// CallWait is all waits of a call at one place.
type CallWait struct {
	Stack Stack
	State trace.State
	Count int64
	Total time.Duration
	// From and To are when the longest was.
	From, To time.Duration
	// Ender is where whoever ended the longest was; empty = a timer or the network.
	Ender Stack
	// Behind is, of a wait for a lock, what the one that gave it back had itself done
	// for most of that time: of those who handed it on to each other the first. nil =
	// the trace does not tell.
	Behind *CallWait
}

// Took is how long the call took.
func (c *SlowCall) Took() time.Duration { return c.End - c.From }

// slowCategory is what the agent marks slow calls with; the text is the name of
// the call, " took ", and a duration.
const slowCategory = "slow"

func slowCall(l trace.Log) (SlowCall, bool) {
	at := strings.LastIndex(l.Text, " took ")
	if l.Category != slowCategory || at < 0 {
		return SlowCall{}, false
	}
	took, err := time.ParseDuration(l.Text[at+len(" took "):])
	if err != nil || took <= 0 {
		return SlowCall{}, false
	}
	return SlowCall{Name: l.Text[:at], From: l.Time - took, End: l.Time, Goroutine: l.Goroutine}, true
}

// clockStep is what a time loses at most on its way through a message.
const clockStep = time.Microsecond

// Triggering is the mark of a call among those of a trace; nil = it is not there.
func Triggering(calls []SlowCall, trigger *ops.Call) *SlowCall {
	if trigger == nil {
		return nil
	}
	for i := range calls {
		if c := &calls[i]; c.Name == trigger.Name && max(c.Took()-trigger.Took, trigger.Took-c.Took()) <= clockStep {
			return c
		}
	}
	return nil
}

// The bounds of following calls: a service can mark a thousand in a second.
const (
	maxFollowed  = 16
	maxCallWaits = 5
	maxHandoffs  = 64       // of a lock, until who held it first is found
	maxFollowing = 48 << 20 // bytes of intervals; a trace that has more is not followed
)

// follow says of the slowest calls, and of the one that triggered the capture, what
// they did. It reads the trace once more.
func (c *traceStacks) follow(ctx context.Context, calls []SlowCall, trigger *SlowCall) error {
	if len(calls) == 0 {
		return nil
	}
	a, err := c.t.Analyze(ctx, trace.Options{Goroutines: 1, Keep: new(shortStore)})
	if errors.Is(err, errTooMuch) {
		return nil
	}
	if err != nil {
		return err
	}
	slowest := make([]*SlowCall, len(calls))
	for i := range calls {
		slowest[i] = &calls[i]
	}
	slices.SortStableFunc(slowest, func(a, b *SlowCall) int {
		return cmp.Or(cmp.Compare(first(a == trigger), first(b == trigger)), cmp.Compare(b.Took(), a.Took()))
	})
	for _, call := range slowest[:min(len(slowest), maxFollowed)] {
		if err := c.followOne(ctx, a.Timeline, call); err != nil {
			return err
		}
	}
	return nil
}

func first(is bool) int {
	if is {
		return 0
	}
	return 1
}

// did are the intervals of a goroutine within a time, in its order and cut at its
// edges.
func did(ctx context.Context, l *trace.Timeline, g trace.GoID, from, to time.Duration) (out []trace.Interval, err error) {
	err = l.Each(ctx, trace.TrackID{Kind: trace.TrackGoroutine, ID: int64(g)}, from, to, func(iv *trace.Interval) bool {
		x := *iv
		x.From, x.To = max(x.From, from), min(x.To, to)
		if x.From < x.To {
			out = append(out, x)
		}
		return true
	})
	slices.SortFunc(out, func(a, b trace.Interval) int { return cmp.Compare(a.From, b.From) })
	return out, err
}

// isWait reports whether a goroutine in the state gets on only by others, or by time.
func isWait(s trace.State) bool {
	return s != trace.StateRunning && s != trace.StateAssist && s != trace.StateRunnable
}

func (c *traceStacks) followOne(ctx context.Context, l *trace.Timeline, call *SlowCall) error {
	all, err := did(ctx, l, call.Goroutine, max(call.From, 0), call.End)
	if err != nil {
		return err
	}
	type longest struct {
		at int // of all
		CallWait
	}
	var waits []longest
	for i, iv := range all {
		d := iv.To - iv.From
		call.Spent[iv.State] += d
		if !isWait(iv.State) {
			continue
		}
		stack := c.of(iv.Stack)
		at := slices.IndexFunc(waits, func(w longest) bool { return w.State == iv.State && samePlace(w.Stack, stack) })
		if at < 0 {
			at = len(waits)
			waits = append(waits, longest{i, CallWait{Stack: stack, State: iv.State, From: iv.From, To: iv.To}})
		}
		w := &waits[at]
		w.Count++
		w.Total += d
		if d > w.To-w.From {
			w.at, w.From, w.To, w.Stack = i, iv.From, iv.To, stack
		}
	}
	slices.SortStableFunc(waits, func(a, b longest) int { return cmp.Compare(b.Total, a.Total) })
	for _, w := range waits[:min(len(waits), maxCallWaits)] {
		if w.at+1 < len(all) && all[w.at+1].Waker != trace.NoGoroutine {
			next := all[w.at+1]
			w.Ender = c.of(next.WakerStack)
			if w.State == trace.StateSync {
				if w.Behind, err = c.behind(ctx, l, next.Waker, w.From, w.To); err != nil {
					return err
				}
				if w.Behind != nil && len(w.Behind.Ender) > 0 {
					w.Ender = w.Behind.Ender
				}
			}
		}
		call.Waits = append(call.Waits, w.CallWait)
	}
	return nil
}

// samePlace reports whether two waits belong together: where the program's own code
// waits, or else the whole stack.
func samePlace(a, b Stack) bool {
	if f, g := a.User(), b.User(); f != nil || g != nil {
		return f == g
	}
	return slices.Equal(a, b)
}

// behind is what a goroutine that gave a lock back at the end of a time had done for
// most of it. Who had waited for the lock itself got it from another: that one is
// looked at then. The result's Ender is where the lock was first given back.
func (c *traceStacks) behind(ctx context.Context, l *trace.Timeline, holder trace.GoID, from, to time.Duration) (*CallWait, error) {
	var gave Stack
	for range maxHandoffs {
		all, err := did(ctx, l, holder, from, to)
		if err != nil {
			return nil, err
		}
		most, ran := -1, time.Duration(0)
		for i, iv := range all {
			if !isWait(iv.State) {
				ran += iv.To - iv.From
			}
			if isWait(iv.State) && (most < 0 || iv.To-iv.From > all[most].To-all[most].From) {
				most = i
			}
		}
		if most < 0 || ran > all[most].To-all[most].From {
			if ran < (to-from)/2 {
				return nil, nil
			}
			return &CallWait{State: trace.StateRunning, Count: 1, Total: ran, From: from, To: to, Ender: gave}, nil
		}
		w := all[most]
		if w.To-w.From < (to-from)/2 {
			return nil, nil
		}
		if w.State != trace.StateSync || most+1 == len(all) || all[most+1].Waker == trace.NoGoroutine {
			return &CallWait{Stack: c.of(w.Stack), State: w.State, Count: 1, Total: w.To - w.From, From: w.From, To: w.To, Ender: gave}, nil
		}
		next := all[most+1]
		holder, gave, to = next.Waker, c.of(next.WakerStack), w.To
	}
	return nil, nil
}

// shortStore keeps the intervals of a short trace in memory.
type shortStore struct {
	mu sync.RWMutex
	b  []byte
}

var errTooMuch = errors.New("more intervals than are followed")

func (m *shortStore) ReadAt(b []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if off < 0 || off > int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(b, m.b[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m *shortStore) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > maxFollowing {
		return 0, errTooMuch
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if more := int(off) + len(b) - len(m.b); more > 0 {
		m.b = append(m.b, make([]byte, more)...)
	}
	return copy(m.b[off:], b), nil
}
