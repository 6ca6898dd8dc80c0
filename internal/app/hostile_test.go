package app

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/agentlink"
	"github.com/opscenter/opscenter/internal/cli"
)

// liar is a game process that was taken over: it speaks the protocol, over a real
// connection, and sends what it likes.
type liar struct {
	agentv1.UnimplementedAgentServiceServer
	boot  string
	clock time.Duration // ahead of ours
	lies  []lie
}

// lie is an artifact. Each of its chunks is sent so many times more.
type lie struct {
	name  string
	kind  agentv1.Kind
	data  []byte
	again int
}

func (l *liar) now() *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(l.clock)) }

func (l *liar) Hello(context.Context, *agentv1.HelloRequest) (*agentv1.HelloResponse, error) {
	return &agentv1.HelloResponse{
		Protocol: 1, BootId: l.boot, Project: "color-game", Service: "wallet", Now: l.now(), AgentVersion: "<script>alert(1)</script>",
		Labels:  map[string]string{"zone": "<img src=x onerror=alert(1)>"},
		Build:   &agentv1.BuildInfo{GoVersion: "go1.26.8", ModulePath: "javascript:alert(1)"},
		Process: &agentv1.ProcessInfo{Pid: 4711, Hostname: "\"><script>alert(1)</script>", StartTime: l.now(), Gomaxprocs: 4},
		Kinds:   []agentv1.Kind{agentv1.Kind_KIND_CPU, agentv1.Kind_KIND_GOROUTINE, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_ALLOCS, agentv1.Kind_KIND_TRACE, agentv1.Kind_KIND_RUNTIME},
	}, nil
}

func (l *liar) WatchMetrics(req *agentv1.WatchMetricsRequest, s grpc.ServerStreamingServer[agentv1.WatchMetricsResponse]) error {
	tick := time.NewTicker(req.GetInterval().AsDuration())
	defer tick.Stop()
	for {
		if err := s.Send(&agentv1.WatchMetricsResponse{At: l.now(), Heartbeat: &agentv1.Heartbeat{Goroutines: 12, RssBytes: 1 << 20}}); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

func (l *liar) AckArtifact(context.Context, *agentv1.AckArtifactRequest) (*agentv1.AckArtifactResponse, error) {
	return &agentv1.AckArtifactResponse{}, nil
}

func (l *liar) CollectPerformanceData(_ *agentv1.CollectPerformanceDataRequest, s grpc.ServerStreamingServer[agentv1.CollectPerformanceDataResponse]) error {
	start := l.now()
	for i, one := range l.lies {
		n := uint32(i + 1) //nolint:gosec // a handful
		if err := s.Send(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_ArtifactBegin{
			ArtifactBegin: &agentv1.ArtifactBegin{Artifact: n, Name: one.name, Kind: one.kind, Phase: agentv1.Phase_PHASE_WINDOW, TakenAt: l.now()},
		}}); err != nil {
			return err
		}
		for off := 0; off < len(one.data); off += 32 << 10 {
			b := one.data[off:min(off+32<<10, len(one.data))]
			for range one.again + 1 {
				if err := s.Send(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Chunk{
					Chunk: &agentv1.Chunk{Artifact: n, Offset: int64(off), Data: b, Crc32C: crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))},
				}}); err != nil {
					return err
				}
			}
		}
		sum := sha256.Sum256(one.data)
		if err := s.Send(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_ArtifactEnd{
			ArtifactEnd: &agentv1.ArtifactEnd{Artifact: n, SizeBytes: int64(len(one.data)), Sha256: sum[:], WindowStart: start, WindowEnd: l.now()},
		}}); err != nil {
			return err
		}
	}
	return s.Send(&agentv1.CollectPerformanceDataResponse{Event: &agentv1.CollectPerformanceDataResponse_Summary{Summary: &agentv1.Summary{WindowStart: start, WindowEnd: l.now()}}})
}

// upgraded is a connection of which the centre's answer was read.
type upgraded struct {
	net.Conn
	r io.Reader
}

func (c upgraded) Read(p []byte) (int, error) { return c.r.Read(p) }

// once is a listener of one connection.
type once struct {
	conn  chan net.Conn
	ended chan struct{}
	close sync.Once
	addr  net.Addr
}

