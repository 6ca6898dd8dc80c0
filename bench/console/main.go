// Command console measures what a call costs that goes through the console,
// against the same call by a grpc-go client that was compiled for it: the
// latency of one after the other, and how many a second with many at once. The
// service is a process of its own; the console dials it as the client does. A
// second pair goes the whole way from a browser: HTTP and JSON to the API, and
// from there to the service.
//
//	go run ./bench/console
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/api"
	"github.com/opscenter/opscenter/internal/archive/sqlite"
	"github.com/opscenter/opscenter/internal/audit"
	auditsqlite "github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/console"
	"github.com/opscenter/opscenter/internal/console/desk"
	"github.com/opscenter/opscenter/internal/guard"
	"github.com/opscenter/opscenter/internal/ops"
)

func main() {
	child := flag.Bool("service", false, "be the service, and exit with standard input")
	rounds := flag.Int("rounds", 5, "rounds, ways alternating; the median of them counts")
	calls := flag.Int("calls", 2000, "calls one after the other in a round")
	many := flag.Int("many", 16, "callers at once")
	flag.Parse()
	var err error
	if *child {
		err = serve()
	} else {
		err = run(context.Background(), *rounds, *calls, *many)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := grpc.NewServer()
	healthv1.RegisterHealthServer(g, health.NewServer())
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		g.Stop()
	}()
	return g.Serve(l)
}

// way is one way of making the call.
type way struct {
	name string
	call func(context.Context) error

	p50, p99 []time.Duration
	perSec   []float64
}

func run(ctx context.Context, rounds, calls, many int) (err error) {
	address, stop, err := service()
	if err != nil {
		return err
	}
	defer stop()
	dir, err := os.MkdirTemp("", "bench-console-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ways, closeWays, err := waysTo(ctx, address, dir)
	if err != nil {
		return err
	}
	defer closeWays()
	for range rounds {
		for _, w := range ways {
			if err := w.measure(ctx, calls, many); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "way\tp50\t× direct\tp99\tcalls/s, %d at once\t× direct\n", many)
	base := ways[0]
	for _, w := range ways {
		p50, p99, per := median(w.p50), median(w.p99), median(w.perSec)
		fmt.Fprintf(out, "%s\t%v\t%.2f\t%v\t%.0f\t%.2f\n", w.name, p50.Round(time.Microsecond), float64(p50)/float64(median(base.p50)), p99.Round(time.Microsecond), per, per/median(base.perSec))
	}
	return out.Flush()
}

func median[T interface{ ~int64 | ~float64 }](v []T) T {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func (w *way) measure(ctx context.Context, calls, many int) error {
	for range calls / 10 { // connections, caches
		if err := w.call(ctx); err != nil {
			return err
		}
	}
	took := make([]time.Duration, calls)
	for i := range took {
		at := time.Now()
		if err := w.call(ctx); err != nil {
			return err
		}
		took[i] = time.Since(at)
	}
	slices.Sort(took)
	w.p50, w.p99 = append(w.p50, took[calls/2]), append(w.p99, took[calls*99/100])

	var wg sync.WaitGroup
	fails := make(chan error, many)
	at := time.Now()
	for range many {
		wg.Go(func() {
			for range calls / 4 {
				if err := w.call(ctx); err != nil {
					fails <- err
					return
				}
			}
		})
	}
	wg.Wait()
	w.perSec = append(w.perSec, float64(many*(calls/4))/time.Since(at).Seconds())
	select {
	case err := <-fails:
		return err
	default:
		return nil
	}
}

// service starts the process that is called.
func service() (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(self, "-service")
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), func() { in.Close(); _ = cmd.Wait() }, err
}

const instance, method = ops.InstanceID("i1"), "grpc.health.v1.Health/Check"

// waysTo makes the ways: direct, through the desk, and from a browser's distance.
func waysTo(ctx context.Context, address, dir string) ([]*way, func(), error) {
	book, err := sqlite.Open(ctx, filepath.Join(dir, "ops.db"))
	if err != nil {
		return nil, nil, err
	}
	rows, err := auditsqlite.Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	record, err := audit.Open(ctx, audit.Config{Store: rows})
	if err != nil {
		return nil, nil, err
	}
	if err := book.PutDescriptors(ctx, readOnlyHealth()); err != nil {
		return nil, nil, err
	}
	found := func(ops.InstanceID) (ops.Instance, error) {
		return ops.Instance{ID: instance, Project: "bench", Service: "health", Source: "static", Address: "http://127.0.0.1:1", Labels: map[string]string{console.AddressLabel: address}}, nil
	}
	routes := &console.Ways{Instance: found, Link: func(ops.InstanceID) (ops.Link, error) { return nil, nil }}
	d := desk.New(desk.Config{Conns: routes, Instance: found, Rails: guard.New(record, guard.Policy{}), Book: book})
	direct, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	who := auth.NewLoopback()
	srv := httptest.NewUnstartedServer(api.Guard(api.GuardConfig{Auth: who}, api.New(api.Config{Auth: who, Desk: d})))
	srv.EnableHTTP2 = true
	srv.Start()
	browser := apiv1connect.NewConsoleServiceClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, srv.URL)

	typed := healthv1.NewHealthClient(direct)
	messages := []json.RawMessage{json.RawMessage(`{"service":""}`)}
	ways := []*way{
		{name: "grpc-go client", call: func(ctx context.Context) error {
			_, err := typed.Check(ctx, &healthv1.HealthCheckRequest{})
			return err
		}},
		{name: "console", call: func(ctx context.Context) error {
			served := false
			err := d.Call(ctx, desk.Call{Actor: "bench", Instances: []ops.InstanceID{instance}, Method: method, Messages: messages}, func(e desk.Event) error {
				served = served || e.Received != nil && bytes.Contains(e.Received.JSON, []byte("SERVING"))
				return nil
			})
			if err == nil && !served {
				return fmt.Errorf("no answer came")
			}
			return err
		}},
		{name: "browser → API → console", call: func(ctx context.Context) error {
			stream, err := browser.Call(ctx, connect.NewRequest(&apiv1.CallRequest{InstanceIds: []string{string(instance)}, Method: method, Messages: []string{"{}"}}))
			if err != nil {
				return err
			}
			served := false
			for stream.Receive() {
				served = served || strings.Contains(stream.Msg().GetReceived().GetJson(), "SERVING")
			}
			if err := stream.Err(); err != nil {
				return err
			}
			if !served {
				return fmt.Errorf("no answer came")
			}
			return stream.Close()
		}},
	}
	return ways, func() {
		srv.Close()
		_ = direct.Close()
		_ = d.Close()
		_ = routes.Close()
		_ = rows.Close()
		_ = book.Close()
	}, nil
}

// readOnlyHealth describes the health service with Check as what it is: without
// side effects. What changes something is written down durably first, which is
// the disk's time and not the console's.
func readOnlyHealth() ops.DescriptorSet {
	file := protodesc.ToFileDescriptorProto(healthv1.File_grpc_health_v1_health_proto)
	for _, m := range file.GetService()[0].GetMethod() {
		m.Options = &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}
	}
	body, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		panic(err) // of a file that is compiled in
	}
	return ops.DescriptorSet{Project: "bench", Service: "health", Name: "health.binpb", At: time.Now(), Actor: "bench", Body: body}
}
