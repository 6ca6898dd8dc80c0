package fleet

import (
	"iter"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// A restarted process is a new instance. Its predecessor is the one of the same
// service, on the same host or else in the same pod, that was lost before this
// one started.

// startSlack is how much earlier than its predecessor's last sign of life a
// successor may seem to have started: the two times come from different clocks.
const startSlack = 10 * time.Second

// place is where processes of a service replace each other.
type place struct {
	key       ops.ServiceKey
	host, pod string // one of them is set
}

func placesOf(i ops.Instance) (out []place) {
	if h := i.Process.Hostname; h != "" {
		out = append(out, place{key: i.Key(), host: h})
	}
	if p := i.Labels["pod"]; p != "" {
		out = append(out, place{key: i.Key(), pod: p})
	}
	return out
}

// neighbours are all members in m's places but m, some perhaps twice. The caller
// holds f.mu.
func (f *Fleet) neighbours(m *member) iter.Seq[*member] {
	return func(yield func(*member) bool) {
		for _, p := range placesOf(m.inst) {
			for o := range f.places[p] {
				if o != m && !yield(o) {
					return
				}
			}
		}
	}
}

func started(i ops.Instance) time.Time {
	if i.Process.StartTime.IsZero() {
		return i.Joined
	}
	return i.Process.StartTime
}

func succeeds(next, prev *member) bool {
	return !started(next.inst).Before(prev.inst.LastSeen.Add(-startSlack))
}

// adopt finds a new member's predecessor: the one lost last that no other
// successor has. The caller holds f.mu.
func (f *Fleet) adopt(m *member) {
	if m.inst.Predecessor != nil || m.inst.Agentless {
		return
	}
	taken := map[ops.InstanceID]bool{}
	var best *member
	for o := range f.neighbours(m) {
		if o.inst.Predecessor != nil {
			taken[o.inst.Predecessor.ID] = true
		}
	}
	for o := range f.neighbours(m) {
		// A suspect that still has its link is silent, not lost.
		lost := o.inst.State == ops.InstanceGone || (o.inst.State == ops.InstanceSuspect && o.link == nil)
		if lost && !taken[o.inst.ID] && succeeds(m, o) && (best == nil || o.inst.LastSeen.After(best.inst.LastSeen)) {
			best = o
		}
	}
	if best == nil {
		return
	}
	verdict := best.verdict()
	if best.inst.State == ops.InstanceGone && best.inst.StateReason == ops.VerdictCleanExit {
		verdict = ops.VerdictCleanExit
	}
	m.inst.Predecessor = best.obituary(verdict)
	f.changed(m)
}

// tellSuccessor is adopt from the other side: m is lost or gone now, and who
// replaced it may have joined before that was known. The caller holds f.mu.
func (f *Fleet) tellSuccessor(m *member, verdict string) {
	if m.inst.Agentless {
		return
	}
	var best *member
	for o := range f.neighbours(m) {
		if p := o.inst.Predecessor; p != nil && p.ID == m.inst.ID {
			best = o // it knew, and may now know better how m ended
			break
		}
		if o.inst.Predecessor == nil && o.inst.State != ops.InstanceGone && succeeds(o, m) && o.inst.Joined.After(m.inst.Joined) &&
			(best == nil || o.inst.Joined.Before(best.inst.Joined)) {
			best = o
		}
	}
	if best != nil {
		best.inst.Predecessor = m.obituary(verdict)
		f.changed(best)
	}
}

// disclaim takes back that m was somebody's predecessor: it lives. The caller holds f.mu.
func (f *Fleet) disclaim(m *member) {
	for o := range f.neighbours(m) {
		if p := o.inst.Predecessor; p != nil && p.ID == m.inst.ID {
			o.inst.Predecessor = nil
			f.changed(o)
		}
	}
}

func (m *member) obituary(verdict string) *ops.Predecessor {
	p := &ops.Predecessor{
		ID: m.inst.ID, Ended: m.inst.LastSeen,
		LastRSSBytes: m.inst.Heartbeat.RSSBytes, MemoryLimitBytes: m.limit(),
		Verdict: verdict,
	}
	if up := m.inst.LastSeen.Sub(started(m.inst)); up > 0 {
		p.Uptime = up
	}
	return p
}

// limit is what the process would be killed at: the cgroup's limit, or the one
// its heartbeat tells of.
func (m *member) limit() int64 {
	if m.inst.Process.MemoryLimitBytes > 0 {
		return m.inst.Process.MemoryLimitBytes
	}
	return m.inst.Heartbeat.MemoryLimitBytes
}

// verdict says how a process that did not say goodbye most likely ended.
func (m *member) verdict() string {
	limit, rss := float64(m.limit()), float64(m.inst.Heartbeat.RSSBytes)
	if limit <= 0 || m.inst.Agentless {
		return ops.VerdictVanished
	}
	if rss >= 0.9*limit || m.trend.reaches(limit) {
		return ops.VerdictLikelyOOM
	}
	return ops.VerdictVanished
}

// trend keeps the memory of the last half minute, to see where it was heading:
// heartbeats that come faster than usual are thinned.
type trend struct {
	n     int // samples ever seen
	at    [trendLen]time.Time
	bytes [trendLen]int64
}

const trendLen = 6

func (t *trend) add(hb ops.Heartbeat) {
	if t.n > 0 && hb.At.Sub(t.at[(t.n-1)%trendLen]) < ops.HeartbeatEvery/2 {
		return
	}
	t.at[t.n%trendLen], t.bytes[t.n%trendLen] = hb.At, max(hb.RSSBytes, hb.LiveHeapBytes)
	t.n++
}

// reaches reports whether memory that keeps climbing as it did would have been
// at the limit before two more heartbeats were due. Memory below half of the
// limit is too far from it to judge by so short a climb.
func (t *trend) reaches(limit float64) bool {
	if t.n < 3 {
		return false
	}
	last, first := (t.n-1)%trendLen, max(t.n-trendLen, 0)%trendLen
	span := t.at[last].Sub(t.at[first]).Seconds()
	now := float64(t.bytes[last])
	if span <= 0 || now < limit/2 {
		return false
	}
	slope := (now - float64(t.bytes[first])) / span
	return slope > 0 && now+slope*(2*ops.HeartbeatEvery).Seconds() >= limit
}
