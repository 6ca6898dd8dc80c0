package agentlink

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// fakeAgent is a process whose agent keeps the protocol, or breaks it where the
// test says so. It is written from the protocol alone.
type fakeAgent struct {
	agentv1.UnimplementedAgentServiceServer
	project, service, bootID string
	protocol                 uint32
	clock                    time.Duration // ahead of ours
	chunkBytes               int
	tls                      *tls.Config // nil = plain

	// Overrides, set before use.
	onHello   func(*agentv1.HelloResponse)
	onCollect func(*agentv1.CollectPerformanceDataRequest, grpc.ServerStreamingServer[agentv1.CollectPerformanceDataResponse]) error
	onWatch   func(grpc.ServerStreamingServer[agentv1.WatchMetricsResponse]) error
	// onChunk may spoil a chunk before it is sent.
	onChunk func(fetch bool, c *agentv1.Chunk)

	mu      sync.Mutex
	windows map[string]*window
	acked   []string
	dropped []string
	fetches int
	goodbye chan struct{}
	gone    bool // streams that end now end because the connection does
	wg      sync.WaitGroup
}

type window struct {
	id      string
	changed chan struct{} // closed and replaced
	stop    chan struct{}
	stopped bool
	dropped bool
	told    bool // a stream has carried the summary
	arts    []*fakeArtifact
	summary *agentv1.Summary
}

type fakeArtifact struct {
	begin *agentv1.ArtifactBegin
	data  []byte
	end   *agentv1.ArtifactEnd
	acked bool
}

func newFakeAgent(bootID string) *fakeAgent {
	return &fakeAgent{
		project: "color-game", service: "user-service", bootID: bootID, protocol: 1, chunkBytes: 32640,
		windows: map[string]*window{}, goodbye: make(chan struct{}),
	}
}

func (a *fakeAgent) now() *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(a.clock)) }

func (a *fakeAgent) Hello(context.Context, *agentv1.HelloRequest) (*agentv1.HelloResponse, error) {
	h := &agentv1.HelloResponse{
		Protocol: a.protocol, BootId: a.bootID, Project: a.project, Service: a.service, Now: a.now(), AgentVersion: "test",
		Labels:  map[string]string{"zone": "z1"},
		Build:   &agentv1.BuildInfo{GoVersion: "go1.26.8"},
		Process: &agentv1.ProcessInfo{Pid: 4711, Hostname: "host-a", StartTime: a.now(), Gomaxprocs: 4},
		Kinds:   []agentv1.Kind{agentv1.Kind_KIND_CPU, agentv1.Kind_KIND_GOROUTINE, agentv1.Kind(99)},
	}
	if a.onHello != nil {
		a.onHello(h)
	}
	return h, nil
}

