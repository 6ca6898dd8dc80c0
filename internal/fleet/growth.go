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

// growth tells a number that grows from one that goes up and down: the lowest
// that it was in the last minute against the highest that it was in a minute before.
type growth struct {
	minutes []extent // complete ones, oldest first, at most growthMinutes
	skipped int
	minute  int64 // the one that now belongs to
	now     extent
}

// extent is between what a number was, and the CPU that was used meanwhile: the sum
// of n readings.
type extent struct {
	low, high int64
	work      float64
	n         int
}

func (g *growth) add(at time.Time, value int64, work float64) {
	if value <= 0 { // nobody measured
		return
	}
	minute := at.Unix() / 60
	if g.now.n > 0 && minute != g.minute {
		g.push(g.now)
		g.now = extent{}
	}
	g.minute = minute
	if g.now.n == 0 {
		g.now = extent{low: value, high: value}
	}
	g.now.low, g.now.high = min(g.now.low, value), max(g.now.high, value)
	g.now.work += work
	g.now.n++
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

// began says what the number was when it began to grow, for a process that is so
// young that nothing is known of its minutes yet.
func (g *growth) began(value int64) {
	if len(g.minutes) == 0 {
		g.skipped = growthSkip
		g.push(extent{low: value, high: value})
	}
}

// times is how many times its former self the number is, of which few more are no
// trouble; NaN = too short a past.
func (g *growth) times(few int64) float64 {
	times, _ := g.since(few)
	return times
}

// idleTimes is the same where no more CPU is used than then; else 1 or less.
func (g *growth) idleTimes(few int64) float64 {
	times, before := g.since(few)
	if last := len(g.minutes) - 1; last >= 1 && g.minutes[last].cores() > before.cores() {
		return min(times, 1)
	}
	return times
}

// since is times, and the minute that is compared with.
func (g *growth) since(few int64) (float64, extent) {
	last := len(g.minutes) - 1
	if last < 1 {
		return math.NaN(), extent{}
	}
	before := g.minutes[0]
	for _, e := range g.minutes[:last] {
		if e.high < before.high {
			before = e
		}
	}
	now := g.minutes[last].low
	times := float64(now) / float64(before.high)
	if now-before.high < few {
		times = min(1, times)
	}
	return times, before
}

func (e extent) cores() float64 { return e.work / float64(max(e.n, 1)) }
