package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/exp/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// work keeps a process a little busy, with blocking and contention, until the
// test ends.
func work(t testing.TB) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	pass := make(chan []byte)
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case pass <- bytes.Repeat([]byte("x"), 32<<10):
				}
			}
		})
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case b := <-pass:
					mu.Lock()
					time.Sleep(time.Millisecond)
					_ = bytes.Count(b, []byte("xx"))
					mu.Unlock()
				}
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		all.Wait()
	})
}

func TestFullSetArrives(t *testing.T) {
	work(t)
	a, client := joined(t, func(c *Config, tune *tuning) { tune.cpuSegment = 2 * time.Second })
	req := request("capture-full", 4*time.Second)
	req.TraceWindow = durationpb.New(2 * time.Second)
	r := mustCollect(t, client, req)
	client.sizes.check(t)
	span := r.summary.WindowEnd.AsTime().Sub(r.summary.WindowStart.AsTime())

	want := []string{
		"allocs.after.pprof", "allocs.before.pprof", "block.after.pprof", "block.before.pprof",
		"cpu.0.pprof", "cpu.1.pprof", "goroutine.before.pprof", "goroutine.pprof", "goroutine.txt",
		"heap-types.before.json", "heap-types.json", "heap.before.pprof", "heap.pprof", "mutex.after.pprof", "mutex.before.pprof",
		"runtime.before.json", "runtime.json", "trace.out",
	}
	if pprof.Lookup("goroutineleak") != nil { // built with the experiment, or with Go 1.27
		want = slices.Insert(want, slices.Index(want, "heap-types.before.json"), "goroutineleak.pprof")
	}
	if got := r.names(); !slices.Equal(got, want) {
		t.Errorf("artifacts\n%q\nwant\n%q", got, want)
	}
	for _, name := range want {
		data := r.file(name)
		switch {
		case strings.HasSuffix(name, ".pprof"):
			p, err := profile.ParseData(data)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			switch name {
			case "block.after.pprof", "mutex.after.pprof", "goroutine.pprof", "allocs.after.pprof", "cpu.0.pprof":
				if len(p.Sample) == 0 {
					t.Errorf("%s has no sample", name)
				}
			}
		case name == "trace.out":
			if traced := readTrace(t, data); traced < 500*time.Millisecond || traced >= span {
				t.Errorf("the trace spans %v, want the last 2 s of a window of %v", traced, span)
			}
		case name == "goroutine.txt":
			if !bytes.Contains(data, []byte("goroutine ")) || !bytes.Contains(data, []byte("[")) {
				t.Errorf("goroutine.txt holds no states: %.100s", data)
			}
		}
	}

	// What a dying process leaves comes first.
	before := []string{"begin runtime.before.json", "begin goroutine.before.pprof", "begin heap.before.pprof"}
	if got := slices.DeleteFunc(slices.Clone(r.events), func(e string) bool { return !strings.HasPrefix(e, "begin ") }); !slices.Equal(got[:3], before) {
		t.Errorf("the first artifacts are %q, want %q", got[:3], before)
	}
	// What the window begins with is sent before it has ended, and so is a segment
	// when it closes.
	for _, name := range []string{"runtime.before.json", "goroutine.before.pprof", "heap.before.pprof", "cpu.0.pprof"} {
		if slices.Index(r.events, "end "+name) > slices.Index(r.events, "begin heap.pprof") {
			t.Errorf("%s came with the rest: %q", name, r.events)
		}
	}
	r.wantLoss(agentv1.Kind_KIND_CPU, lossGap)
	if pprof.Lookup("goroutineleak") == nil {
		r.wantLoss(agentv1.Kind_KIND_GOROUTINE_LEAK, lossUnsupported)
	}
	if n := len(r.progress); n < 2 { // a busy machine tells less often
		t.Errorf("%d progress messages in 4 s, want one a second at least", n)
	}
	if span < 4*time.Second || span > time.Minute || r.summary.StoppedEarly || r.summary.ProcessCpuTime.AsDuration() <= 0 {
		t.Errorf("summary %v", r.summary)
	}

	var before0, over runtimeFile
	for name, f := range map[string]*runtimeFile{"runtime.before.json": &before0, "runtime.json": &over} {
		if err := json.Unmarshal(r.file(name), f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if f.Schema != "opscenter.runtime/v1" || f.Capture != "capture-full" || f.Instance.ID != a.BootID() || f.Process.PID != int32(os.Getpid()) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if n := len(over.Series.Seconds); n < 2 || len(before0.Series.Seconds) != 0 {
		t.Errorf("%d points in the series, want one a second", n)
	}
	for name, col := range over.Series.Columns {
		if len(col) != len(over.Series.Seconds) {
			t.Errorf("column %s has %d values, want %d", name, len(col), len(over.Series.Seconds))
		}
	}
	for _, name := range []string{"/sched/goroutines:goroutines", "/gc/heap/live:bytes", "ops/cpu:cores", "ops/rss:bytes"} {
		if col := over.Series.Columns[name]; len(col) == 0 || slices.Max(col) <= 0 {
			t.Errorf("column %s is %v", name, col)
		}
	}
	if h := over.Histograms["/sched/latencies:seconds"]; len(h.Buckets) != len(h.Counts)+1 || len(h.Counts) < 2 {
		t.Errorf("histogram %+v", h)
	}
	if over.Rates != (runtimeRates{BlockNanos: 1, MutexFraction: 1}) {
		t.Errorf("rates %+v", over.Rates)
	}
	if findBlockRate().known() && findBlockRate().ticks() != 0 {
		t.Errorf("the block rate is %d after the capture", findBlockRate().ticks())
	}
}

func readTrace(t *testing.T, data []byte) time.Duration {
	t.Helper()
	r, err := trace.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var first, last trace.Time
	for n := 0; ; n++ {
		ev, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			return last.Sub(first)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = ev.Time()
		}
		last = ev.Time()
	}
}

func TestOnlyTheKindsAskedFor(t *testing.T) {
	_, client := joined(t, nil)
	r := mustCollect(t, client, request("capture-heap", time.Second, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_HEAP_TYPES))
	if want := []string{"heap-types.before.json", "heap-types.json", "heap.before.pprof", "heap.pprof"}; !slices.Equal(r.names(), want) {
		t.Errorf("artifacts %q, want %q", r.names(), want)
	}
}

func TestStopKeepsWhatIsThere(t *testing.T) {
	work(t)
	_, client := joined(t, nil)
	stopped := false
	r, err := collect(t, t.Context(), client, request("capture-stop", time.Minute), func(r *received) {
		if n := len(r.progress); !stopped && n > 0 && r.progress[n-1].Activity == "recording" {
			stopped = true
			if _, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "capture-stop"}); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !r.summary.GetStoppedEarly() {
		t.Fatalf("summary %v", r.summary)
	}
	for _, name := range []string{"cpu.0.pprof", "heap.pprof", "goroutine.pprof", "mutex.after.pprof", "runtime.json"} {
		r.file(name)
	}
	if span := readTrace(t, r.file("trace.out")); span < 500*time.Millisecond || span > 30*time.Second {
		t.Errorf("the trace spans %v, want the one second more", span)
	}
	const want = "the capture was stopped before its trace window began: it traced one second after the stop instead of 5s"
	if l := r.wantLoss(agentv1.Kind_KIND_TRACE, lossTruncated); l.Message != want {
		t.Errorf("loss %q, want %q", l.Message, want)
	}
}

func TestStopOfAnUnknownCapture(t *testing.T) {
	_, client := joined(t, nil)
	_, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "nowhere"})
	const want = `capture "nowhere" is not on this instance: it ended, was dropped, or belongs to another one`
	if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != want {
		t.Errorf("got %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	_, client := joined(t, func(c *Config, _ *tuning) { c.Limits = Limits{MaxDuration: time.Minute, MaxTraceBytes: 64 << 20} })
	for _, tc := range []struct {
		name   string
		change func(*agentv1.CollectPerformanceDataRequest)
		want   string
	}{
		{"id", func(r *agentv1.CollectPerformanceDataRequest) { r.CaptureId = "../etc" }, `capture id "../etc" is not valid: use 4 to 40 of 0-9, a-z and hyphen`},
		{"too short", func(r *agentv1.CollectPerformanceDataRequest) { r.Duration = durationpb.New(time.Millisecond) }, "duration 1ms is out of range: this process allows 1s to 1m0s"},
		{"too long", func(r *agentv1.CollectPerformanceDataRequest) { r.Duration = durationpb.New(time.Hour) }, "duration 1h0m0s is out of range: this process allows 1s to 1m0s"},
		{"own limit", func(r *agentv1.CollectPerformanceDataRequest) {
			r.Limits = &agentv1.Limits{MaxDuration: durationpb.New(2 * time.Second)}
			r.Duration = durationpb.New(3 * time.Second)
		}, "duration 3s is out of range: this process allows 1s to 2s"},
		{"trace window", func(r *agentv1.CollectPerformanceDataRequest) { r.TraceWindow = durationpb.New(time.Minute) }, "trace window 1m0s is out of range: this process allows up to 30s"},
		{"trace cap", func(r *agentv1.CollectPerformanceDataRequest) { r.TraceMaxBytes = 65 << 20 }, "trace cap of 68157440 bytes is out of range: this process allows 1048576 to 67108864"},
		{"fidelity", func(r *agentv1.CollectPerformanceDataRequest) { r.Fidelity = 9 }, "fidelity 9 is unknown: use full or balanced"},
		{"kind", func(r *agentv1.CollectPerformanceDataRequest) { r.Kinds = []agentv1.Kind{99} }, "artifact kind 99 is unknown to this agent (version 1.0.0): leave it out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := request("capture-bad", 2*time.Second)
			tc.change(req)
			_, err := collect(t, t.Context(), client, req, nil)
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestLimitOfCapturesAtOnce(t *testing.T) {
	a, client := joined(t, func(c *Config, _ *tuning) { c.Limits.MaxConcurrentCaptures = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	first, err := client.CollectPerformanceData(ctx, request("capture-one", time.Minute, agentv1.Kind_KIND_RUNTIME))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]codes.Code{"capture-one": codes.AlreadyExists, "capture-two": codes.ResourceExhausted} {
		if _, err := collect(t, t.Context(), client, request(id, time.Second), nil); status.Code(err) != want {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	cancel()
	eventually(t, "the cancelled capture makes room", func() bool { return a.captures.count() == 0 })
	if _, err := collect(t, t.Context(), client, request("capture-two", time.Second, agentv1.Kind_KIND_RUNTIME), nil); err != nil {
		t.Errorf("after the first was cancelled: %v", err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}
