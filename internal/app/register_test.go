package app

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/agent/register"
	registeretcd "github.com/opscenter/opscenter/agent/register/etcd"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

// A service whose agent dials the centre and that registers itself in an etcd,
// which the centre reads, is one instance that both know; after Close the agent
// alone does.
func TestWhoRegistersAndDialsIsOne(t *testing.T) {
	e := discoverytest.StartEtcd(t)
	debug := httptest.NewServer(http.DefaultServeMux)
	t.Cleanup(debug.Close)
	c := startConfigured(t, "listen: 127.0.0.1:0\nsources: {etcd: [{endpoints: [\""+e.Client+"\"], prefix: /services/}]}\n")
	a, err := agent.Start(agent.Config{Center: c.url, Project: "color-game", Service: "tables", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	registry, err := registeretcd.New(registeretcd.Config{Endpoints: []string{e.Client}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := register.Start(a, register.Config{Registry: registry, Address: debug.Listener.Addr().String(), Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })

	// Beside it there is the centre itself.
	until := func(what string, seen int) {
		t.Helper()
		var last []*apiv1.Instance
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			last = instances(t, c.http, c.url, 2)
			for _, i := range last {
				if i.GetId() == a.BootID() && i.GetState() == apiv1.InstanceState_INSTANCE_STATE_UP && !i.GetAgentless() && len(i.GetSeen()) == seen && len(last) == 2 {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, last)
			}
		}
	}
	until("found twice", 1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	until("registered no more", 0)
}
