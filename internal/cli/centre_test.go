package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
)

// testNow is the time in every test.
var testNow = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(testNow.Add(-d)) }

// centre is the remote side: a fleet that stands still, and captures that take
// one step at every look.
type centre struct {
	apiv1connect.UnimplementedFleetServiceHandler
	apiv1connect.UnimplementedCaptureServiceHandler
	apiv1connect.UnimplementedDiscoveryServiceHandler

	url     string
	wallets *wallets
	helm    *helm

	mu        sync.Mutex // guards what follows
	instances []*apiv1.Instance
	captures  []*apiv1.Capture // oldest first
	looks     map[string]int   // at running captures
	asked     []*apiv1.StartCaptureRequest
	stopped   []string
	cancelled []string
	imported  []string // contents
	// away makes this many calls of GetCapture fail first.
	away int
	// never lets captures run until they are stopped or cancelled.
	never bool
	// onLook is called at every look at a running capture, without the lock.
	onLook func(n int)
	// cutBundle breaks downloads off in the middle.
	cutBundle bool
}

const token = "a-token-of-enough-length"

// newCentre serves a centre under /ops, which wants the token if there is one.
func newCentre(t *testing.T, wantToken string) *centre {
	t.Helper()
	c := &centre{looks: map[string]int{}, wallets: &wallets{finished: make(chan struct{})}}
	c.instances = standardFleet()
	c.helm = newHelm(t, c)
	mux := http.NewServeMux()
	mux.Handle(apiv1connect.NewFleetServiceHandler(c))
	mux.Handle(apiv1connect.NewCaptureServiceHandler(c))
	mux.Handle(apiv1connect.NewDiscoveryServiceHandler(c))
	mux.Handle(apiv1connect.NewConsoleServiceHandler(c.wallets))
	mux.Handle(apiv1connect.NewControlServiceHandler(c.helm))
	mux.HandleFunc("GET /api/audit.jsonl", c.helm.lines)
	mux.HandleFunc("GET /api/captures/{capture}/bundle.zip", c.bundle)
	mux.HandleFunc("POST /api/import", c.importBundle)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html>the page")
	})
	guard := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wantToken != "" && r.Header.Get("Authorization") != "Bearer "+wantToken {
			http.Error(w, "this centre wants its token: --token-file or OPS_TOKEN", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
	srv := httptest.NewServer(http.StripPrefix("/ops", guard))
	t.Cleanup(srv.Close)
	c.url = srv.URL + "/ops"
	return c
}

func instance(id, project, service, address string, state apiv1.InstanceState) *apiv1.Instance {
	return &apiv1.Instance{
		Id: id, Project: project, Service: service, Source: "agent", Address: address, State: state,
		StateSince: before(time.Hour), Joined: before(3 * time.Hour), LastSeen: before(2 * time.Second),
		Labels:  map[string]string{"zone": "b", "pod": "p-1"},
		Build:   &apiv1.Build{GoVersion: "go1.26.8", Goos: "linux", Goarch: "amd64"},
		Process: &apiv1.Process{Pid: 4711, Hostname: "host-a", StartTime: before(3 * time.Hour), Gomaxprocs: 4},
		Kinds:   []string{"cpu", "heap", "trace"},
		Heartbeat: &apiv1.Heartbeat{
			At: before(2 * time.Second), CpuCores: 1.25, Goroutines: 1200, LiveHeapBytes: 64 << 20, RssBytes: 120 << 20, HeapObjects: 1 << 40,
		},
	}
}

func issue(check string, level apiv1.HealthLevel, value, threshold float64) *apiv1.HealthIssue {
	return &apiv1.HealthIssue{Check: check, Level: level, Since: before(4 * time.Minute), Value: value, Threshold: threshold}
}

func troubled(issues ...*apiv1.HealthIssue) *apiv1.Health {
	return &apiv1.Health{Level: issues[0].GetLevel(), Issues: issues}
}

func standardFleet() []*apiv1.Instance {
	const up, suspect, gone = apiv1.InstanceState_INSTANCE_STATE_UP, apiv1.InstanceState_INSTANCE_STATE_SUSPECT, apiv1.InstanceState_INSTANCE_STATE_GONE
	fleet := []*apiv1.Instance{
		instance("b00t-a1", "color-game", "game-service", "host-a/101", up),
		instance("b00t-a2", "color-game", "game-service", "host-b/102", up),
		instance("b00t-a3", "color-game", "game-service", "host-c/103", gone),
		instance("b00t-b1", "color-game", "user-service", "host-a/201", up),
		instance("b00t-c1", "color-game", "gateway-service", "host-a/301", suspect),
		instance("b00t-d1", "poker", "user-service", "host-z/401", up),
		instance("b00t-e1", "poker", "lost-service", "host-z/501", gone),
		instance("url-f1", "poker", "legacy", "http://10.0.0.7:6060/debug/pprof", up),
	}
	fleet[2].StateReason, fleet[2].StateSays = "likely OOM", "centre"
	fleet[4].StateReason, fleet[4].StateSays = "connection lost", "centre"
	fleet[6].StateReason, fleet[6].StateSays = "clean exit", "process"
	// game-service is being rolled out.
	fleet[0].Build.ModuleVersion, fleet[0].Build.VcsRevision = "v1.4.2", "0123456789abcdef0123456789abcdef01234567"
	fleet[1].Build.ModuleVersion, fleet[1].Build.VcsRevision, fleet[1].Build.VcsModified = "(devel)", "fedcba9876543210fedcba9876543210fedcba98", true
	fleet[1].Process.StartTime = before(12 * time.Minute)
	for _, i := range fleet {
		if !isGone(i) {
			i.Health = &apiv1.Health{Level: apiv1.HealthLevel_HEALTH_LEVEL_OK}
		}
	}
	fleet[1].Health = troubled(
		issue("memory", apiv1.HealthLevel_HEALTH_LEVEL_CRITICAL, 0.972, 0.95),
		issue("cpu", apiv1.HealthLevel_HEALTH_LEVEL_WARNING, 0.91, 0.85))
	fleet[4].Health = troubled(issue("heartbeat", apiv1.HealthLevel_HEALTH_LEVEL_WARNING, 8, 15))
	fleet[7].Health = nil
	fleet[7].Agentless, fleet[7].Source, fleet[7].Heartbeat, fleet[7].Process = true, "static", nil, nil
	return fleet
}

func (c *centre) ListSources(context.Context, *connect.Request[apiv1.ListSourcesRequest]) (*connect.Response[apiv1.ListSourcesResponse], error) {
	const refused = "the API server refuses to list and watch statefulsets in all namespaces: how many there should be is not known; give the centre's service account a role that may, or set no_expect"
	return connect.NewResponse(&apiv1.ListSourcesResponse{
		Sources: []*apiv1.Source{
			{Name: "kubernetes", Targets: 5, Heard: before(time.Minute), Expects: 2, Unknown: refused},
			{Name: "consul 10.0.0.1:8500", Targets: 2, Heard: before(time.Hour), Problem: "no answer", StaleSince: before(20 * time.Minute), Expects: 1},
			{Name: "static", Targets: 1, Heard: before(time.Hour)},
		},
		Shortages: []*apiv1.Shortage{
			{Project: "color-game", Service: "game-service", Expected: 4, Up: 2, Since: before(5 * time.Minute), Says: "Kubernetes deployment games/game-service", Alarm: true},
			{Project: "poker", Service: "lost-service", Expected: 2, Since: before(time.Hour), Says: "Consul service lost-service", StaleSince: before(20 * time.Minute)},
		},
		Absences: []*apiv1.Absence{
			{Source: "kubernetes", Project: "color-game", Service: "game-service", Address: "pod games/game-service-3", Since: before(5 * time.Minute), Problem: "no agent in it is connected", Complaint: "CrashLoopBackOff"},
		},
	}), nil
}

func (c *centre) ListInstances(_ context.Context, r *connect.Request[apiv1.ListInstancesRequest]) (*connect.Response[apiv1.ListInstancesResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	res := &apiv1.ListInstancesResponse{}
	for _, i := range c.instances {
		if (r.Msg.GetProject() == "" || i.GetProject() == r.Msg.GetProject()) && (r.Msg.GetService() == "" || i.GetService() == r.Msg.GetService()) && (r.Msg.GetIncludeGone() || !isGone(i)) {
			res.Instances = append(res.Instances, i)
		}
	}
	return connect.NewResponse(res), nil
}

func (c *centre) StartCapture(_ context.Context, r *connect.Request[apiv1.StartCaptureRequest]) (*connect.Response[apiv1.StartCaptureResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, proto.CloneOf(r.Msg))
	if r.Msg.GetNote() == "one too many" {
		return nil, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("4 captures are running, which is the limit: wait for one to end"))
	}
	capture := &apiv1.Capture{
		Id: fmt.Sprintf("01jz000000000000000000%04d", len(c.captures)+1), Project: r.Msg.GetProject(), Service: r.Msg.GetService(),
		Spec: r.Msg.GetSpec(), State: apiv1.CaptureState_CAPTURE_STATE_REQUESTED, Actor: "local:ann", Note: r.Msg.GetNote(), Created: timestamppb.New(testNow),
	}
	if capture.Spec.Duration == nil {
		capture.Spec.Duration = durationpb.New(30 * time.Second)
	}
	for _, i := range c.instances {
		if i.GetProject() != r.Msg.GetProject() || i.GetService() != r.Msg.GetService() || !isUp(i) {
			continue
		}
		if ids := r.Msg.GetInstanceIds(); len(ids) > 0 && !slices.Contains(ids, i.GetId()) {
			continue
		}
		if m := int(r.Msg.GetMaxInstances()); m > 0 && len(capture.Targets) == m {
			break
		}
		capture.Targets = append(capture.Targets, &apiv1.Target{Instance: i, State: apiv1.CaptureState_CAPTURE_STATE_REQUESTED})
	}
	c.captures = append(c.captures, capture)
	return connect.NewResponse(&apiv1.StartCaptureResponse{Capture: proto.CloneOf(capture)}), nil
}

func (c *centre) find(id string) (*apiv1.Capture, error) {
	for _, k := range c.captures {
		if k.GetId() == id {
			return k, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no capture %s: see the list of captures", id))
}

func (c *centre) GetCapture(_ context.Context, r *connect.Request[apiv1.GetCaptureRequest]) (*connect.Response[apiv1.GetCaptureResponse], error) {
	c.mu.Lock()
	if c.away > 0 {
		c.away--
		c.mu.Unlock()
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("restarting"))
	}
	k, err := c.find(r.Msg.GetCaptureId())
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	look := 0
	if !ended(k.GetState()) {
		c.looks[k.GetId()]++
		look = c.looks[k.GetId()]
		c.step(k, look)
	}
	res := connect.NewResponse(&apiv1.GetCaptureResponse{Capture: proto.CloneOf(k)})
	onLook := c.onLook
	c.mu.Unlock()
	if look > 0 && onLook != nil {
		onLook(look)
	}
	return res, nil
}

// step moves a running capture on: two looks collecting, then its end, which
// the note chooses.
func (c *centre) step(k *apiv1.Capture, look int) {
	if look < 3 || c.never {
		k.State = apiv1.CaptureState_CAPTURE_STATE_COLLECTING
		for _, t := range k.GetTargets() {
			t.State = k.State
			t.ReceivedBytes = int64(look) << 20
			t.Progress = &apiv1.TargetProgress{Elapsed: durationpb.New(time.Duration(min(look, 3)) * 10 * time.Second), Duration: k.GetSpec().GetDuration(), Activity: "recording CPU"}
		}
		return
	}
	c.end(k)
}

func (c *centre) end(k *apiv1.Capture) {
	k.State, k.Finished = apiv1.CaptureState_CAPTURE_STATE_DONE, timestamppb.New(testNow.Add(30*time.Second))
	for n, t := range k.GetTargets() {
		t.State, t.Progress = apiv1.CaptureState_CAPTURE_STATE_DONE, nil
		t.Artifacts = []*apiv1.Artifact{
			{Name: "cpu.pprof", Kind: "cpu", Phase: "window", SizeBytes: 300 << 10, Sha256: "ab12"},
			{Name: "heap.before.pprof", Kind: "heap", Phase: "before", SizeBytes: 1 << 10, Sha256: "aa11"},
			{Name: "runtime.json", Kind: "runtime", Phase: "window", SizeBytes: 20 << 10, Sha256: "cd34"},
			{Name: "trace.out", Kind: "trace", Phase: "window", SizeBytes: 3 << 20, Sha256: "ef56"},
		}
		switch {
		case k.GetNote() == "target dies" && n == len(k.GetTargets())-1:
			k.State, k.Reason = apiv1.CaptureState_CAPTURE_STATE_PARTIAL, "1 of 2 instances gave less than was asked"
			t.State, t.Reason = apiv1.CaptureState_CAPTURE_STATE_PARTIAL, "connection lost"
			t.Artifacts = t.Artifacts[:3]
			t.Losses = []*apiv1.Loss{{Kind: "trace", Reason: "disconnected", Message: "the process ended before the trace window"}}
			t.Artifacts[0].Losses = []*apiv1.Loss{{Kind: "cpu", Reason: "truncated", Message: "20 s of 30 s"}, {Kind: "cpu", Reason: "truncated", Message: "20 s of 30 s"}}
		case k.GetNote() == "all die":
			k.State, k.Reason = apiv1.CaptureState_CAPTURE_STATE_FAILED, "no instance could be reached"
			t.State, t.Reason, t.Artifacts = k.State, "connection refused", nil
		}
		for _, a := range t.GetArtifacts() {
			k.SizeBytes += a.GetSizeBytes()
		}
	}
}

func (c *centre) StopCapture(_ context.Context, r *connect.Request[apiv1.StopCaptureRequest]) (*connect.Response[apiv1.StopCaptureResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.find(r.Msg.GetCaptureId())
	if err != nil {
		return nil, err
	}
	if ended(k.GetState()) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("capture %s has ended already", k.GetId()))
	}
	c.stopped = append(c.stopped, k.GetId())
	if k.GetNote() != "deaf" {
		c.end(k)
		for _, t := range k.GetTargets() {
			t.StoppedEarly = true
		}
	}
	return connect.NewResponse(&apiv1.StopCaptureResponse{}), nil
}

func (c *centre) CancelCapture(_ context.Context, r *connect.Request[apiv1.CancelCaptureRequest]) (*connect.Response[apiv1.CancelCaptureResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.find(r.Msg.GetCaptureId())
	if err != nil {
		return nil, err
	}
	c.cancelled = append(c.cancelled, k.GetId())
	k.State, k.Reason = apiv1.CaptureState_CAPTURE_STATE_CANCELLED, "cancelled by local:ann"
	for _, t := range k.GetTargets() {
		t.State, t.Artifacts = k.State, nil
	}
	return connect.NewResponse(&apiv1.CancelCaptureResponse{}), nil
}

func (c *centre) ListCaptures(_ context.Context, r *connect.Request[apiv1.ListCapturesRequest]) (*connect.Response[apiv1.ListCapturesResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	res := &apiv1.ListCapturesResponse{}
	for _, k := range slices.Backward(c.captures) {
		if r.Msg.GetPageToken() != "" && k.GetId() >= r.Msg.GetPageToken() || r.Msg.GetProject() != "" && k.GetProject() != r.Msg.GetProject() || r.Msg.GetService() != "" && k.GetService() != r.Msg.GetService() {
			continue
		}
		if len(res.Captures) == min(2, int(r.Msg.GetPageSize())) { // small pages, so that there are several
			res.NextPageToken = res.Captures[len(res.Captures)-1].GetId()
			break
		}
		short := proto.CloneOf(k)
		for _, t := range short.GetTargets() {
			t.Artifacts = nil
		}
		res.Captures = append(res.Captures, short)
	}
	return connect.NewResponse(res), nil
}

func (c *centre) PinCapture(_ context.Context, r *connect.Request[apiv1.PinCaptureRequest]) (*connect.Response[apiv1.PinCaptureResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.find(r.Msg.GetCaptureId())
	if err != nil {
		return nil, err
	}
	k.Pinned = r.Msg.GetPinned()
	return connect.NewResponse(&apiv1.PinCaptureResponse{Capture: proto.CloneOf(k)}), nil
}

func (c *centre) DeleteCapture(_ context.Context, r *connect.Request[apiv1.DeleteCaptureRequest]) (*connect.Response[apiv1.DeleteCaptureResponse], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.find(r.Msg.GetCaptureId()); err != nil {
		return nil, err
	}
	c.captures = slices.DeleteFunc(c.captures, func(k *apiv1.Capture) bool { return k.GetId() == r.Msg.GetCaptureId() })
	return connect.NewResponse(&apiv1.DeleteCaptureResponse{}), nil
}

func (c *centre) ListTraceWindows(_ context.Context, r *connect.Request[apiv1.ListTraceWindowsRequest]) (*connect.Response[apiv1.ListTraceWindowsResponse], error) {
	path := fmt.Sprintf("trace/%s/%s/%s/", r.Msg.GetCaptureId(), r.Msg.GetInstanceId(), r.Msg.GetArtifact())
	return connect.NewResponse(&apiv1.ListTraceWindowsResponse{Windows: []*apiv1.TraceWindow{
		{FromGeneration: 1, ToGeneration: 2, Path: path + "1-2/"}, {FromGeneration: 3, ToGeneration: 4, Path: path + "3-4/"},
	}}), nil
}

var bundleBytes = []byte("PK\x03\x04 " + strings.Repeat("a bundle ", 10_000))

func (c *centre) bundle(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	_, err := c.find(r.PathValue("capture"))
	cut := c.cutBundle
	c.mu.Unlock()
	if err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"code":"not_found","message":"no capture %s: see the list of captures"}`, r.PathValue("capture"))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if cut {
		_, _ = w.Write(bundleBytes[:40_000])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(bundleBytes)
}

func (c *centre) importBundle(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	if err != nil || !strings.HasPrefix(string(b), "PK") {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"code":"data_loss","message":"this is no bundle: it is not a zip file"}`)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.imported = append(c.imported, string(b))
	k := &apiv1.Capture{Id: fmt.Sprintf("01jz000000000000000000%04d", len(c.captures)+1), Project: "color-game", Service: "game-service", State: apiv1.CaptureState_CAPTURE_STATE_DONE, Imported: true, SizeBytes: int64(len(b))}
	c.captures = append(c.captures, k)
	answer, err := protojson.Marshal(&apiv1.StartCaptureResponse{Capture: k})
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(answer)
}
