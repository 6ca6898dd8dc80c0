package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
)

// registry is a backend that holds thousands of instances, of which one moves.
type registry struct {
	config string
	// move gives one instance another address, and says which.
	move func(n int) (address string)
}

// From a change at the registry of 5,000 instances to the message on the stream
// from which the page draws, which asks for one in 100 ms at most:
//
//	go test -run '^$' -bench ChangeVisible -benchtime 20x ./internal/app
//
// All are processes without an agent that answer at addresses of their own.
func BenchmarkChangeVisible(b *testing.B) {
	const many = 5_000
	r := etcdWith(b, profiled(b), many)
	c := startConfigured(b, r.config)
	seen := watched(b, c, many)
	var took []time.Duration
	n := 0
	for b.Loop() {
		began := time.Now()
		at := r.move(n)
		n++
		for address := range seen {
			if strings.Contains(address, at) {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms-median")
	b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms-worst")
}

// watched sends the address of each instance that comes, once all are there.
func watched(b *testing.B, c *configured, many int) <-chan string {
	ctx, cancel := context.WithCancel(b.Context())
	stream, err := apiv1connect.NewWatchServiceClient(c.http, c.url).Watch(ctx, connect.NewRequest(&apiv1.WatchRequest{Fleet: true, MinInterval: durationpb.New(100 * time.Millisecond)}))
	if err != nil {
		b.Fatal(err)
	}
	seen, ready, ended := make(chan string, 2*many), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer stream.Close()
		all := map[string]bool{}
		for told := false; stream.Receive(); {
			for _, i := range stream.Msg().GetFleet().GetInstances() {
				all[i.GetId()] = true
				if told {
					seen <- i.GetAddress()
				}
			}
			if !told && len(all) >= many {
				told = true
				close(ready)
			}
		}
	}()
	b.Cleanup(func() { cancel(); <-ended })
	select {
	case <-ready:
	case <-time.After(3 * time.Minute):
		b.Fatalf("not all instances came: %v", stream.Err())
	}
	return seen
}

func etcdWith(b *testing.B, port, many int) registry {
	e := discoverytest.StartEtcd(b)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + e.Client}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	put := func(n int, address string) {
		v, _ := json.Marshal(map[string]any{"Op": 0, "Addr": address})
		if _, err := c.Put(b.Context(), fmt.Sprintf("/services/game-service/%05d", n), string(v)); err != nil {
			b.Fatal(err)
		}
	}
	for n := range many {
		put(n, fmt.Sprintf("%s:%d", hostOf(10, n), port))
	}
	return registry{
		config: fmt.Sprintf("listen: 127.0.0.1:0\nsources:\n  etcd:\n    - {endpoints: [%q], prefix: /services/, project: color-game}\n", e.Client),
		move: func(n int) string {
			at := fmt.Sprintf("%s:%d", hostOf(11, n), port)
			put(n, at)
			return at
		},
	}
}

// hostOf is an address of loopback for each instance, and for where it moves to.
func hostOf(net, n int) string { return fmt.Sprintf("127.%d.%d.%d", net, n/250, n%250+1) }

// profiled is a process that serves its profiles at every address of loopback.
func profiled(b *testing.B) (port int) {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: http.DefaultServeMux, ReadHeaderTimeout: time.Minute}
	s.SetKeepAlivesEnabled(false) // both ends of all connections are in this process
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(ln) }()
	b.Cleanup(func() { _ = s.Close(); <-ended })
	return ln.Addr().(*net.TCPAddr).Port
}