func (o *once) Accept() (net.Conn, error) {
	select {
	case c := <-o.conn:
		return c, nil
	case <-o.ended:
		return nil, net.ErrClosed
	}
}
func (o *once) Close() error   { o.close.Do(func() { close(o.ended) }); return nil }
func (o *once) Addr() net.Addr { return o.addr }

// dial opens the tunnel, and serves on it until the test ends.
func (l *liar) dial(t *testing.T, url string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: opscenter-agent/1\r\n"+
		"Ops-Protocol: 1\r\nOps-Project: color-game\r\nOps-Service: wallet\r\nOps-Boot-Id: %s\r\nContent-Length: 0\r\n\r\n", agentlink.Path, l.boot); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // an upgraded connection has none
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	ln := &once{conn: make(chan net.Conn, 1), ended: make(chan struct{}), addr: conn.LocalAddr()}
	ln.conn <- upgraded{conn, r}
	srv := grpc.NewServer()
	agentv1.RegisterAgentServiceServer(srv, l)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() { srv.Stop(); <-served })
}

// bombOf is a gzip file, of members of 16 MiB, that unpacks to so many bytes of zeros.
func bombOf(t *testing.T, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 16<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(b.Bytes(), int(size>>24))
}

const script = "<script>alert(1)</script>"

