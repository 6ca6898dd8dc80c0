package trace

import (
	"context"
	"slices"
	"time"
)

// Each calls fn with every kept interval of a track that reaches into a time, until
// fn returns false. Interval.Goroutine is whose it is, also of groups. Those of one
// goroutine or P come in the order of time but for the ones that reached over the
// end of a generation, which come after all that ended in it. The interval is valid
// during the call.
func (l *Timeline) Each(ctx context.Context, id TrackID, from, to time.Duration, fn func(*Interval) bool) error {
	more := true
	for _, part := range l.Parts(from, to) {
		if err := l.EachOf(ctx, part, id, from, to, func(iv *Interval) bool {
			more = fn(iv)
			return more
		}); err != nil || !more {
			return err
		}
	}
	return nil
}

// Parts are those of the kept intervals in which some reach into a time: EachOf may
// be asked for different ones at the same time.
func (l *Timeline) Parts(from, to time.Duration) (parts []int) {
	if l.kept == nil {
		return nil
	}
	a, b := l.t.ticks(from), l.t.ticks(to)
	for i := range l.kept.segments {
		if s := &l.kept.segments[i]; s.from < b && s.to > a {
			parts = append(parts, i)
		}
	}
	return parts
}

// EachOf is Each for one of the Parts. All intervals of a goroutine in a part come
// one after the other.
func (l *Timeline) EachOf(ctx context.Context, part int, id TrackID, from, to time.Duration, fn func(*Interval) bool) error {
	var iv Interval
	return l.kept.each(ctx, &l.kept.segments[part], id, l.t.ticks(from), l.t.ticks(to), func(x *spanOf) bool {
		iv = l.t.interval(x)
		return fn(&iv)
	})
}

// Members lists the goroutines of a group of which intervals were kept: those for
// which weigh is greatest, most at most. total is how many there are.
func (l *Timeline) Members(ctx context.Context, group GroupID, most int, weigh func(*Times) time.Duration) (list []Goroutine, total int64, err error) {
	if l.kept == nil {
		return nil, 0, nil
	}
	c := crew{most: most, weigh: weigh, several: map[GoID]*Goroutine{}}
	// Who is in more than one segment has reached over a generation's beginning.
	for i := range l.kept.segments {
		s := &l.kept.segments[i]
		if !s.bridges {
			continue
		}
		ids, _ := s.members(group)
		for _, id := range ids {
			c.several[id] = nil
		}
	}
	for id, g := range l.kept.late {
		if g == group {
			c.several[id] = nil
		}
	}
	for _, part := range l.Parts(0, l.t.Duration()+time.Nanosecond) {
		err := l.EachOf(ctx, part, TrackID{TrackGroup, int64(group)}, 0, l.t.Duration()+time.Nanosecond, func(iv *Interval) bool {
			c.add(iv, group)
			return true
		})
		if err != nil {
			return nil, 0, err
		}
		c.end()
	}
	for _, g := range c.several {
		if g != nil {
			c.take(*g)
		}
	}
	c.trim()
	list = make([]Goroutine, len(c.list))
	for i := range c.list {
		list[i] = c.list[i].Goroutine
	}
	return list, c.total, nil
}

// crew keeps the goroutines that weigh most.
type crew struct {
	most    int
	weigh   func(*Times) time.Duration
	several map[GoID]*Goroutine // nil until seen
	now     Goroutine           // the one whose intervals come
	on      bool
	list    []weighed
	total   int64
}

type weighed struct {
	Goroutine
	weight time.Duration
}

func (c *crew) add(iv *Interval, group GroupID) {
	if c.on && c.now.ID != iv.Goroutine {
		c.end()
	}
	if !c.on {
		c.on, c.now = true, Goroutine{ID: iv.Goroutine, Group: group, Begin: iv.From}
	}
	c.now.Begin, c.now.End = min(c.now.Begin, iv.From), max(c.now.End, iv.To)
	c.now.Born = c.now.Born || iv.Created
	c.now.Times[iv.State] += iv.To - iv.From
}

// end ends the intervals of one goroutine.
func (c *crew) end() {
	if !c.on {
		return
	}
	c.on = false
	g, in := c.several[c.now.ID]
	switch {
	case !in:
		c.take(c.now)
	case g == nil:
		g := c.now
		c.several[g.ID] = &g
	default:
		g.Begin, g.End, g.Born = min(g.Begin, c.now.Begin), max(g.End, c.now.End), g.Born || c.now.Born
		for s, d := range c.now.Times {
			g.Times[s] += d
		}
	}
}

func (c *crew) take(g Goroutine) {
	c.total++
	c.list = append(c.list, weighed{g, c.weigh(&g.Times)})
	if len(c.list) >= 2*c.most {
		c.trim()
	}
}

func (c *crew) trim() {
	slices.SortFunc(c.list, func(a, b weighed) int {
		if a.weight != b.weight {
			return int(max(min(b.weight-a.weight, 1), -1))
		}
		return int(a.ID - b.ID)
	})
	c.list = c.list[:min(len(c.list), c.most)]
}

// GroupOf is the group of a goroutine of which intervals were kept.
func (l *Timeline) GroupOf(id GoID) (GroupID, bool) {
	if l.kept == nil {
		return 0, false
	}
	if g := l.kept.late[id]; g != 0 {
		return g, true
	}
	found, ok := GroupID(0), false
	for i := range l.kept.segments {
		s := &l.kept.segments[i]
		for g := range s.groups {
			run, _ := s.run(g)
			if _, in := slices.BinarySearch(run, id); in {
				if ok = true; s.groups[g].id != 0 {
					return s.groups[g].id, true
				}
			}
		}
	}
	return found, ok
}
