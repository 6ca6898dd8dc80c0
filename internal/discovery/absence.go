package discovery

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Absence is a target that is listed and cannot be reached, or from which no agent
// has come.
type Absence struct {
	Target ops.Target
	// Since is when it was first not reached, or lost.
	Since time.Time
	// Problem says why.
	Problem string
}

// settled is how long an attempt must last to count as a connection: every one
// that fails has given up by then.
const settled = 20 * time.Second

// Absences are the targets that cannot be reached now, those of the longest time
// first.
func (m *Manager) Absences() []Absence {
	now := time.Now()
	var out []Absence
	m.mu.Lock()
	for _, c := range m.running {
		if c.problem != "" && (c.trying.IsZero() || now.Sub(c.trying) < settled) {
			out = append(out, Absence{c.target, c.since, c.problem})
		}
	}
	m.mu.Unlock()
	out = append(out, m.phantoms(now)...)
	slices.SortFunc(out, func(a, b Absence) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Target.URL, b.Target.URL), cmp.Compare(awaitedKey(a.Target), awaitedKey(b.Target)))
	})
	for i := range out {
		out[i].Target.URL = redact(out[i].Target.URL)
	}
	return out
}

// tries and tried tell of a connection's attempts.
func (m *Manager) tries(c *connection, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.trying = now
}

func (m *Manager) tried(c *connection, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if c.since.IsZero() || now.Sub(c.trying) >= settled {
		c.since = now
	}
	c.trying, c.problem = time.Time{}, "the connection ended"
	if err != nil {
		c.problem = err.Error()
	}
}
