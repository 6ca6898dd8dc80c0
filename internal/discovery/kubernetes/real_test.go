package kubernetes

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/games/endpointslices"

// The contract against an API server that runs; make test asks the stand-in alone.
func TestARealAPIServer(t *testing.T) {
	opstest.TestSource(t, func(t *testing.T, initial []ops.Target) opstest.SourceBackend {
		k := discoverytest.StartRealKube(t)
		k.Namespace(t, "games")
		set := func(t *testing.T, targets []ops.Target) { k.Put(t, slicesPath, slicesOf(t, targets)) }
		set(t, initial)
		s, err := New(Config{Kubeconfig: k.Kubeconfig(t, discoverytest.KubeAdmin)})
		if err != nil {
			t.Fatal(err)
		}
		return opstest.SourceBackend{
			Source: ours{s.(*Source)}, Set: set,
			Stop:  func(t *testing.T) { k.Kill(t) },
			Start: func(t *testing.T) { k.Start(t) },
			Want: func(t *testing.T, n int) {
				k.Put(t, "/apis/apps/v1/namespaces/games/deployments", map[string]map[string]any{"user": deploymentOf(n)})
			},
		}
	})
}

// Who may not list is told what is missing, by an API server with RBAC.
func TestARealAPIServerRefuses(t *testing.T) {
	k := discoverytest.StartRealKube(t)
	s, err := New(Config{Kubeconfig: k.Kubeconfig(t, discoverytest.KubeStranger)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, func([]ops.Target) {}) }()
	const want = "the API server refuses to list and watch endpointslices in all namespaces: give the centre's service account a role that may"
	for deadline := time.Now().Add(time.Minute); s.(*Source).Problem() != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("the source's problem is %q", s.(*Source).Problem())
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// ours leaves out the slices of the API server itself, and the label that the
// contract's targets have not.
type ours struct{ *Source }

func (o ours) Run(ctx context.Context, update func([]ops.Target)) error {
	return o.Source.Run(ctx, func(list []ops.Target) {
		var own []ops.Target
		for _, tg := range list {
			if tg.Labels["namespace"] != "games" {
				continue
			}
			tg.Labels = maps.Clone(tg.Labels)
			delete(tg.Labels, "namespace")
			own = append(own, tg)
		}
		update(slices.Clip(own))
	})
}