func (a *fakeAgent) WatchMetrics(req *agentv1.WatchMetricsRequest, s grpc.ServerStreamingServer[agentv1.WatchMetricsResponse]) error {
	if a.onWatch != nil {
		return a.onWatch(s)
	}
	t := time.NewTicker(req.GetInterval().AsDuration())
	defer t.Stop()
	for {
		m := &agentv1.WatchMetricsResponse{At: a.now(), Heartbeat: &agentv1.Heartbeat{Goroutines: 12, RssBytes: 1 << 20}}
		if req.GetFull() {
			m.Metrics = []*agentv1.Metric{{Name: "/gc/heap/live:bytes", Value: &agentv1.Metric_Uint64{Uint64: 7}}}
			m.Pools = []*agentv1.PoolStats{{Name: "db", Waiting: -1}}
		}
		if err := s.Send(m); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-a.goodbye:
			return nil
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// update changes a window and wakes who waits for it.
func (a *fakeAgent) update(w *window, change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// record runs a window: one snapshot at once, one artifact that grows until the
// end, and one that comes at the end.
func (a *fakeAgent) record(w *window, d time.Duration) {
	defer a.wg.Done()
	start := a.now()
	finish := func(f *fakeArtifact) {
		sum := sha256.Sum256(f.data)
		f.end = &agentv1.ArtifactEnd{Artifact: f.begin.Artifact, SizeBytes: int64(len(f.data)), Sha256: sum[:], WindowStart: start, WindowEnd: a.now()}
	}
	begin := func(name string, k agentv1.Kind, p agentv1.Phase) *fakeArtifact {
		f := &fakeArtifact{begin: &agentv1.ArtifactBegin{Artifact: uint32(len(w.arts) + 1), Name: name, Kind: k, Phase: p, TakenAt: a.now(), Resumable: true}}
		w.arts = append(w.arts, f)
		return f
	}
	var growing *fakeArtifact
	a.update(w, func() {
		f := begin("goroutine.before.pprof", agentv1.Kind_KIND_GOROUTINE, agentv1.Phase_PHASE_BEFORE)
		f.data = pattern(1, 100_000)
		finish(f)
		growing = begin("heap.pprof", agentv1.Kind_KIND_HEAP, agentv1.Phase_PHASE_WINDOW)
	})
	end, grow := time.NewTimer(d), time.NewTicker(20*time.Millisecond)
	defer end.Stop()
	defer grow.Stop()
	for running := true; running; {
		select {
		case <-end.C:
			running = false
		case <-w.stop:
			running = false
		case <-grow.C:
			a.update(w, func() { growing.data = append(growing.data, pattern(len(growing.data), 50_000)...) })
		}
	}
	a.update(w, func() {
		finish(growing)
		f := begin("cpu.0.pprof", agentv1.Kind_KIND_CPU, agentv1.Phase_PHASE_WINDOW)
		f.data = pattern(3, 200_000)
		finish(f)
		w.summary = &agentv1.Summary{WindowStart: start, WindowEnd: a.now(), StoppedEarly: w.stopped}
	})
}

func pattern(seed, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(seed + i*7 + i>>8)
	}
	return out
}

func (a *fakeAgent) CollectPerformanceData(req *agentv1.CollectPerformanceDataRequest, s grpc.ServerStreamingServer[agentv1.CollectPerformanceDataResponse]) error {
	if a.onCollect != nil {
		return a.onCollect(req, s)
	}
	a.mu.Lock()
	if a.windows[req.GetCaptureId()] != nil {
		a.mu.Unlock()
		return status.Error(codes.AlreadyExists, "runs already")
	}
	w := &window{id: req.GetCaptureId(), changed: make(chan struct{}), stop: make(chan struct{})}
	a.windows[w.id] = w
	a.mu.Unlock()
	a.wg.Add(1)
	go a.record(w, req.GetDuration().AsDuration())
	sent := map[uint32]int64{}
	closed := map[uint32]bool{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	send := func(r *agentv1.CollectPerformanceDataResponse) error { return s.Send(r) }
	for {
		a.mu.Lock()
		changed, summary := w.changed, w.summary
		var out []*agentv1.CollectPerformanceDataResponse
		for _, f := range w.arts {
			n := f.begin.Artifact
			if closed[n] {
				continue
			}
			if _, ok := sent[n]; !ok {
				sent[n] = 0
				out = append(out, &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_ArtifactBegin{ArtifactBegin: f.begin}})
			}
			for sent[n] < int64(len(f.data)) {
				c := a.chunkOf(f, sent[n], false)
				sent[n] += int64(len(c.Data))
				out = append(out, &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Chunk{Chunk: c}})
			}
			if f.end != nil {
				closed[n] = true
				out = append(out, &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_ArtifactEnd{ArtifactEnd: f.end}})
			}
		}
		a.mu.Unlock()
		if summary != nil {
			out = append(out, &agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Summary{Summary: summary}})
			a.mu.Lock()
			w.told = true
			a.forget(w)
			a.mu.Unlock()
		}
		for _, r := range out {
			if err := send(r); err != nil {
				return a.brokenOff(w, s.Context(), err)
			}
		}
		if summary != nil {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
			p := &agentv1.Progress{Elapsed: durationpb.New(time.Since(began)), Duration: req.GetDuration(), Activity: "recording"}
			if err := send(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Progress{Progress: p}}); err != nil {
				return a.brokenOff(w, s.Context(), err)
			}
		case <-s.Context().Done():
			return a.brokenOff(w, s.Context(), s.Context().Err())
		}
	}
}

// brokenOff drops the window if its caller cancelled it.
func (a *fakeAgent) brokenOff(w *window, _ context.Context, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.gone {
		a.drop(w)
	}
	return err
}

func (a *fakeAgent) dropAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.windows {
		a.drop(w)
	}
}

// end drops what is left and waits for the agent's goroutines.
func (a *fakeAgent) end() {
	a.dropAll()
	a.wg.Wait()
}

func (a *fakeAgent) drop(w *window) {
	if !w.dropped {
		w.dropped = true
		a.dropped = append(a.dropped, w.id)
	}
	if !w.stopped {
		w.stopped = true
		close(w.stop)
	}
	delete(a.windows, w.id)
}

func (a *fakeAgent) chunkOf(f *fakeArtifact, off int64, fetch bool) *agentv1.Chunk {
	data := f.data[off:min(off+int64(a.chunkBytes), int64(len(f.data)))]
	c := &agentv1.Chunk{Artifact: f.begin.Artifact, Offset: off, Data: data, Crc32C: crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))}
	if a.onChunk != nil {
		a.onChunk(fetch, c)
	}
	return c
}

