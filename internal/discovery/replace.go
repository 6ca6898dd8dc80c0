package discovery

import (
	"context"
	"slices"
)

func slotsOf(sources []Source) (out []*slot) {
	for _, s := range sources {
		out = append(out, &slot{source: s})
	}
	return out
}

// start runs a slot's source until its stop is called or Run's context ends. m.mu
// is held, and Run runs.
func (m *Manager) start(in *slot) {
	ctx, stop := context.WithCancel(m.ctx)
	in.stop = stop
	m.wg.Go(func() { m.runSource(ctx, in) })
	if m.dir != "" {
		m.wg.Go(func() { m.recall(ctx, in) })
	}
}

// Replace makes sources the ones that count, in this order. One that was there
// before, the same value, goes on undisturbed. One of a name that was there takes
// over the list of its namesake until it says one itself; what only those listed
// that are no longer there loses its connections at once.
func (m *Manager) Replace(sources []Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	next := slotsOf(sources)
	for i, in := range next {
		if at := slices.IndexFunc(m.slots, func(s *slot) bool { return s.source == in.source }); at >= 0 {
			next[i] = m.slots[at]
			continue
		}
		if at := slices.IndexFunc(m.slots, func(s *slot) bool { return s.source.Name() == in.source.Name() }); at >= 0 {
			in.list, in.from = m.slots[at].list, m.slots[at].heard
			in.awaited = m.slots[at].awaited
			in.want = m.slots[at].expected()
		}
	}
	old := m.slots
	m.slots = next
	if m.ctx == nil {
		return // Run starts them
	}
	for _, s := range old {
		if !slices.Contains(next, s) {
			s.stop()
		}
	}
	for _, s := range next {
		if s.stop == nil {
			m.start(s)
		}
	}
	m.reconcile(nil)
}
