package fleet

import (
	"math"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	// climbOver is how long a number must have climbed before anybody is told. The
	// leaks that hurt tonight go on for far longer; a batch that loads its input and
	// a burst of requests are over by then.
	climbOver = 45 * time.Second
	// climbSteps is into how many parts that time is cut: the number must have gone
	// up in each of them.
	climbSteps = 3
	// climbEven is what the least gain of a part must have of the most: a cache that
	// warms up slows down, and is nearly full within five minutes if its gain falls to
	// this share over two parts. What jumps has its gain in one part.
	climbEven = 0.8
	// climbOn is what of the pace at which one was sure of it a climb must keep to be
	// one still.
	climbOn = 0.5
	// climbShare of what it was a number must gain within climbOver: it then doubles
	// within ten minutes. A large heap breathes by less.
	climbShare = 0.075
	// climbPoints are the fewest measurements that a climb is seen in. A heap that
	// leaks is collected whenever it has doubled, which becomes seldom: what they span
	// is looked at then, up to climbMost.
	climbPoints = 3
	climbMost   = 5 * time.Minute
	// climbEvery is how often a number is kept at most: ten to a part and more say no
	// more, and bound what a process that beats too often costs.
	climbEvery = time.Second
	// climbStale is how long a number is believed that nobody measured again. The
	// runtime collects garbage every two minutes if there is no other reason to.
	climbStale = 150 * time.Second
	// heapYouth and crowdYouth are the first moments of a process, which are not
	// looked at: in them it loads what it needs, and those who lost their connection
	// with its predecessor come back, which takes longer.
	heapYouth  = 20 * time.Second
	crowdYouth = 2 * time.Minute
	// crowdWork is how much of the growth of the goroutines that of the CPU must be
	// for them to be at work: all of it in theory, half leaves room for what a
	// process does besides.
	crowdWork = 0.5
)

// climb tells a number that grows steadily from one that goes up and down. It goes
// by the number's floor, which is what it never fell below again: the teeth of a
// saw have a level one, however high they are, and a leak has none.
type climb struct {
	points []reading // of the last climbOver and one before, climbPoints at least, oldest first
	peaks  peaks     // of all before
	steady time.Time // since when it has been; zero = it is not
	sure   float64   // its pace when it had been for hold; 0 = it had not
	last   time.Time // when it was last at that pace
}

// reading is what a number was, and the CPU that the process used meanwhile.
type reading struct {
	at          time.Time
	value, work float64
}

// add takes in what was measured; times must not go back.
func (c *climb) add(r reading) {
	at := r.at
	if n := len(c.points); n > 0 && at.Sub(c.points[n-1].at) < climbEvery/2 {
		return
	}
	c.points = append(c.points, r)
	// One point stays from before the time looked at: it says where that began.
	old := 0
	for old+climbPoints < len(c.points) && at.Sub(c.points[old+1].at) >= climbOver || at.Sub(c.points[old].at) > climbMost {
		c.peaks.add(c.points[old])
		old++
	}
	c.points = slices.Delete(c.points, 0, old)
}

// pace is how fast the number climbs, a second; 0 = it does not, NaN = too little
// is known. least is what it must gain within climbOver to be worth a word.
func (c *climb) pace(now time.Time, least float64) float64 {
	last := len(c.points) - 1
	if last < climbPoints-1 || c.points[last].at.Sub(c.points[0].at) < climbOver {
		return math.NaN()
	}
	end := c.points[last].at
	if now.Sub(end) > climbStale {
		c.steady, c.sure = time.Time{}, 0
		return math.NaN()
	}
	span := max(climbOver, end.Sub(c.points[last-climbPoints+1].at))
	var floor [climbSteps + 1]float64
	for i := range floor {
		floor[i] = c.floor(end.Add(-span * time.Duration(climbSteps-i) / climbSteps))
	}
	gain := floor[climbSteps] - floor[0]
	pace := gain / span.Seconds()
	doubles := pace*climbOver.Seconds() >= climbShare*floor[0]
	news := gain >= least && doubles && c.lowest(end.Add(-span/climbSteps)) > c.peaks.highest()
	switch {
	case c.sure > 0 && pace >= climbOn*c.sure:
		c.last = now
	case news && even(floor):
		if c.steady.IsZero() {
			c.steady = now
		}
		if now.Sub(c.steady) >= hold {
			c.sure, c.last = pace, now
		}
	case c.sure > 0 && now.Sub(c.last) < climbOver: // it may pause; what has ended stays so
		return c.sure
	default:
		c.steady, c.sure = time.Time{}, 0
		return 0
	}
	return pace
}

