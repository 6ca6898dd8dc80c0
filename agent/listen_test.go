package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// serve runs a service's own gRPC server with the agent on it.
func serve(t *testing.T, a *Agent, opts ...grpc.ServerOption) (agentv1.AgentServiceClient, *messageSizes) {
	t.Helper()
	server := grpc.NewServer(opts...)
	Register(server, a)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	sizes := &messageSizes{}
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(sizes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		server.Stop()
		<-served
	})
	return agentv1.NewAgentServiceClient(cc), sizes
}

func listening(cfg *Config, _ *tuning) { cfg.Center = "off" }

func TestOnADefaultServer(t *testing.T) {
	work(t)
	a := startTest(t, listening)
	client, sizes := serve(t, a)
	r := mustCollect(t, client, request("capture-listen", 2*time.Second))
	for _, name := range []string{"cpu.0.pprof", "heap.pprof", "goroutine.pprof", "block.after.pprof", "mutex.after.pprof", "runtime.json"} {
		r.file(name)
	}
	readTrace(t, r.file("trace.out"))
	sizes.check(t)
	again := newReceived(t)
	for n := range r.artifacts {
		if _, err := fetch(t, client, "capture-listen", n, again); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(again.names(), r.names()) {
		t.Errorf("fetched %q", again.names())
	}
}

// An interceptor that knows only protobuf messages, as an authenticating or
// logging one does, and that keeps every message it saw.
func TestBehindAnAuthenticatingInterceptor(t *testing.T) {
	work(t)
	admit := func(ctx context.Context) error {
		md, _ := metadata.FromIncomingContext(ctx)
		if !slices.Equal(md.Get("x-service-key"), []string{"open"}) {
			return status.Error(codes.Unauthenticated, "the service's own door")
		}
		return nil
	}
	var seen []*agentv1.CollectPerformanceDataResponse
	opts := []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := admit(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := admit(ss.Context()); err != nil {
				return err
			}
			return next(srv, &keeping{ServerStream: ss, keep: func(m any) {
				seen = append(seen, m.(*agentv1.CollectPerformanceDataResponse))
			}})
		}),
	}
	client, sizes := serve(t, startTest(t, listening), opts...)
	if _, err := client.Hello(t.Context(), &agentv1.HelloRequest{Protocol: 1}); status.Convert(err).Message() != "the service's own door" {
		t.Errorf("without the service's key: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-service-key", "open")
	if _, err := client.Hello(ctx, &agentv1.HelloRequest{Protocol: 1}); err != nil {
		t.Error(err)
	}
	r, err := collect(t, ctx, client, request("capture-guarded", time.Second), nil)
	if err != nil {
		t.Fatal(err)
	}
	sizes.check(t)
	// The messages that were kept are still what was sent.
	kept := newReceived(t)
	for _, m := range seen {
		kept.take(m)
	}
	if !slices.Equal(kept.events, r.events) {
		t.Errorf("kept %d events, received %d", len(kept.events), len(r.events))
	}
}

type keeping struct {
	grpc.ServerStream
	keep func(any)
}

func (k *keeping) SendMsg(m any) error {
	k.keep(m)
	return k.ServerStream.SendMsg(m)
}

func TestWhoMayCallAListeningAgent(t *testing.T) {
	remote := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 4711}
	loopback := &net.TCPAddr{IP: net.IPv6loopback, Port: 4711}
	verified := credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}}
	for _, tc := range []struct {
		name  string
		addr  net.Addr
		tls   credentials.AuthInfo
		md    metadata.MD
		token string
		want  string
	}{
		{"loopback", loopback, nil, nil, "", ""},
		{"unix socket", &net.UnixAddr{}, nil, nil, "t", ""},
		{"remote with the token", remote, nil, metadata.Pairs("authorization", "bearer t0ken"), "t0ken", ""},
		{"remote with a verified certificate", remote, verified, nil, "", ""},
		{"remote", remote, nil, nil, "", "this agent answers only loopback and verified client certificates: set OPS_AGENT_TOKEN in the service and give the centre the same token"},
		{"remote over TLS alone", remote, credentials.TLSInfo{}, nil, "t", "the bearer token is missing or wrong: give the centre the token that OPS_AGENT_TOKEN has in the service"},
		{"wrong token", remote, nil, metadata.Pairs("authorization", "Bearer nope"), "t0ken", "the bearer token is missing or wrong: give the centre the token that OPS_AGENT_TOKEN has in the service"},
		{"empty token where none is set", remote, nil, metadata.Pairs("authorization", "Bearer "), "", "this agent answers only loopback and verified client certificates: set OPS_AGENT_TOKEN in the service and give the centre the same token"},
		{"basic", remote, nil, metadata.Pairs("authorization", "Basic t0ken"), "t0ken", "the bearer token is missing or wrong: give the centre the token that OPS_AGENT_TOKEN has in the service"},
		{"through a proxy beside it", loopback, nil, metadata.Pairs("x-forwarded-for", "10.0.0.7"), "t", "the bearer token is missing or wrong: give the centre the token that OPS_AGENT_TOKEN has in the service"},
	} {
		ctx := peer.NewContext(metadata.NewIncomingContext(t.Context(), tc.md), &peer.Peer{Addr: tc.addr, AuthInfo: tc.tls})
		err := authorize(ctx, tc.token)
		if tc.want == "" && err != nil || tc.want != "" && (status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if err := authorize(t.Context(), "t"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a peer: %v", err)
	}
}

func TestGoodbyeOnAForeignServer(t *testing.T) {
	a := startTest(t, listening)
	client, _ := serve(t, a)
	stream, err := client.WatchMetrics(t.Context(), &agentv1.WatchMetricsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, stream)
	if _, err := client.Hello(t.Context(), &agentv1.HelloRequest{Protocol: 1}); status.Code(err) != codes.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

func wantEOF(t *testing.T, stream grpc.ServerStreamingClient[agentv1.WatchMetricsResponse]) {
	t.Helper()
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the watch ended with %v, want OK", err)
		}
	}
}

func TestCancelOnAForeignServer(t *testing.T) {
	a := startTest(t, listening)
	client, _ := serve(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, _ = collect(t, ctx, client, request("capture-foreign", time.Minute), func(r *received) {
		if recording(r) {
			cancel()
		}
	})
	eventually(t, "the capture is dropped well before the grace time", func() bool { return a.captures.count() == 0 })
	wantRestored(t)
}
