package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// bucket gathers the heartbeats of one step of history into one point: rates and
// shares are averaged, latency and waiters are the worst, all else is the last.
type bucket struct {
	slot int64
	n    int
	hb   ops.Heartbeat // rates and shares are sums until point
}

// add takes a heartbeat in and returns the point of the slot before, if it ended.
func (b *bucket) add(hb ops.Heartbeat, step time.Duration) (ended ops.Heartbeat, ok bool) {
	slot := hb.At.UnixNano() / int64(step)
	if b.n > 0 && slot != b.slot {
		ended, ok = b.point(), true
		*b = bucket{}
	}
	sum := b.hb
	b.slot, b.hb = slot, hb
	if b.n > 0 {
		b.hb.CPUCores += sum.CPUCores
		b.hb.GCCPUFraction += sum.GCCPUFraction
		b.hb.ThrottledFraction += sum.ThrottledFraction
		b.hb.MutexWaitRate += sum.MutexWaitRate
		b.hb.SchedLatencyP99Second = max(b.hb.SchedLatencyP99Second, sum.SchedLatencyP99Second)
		b.hb.PoolWaiters = max(b.hb.PoolWaiters, sum.PoolWaiters)
	}
	b.n++
	return ended, ok
}

func (b *bucket) point() ops.Heartbeat {
	hb, n := b.hb, float64(b.n)
	hb.CPUCores /= n
	hb.GCCPUFraction /= n
	hb.ThrottledFraction /= n
	hb.MutexWaitRate /= n
	return hb
}

// history holds the points that wait to be written.
type history struct{ fine, coarse pending }

// pending are the points of one step. flying ones are being written; they stay
// here until they are, so that a reader misses none.
type pending struct{ waiting, flying []ops.HistoryPoint }

// maxPending bounds the points kept while the disk is full; the oldest go first.
const maxPending = 200_000

func (f *Fleet) record(m *member, hb ops.Heartbeat) {
	if f.store == nil {
		return
	}
	if p, ok := m.fine.add(hb, ops.HistoryFineStep); ok {
		f.history.fine.waiting = append(f.history.fine.waiting, ops.HistoryPoint{Instance: m.inst.ID, Heartbeat: p})
	}
	if p, ok := m.coarse.add(hb, ops.HistoryCoarseStep); ok {
		f.history.coarse.waiting = append(f.history.coarse.waiting, ops.HistoryPoint{Instance: m.inst.ID, Heartbeat: p})
	}
}

// settle closes a member's open points: it may never beat again. The caller holds f.mu.
func (f *Fleet) settle(m *member) {
	if m.fine.n > 0 {
		f.history.fine.waiting = append(f.history.fine.waiting, ops.HistoryPoint{Instance: m.inst.ID, Heartbeat: m.fine.point()})
	}
	if m.coarse.n > 0 {
		f.history.coarse.waiting = append(f.history.coarse.waiting, ops.HistoryPoint{Instance: m.inst.ID, Heartbeat: m.coarse.point()})
	}
	m.fine, m.coarse = bucket{}, bucket{}
}

// History returns an instance's heartbeats in [from, to) and the step between
// them: fine if all of the span is kept that fine, else coarse. The last point
// may still be growing. NotFound if neither the instance nor history of it is known.
func (f *Fleet) History(ctx context.Context, id ops.InstanceID, from, to time.Time) ([]ops.Heartbeat, time.Duration, error) {
	step := ops.HistoryFineStep
	if from.Before(time.Now().Add(-ops.HistoryFineFor)) {
		step = ops.HistoryCoarseStep
	}
	// Memory first: a point that is written in between is then seen twice, not never.
	recent, known := f.unwritten(id, step)
	var out []ops.Heartbeat
	if f.store != nil {
		var err error
		if out, err = f.store.History(ctx, id, from, to, step); err != nil {
			return nil, 0, fmt.Errorf("history of instance %s: %w", id, err)
		}
	}
	for _, hb := range recent {
		if !hb.At.Before(from) && hb.At.Before(to) {
			out = append(out, hb)
		}
	}
	if len(out) == 0 && !known {
		return nil, 0, notFound(id)
	}
	slices.SortStableFunc(out, func(a, b ops.Heartbeat) int { return cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	out = slices.CompactFunc(out, func(a, b ops.Heartbeat) bool { return a.At.UnixMilli() == b.At.UnixMilli() })
	return out, step, nil
}

func (f *Fleet) unwritten(id ops.InstanceID, step time.Duration) (points []ops.Heartbeat, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.history.fine
	if step == ops.HistoryCoarseStep {
		p = &f.history.coarse
	}
	for _, list := range [][]ops.HistoryPoint{p.flying, p.waiting} {
		for _, hp := range list {
			if hp.Instance == id {
				points = append(points, hp.Heartbeat)
			}
		}
	}
	m := f.members[id]
	if m == nil {
		return points, false
	}
	open := &m.fine
	if step == ops.HistoryCoarseStep {
		open = &m.coarse
	}
	if open.n > 0 {
		points = append(points, open.point())
	}
	return points, true
}

// takeOff makes what waits fly, and land what became of it. One flight at a time.
func (f *Fleet) takeOff(p *pending) []ops.HistoryPoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.flying, p.waiting = p.waiting, nil
	return p.flying
}

func (f *Fleet) land(p *pending, written bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !written {
		p.waiting = append(p.flying, p.waiting...)
		if over := len(p.waiting) - maxPending; over > 0 {
			p.waiting = slices.Delete(p.waiting, 0, over)
		}
	}
	p.flying = nil
}