// even is whether the steps of a floor are alike.
func even(floor [climbSteps + 1]float64) bool {
	least, most := math.Inf(1), 0.0
	for i := range climbSteps {
		gain := floor[i+1] - floor[i]
		least, most = min(least, gain), max(most, gain)
	}
	return least >= climbEven*most
}

// floor is what the number never fell below again after a time, by a straight line
// between two measurements.
func (c *climb) floor(at time.Time) float64 {
	low, next := math.Inf(1), time.Time{}
	for _, p := range slices.Backward(c.points) {
		if p.at.Before(at) {
			if p.value >= low {
				return low
			}
			return p.value + (low-p.value)*float64(at.Sub(p.at))/float64(next.Sub(p.at))
		}
		low, next = min(low, p.value), p.at
	}
	return low
}

// lowest is the lowest measurement since a time.
func (c *climb) lowest(since time.Time) float64 {
	low := math.Inf(1)
	for _, p := range c.points {
		if !p.at.Before(since) {
			low = min(low, p.value)
		}
	}
	return low
}

// peaks are the highest that a number was in each hour of the last day: what comes
// every night is no news, and what was long ago is no excuse.
type peaks struct {
	hours [25]float64
	hour  int64
}

func (p *peaks) add(r reading) {
	hour := r.at.Unix() / 3600
	if p.hour == 0 {
		p.hour = hour
	}
	for ; p.hour < hour; p.hour++ {
		if hour-p.hour > int64(len(p.hours)) {
			*p = peaks{hour: hour}
			break
		}
		p.hours[(p.hour+1)%int64(len(p.hours))] = 0
	}
	at := &p.hours[hour%int64(len(p.hours))]
	*at = max(*at, r.value)
}

func (p *peaks) highest() float64 { return slices.Max(p.hours[:]) }

// worked is how much more CPU the last part of the time took than the first, as a
// share of the first's.
func (c *climb) worked() float64 {
	end := c.points[len(c.points)-1].at
	before, after := c.work(end.Add(-climbOver), end.Add(-climbOver+climbOver/climbSteps)), c.work(end.Add(-climbOver/climbSteps), end)
	return (after - before) / before
}

// work is the mean CPU between two times.
func (c *climb) work(from, to time.Time) (mean float64) {
	n := 0
	for _, p := range c.points {
		if !p.at.Before(from) && !p.at.After(to) {
			mean, n = mean+p.work, n+1
		}
	}
	return mean / float64(n)
}

// climbs are the numbers of an instance that must not climb.
type climbs struct {
	heap   climb
	cycles int64 // of the garbage collector, when heap was last measured
	crowd  climb
}

// add takes in a heartbeat of a process of an age.
func (c *climbs) add(now time.Time, age time.Duration, hb *ops.Heartbeat) {
	// What is live is known anew after a collection, and at no other time.
	if hb.GCCycles != c.cycles && hb.LiveHeapBytes > 0 && age >= heapYouth {
		c.heap.add(reading{now, float64(hb.LiveHeapBytes), 0})
	}
	c.cycles = hb.GCCycles
	if age >= crowdYouth {
		c.crowd.add(reading{now, float64(hb.Goroutines), hb.CPUCores})
	}
}

// gibPerHour of a live heap that grows steadily; 0 = it does not, NaN = unknown.
func (c *climbs) gibPerHour(now time.Time) float64 {
	return c.heap.pace(now, fewBytes) * 3600 / (1 << 30)
}

// perSecond is how many goroutines more there are each second, steadily, while the
// work stays what it is: players who arrive want something done, and what has
// leaked wants nothing any more. 0 = it is not so, NaN = unknown.
func (c *climbs) perSecond(now time.Time) float64 {
	pace := c.crowd.pace(now, fewGoroutines)
	most := crowdWork
	if c.crowd.sure > 0 { // a process that does little does now more, now less
		most = 1
	}
	if pace > 0 && c.crowd.worked() >= most*pace*climbOver.Seconds()/c.crowd.points[0].value {
		c.crowd.steady, c.crowd.sure = time.Time{}, 0
		return 0
	}
	return pace
}
