package discovery

import (
	"cmp"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Some targets say that a process is there and not how to reach it: its agent has to
// dial. One that nobody dials from is a phantom, and told of like a target that
// cannot be reached.

// dialWithin is how long an agent may take: a pod that has just been made pulls its
// image first.
const dialWithin = time.Minute

// awaitedKey tells targets that cannot be dialled apart.
func awaitedKey(t ops.Target) string { return cmp.Or(string(t.Instance), t.Pod) }

// await notes since when targets that cannot be dialled are listed. m.mu is held.
func (s *slot) await(now time.Time) {
	next := map[string]time.Time{}
	for _, t := range s.list {
		if t.URL != "" {
			continue
		}
		since, listed := s.awaited[awaitedKey(t)]
		if !listed {
			since = now
		}
		next[awaitedKey(t)] = since
	}
	s.awaited = next
}

// phantoms are the targets that nobody has dialled from for a while.
func (m *Manager) phantoms(now time.Time) (out []Absence) {
	if m.awaited == nil {
		return nil
	}
	var all []Absence
	var targets []ops.Target
	m.mu.Lock()
	seen := map[string]bool{}
	for _, s := range m.slots {
		for _, t := range s.list {
			if key := awaitedKey(t); t.URL == "" && !seen[key] {
				seen[key] = true
				t.Source = s.source.Name()
				all = append(all, Absence{Target: t, Since: s.awaited[key], Problem: "no agent in it is connected"})
				targets = append(targets, t)
			}
		}
	}
	m.mu.Unlock()
	for i, known := range m.awaited(targets) {
		a := all[i]
		if known.Last.After(a.Since) {
			a.Since = known.Last
		}
		if !known.Here && known.Known && now.Sub(a.Since) >= dialWithin {
			out = append(out, a)
		}
	}
	return out
}
