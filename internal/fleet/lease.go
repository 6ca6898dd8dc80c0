package fleet

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	judgeEvery = time.Second
	// tombstonesPerService bounds what a service that dies every few seconds leaves behind.
	tombstonesPerService = 200
)

// judge looks at every lease once a second. One pass over 10,000 members takes
// well under a millisecond, so no member needs a timer of its own.
func (f *Fleet) judge(ctx context.Context) error {
	t := time.NewTicker(judgeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			f.judgeOnce(time.Now())
			f.watchOver(time.Now())
		}
	}
}

func (f *Fleet) judgeOnce(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	tombstones := 0
	for _, m := range f.members {
		silence := now.Sub(m.renewed)
		switch {
		case m.inst.State == ops.InstanceGone:
			tombstones++
			if now.Sub(m.inst.StateSince) >= ops.TombstoneFor {
				f.forget(m)
			}
		case silence >= ops.GoneAfter:
			verdict := m.verdict()
			f.bury(m, verdict, ops.SaysCentre, verdict, now)
			if m.leave != nil { // a link that is silent is of no use: make way for a new one
				m.leave(ops.Errorf(ops.Unavailable, "%s", silent(ops.GoneAfter)))
			}
		case silence >= ops.SuspectAfter && m.inst.State == ops.InstanceUp:
			m.flaps.lost(now)
			f.setState(m, ops.InstanceSuspect, silent(ops.SuspectAfter), ops.SaysCentre, now)
		}
	}
	if tombstones > tombstonesPerService {
		f.thinTombstones()
	}
}

// thinTombstones forgets the oldest of services that have too many, and of all
// if the services are too many: as many dead are remembered as may live. The
// caller holds f.mu.
func (f *Fleet) thinTombstones() {
	perService := map[ops.ServiceKey][]*member{}
	for _, m := range f.members {
		if m.inst.State == ops.InstanceGone {
			perService[m.inst.Key()] = append(perService[m.inst.Key()], m)
		}
	}
	var kept []*member
	for _, ms := range perService {
		kept = append(kept, f.keepNewest(ms, tombstonesPerService)...)
	}
	f.keepNewest(kept, f.bounds.Instances)
}

// keepNewest forgets all but the n tombstones that died last. The caller holds f.mu.
func (f *Fleet) keepNewest(ms []*member, n int) []*member {
	if len(ms) <= n {
		return ms
	}
	slices.SortFunc(ms, func(a, b *member) int { return cmp.Compare(b.inst.StateSince.UnixNano(), a.inst.StateSince.UnixNano()) })
	for _, m := range ms[n:] {
		f.forget(m)
	}
	return ms[:n]
}

// forget drops a tombstone; its row goes with DeleteInstances. The caller holds f.mu.
func (f *Fleet) forget(m *member) {
	f.remove(m)
	delete(f.dirty, m.inst.ID)
	f.topic.Publish(m.inst.ID)
}
