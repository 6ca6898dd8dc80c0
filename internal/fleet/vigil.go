package fleet

import (
	"context"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Thresholds returns what the health of a service's instances is judged by.
func (f *Fleet) Thresholds(k ops.ServiceKey) Thresholds {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules.Of(k)
}

// SetHealth replaces the thresholds. Who is in trouble by them shows with the
// next heartbeat: a check still has to hold for as long as it says.
func (f *Fleet) SetHealth(r HealthRules) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = r
	for _, m := range f.members {
		m.thresholds = r.Of(m.inst.Key())
	}
}

// listen judges an instance by a heartbeat. The caller holds f.mu.
func (f *Fleet) listen(m *member, now time.Time) {
	hb := m.inst.Heartbeat
	was := m.vigil.remember(now, now.Sub(started(m.inst)), &hb)
	n := numbersOf(hb, m.inst.Process, m.inst.Agentless, was, f.restarts(m, now))
	n[checkFlapping] = float64(m.flaps.count(now))
	m.vigil.look(now, n, &m.thresholds)
	if g := &m.vigil.gauges[checkFlapping]; g.level != "" {
		g.since = m.flaps.since // that of the first loss, not of the one too many
	}
	m.assess(now)
}

// assess says anew how a member does, after a heartbeat or a change of state.
// The caller holds f.mu.
func (m *member) assess(now time.Time) {
	switch m.inst.State {
	case ops.InstanceGone:
		m.inst.Health = ops.Health{}
	case ops.InstanceSuspect:
		m.inst.Health = m.vigil.health(now, max(now.Sub(m.inst.LastSeen), time.Second), &m.thresholds)
	default:
		m.inst.Health = m.vigil.health(now, 0, &m.thresholds)
	}
}

// restarts counts how often the process in m's place was replaced within the
// last hour, by following who replaced whom. The caller holds f.mu.
func (f *Fleet) restarts(m *member, now time.Time) (n int) {
	from := now.Add(-time.Hour)
	for m != nil && m.inst.Predecessor != nil && started(m.inst).After(from) && n <= tombstonesPerService {
		n++
		m = f.members[m.inst.Predecessor.ID]
	}
	return n
}

// recall gives those that were known before the centre restarted their usual
// numbers back, so that a leak that began before is still one.
func (f *Fleet) recall(ctx context.Context) error {
	f.mu.Lock()
	var ids []ops.InstanceID
	for id, m := range f.members {
		if m.inst.State != ops.InstanceGone && !m.recalled {
			m.recalled = true
			ids = append(ids, id)
		}
	}
	f.mu.Unlock()
	now := time.Now()
	const each = int(ops.HistoryCoarseStep / time.Minute)
	for _, id := range ids {
		points, err := f.store.History(ctx, id, now.Add(-time.Hour), now, ops.HistoryCoarseStep)
		if err != nil {
			return f.waitOut(ctx, err)
		}
		var minutes []float32
		for _, p := range points {
			for range each {
				minutes = append(minutes, float32(p.Goroutines))
			}
		}
		f.mu.Lock()
		if m := f.members[id]; m != nil {
			m.vigil.baseline.seed(minutes)
		}
		f.mu.Unlock()
	}
	return nil
}