func (a *fakeAgent) FetchArtifact(req *agentv1.FetchArtifactRequest, s grpc.ServerStreamingServer[agentv1.FetchArtifactResponse]) error {
	a.mu.Lock()
	a.fetches++
	w := a.windows[req.GetCaptureId()]
	a.mu.Unlock()
	if w == nil {
		return status.Error(codes.NotFound, "no such capture")
	}
	off, begun := req.GetOffset(), false
	for {
		a.mu.Lock()
		changed, summary := w.changed, w.summary
		var out []*agentv1.FetchArtifactResponse
		over := false
		if int(req.GetArtifact()) <= len(w.arts) {
			f := w.arts[req.GetArtifact()-1]
			if f.acked {
				a.mu.Unlock()
				return status.Error(codes.NotFound, "acknowledged already")
			}
			if !begun {
				begun = true
				out = append(out, &agentv1.FetchArtifactResponse{Event: &agentv1.FetchArtifactResponse_ArtifactBegin{ArtifactBegin: f.begin}})
			}
			for off < int64(len(f.data)) {
				c := a.chunkOf(f, off, true)
				off += int64(len(c.Data))
				out = append(out, &agentv1.FetchArtifactResponse{Event: &agentv1.FetchArtifactResponse_Chunk{Chunk: c}})
			}
			if f.end != nil {
				out = append(out, &agentv1.FetchArtifactResponse{Event: &agentv1.FetchArtifactResponse_ArtifactEnd{ArtifactEnd: f.end}})
				over = true
			}
		} else if summary != nil {
			out = append(out, &agentv1.FetchArtifactResponse{Event: &agentv1.FetchArtifactResponse_Summary{Summary: summary}})
			over = true
			w.told = true
			a.forget(w)
		}
		a.mu.Unlock()
		for _, r := range out {
			if err := s.Send(r); err != nil {
				return err
			}
		}
		if over {
			return nil
		}
		select {
		case <-changed:
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

func (a *fakeAgent) StopCapture(_ context.Context, req *agentv1.StopCaptureRequest) (*agentv1.StopCaptureResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.windows[req.GetCaptureId()]
	if w == nil {
		return nil, status.Error(codes.NotFound, "no such capture")
	}
	if !w.stopped {
		w.stopped = true
		close(w.stop)
	}
	return &agentv1.StopCaptureResponse{}, nil
}

func (a *fakeAgent) AckArtifact(_ context.Context, req *agentv1.AckArtifactRequest) (*agentv1.AckArtifactResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.windows[req.GetCaptureId()]
	if w == nil {
		return &agentv1.AckArtifactResponse{}, nil
	}
	if len(req.GetArtifacts()) == 0 {
		a.drop(w)
	}
	for _, f := range w.arts {
		for _, n := range req.GetArtifacts() {
			if f.begin.Artifact == n && f.end != nil && !f.acked {
				f.acked = true
				a.acked = append(a.acked, f.begin.Name)
			}
		}
	}
	a.forget(w)
	return &agentv1.AckArtifactResponse{}, nil
}

// forget gives a window up of which everything was told and acknowledged.
func (a *fakeAgent) forget(w *window) {
	if w.told && !slices.ContainsFunc(w.arts, func(f *fakeArtifact) bool { return !f.acked }) {
		delete(a.windows, w.id)
	}
}

// tunnel is a connection the fake agent made.
type tunnel struct {
	a   *fakeAgent
	nc  net.Conn
	srv *grpc.Server
	end chan struct{}
	// closed is closed with the connection, whoever closes it.
	closed chan struct{}
}

type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// dial opens a tunnel to the centre at address and serves the agent on it.
func (a *fakeAgent) dial(t testing.TB, address string) *tunnel {
	t.Helper()
	tun, resp := a.tryDial(t, address, nil)
	if tun == nil {
		t.Fatalf("the tunnel was refused: %s", resp)
	}
	return tun
}

func (a *fakeAgent) tryDial(t testing.TB, address string, change func(*http.Request)) (*tunnel, string) {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if a.tls != nil {
		nc = tls.Client(nc, a.tls)
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+address+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": upgradeToken, "Ops-Protocol": fmt.Sprint(a.protocol),
		"Ops-Project": a.project, "Ops-Service": a.service, "Ops-Boot-Id": a.bootID,
	} {
		req.Header.Set(k, v)
	}
	if change != nil {
		change(req)
	}
	if err := req.Write(nc); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		nc.Close()
		return nil, fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	if br.Buffered() > 0 {
		buffered, _ := br.Peek(br.Buffered())
		nc = &earlyConn{Conn: nc, early: append([]byte(nil), buffered...)}
	}
	watched := &watchedConn{Conn: nc, closed: make(chan struct{})}
	nc = watched
	tun := &tunnel{a: a, nc: nc, srv: grpc.NewServer(grpc.WaitForHandlers(true)), end: make(chan struct{}), closed: watched.closed}
	a.mu.Lock()
	a.gone = false
	a.mu.Unlock()
	agentv1.RegisterAgentServiceServer(tun.srv, a)
	go func() {
		defer close(tun.end)
		_ = tun.srv.Serve(&oneConn{conn: nc, done: make(chan struct{})})
	}()
	t.Cleanup(tun.cut)
	return tun, ""
}

// cut ends the connection as a dead network does.
func (t *tunnel) cut() {
	t.a.mu.Lock()
	t.a.gone = true
	t.a.mu.Unlock()
	t.nc.Close()
	t.srv.Stop()
	<-t.end
}

// oneConn is a listener with one connection.
type oneConn struct {
	mu   sync.Mutex
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.done
	return nil, errors.New("no more connections")
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
