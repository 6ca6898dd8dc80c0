package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// centre is the smallest centre there can be: an HTTP server that takes tunnels.
type centre struct {
	t       testing.TB
	server  *http.Server
	addr    string
	path    string
	tunnels chan *tunnelled
	refuse  func(http.ResponseWriter, *http.Request) bool
	conns   sync.WaitGroup

	mu     sync.Mutex
	closed bool // who dials in now is hung up on
}

// tunnelled is an agent that dialled in.
type tunnelled struct {
	agentv1.AgentServiceClient
	header http.Header
	conn   net.Conn
	cc     *grpc.ClientConn
	sizes  *messageSizes
}

func newCentre(t testing.TB, addr, path string) *centre {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &centre{t: t, addr: l.Addr().String(), path: path, tunnels: make(chan *tunnelled, 16)}
	c.server = &http.Server{Handler: c}
	c.conns.Go(func() { _ = c.server.Serve(l) })
	t.Cleanup(c.close)
	return c
}

func (c *centre) close() {
	_ = c.server.Close()
	c.conns.Wait()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for {
		select {
		case tun := <-c.tunnels:
			tun.close()
		default:
			return
		}
	}
}

func (c *centre) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.refuse != nil && c.refuse(w, r) {
		return
	}
	if r.URL.Path != c.path+tunnelPath || r.Method != http.MethodPost || r.Header.Get("Upgrade") != tunnelProtocol {
		http.NotFound(w, r)
		return
	}
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		c.t.Error(err)
		return
	}
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", tunnelProtocol)
	if err := rw.Flush(); err != nil {
		return
	}
	tun := newTunnelled(c.t, conn, r.Header)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // while it was answered
		tun.close()
		return
	}
	select {
	case c.tunnels <- tun:
	default: // nobody accepts any
		tun.close()
	}
}

func newTunnelled(t testing.TB, conn net.Conn, header http.Header) *tunnelled {
	once := make(chan net.Conn, 1)
	once <- conn
	sizes := &messageSizes{}
	cc, err := grpc.NewClient("passthrough:///tunnel",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(1<<20),
		grpc.WithStatsHandler(sizes),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errors.New("the tunnel is used up")
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	cc.Connect()
	return &tunnelled{AgentServiceClient: agentv1.NewAgentServiceClient(cc), header: header, conn: conn, cc: cc, sizes: sizes}
}

func (tun *tunnelled) close() {
	_ = tun.cc.Close()
	_ = tun.conn.Close()
}

// accept waits for an agent.
func (c *centre) accept() *tunnelled {
	c.t.Helper()
	select {
	case tun := <-c.tunnels:
		c.t.Cleanup(tun.close)
		return tun
	case <-time.After(time.Minute):
		c.t.Fatal("no agent dialled in")
		return nil
	}
}

// joined starts an agent on a centre and waits until it has joined.
func joined(t testing.TB, change func(*Config, *tuning)) (*Agent, *tunnelled) {
	t.Helper()
	c := newCentre(t, "127.0.0.1:0", "")
	a := startTest(t, func(cfg *Config, tune *tuning) {
		cfg.Center = c.addr
		if change != nil {
			change(cfg, tune)
		}
	})
	return a, c.accept()
}

// startTest starts an agent without the environment; it is closed with the test.
func startTest(t testing.TB, change func(*Config, *tuning)) *Agent {
	t.Helper()
	cfg := Config{Project: "color-game", Service: "user-service", SpoolDir: t.TempDir()}
	tune := defaultTuning()
	tune.backoffBase = 10 * time.Millisecond
	change(&cfg, &tune)
	a, err := start(cfg, func(string) string { return "" }, tune)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// messageSizes notes the size of every message that arrives.
type messageSizes struct {
	mu   sync.Mutex
	most int
	n    int
}

func (m *messageSizes) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (m *messageSizes) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (m *messageSizes) HandleConn(context.Context, stats.ConnStats)                       {}
func (m *messageSizes) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.n++
		m.most = max(m.most, in.Length)
	}
}

func (m *messageSizes) check(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n == 0 || m.most > 32<<10 {
		t.Errorf("%d messages, the largest of %d bytes; want some, none larger than 32 KiB", m.n, m.most)
	}
}

// received is what a capture's stream brought.
type received struct {
	t         testing.TB
	artifacts map[uint32]*receivedArtifact
	events    []string // "begin name", "end name", "summary"
	progress  []*agentv1.Progress
	summary   *agentv1.Summary
}

type receivedArtifact struct {
	begin *agentv1.ArtifactBegin
	end   *agentv1.ArtifactEnd
	data  bytes.Buffer
}

func newReceived(t testing.TB) *received {
	return &received{t: t, artifacts: map[uint32]*receivedArtifact{}}
}

func (r *received) take(m *agentv1.CollectPerformanceDataResponse) {
	r.t.Helper()
	switch e := m.Event.(type) {
	case *agentv1.CollectPerformanceDataResponse_Progress:
		r.progress = append(r.progress, e.Progress)
	case *agentv1.CollectPerformanceDataResponse_ArtifactBegin:
		r.begin(e.ArtifactBegin)
	case *agentv1.CollectPerformanceDataResponse_Chunk:
		r.chunk(e.Chunk)
	case *agentv1.CollectPerformanceDataResponse_ArtifactEnd:
		r.end(e.ArtifactEnd)
	case *agentv1.CollectPerformanceDataResponse_Summary:
		r.summary = e.Summary
		r.events = append(r.events, "summary")
	default:
		r.t.Fatalf("a message without event: %v", m)
	}
}

