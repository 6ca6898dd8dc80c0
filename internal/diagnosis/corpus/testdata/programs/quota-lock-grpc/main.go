// Quota-lock-grpc asks a quota service before each deal, one deal at a time.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type remote struct {
	health.UnimplementedHealthServer
}

func (remote) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(12 * time.Millisecond):
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
	}
}

func serveQuota(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer()
	health.RegisterHealthServer(server, remote{})
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	return server.Serve(l)
}

type quotas struct {
	service health.HealthClient

	mu   sync.Mutex
	used map[string]int
}

// within runs do with the quotas locked.
func (q *quotas) within(do func() error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return do() // want: lock-held-across-io
}

func (q *quotas) take(ctx context.Context, player string) error {
	return q.within(func() error {
		if _, err := q.service.Check(ctx, &health.HealthCheckRequest{Service: player}); err != nil { // want: lock-held-across-io
			return err
		}
		q.used[player]++
		return nil
	})
}

func main() {
	stage.Child("quota", serveQuota)
	s := stage.Start()
	conn, err := grpc.NewClient(s.Spawn("quota"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	q := &quotas{service: health.NewHealthClient(conn), used: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/deal", func(w http.ResponseWriter, r *http.Request) {
		if err := q.take(r.Context(), r.FormValue("player")); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, "dealt")
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/deal?player=ada", Users: 50, Pause: 10 * time.Millisecond})
	s.Wait()
}
