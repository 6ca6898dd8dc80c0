package agentless

import (
	"context"
	"testing"

	"github.com/opscenter/opscenter/internal/ops"
)

type agents map[ops.InstanceID]ops.ServiceKey

func (agents) Join(context.Context, ops.Instance, ops.Link) error { return nil }

func (a agents) AgentOf(id ops.InstanceID) (ops.ServiceKey, bool) {
	key, ok := a[id]
	return key, ok
}

func TestWhichAgentAProcessHas(t *testing.T) {
	users := ops.ServiceKey{Project: "color-game", Service: "user-service"}
	games := ops.ServiceKey{Project: "color-game", Service: "game-service"}
	for _, c := range []struct {
		name      string
		index     map[string]int64
		connected agents
		want      ops.InstanceID
	}{
		{"none", map[string]int64{"heap": 4, "opscenter.agent.": 0, "opscenter.agent.NOT/an/id": 0}, nil, ""},
		{"one that is not connected", map[string]int64{"opscenter.agent.boot-1": 0}, nil, "boot-1"},
		{"one that is", map[string]int64{"opscenter.agent.boot-1": 0}, agents{"boot-1": users}, "boot-1"},
		{"two, of which one is", map[string]int64{"opscenter.agent.boot-1": 0, "opscenter.agent.boot-2": 0}, agents{"boot-2": users}, "boot-2"},
		{"two, of which nobody knows the living", map[string]int64{"opscenter.agent.boot-1": 0, "opscenter.agent.boot-2": 0}, nil, ""},
		{"one of another name", map[string]int64{"opscenter.agent.boot-1": 0}, agents{"boot-1": games}, ""},
	} {
		got := New(Config{Fleet: c.connected}).agentOf(agentsIn(c.index), users)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
