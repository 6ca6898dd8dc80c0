package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/discovery/discoverytest"
	"github.com/opscenter/opscenter/internal/ops"
)

// registry is a backend that holds thousands of instances, of which one moves.
type registry struct {
	config string
	// move gives one instance another address, and says which.
	move func(n int) (address string)
}

// From before a change at a registry of 10,000 instances until the message on the
// stream from which the page draws, which asks for one in 100 ms at most:
//
//	go test -run '^$' -bench ChangeVisible -benchtime 20x ./internal/app
//
// All are processes without an agent that answer at addresses of their own. Consul
// and Kubernetes are those of OPS_BACKENDS. An API server takes no address of
// loopback: 10.10.0.0/15 has to lead here, as it does in a network of its own,
//
//	unshare -n sh -c 'ip link set lo up; ip route add local 10.10.0.0/15 dev lo; go test …'
func BenchmarkChangeVisible(b *testing.B) {
	const many = 10_000
	for _, backend := range []struct {
		name string
		with func(b *testing.B, port, many int) registry
	}{{"etcd", etcdWith}, {"consul", consulWith}, {"kubernetes", kubernetesWith}} {
		b.Run(backend.name, func(b *testing.B) {
			r := backend.with(b, profiled(b), many)
			c := startConfigured(b, r.config)
			changeVisible(b, r, watched(b, c, many))
		})
	}
}

func changeVisible(b *testing.B, r registry, seen <-chan string) {
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

func consulWith(b *testing.B, port, many int) registry {
	c := discoverytest.StartRealConsul(b)
	target := func(net, n int) ops.Target {
		return ops.Target{Project: "color-game", Service: "game-service", URL: fmt.Sprintf("http://%s:%d", hostOf(net, n), port)}
	}
	var all []ops.Target
	for n := range many {
		all = append(all, target(10, n))
	}
	c.Set(b, all)
	return registry{
		config: fmt.Sprintf("listen: 127.0.0.1:0\nsources:\n  consul:\n    - {address: %q, project: color-game}\n", c.Address),
		move: func(n int) string {
			c.Move(b, n, target(11, n))
			return fmt.Sprintf("%s:%d", hostOf(11, n), port)
		},
	}
}

func kubernetesWith(b *testing.B, port, many int) registry {
	const each = 100 // endpoints in a slice, as Kubernetes' own controller has it
	in := func(net, n int) string { return "10." + strings.TrimPrefix(hostOf(net, n), "127.") }
	if c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", in(10, 0), port), 5*time.Second); err != nil {
		b.Skip("10.10.0.0/15 does not lead here: ", err)
	} else {
		_ = c.Close()
	}
	k := discoverytest.StartRealKube(b)
	k.Namespace(b, "games")
	const path = "/apis/discovery.k8s.io/v1/namespaces/games/endpointslices"
	slice := func(s, moved int) map[string]any {
		var endpoints []any
		for n := s * each; n < (s+1)*each; n++ {
			at := in(10, n)
			if n < moved {
				at = in(11, n)
			}
			endpoints = append(endpoints, map[string]any{"addresses": []string{at}, "conditions": map[string]any{"ready": true}})
		}
		return map[string]any{
			"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "endpoints": endpoints,
			"metadata": map[string]any{"name": fmt.Sprint("slice-", s), "namespace": "games", "labels": map[string]any{"kubernetes.io/service-name": "game-service"}},
			"ports":    []any{map[string]any{"name": "pprof", "port": port}},
		}
	}
	all := map[string]map[string]any{}
	for s := range many / each {
		all[fmt.Sprint("slice-", s)] = slice(s, 0)
	}
	k.Put(b, path, all)
	return registry{
		config: fmt.Sprintf("listen: 127.0.0.1:0\nsources:\n  kubernetes:\n    - {kubeconfig: %q, namespaces: [games], project: color-game}\n", k.Kubeconfig(b, discoverytest.KubeAdmin)),
		move: func(n int) string {
			k.Replace(b, path, slice(n/each, n+1))
			return fmt.Sprintf("%s:%d", in(11, n), port)
		},
	}
}

// hostOf is an address of loopback for each instance, and for where it moves to.
func hostOf(net, n int) string { return fmt.Sprintf("127.%d.%d.%d", net, n/250, n%250+1) }

// profiled starts a process that serves its profiles at every address of loopback,
// as thousands would. It is one of its own: what it spends, and its goroutines, are
// not the centre's.
func profiled(b *testing.B) (port int) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OPS_TEST_CHILD=profiled")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := fmt.Fscanln(out, &port); err != nil {
		b.Fatal(err)
	}
	return port
}

// profiledChild is that process, until its standard input ends. It says what its
// profiles said at first: it stands for thousands, of which each would make its own.
func profiledChild() {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	var mu sync.Mutex
	said := map[string]*httptest.ResponseRecorder{}
	panic(http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		first := said[r.URL.String()]
		if first == nil {
			first = httptest.NewRecorder()
			http.DefaultServeMux.ServeHTTP(first, r)
			said[r.URL.String()] = first
		}
		mu.Unlock()
		maps.Copy(w.Header(), first.Header())
		w.WriteHeader(first.Code)
		_, _ = w.Write(first.Body.Bytes())
	})))
}
