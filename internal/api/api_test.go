package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is captures and files in memory.
type shelf struct {
	mu       sync.Mutex
	captures map[ops.CaptureID]capture.Status
	files    map[ops.ArtifactRef]string
	topic    changes.Topic[ops.CaptureID]
	asked    capture.Request
	err      error
}

func (s *shelf) put(c ops.Capture) {
	s.mu.Lock()
	s.captures[c.ID] = capture.Status{Capture: c}
	s.mu.Unlock()
	s.topic.Publish(c.ID)
}

func (s *shelf) Start(_ context.Context, r capture.Request) (ops.Capture, error) {
	s.asked = r
	if s.err != nil {
		return ops.Capture{}, s.err
	}
	return ops.Capture{ID: "01new", Project: r.Project, Service: r.Service, State: ops.CaptureRequested}, nil
}
func (s *shelf) Stop(context.Context, ops.CaptureID) error   { return s.err }
func (s *shelf) Cancel(context.Context, ops.CaptureID) error { return s.err }
func (s *shelf) Pin(_ context.Context, id ops.CaptureID, _ bool) (capture.Status, error) {
	return s.Capture(context.Background(), id)
}
func (s *shelf) Delete(context.Context, ops.CaptureID) error { return s.err }
func (s *shelf) Import(_ context.Context, r io.ReaderAt, size int64, _ string) (ops.Capture, error) {
	b := make([]byte, size)
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return ops.Capture{}, err
	}
	if string(b) != "a bundle" {
		return ops.Capture{}, ops.Errorf(ops.Corrupt, "not a bundle: %q", b)
	}
	return ops.Capture{ID: "01imported", Imported: true}, nil
}
func (s *shelf) Capture(_ context.Context, id ops.CaptureID) (capture.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.captures[id]
	if !ok {
		return c, ops.Errorf(ops.NotFound, "there is no capture %s", id)
	}
	return c, nil
}
func (s *shelf) Captures(context.Context, ops.CaptureFilter) (out []capture.Status, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.captures {
		out = append(out, c)
	}
	return out, s.err
}
func (s *shelf) Subscribe() *changes.Subscription[ops.CaptureID] { return s.topic.Subscribe() }

type blob struct{ *strings.Reader }

func (blob) Close() error { return nil }

func (s *shelf) OpenArtifact(_ context.Context, ref ops.ArtifactRef) (ops.Blob, ops.Artifact, error) {
	text, ok := s.files[ref]
	if !ok {
		return nil, ops.Artifact{}, ops.Errorf(ops.NotFound, "there is no artifact %s", ref)
	}
	return blob{strings.NewReader(text)}, ops.Artifact{Name: ref.Name, SHA256: "abc"}, nil
}
func (s *shelf) Export(_ context.Context, _ ops.CaptureID, w io.Writer) error {
	_, err := io.WriteString(w, "a bundle")
	return err
}

// link is an instance that sends one heartbeat and then lives on in silence.
type link struct{}

func (link) Collect(context.Context, ops.CaptureID, ops.Spec, ops.Sink) (ops.CollectSummary, error) {
	return ops.CollectSummary{}, ops.Errorf(ops.Unavailable, "not here")
}
func (link) Stop(context.Context, ops.CaptureID) error { return nil }
func (link) Watch(ctx context.Context, _ time.Duration, full bool, fn func(ops.Sample)) error {
	s := ops.Sample{Heartbeat: ops.Heartbeat{At: time.Now(), Goroutines: 42}}
	if full {
		s.Metrics = []ops.Metric{{Name: "/sched/latencies:seconds", Counts: []uint64{90, 10}, Buckets: []float64{0, 1e-6, 1e-3}}}
	}
	fn(s)
	<-ctx.Done()
	return ctx.Err()
}

// everyone is an authorizer whose callers are all the same actor.
type everyone struct{ auth.Actor }

func (e everyone) Authenticate(*http.Request) (auth.Actor, error) {
	return e.Actor, nil
}
func (e everyone) Authorize(a auth.Actor, need auth.Permission, on ...auth.Subject) error {
	return new(auth.Token).Authorize(a, need, on...)
}

type rig struct {
	*shelf
	profiles *reader
	fleet    *fleet.Fleet
	url      string
	ctx      context.Context
}

func start(t *testing.T, holds ...auth.Permission) *rig {
	t.Helper()
	return startAs(t, auth.Actor{Name: "tester", Permissions: holds})
}

