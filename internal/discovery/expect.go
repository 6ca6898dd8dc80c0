package discovery

import (
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
)

// Expecter is a Source that also says how many instances of a service there should
// be: what a deployment asks for, what is registered.
type Expecter interface {
	// Expected returns what it heard last, which stays when the backend is away. It
	// may be called by any goroutine at any time, before, during and after Run, and
	// does not block. Nobody changes the map.
	//
	// unknown says in words why some of it, or all, is not known, and what to do;
	// empty = nothing is missing. That is no Problem of the source: its list is
	// current.
	Expected() (want map[ops.ServiceKey]ops.Expectation, unknown string)
}

// Counts is what a source says of how many there should be. Sources that know
// embed it. The zero value knows nothing.
type Counts struct {
	mu      sync.Mutex // guards all below
	want    map[ops.ServiceKey]ops.Expectation
	unknown string
}

// SetExpected says what there should be, and why some of it is not known.
func (c *Counts) SetExpected(want map[ops.ServiceKey]ops.Expectation, unknown string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want, c.unknown = want, unknown
}

// Expected implements Expecter.
func (c *Counts) Expected() (map[ops.ServiceKey]ops.Expectation, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want, c.unknown
}

// Expected returns what all sources together say there should be. Of a service that
// several speak of, the first in the order of the configuration is believed. What a
// source said whose list is stale says since when.
func (m *Manager) Expected() map[ops.ServiceKey]ops.Expectation {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[ops.ServiceKey]ops.Expectation{}
	for _, s := range m.slots {
		stale := s.status().StaleSince
		for k, e := range s.expected() {
			if _, said := out[k]; said {
				continue
			}
			if e.StaleSince.IsZero() {
				e.StaleSince = stale
			}
			out[k] = e
		}
	}
	return out
}

// expected is what a source says, or what its namesake said whose place it took,
// until it has said something itself. Manager.mu is held.
func (s *slot) expected() map[ops.ServiceKey]ops.Expectation {
	if e, ok := s.source.(Expecter); ok {
		if want, _ := e.Expected(); want != nil {
			s.want = nil
			return want
		}
	}
	return s.want
}
