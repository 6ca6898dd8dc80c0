// Stock-grpc asks a gRPC service whether it is in good health before each deal.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type sluggish struct {
	health.UnimplementedHealthServer
}

func (sluggish) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(400 * time.Millisecond):
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
	}
}

func serveStock(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer()
	health.RegisterHealthServer(server, sluggish{})
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	return server.Serve(l)
}

type dealer struct{ stock health.HealthClient }

func (d dealer) deal(w http.ResponseWriter, r *http.Request) {
	answer, err := d.stock.Check(r.Context(), &health.HealthCheckRequest{Service: r.FormValue("item")}) // want: downstream-wait
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, answer.GetStatus())
}

func main() {
	stage.Child("stock", serveStock)
	s := stage.Start()
	conn, err := grpc.NewClient(s.Spawn("stock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/deal", dealer{health.NewHealthClient(conn)}.deal)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/deal?item=7", Users: 60, Pause: 20 * time.Millisecond})
	s.Wait()
}
