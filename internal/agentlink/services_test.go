package agentlink

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/ops"
)

type panics struct {
	healthv1.UnimplementedHealthServer
	healthv1.HealthServer
}

func (panics) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	panic("the handler's own")
}

func (panics) Watch(*healthv1.HealthCheckRequest, grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	return status.Error(codes.Unimplemented, "no")
}

func (panics) List(context.Context, *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	return nil, status.Error(codes.Unimplemented, "no")
}

func exposing(t *testing.T, s agent.Services) *link {
	t.Helper()
	c := newCentre(t, Config{})
	a, err := agent.Start(agent.Config{Center: c.address, Project: "color-game", Service: "user-service", SpoolDir: t.TempDir(), Services: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.roster.next(t).link.(*link)
}

// What the service hands to its agent is called over the agent's connection,
// with its own interceptors around it, and the agent's protocol stays apart.
func TestTheServicesOfAProcess(t *testing.T) {
	var through []string
	h := health.NewServer()
	l := exposing(t, agent.Services{
		Register: func(r grpc.ServiceRegistrar) {
			healthv1.RegisterHealthServer(r, h)
			healthv1.RegisterHealthServer(r, h) // twice would end the process on a server of grpc-go
		},
		Unary: []grpc.UnaryServerInterceptor{func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			through = append(through, info.FullMethod+fmt.Sprint(md.Get("actor")))
			return next(ctx, req)
		}},
	})
	cc, done, err := l.GRPC()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "actor", "console")
	resp, err := healthv1.NewHealthClient(cc).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", resp, err)
	}
	if got := strings.Join(through, " "); got != "/grpc.health.v1.Health/Check[console]" {
		t.Errorf("the interceptor saw %q", got)
	}
}

func TestAHandlerThatPanics(t *testing.T) {
	l := exposing(t, agent.Services{Register: func(r grpc.ServiceRegistrar) { healthv1.RegisterHealthServer(r, panics{}) }})
	cc, done, err := l.GRPC()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	_, err = healthv1.NewHealthClient(cc).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "/grpc.health.v1.Health/Check panicked: the handler's own") {
		t.Errorf("%v", err)
	}
}

func TestAnAgentAlone(t *testing.T) {
	_, _, err := exposing(t, agent.Services{}).GRPC()
	if ops.KindOf(err) != ops.Conflict || !strings.Contains(err.Error(), "give it those that may be called (agent.Config.Services)") {
		t.Errorf("%v", err)
	}
}