func (r *received) begin(b *agentv1.ArtifactBegin) {
	if r.artifacts[b.Artifact] == nil {
		r.artifacts[b.Artifact] = &receivedArtifact{begin: b}
	}
	r.events = append(r.events, "begin "+b.Name)
}

func (r *received) chunk(c *agentv1.Chunk) {
	r.t.Helper()
	a := r.artifacts[c.Artifact]
	switch {
	case a == nil:
		r.t.Fatalf("chunk of artifact %d, which has not begun", c.Artifact)
	case c.Offset != int64(a.data.Len()):
		r.t.Fatalf("%s: chunk at %d, want %d", a.begin.Name, c.Offset, a.data.Len())
	case len(c.Data) == 0 || len(c.Data) > 32640:
		r.t.Fatalf("%s: chunk of %d bytes", a.begin.Name, len(c.Data))
	case crc32.Checksum(c.Data, crc32.MakeTable(crc32.Castagnoli)) != c.Crc32C:
		r.t.Fatalf("%s: CRC of the chunk at %d is wrong", a.begin.Name, c.Offset)
	}
	a.data.Write(c.Data)
}

func (r *received) end(e *agentv1.ArtifactEnd) {
	r.t.Helper()
	a := r.artifacts[e.Artifact]
	if a == nil || a.end != nil {
		r.t.Fatalf("artifact %d ended without or after its end", e.Artifact)
	}
	a.end = e
	if sum := sha256.Sum256(a.data.Bytes()); e.SizeBytes != int64(a.data.Len()) || !bytes.Equal(sum[:], e.Sha256) {
		r.t.Errorf("%s: %d bytes with another SHA-256, want %d", a.begin.Name, a.data.Len(), e.SizeBytes)
	}
	r.events = append(r.events, "end "+a.begin.Name)
}

// file returns an artifact that arrived whole.
func (r *received) file(name string) []byte {
	r.t.Helper()
	a := r.named(name)
	if a == nil || a.end == nil {
		r.t.Fatalf("%s did not arrive; events: %q, losses: %v", name, r.events, r.losses())
	}
	return a.data.Bytes()
}

func (r *received) named(name string) *receivedArtifact {
	for _, a := range r.artifacts {
		if a.begin.Name == name {
			return a
		}
	}
	return nil
}

func (r *received) names() (names []string) {
	for _, a := range r.artifacts {
		names = append(names, a.begin.Name)
	}
	slices.Sort(names)
	return names
}

// losses are those of the summary and of all artifacts.
func (r *received) losses() (all []*agentv1.Loss) {
	all = append(all, r.summary.GetLosses()...)
	for _, a := range r.artifacts {
		all = append(all, a.end.GetLosses()...)
	}
	return all
}

func (r *received) loss(kind agentv1.Kind, reason agentv1.LossReason) *agentv1.Loss {
	for _, l := range r.losses() {
		if l.Kind == kind && l.Reason == reason {
			return l
		}
	}
	return nil
}

func (r *received) wantLoss(kind agentv1.Kind, reason agentv1.LossReason) *agentv1.Loss {
	r.t.Helper()
	l := r.loss(kind, reason)
	if l == nil {
		r.t.Fatalf("no loss %v of %v; losses: %v", reason, kind, r.losses())
	}
	return l
}

func request(id string, d time.Duration, kinds ...agentv1.Kind) *agentv1.CollectPerformanceDataRequest {
	return &agentv1.CollectPerformanceDataRequest{CaptureId: id, Duration: durationpb.New(d), Kinds: kinds}
}

// collect takes a whole capture. each, if not nil, is called after every message.
func collect(t testing.TB, ctx context.Context, client agentv1.AgentServiceClient, req *agentv1.CollectPerformanceDataRequest, each func(*received)) (*received, error) {
	t.Helper()
	stream, err := client.CollectPerformanceData(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	r := newReceived(t)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		r.take(m)
		if each != nil {
			each(r)
		}
	}
}

// mustCollect is collect for a capture that has to end well.
func mustCollect(t testing.TB, client agentv1.AgentServiceClient, req *agentv1.CollectPerformanceDataRequest) *received {
	t.Helper()
	r, err := collect(t, t.Context(), client, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.summary == nil {
		t.Fatal("the stream ended without a summary")
	}
	return r
}

// fetch takes artifact number n from offset off into r; true = the summary came
// in its place.
func fetch(t testing.TB, client agentv1.AgentServiceClient, id string, n uint32, r *received) (over bool, err error) {
	t.Helper()
	off := int64(0)
	if a := r.artifacts[n]; a != nil {
		off = int64(a.data.Len())
	}
	stream, err := client.FetchArtifact(t.Context(), &agentv1.FetchArtifactRequest{CaptureId: id, Artifact: n, Offset: off})
	if err != nil {
		return false, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return over, nil
		}
		if err != nil {
			return over, err
		}
		switch e := m.Event.(type) {
		case *agentv1.FetchArtifactResponse_ArtifactBegin:
			r.begin(e.ArtifactBegin)
		case *agentv1.FetchArtifactResponse_Chunk:
			r.chunk(e.Chunk)
		case *agentv1.FetchArtifactResponse_ArtifactEnd:
			r.end(e.ArtifactEnd)
		case *agentv1.FetchArtifactResponse_Summary:
			r.summary, over = e.Summary, true
		}
	}
}

// count is how many captures run or are kept.
func (r *captureRegistry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.order)
}
