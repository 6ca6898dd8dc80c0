package fleet

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// AgentOf returns the service of an instance that is connected through its agent.
func (f *Fleet) AgentOf(id ops.InstanceID) (key ops.ServiceKey, connected bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[id]; m != nil && m.link != nil && !m.inst.Agentless {
		return m.inst.Key(), true
	}
	return key, false
}

// Awaited tells of targets that nobody can dial what is known of their processes:
// by the boot id that a source knows, or else by the pod.
func (f *Fleet) Awaited(targets []ops.Target) []ops.Awaited {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := map[ops.ServiceKey]bool{}
	for _, m := range f.members {
		known[m.inst.Key()] = true
	}
	out := make([]ops.Awaited, len(targets))
	for i, t := range targets {
		a := &out[i]
		key := ops.ServiceKey{Project: t.Project, Service: t.Service}
		a.Known = known[key]
		look := func(m *member) {
			a.Here = a.Here || m.link != nil
			if m.inst.LastSeen.After(a.Last) {
				a.Last = m.inst.LastSeen
			}
		}
		if m := f.members[t.Instance]; m != nil {
			look(m)
			continue
		}
		_, pod, ok := strings.Cut(t.Pod, "/")
		if !ok {
			continue
		}
		for _, p := range []place{{key: key, host: pod}, {key: key, pod: pod}} { // a pod's host name is its own
			for m := range f.places[p] {
				look(m)
			}
		}
	}
	return out
}

// vouch takes an agentless instance for what it is if its process is connected
// through its agent: another source's word. It then blocks until ctx ends, or the
// agent's membership does, which is an Unavailable error: whoever looks again
// finds out whether the process is still there.
func (f *Fleet) vouch(ctx context.Context, inst ops.Instance) (vouched bool, err error) {
	if !inst.Agentless {
		return false, nil
	}
	f.mu.Lock()
	m := f.members[inst.ID]
	if m == nil || m.link == nil || m.inst.Agentless || m.inst.Key() != inst.Key() {
		conflict := m != nil && m.link != nil && !m.inst.Agentless
		var key ops.ServiceKey
		if conflict {
			key = m.inst.Key()
		}
		f.mu.Unlock()
		if conflict {
			return true, ops.Errorf(ops.Conflict, "%s is listed as %s, but its agent says that it is %s: give it one name in both places", inst.Address, inst.Key(), key)
		}
		return false, nil
	}
	membership := m.ctx
	word := ops.Sighting{Source: inst.Source, Address: inst.Address, Since: time.Now()}
	m.inst.Seen = append(slices.Clone(m.inst.Seen), word)
	f.changed(m)
	f.mu.Unlock()

	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if m := f.members[inst.ID]; m != nil {
			kept := slices.Clone(m.inst.Seen)
			if n := slices.Index(kept, word); n >= 0 {
				m.inst.Seen = slices.Delete(kept, n, n+1)
				f.changed(m)
			}
		}
	}()
	select {
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case <-membership.Done():
		return true, ops.Errorf(ops.Unavailable, "the agent of %s is not connected any more", inst.Address)
	}
}
