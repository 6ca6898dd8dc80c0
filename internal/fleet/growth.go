package fleet

import (
	"math"
	"time"
)

const (
	// growthMinutes is how far back a heap is looked at: a leak that matters tonight
	// shows within ten minutes, and a cache that fills up is full by then.
	growthMinutes = 10
	// growthSkip are the first minutes of a process, in which it fills up.
	growthSkip = 2
	// fewBytes are no trouble, whatever multiple of next to nothing they are.
	fewBytes = 16 << 20
)

// growth tells a live heap that grows from one that goes up and down: the lowest
// that it was in the last minute against the highest that it was in a minute before.
type growth struct {
	minutes []extent // complete ones, oldest first, at most growthMinutes
	skipped int
	minute  int64 // the one that now belongs to
	now     extent
}

// extent is between what a number was.
type extent struct{ low, high int64 }

func (g *growth) add(at time.Time, live int64) {
	if live <= 0 { // nobody measured
		return
	}
	minute := at.Unix() / 60
	if g.now.high > 0 && minute != g.minute {
		g.push(g.now)
		g.now = extent{}
	}
	g.minute = minute
	if g.now.high == 0 {
		g.now = extent{live, live}
	}
	g.now.low, g.now.high = min(g.now.low, live), max(g.now.high, live)
}

func (g *growth) push(e extent) {
	if g.skipped < growthSkip {
		g.skipped++
		return
	}
	if len(g.minutes) == growthMinutes {
		copy(g.minutes, g.minutes[1:])
		g.minutes = g.minutes[:growthMinutes-1]
	}
	g.minutes = append(g.minutes, e)
}

// times is how many times its former self the heap is; NaN = too short a past.
func (g *growth) times() float64 {
	last := len(g.minutes) - 1
	if last < 1 {
		return math.NaN()
	}
	before := g.minutes[0].high
	for _, e := range g.minutes[:last] {
		before = min(before, e.high)
	}
	now := g.minutes[last].low
	if now-before < fewBytes {
		return min(1, float64(now)/float64(before))
	}
	return float64(now) / float64(before)
}
