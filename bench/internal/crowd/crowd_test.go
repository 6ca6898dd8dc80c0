package crowd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestACentreTakesThemForProcesses(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	f := fleet.New(fleet.Config{HeartbeatEvery: 50 * time.Millisecond})
	links := agentlink.New(agentlink.Config{Fleet: f})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(agentlink.Path, links)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	var g errgroup.Group
	g.Go(func() error { _ = srv.Serve(ln); return nil })
	g.Go(func() error { _ = f.Run(ctx); return nil })
	sub := f.Subscribe()
	defer sub.Close()
	g.Go(func() error {
		return Run(ctx, Config{
			Centre: ln.Addr().String(), N: 3,
			Name: func(n int) (string, string, string) { return "p", "s", fmt.Sprintf("boot-%d", n) },
			Hello: func(n int) *agentv1.HelloResponse {
				return &agentv1.HelloResponse{Process: &agentv1.ProcessInfo{Pid: int32(n), Hostname: "h", StartTime: timestamppb.Now()}}
			},
			Beat: func(n int, beat int64) *agentv1.Heartbeat {
				return &agentv1.Heartbeat{Goroutines: int64(100*n) + min(beat, 5)}
			},
		})
	})
	limit, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	want := map[ops.InstanceID]int64{"boot-0": 5, "boot-1": 105, "boot-2": 205}
	for seen := 0; seen < len(want); {
		if _, err := sub.Next(limit); err != nil {
			t.Fatalf("%d of %d: %v", seen, len(want), err)
		}
		seen = 0
		for _, i := range f.Instances(fleet.Filter{}) {
			if i.State == ops.InstanceUp && i.Heartbeat.Goroutines == want[i.ID] {
				seen++
			}
		}
	}
	stop()
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := links.Close(); err != nil {
		t.Error(err)
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
