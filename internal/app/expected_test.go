package app

import (
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

// TestARegistryExpectsWhoIsAway: a Consul that a project reads has two of a service
// registered, one of which has an agent; nobody wrote a number into the configuration.
func TestARegistryExpectsWhoIsAway(t *testing.T) {
	registry := discoverytest.StartConsul(t)
	var entries []any
	for i := range 2 {
		entries = append(entries, map[string]any{
			"Service": map[string]any{"ID": fmt.Sprint(i), "Address": "127.0.0.1", "Port": 1 + i, "Meta": map[string]string{"ops_project": "another"}},
			"Checks":  []any{map[string]any{"CheckID": "service:x", "Status": "critical"}},
		})
	}
	registry.SetEntries("tables", entries)
	const text = "listen: 127.0.0.1:0\nprojects: {color-game: {sources: {consul: [{address: \"%s\"}]}%s}}\n"
	c := startConfigured(t, fmt.Sprintf(text, registry.URL, ""))
	until := func(want string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			res, err := apiv1connect.NewDiscoveryServiceClient(c.http, c.url).ListSources(t.Context(), connect.NewRequest(&apiv1.ListSourcesRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			got = ""
			for _, s := range res.Msg.GetShortages() {
				got += fmt.Sprintf("%s/%s %d of %d by %s", s.GetProject(), s.GetService(), s.GetUp(), s.GetExpected(), s.GetSays())
			}
			for _, s := range res.Msg.GetSources() {
				got += fmt.Sprintf("; expects %d services", s.GetExpects())
			}
			if got == want {
				return
			}
		}
		t.Fatalf("%q, want %q", got, want)
	}
	until("; expects 1 services") // which may have no agent
	a, err := agent.Start(agent.Config{Center: c.url, Project: "color-game", Service: "tables", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	until("color-game/tables 1 of 2 by Consul service tables; expects 1 services")
	c.write(fmt.Sprintf(text, registry.URL, ", expect: {tables: 1}"))
	until("; expects 1 services") // the operator knows better
}