func startAs(t *testing.T, actor auth.Actor) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &shelf{captures: map[ops.CaptureID]capture.Status{}, files: map[ops.ArtifactRef]string{}}
	f := fleet.New(fleet.Config{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	who := everyone{actor}
	profiles := &reader{}
	srv := httptest.NewServer(Guard(GuardConfig{Auth: who}, New(Config{
		Profiles: profiles, Fleet: f, Captures: s, Files: s, Auth: who, SpoolDir: t.TempDir(),
		TraceWindows: func(context.Context, ops.ArtifactRef) ([]TraceWindow, string, error) {
			return []TraceWindow{{FromGeneration: 1, ToGeneration: 3, SizeBytes: 9}}, "the tail is cut off", nil
		},
		Headline: func(_ context.Context, id ops.CaptureID) (ops.Headline, error) {
			if id != "01said" {
				return ops.Headline{}, ops.Errorf(ops.NotFound, "nothing was said of %s", id)
			}
			return ops.Headline{Rule: "lock-contention", Severity: ops.Critical, Title: map[ops.Lang]string{ops.English: "A lock", ops.TraditionalChinese: "一把鎖"}, Critical: 2, Unchecked: 3}, nil
		},
		System: func(context.Context) System { return System{Version: "v1"} },
	})))
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		srv.CloseClientConnections()
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return &rig{shelf: s, profiles: profiles, fleet: f, url: srv.URL, ctx: ctx}
}

func TestACallerWithoutPermissionIsRefusedEverywhere(t *testing.T) {
	r := start(t) // holds nothing
	urls := []string{
		"GET /api/captures/01abc/01inst/cpu.pprof",
		"GET /api/captures/01abc/01inst/cpu.pprof/speedscope.json",
		"GET /api/captures/01abc/bundle.zip",
		"POST /api/import",
	}
	for _, p := range procedures() {
		if declaredRules()[p].need == "" { // for everyone who is known
			continue
		}
		if !slices.Contains(streams(), p) { // a stream says so in its end message: below
			urls = append(urls, "POST "+p)
		}
	}
	for _, u := range urls {
		method, path, _ := strings.Cut(u, " ")
		code, body := do(t, method, r.url+path, "{}")
		if code != http.StatusForbidden || !strings.Contains(body, "tester may not do this") {
			t.Errorf("%s: %d %s", u, code, body)
		}
	}
	for _, p := range streams() {
		stream, err := connect.NewClient[emptypb.Empty, emptypb.Empty](http.DefaultClient, r.url+p).CallServerStream(r.ctx, connect.NewRequest(&emptypb.Empty{}))
		if err != nil {
			t.Fatal(err)
		}
		if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodePermissionDenied {
			t.Errorf("%s: %v", p, stream.Err())
		}
		_ = stream.Close()
	}
}

func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestErrorsKeepTheirKindOverTheWire(t *testing.T) {
	r := start(t, auth.All()...)
	client := apiv1connect.NewCaptureServiceClient(http.DefaultClient, r.url)
	for _, c := range []struct {
		err  error
		code connect.Code
		says string
	}{
		{ops.Errorf(ops.NotFound, "no such service"), connect.CodeNotFound, "no such service"},
		{ops.Errorf(ops.Exhausted, "32 windows run"), connect.CodeResourceExhausted, "32 windows run"},
		{errors.New("pq: password is hunter2"), connect.CodeInternal, "the centre failed at this; its log says why"},
	} {
		r.err = c.err
		_, err := client.StartCapture(r.ctx, connect.NewRequest(&apiv1.StartCaptureRequest{Service: "user-service"}))
		var ce *connect.Error
		if !errors.As(err, &ce) || ce.Code() != c.code || ce.Message() != c.says {
			t.Errorf("%v became %v", c.err, err)
		}
	}
}

func TestStartCarriesTheRequestAndTheActor(t *testing.T) {
	r := start(t, auth.Capture)
	_, err := apiv1connect.NewCaptureServiceClient(http.DefaultClient, r.url).StartCapture(r.ctx, connect.NewRequest(&apiv1.StartCaptureRequest{
		Project: "color-game", Service: "user-service", InstanceIds: []string{"01a", "01b"}, MaxInstances: 1, Note: "slow logins",
		Spec: &apiv1.CaptureSpec{Duration: durationpb.New(10 * time.Second), Kinds: []string{"cpu"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	got := r.asked
	if got.Actor != "tester" || got.Note != "slow logins" || got.Max != 1 || len(got.Instances) != 2 || got.Spec.Duration != 10*time.Second || got.Spec.Kinds[0] != ops.KindCPU {
		t.Errorf("%+v", got)
	}
}

func TestWatchSendsTheStateAndThenChanges(t *testing.T) {
	r := start(t, auth.View)
	stream, err := apiv1connect.NewWatchServiceClient(http.DefaultClient, r.url).Watch(r.ctx, connect.NewRequest(&apiv1.WatchRequest{
		Fleet: true, Captures: true, MetricsInstanceIds: []string{"01inst"}, MinInterval: durationpb.New(time.Millisecond),
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, leave := context.WithCancel(r.ctx)
	defer leave()
	var resets, seen, captured, measured int
	for stream.Receive() {
		m := stream.Msg()
		if m.GetFleet().GetReset_() || m.GetCapture().GetReset_() {
			if resets++; resets == 2 {
				wg.Go(func() {
					_ = r.fleet.Join(ctx, ops.Instance{ID: "01inst", Project: "p", Service: "s"}, link{})
				})
				r.put(ops.Capture{ID: "01abc", State: ops.CaptureDone})
			}
		}
		for _, i := range m.GetFleet().GetInstances() {
			if i.GetId() == "01inst" && i.GetHeartbeat().GetGoroutines() == 42 {
				seen++
			}
		}
		for _, c := range m.GetCapture().GetCaptures() {
			if c.GetId() == "01abc" && c.GetState() == apiv1.CaptureState_CAPTURE_STATE_DONE {
				captured++
			}
		}
		for _, v := range m.GetMetrics().GetValues() {
			if v.GetValue() != 1e-6 || v.GetP99() != 1e-3 || !v.GetHistogram() {
				t.Errorf("metrics: %v", v)
			}
			measured++
		}
		if seen > 0 && captured > 0 && measured > 0 {
			return
		}
	}
	t.Fatalf("the stream ended: %v", stream.Err())
}

func TestFilesAreAttachments(t *testing.T) {
	r := start(t, auth.All()...)
	r.files[ops.ArtifactRef{Capture: "01abc", Instance: "01inst", Name: "cpu.pprof"}] = "0123456789"
	r.put(ops.Capture{ID: "01abc", State: ops.CaptureDone})
	r.put(ops.Capture{ID: "01run", State: ops.CaptureCollecting})

	req, _ := http.NewRequest("GET", r.url+"/api/captures/01abc/01inst/cpu.pprof", nil)
	req.Header.Set("Range", "bytes=2-4")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 206 || string(b) != "234" {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	if got := resp.Header.Get("Content-Disposition"); got != `attachment; filename="cpu.pprof"` {
		t.Error(got)
	}

	for path, want := range map[string]struct {
		code int
		says string
	}{
		"/api/captures/01abc/01inst/heap.pprof":       {404, "there is no artifact 01abc/01inst/heap.pprof"},
		"/api/captures/01abc/01inst/..%2f..%2fops.db": {400, "is not the name of an artifact"},
		"/api/captures/..%2f..%2fetc/01inst/passwd":   {400, "is not the name of an artifact"},
		"/api/captures/01run/bundle.zip":              {409, "is still collecting: wait for its end, or stop it"},
		"/api/captures/01abc/bundle.zip":              {200, "a bundle"},
	} {
		if code, body := do(t, "GET", r.url+path, ""); code != want.code || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestImport(t *testing.T) {
	r := start(t, auth.All()...)
	if code, body := do(t, "POST", r.url+"/api/import", "a bundle"); code != 200 || !strings.Contains(body, "01imported") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := do(t, "POST", r.url+"/api/import", "junk"); code != 422 || !strings.Contains(body, "not a bundle") {
		t.Errorf("%d %s", code, body)
	}
}

// TestAnUploadDoesNotFillTheDisk sends bundles that say how long they are, and
// one that does not.
func TestAnUploadDoesNotFillTheDisk(t *testing.T) {
	spool := t.TempDir()
	full := ops.Errorf(ops.Exhausted, "the disk has only 1 GiB free")
	var took int64
	s := &server{Config: Config{SpoolDir: spool, Logger: slog.New(slog.DiscardHandler), Room: func(_ context.Context, n int64) error {
		left, err := filepath.Glob(filepath.Join(spool, UploadPattern))
		if err != nil {
			return err
		}
		took = 0
		for _, name := range left {
			if i, err := os.Stat(name); err == nil {
				took += i.Size()
			}
		}
		if took+n > 2*uploadStep {
			return full
		}
		return nil
	}}}
	for name, says := range map[string]int64{"says its length": 9 << 30, "does not": -1} {
		r := httptest.NewRequest(http.MethodPost, "/api/import", io.LimitReader(zeros{}, 1<<40))
		r.ContentLength = says
		if err := s.importBundle(httptest.NewRecorder(), r); !errors.Is(err, full) {
			t.Errorf("an upload that %s: %v", name, err)
		}
		if took > 3*uploadStep {
			t.Errorf("an upload that %s: %d bytes were taken", name, took)
		}
	}
	if left, _ := os.ReadDir(spool); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestQuantileOfHostileHistograms(t *testing.T) {
	inf := math.Inf(1)
	for name, c := range map[string]struct {
		m    ops.Metric
		old  []uint64
		want float64
	}{
		"what was added":       {ops.Metric{Counts: []uint64{100, 1}, Buckets: []float64{0, 1, 2}}, []uint64{100, 0}, 2},
		"nothing added":        {ops.Metric{Counts: []uint64{3}, Buckets: []float64{0, 1}}, []uint64{3}, 0},
		"the open bucket":      {ops.Metric{Counts: []uint64{0, 5}, Buckets: []float64{0, 7, inf}}, nil, 7},
		"no end on any side":   {ops.Metric{Counts: []uint64{5}, Buckets: []float64{-inf, inf}}, nil, 0},
		"too few buckets":      {ops.Metric{Counts: []uint64{1, 2, 3}, Buckets: []float64{0}}, nil, 0},
		"counts went down":     {ops.Metric{Counts: []uint64{1}, Buckets: []float64{0, 1}}, []uint64{9}, 0},
		"another shape before": {ops.Metric{Counts: []uint64{1}, Buckets: []float64{0, 1}}, []uint64{9, 9}, 1},
	} {
		if got := quantile(c.m, c.old, 0.99); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestACaptureThatHasEndedCarriesItsHeadline(t *testing.T) {
	r := start(t, auth.View)
	r.put(ops.Capture{ID: "01said", State: ops.CaptureDone})
	r.put(ops.Capture{ID: "02silent", State: ops.CaptureDone})
	for id, want := range map[string]string{
		"01said":   `"headline":{"severity":"critical","rule":"lock-contention","title":{"en":"A lock","zh-TW":"一把鎖"},"critical":2,"unchecked":3}`,
		"02silent": "",
	} {
		code, body := do(t, http.MethodPost, r.url+"/opscenter.api.v1.CaptureService/GetCapture", `{"captureId":"`+id+`"}`)
		if code != http.StatusOK || want == "" && strings.Contains(body, "headline") || !strings.Contains(strings.ReplaceAll(body, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("%s: %d %s", id, code, body)
		}
	}
}

func TestCapturesAreFoundByWhatTheyAreAndWhatWasSaid(t *testing.T) {
	r := start(t, auth.View)
	r.put(ops.Capture{ID: "01said", State: ops.CaptureDone, Service: "wallet", Note: "slow payments"})
	r.put(ops.Capture{ID: "02lost", State: ops.CapturePartial, Service: "user", Targets: []ops.CaptureTarget{{Instance: ops.Instance{ID: "boot-7", Address: "host-9/4711"}}}})
	for ask, want := range map[string]string{
		`{}`:                                      "01said 02lost",
		`{"states":["CAPTURE_STATE_PARTIAL"]}`:    "02lost",
		`{"text":"PAYMENTS slow"}`:                "01said",
		`{"text":"host-9"}`:                       "02lost",
		`{"text":"一把鎖"}`:                          "01said",
		`{"text":"nothing like it"}`:              "",
		`{"severity":"critical"}`:                 "01said",
		`{"severity":"none"}`:                     "",
		`{"severity":"awful"}`:                    `severity "awful" is unknown: use one of [critical warning notice none]`,
		`{"severity":"critical","text":"host-9"}`: "",
		`{"severity":"critical","pageSize":1}`:    "01said",
		`{"states":["CAPTURE_STATE_COLLECTING"]}`: "",
	} {
		_, body := do(t, http.MethodPost, r.url+"/opscenter.api.v1.CaptureService/ListCaptures", ask)
		var got []string
		for _, id := range []string{"01said", "02lost"} {
			if strings.Contains(body, id) {
				got = append(got, id)
			}
		}
		if s := strings.Join(got, " "); s != want && (len(want) <= 20 || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), want)) {
			t.Errorf("%s: got %s, want %s: %s", ask, s, want, body)
		}
	}
}