// named is a profile of goroutines all of whose names are attacks.
func namedProfile(t *testing.T) []byte {
	t.Helper()
	m := &profile.Mapping{ID: 1, Start: 0x1000, Limit: 0x2000, File: "javascript:alert(document.cookie)", BuildID: script}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "goroutine", Unit: "count"}}, PeriodType: &profile.ValueType{Type: "goroutine", Unit: "count"}, Period: 1,
		Mapping: []*profile.Mapping{m}, Comments: []string{script},
	}
	for i, name := range []string{script, "main.<img src=x onerror=alert(1)>", "javascript:alert(1)", "main.work"} {
		f := &profile.Function{ID: uint64(i + 1), Name: name, SystemName: name, Filename: "/etc/passwd"}
		l := &profile.Location{ID: uint64(i + 1), Mapping: m, Address: 0x1000 + uint64(i), Line: []profile.Line{{Function: f, Line: 1}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
	}
	p.Sample = []*profile.Sample{{Location: slices.Clone(p.Location), Value: []int64{7}, Label: map[string][]string{script: {script}}}}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// heapPeak samples what live and dead objects take until it is asked for the most.
func heapPeak() (most func() uint64) {
	runtime.GC() // what other tests left
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		var worst uint64
		for {
			metrics.Read(s)
			worst = max(worst, s[0].Value.Uint64())
			select {
			case <-stop:
				peak <- worst
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-peak }
}

// TestAnAgentThatWasTakenOver sends a whole centre what unpacks to a thousand times
// its size, what is damaged, frames twice, and names that are markup, and then asks
// for every view of it. Each says what is wrong, and the centre stays small.
func TestAnAgentThatWasTakenOver(t *testing.T) {
	url, _ := serve(t, cli.ServeOptions{})
	c := client(t, &http.Transport{})
	bomb, crafted := bombOf(t, 64<<20), namedProfile(t) // 64 KB; it may become 16 MiB
	l := &liar{boot: "boot-taken-over-1", lies: []lie{
		{name: "heap.pprof", kind: agentv1.Kind_KIND_HEAP, data: bomb},
		{name: "cpu.0.pprof", kind: agentv1.Kind_KIND_CPU, data: bomb},
		{name: "allocs.before.pprof", kind: agentv1.Kind_KIND_ALLOCS, data: bomb},
		{name: "allocs.after.pprof", kind: agentv1.Kind_KIND_ALLOCS, data: crafted},
		{name: "goroutine.pprof", kind: agentv1.Kind_KIND_GOROUTINE, data: crafted, again: 1},
		{name: "runtime.json", kind: agentv1.Kind_KIND_RUNTIME, data: bytes.Repeat([]byte("["), 256<<10)},
		{name: "trace.out", kind: agentv1.Kind_KIND_TRACE, data: append([]byte("go 1.26 trace\x00\x00\x00"), bytes.Repeat([]byte{0xff}, 64<<10)...)},
	}}
	l.dial(t, url)
	instances(t, c, url, 2)
	most := heapPeak()
	got := capturedAnyway(t, c, url, l.boot)
	if got.GetState() != apiv1.CaptureState_CAPTURE_STATE_PARTIAL {
		t.Errorf("the capture is %v", got.GetState())
	}
	losses := fmt.Sprint(got.GetTargets()[0].GetLosses())
	for _, want := range []string{
		"cpu.0.pprof is not part of cpu.pprof, and kept as it is: profile 1 of 1: the profile is larger than 16 MiB when unpacked",
		"allocs.before.pprof could not be subtracted from allocs.after.pprof; both are kept as they are: profile not readable",
	} {
		if !strings.Contains(losses, want) {
			t.Errorf("no loss says %q: %s", want, losses)
		}
	}
	views(t, c, url, got.GetId(), l.boot)
	if peak := most() >> 20; peak > 512 { // far more than all of them unpacked
		t.Errorf("the centre took %d MiB", peak)
	}
	// Frames that came twice count once.
	code, body := send(t, c, http.MethodGet, url+"/api/captures/"+got.GetId()+"/"+l.boot+"/goroutine.pprof", "")
	if code != http.StatusOK || !strings.HasSuffix(body, string(crafted)) || strings.Count(body, string(crafted[:10])) != 1 {
		t.Errorf("what came in frames that were sent twice: %d, %d bytes, want %d", code, len(body), len(crafted))
	}
	for _, want := range []string{"Content-Disposition: attachment", "X-Content-Type-Options: nosniff"} {
		if !strings.Contains(body, want) {
			t.Errorf("a download without %s", want)
		}
	}
	// It goes on for everybody else.
	all := instances(t, c, url, 2)
	self := slices.IndexFunc(all, func(i *apiv1.Instance) bool { return i.GetProject() == selfProject })
	if own := capturedAnyway(t, c, url, all[self].GetId(), "goroutine", "runtime"); own.GetState() != apiv1.CaptureState_CAPTURE_STATE_DONE {
		t.Errorf("afterwards a capture is %v: %s", own.GetState(), own.GetReason())
	}
}

// views asks for every view of what an agent sent: nothing fails but in words, and
// names are text.
func views(t *testing.T, c *http.Client, url, capture, boot string) {
	t.Helper()
	for _, name := range []string{"heap.pprof", "goroutine.pprof", "runtime.json", "trace.out"} {
		forms := []string{"/api/captures/%s/%s/%s/speedscope.json", "/trace/%s/%s/%s/"}
		if strings.HasSuffix(name, ".pprof") {
			forms = append(forms, "/pprof/%s/%s/%s/", "/pprof/%s/%s/%s/top", "/pprof/%s/%s/%s/peek")
		}
		for _, form := range forms {
			path := fmt.Sprintf(form, capture, boot, name)
			code, body := send(t, c, http.MethodGet, url+path, "")
			if code >= 500 || strings.Contains(body, "text/html") && strings.Contains(body, script) || strings.Contains(body, "root:x:") {
				t.Errorf("%s: %d %.300s", path, code, body)
			}
		}
		for _, form := range []string{
			`ProfileService/GetTop {"query":{"source":{"captureId":"%s","instanceIds":["%s"],"artifact":"%s"}}}`,
			`ProfileService/GetFlame {"query":{"source":{"captureId":"%s","instanceIds":["%s"],"artifact":"%s"}}}`,
			`GoroutineService/GetGoroutines {"of":{"captureId":"%s","instanceId":"%s","artifact":"%s"}}`,
			`RuntimeService/GetRuntime {"captureId":"%s","instanceId":"%s","artifact":"%s"}`,
		} {
			call, form, _ := strings.Cut(form, " ")
			code, body := post(t, c, url, call, fmt.Sprintf(form, capture, boot, name))
			if code >= 500 && !strings.Contains(body, `"data_loss"`) || name == "goroutine.pprof" && call != "RuntimeService/GetRuntime" && !strings.Contains(body, script) {
				t.Errorf("%s of %s: %d %.300s", call, name, code, body)
			}
		}
	}
}

// TestAnAgentNamesNoFile: what is no file name ends the capture of that instance, in
// words.
func TestAnAgentNamesNoFile(t *testing.T) {
	url, _ := serve(t, cli.ServeOptions{})
	c := client(t, &http.Transport{})
	for i, name := range []string{"../../../ops.db", "/etc/cron.d/x", "a\x00.pprof", "..", "heap.pprof/../../x"} {
		l := &liar{boot: fmt.Sprintf("boot-taken-over-%d", i), lies: []lie{
			{name: "goroutine.pprof", kind: agentv1.Kind_KIND_GOROUTINE, data: namedProfile(t)}, {name: name, kind: agentv1.Kind_KIND_HEAP, data: []byte("outside")},
		}}
		l.dial(t, url)
		instances(t, c, url, i+2)
		got := capturedAnyway(t, c, url, l.boot, "goroutine", "heap")
		if want := fmt.Sprintf("the agent broke the protocol: artifact 2 is named %q, which is not a file name; update it", name); got.GetReason() != want {
			t.Errorf("%q: %v %q, want %q", name, got.GetState(), got.GetReason(), want)
		}
		if all := got.GetTargets()[0].GetArtifacts(); len(all) != 1 || all[0].GetName() != "goroutine.pprof" {
			t.Errorf("%q: kept %v", name, all)
		}
	}
}

// TestAnAgentWhoseClockIsAnHourOff: all that people read is on the centre's clock.
func TestAnAgentWhoseClockIsAnHourOff(t *testing.T) {
	url, _ := serve(t, cli.ServeOptions{})
	c := client(t, &http.Transport{})
	for i, off := range []time.Duration{time.Hour, -time.Hour} {
		l := &liar{boot: fmt.Sprintf("boot-clock-%d", i), clock: off, lies: []lie{{name: "goroutine.pprof", kind: agentv1.Kind_KIND_GOROUTINE, data: namedProfile(t)}}}
		l.dial(t, url)
		instances(t, c, url, i+2)
		got := capturedAnyway(t, c, url, l.boot, "goroutine")
		var one *apiv1.Instance
		for deadline := time.Now().Add(time.Minute); one.GetHeartbeat() == nil; time.Sleep(20 * time.Millisecond) {
			all := instances(t, c, url, i+2)
			one = all[slices.IndexFunc(all, func(i *apiv1.Instance) bool { return i.GetId() == l.boot })]
			if time.Now().After(deadline) {
				t.Fatalf("%v off: its heartbeat never came: %v", off, one)
			}
		}
		for what, at := range map[string]*timestamppb.Timestamp{
			"joined": one.GetJoined(), "up since": one.GetStateSince(), "last seen": one.GetLastSeen(), "its heartbeat": one.GetHeartbeat().GetAt(), "process start": one.GetProcess().GetStartTime(),
			"the artifact": got.GetTargets()[0].GetArtifacts()[0].GetTakenAt(), "the window": got.GetTargets()[0].GetWindowStart(), "created": got.GetCreated(),
		} {
			if d := time.Since(at.AsTime()).Abs(); at == nil || d > 10*time.Minute {
				t.Errorf("%v off: %s is %v from now", off, what, d)
			}
		}
		if one.GetState() != apiv1.InstanceState_INSTANCE_STATE_UP {
			t.Errorf("%v off: %v", off, one.GetState())
		}
	}
}

// capturedAnyway captures an instance, whatever comes of it.
func capturedAnyway(t *testing.T, c *http.Client, url, instance string, kinds ...string) *apiv1.Capture {
	t.Helper()
	captures := apiv1connect.NewCaptureServiceClient(c, url)
	started, err := captures.StartCapture(t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{
		InstanceIds: []string{instance}, Spec: &apiv1.CaptureSpec{Duration: durationpb.New(time.Second), Kinds: kinds},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, err := captures.GetDiagnosis(t.Context(), connect.NewRequest(&apiv1.GetDiagnosisRequest{CaptureId: started.Msg.GetCapture().GetId()}))
		if err == nil && strings.Contains(got.Msg.GetJson(), instance) {
			one, err := captures.GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: started.Msg.GetCapture().GetId()}))
			if err != nil {
				t.Fatal(err)
			}
			return one.Msg.GetCapture()
		}
		if time.Now().After(deadline) {
			t.Fatalf("the capture was never judged: %v %v", got, err)
		}
	}
}
