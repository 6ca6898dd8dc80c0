package agent

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// breakAfter reads a capture's stream until enough, then cuts the connection
// under it, and returns what had arrived.
func breakAfter(t *testing.T, client *tunnelled, req *agentv1.CollectPerformanceDataRequest, enough func(*received) bool) *received {
	t.Helper()
	stream, err := client.CollectPerformanceData(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	r := newReceived(t)
	for !enough(r) {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r.take(m)
	}
	_ = client.conn.Close()
	for { // what was on its way
		m, err := stream.Recv()
		if err != nil {
			return r
		}
		r.take(m)
	}
}

func TestBrokenStreamIsTakenUpAgain(t *testing.T) {
	work(t)
	c := newCentre(t, "127.0.0.1:0", "")
	a := startTest(t, func(cfg *Config, tune *tuning) { cfg.Center = c.addr; tune.cpuSegment = time.Second })
	first := c.accept()
	const id = "capture-resume"
	r := breakAfter(t, first, request(id, 4*time.Second), func(r *received) bool {
		return r.named("cpu.0.pprof") != nil
	})
	if r.summary != nil {
		t.Fatal("the stream did not break")
	}
	have := len(r.artifacts)

	again := c.accept()
	// What was known first, then one number after the other: the window still runs.
	for n := uint32(1); ; n++ {
		if got := r.artifacts[n]; got != nil && got.end != nil {
			continue
		}
		over, err := fetch(t, again, id, n, r)
		if err != nil {
			t.Fatalf("artifact %d: %v", n, err)
		}
		if over {
			break
		}
	}
	again.sizes.check(t)
	if len(r.artifacts) <= have || r.summary.GetStoppedEarly() {
		t.Errorf("%d artifacts after %d before the break, summary %v", len(r.artifacts), have, r.summary)
	}
	for _, name := range []string{"cpu.0.pprof", "cpu.1.pprof", "heap.pprof", "trace.out", "runtime.json", "goroutine.before.pprof"} {
		r.file(name)
	}

	// From the middle, and from the end.
	whole := r.named("trace.out")
	part := &receivedArtifact{begin: whole.begin}
	half := whole.data.Len() / 2
	part.data.Write(whole.data.Bytes()[:half])
	second := newReceived(t)
	second.artifacts[whole.begin.Artifact] = part
	if _, err := fetch(t, again, id, whole.begin.Artifact, second); err != nil {
		t.Error(err)
	}
	second.file("trace.out")
	stream, err := again.FetchArtifact(t.Context(), &agentv1.FetchArtifactRequest{CaptureId: id, Artifact: 1, Offset: 1 << 40})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.OutOfRange {
		t.Errorf("an offset behind the end: %v", err)
	}

	// Acknowledged one by one, then all is forgotten.
	for n := range r.artifacts {
		if _, err := again.AckArtifact(t.Context(), &agentv1.AckArtifactRequest{CaptureId: id, Artifacts: []uint32{n, n, 4711}}); err != nil {
			t.Error(err)
		}
	}
	if n := a.captures.count(); n != 0 {
		t.Errorf("%d captures kept after the last acknowledgement", n)
	}
	if _, err := fetch(t, again, id, 1, newReceived(t)); status.Code(err) != codes.NotFound {
		t.Errorf("after the acknowledgement: %v", err)
	}
	if _, err := again.AckArtifact(t.Context(), &agentv1.AckArtifactRequest{CaptureId: "never-was"}); err != nil {
		t.Errorf("an unknown capture: %v", err)
	}
}

func TestFinishedCaptureIsKeptUntilAcknowledged(t *testing.T) {
	a, client := joined(t, nil)
	const id = "capture-kept"
	r := mustCollect(t, client, request(id, time.Second, agentv1.Kind_KIND_HEAP, agentv1.Kind_KIND_GOROUTINE))
	again := newReceived(t)
	for n := range r.artifacts {
		if _, err := fetch(t, client, id, n, again); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(again.names(), r.names()) {
		t.Errorf("fetched %q, want %q", again.names(), r.names())
	}
	if _, err := client.AckArtifact(t.Context(), &agentv1.AckArtifactRequest{CaptureId: id}); err != nil {
		t.Error(err)
	}
	if n := a.captures.count(); n != 0 {
		t.Errorf("%d captures kept", n)
	}
}

func TestUnacknowledgedCaptureIsGivenUp(t *testing.T) {
	a, client := joined(t, func(_ *Config, tune *tuning) { tune.keep = 100 * time.Millisecond })
	mustCollect(t, client, request("capture-old", time.Second, agentv1.Kind_KIND_HEAP))
	eventually(t, "the capture is given up", func() bool { return a.captures.count() == 0 })
}

func TestKeptCapturesAreFew(t *testing.T) {
	a, client := joined(t, nil)
	for _, id := range []string{"kept-1", "kept-2", "kept-3", "kept-4", "kept-5", "kept-6"} {
		mustCollect(t, client, request(id, time.Second, agentv1.Kind_KIND_RUNTIME))
	}
	if n := a.captures.count(); n != maxKept+1 {
		t.Errorf("%d captures kept, want %d and the last", n, maxKept)
	}
	if _, err := a.captures.get("kept-1"); err == nil {
		t.Error("the oldest is still there")
	}
}

// A stream whose connection breaks leaves the window running for the grace time;
// then everything is put back and dropped.
func TestAbandonedWindowIsDropped(t *testing.T) {
	c := newCentre(t, "127.0.0.1:0", "")
	const grace = 500 * time.Millisecond
	a := startTest(t, func(cfg *Config, tune *tuning) { cfg.Center = c.addr; tune.grace = grace })
	var broke time.Time
	breakAfter(t, c.accept(), request("capture-abandoned", time.Minute), func(r *received) bool { broke = time.Now(); return recording(r) })
	eventually(t, "the window is dropped", func() bool { return a.captures.count() == 0 })
	if after := time.Since(broke); after < grace {
		t.Errorf("the window was dropped %v after the break, want its grace time", after)
	}
	wantRestored(t)
	again := c.accept()
	if _, err := fetch(t, again, "capture-abandoned", 1, newReceived(t)); status.Code(err) != codes.NotFound {
		t.Errorf("after the grace time: %v", err)
	}
}

func recording(r *received) bool {
	n := len(r.progress)
	return n > 0 && r.progress[n-1].Activity == "recording"
}

func TestCancelDropsAtOnce(t *testing.T) {
	a, client := joined(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := collect(t, ctx, client, request("capture-cancel", time.Minute), func(r *received) {
		if recording(r) {
			cancel()
		}
	})
	cancel()
	if status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	eventually(t, "the capture is dropped well before the grace time", func() bool { return a.captures.count() == 0 })
	wantRestored(t)
}

// FetchArtifact of a growing artifact follows it while the capture's own stream
// goes on.
func TestFetchFollowsAGrowingArtifact(t *testing.T) {
	work(t)
	_, client := joined(t, nil)
	req := request("capture-follow", 3*time.Second, agentv1.Kind_KIND_TRACE)
	stream, err := client.CollectPerformanceData(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	main, follower := newReceived(t), newReceived(t)
	followed := make(chan error, 1)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		main.take(m)
		if b := m.GetArtifactBegin(); b != nil {
			go func() {
				_, err := fetch(t, client, "capture-follow", b.Artifact, follower)
				followed <- err
			}()
		}
	}
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	if got, want := follower.file("trace.out"), main.file("trace.out"); !slices.Equal(got, want) {
		t.Errorf("the follower has %d bytes, the stream %d", len(got), len(want))
	}
}

func TestFetchWaitsForTheSummary(t *testing.T) {
	_, client := joined(t, nil)
	stream, err := client.CollectPerformanceData(t.Context(), request("capture-wait", time.Second, agentv1.Kind_KIND_RUNTIME))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	r := newReceived(t)
	over, err := fetch(t, client, "capture-wait", 99, r)
	if err != nil || !over || r.summary == nil {
		t.Errorf("over %v, %v", over, err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
}

func TestFetchOfWhatCannotBe(t *testing.T) {
	_, client := joined(t, nil)
	for _, req := range []*agentv1.FetchArtifactRequest{{CaptureId: "some", Artifact: 0}, {CaptureId: "some", Artifact: 1, Offset: -1}} {
		stream, err := client.FetchArtifact(t.Context(), req)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
}

// A centre that died leaves its window behind. The one that follows gets the
// profilers; the same one, back after a broken connection, keeps its window.
func TestANewCentreEndsTheWindowOfADeadOne(t *testing.T) {
	for name, c := range map[string]struct {
		next  string
		inUse bool
	}{
		"another run of the centre": {"run-2", false},
		"the same run":              {"run-1", true},
	} {
		t.Run(name, func(t *testing.T) {
			dead := newCentre(t, "127.0.0.1:0", "")
			a := startTest(t, func(cfg *Config, _ *tuning) { cfg.Center = dead.addr })
			left := request("capture-left", time.Minute, agentv1.Kind_KIND_CPU)
			left.CenterId = "run-1"
			breakAfter(t, dead.accept(), left, recording)

			next := request("capture-next", time.Second, agentv1.Kind_KIND_CPU)
			next.CenterId = c.next
			r := mustCollect(t, dead.accept(), next)
			inUse := slices.ContainsFunc(r.summary.GetLosses(), func(l *agentv1.Loss) bool {
				return l.GetReason() == agentv1.LossReason_LOSS_REASON_IN_USE
			})
			if inUse != c.inUse {
				t.Errorf("the profiler is in use: %v, want %v; losses %v", inUse, c.inUse, r.summary.GetLosses())
			}
			if _, err := a.captures.get("capture-left"); (err == nil) != c.inUse {
				t.Errorf("the window that was left: %v", err)
			}
		})
	}
}

// A centre that comes back acknowledges every artifact before it asks whether
// there is another: what is left for it then is the summary.
func TestTheSummaryOutlivesTheLastArtifact(t *testing.T) {
	c := newCentre(t, "127.0.0.1:0", "")
	a := startTest(t, func(cfg *Config, _ *tuning) { cfg.Center = c.addr })
	const id = "capture-summary"
	breakAfter(t, c.accept(), request(id, 2*time.Second, agentv1.Kind_KIND_GOROUTINE), recording)
	again, r := c.accept(), newReceived(t)
	for n := uint32(1); ; n++ {
		over, err := fetch(t, again, id, n, r)
		if err != nil {
			t.Fatalf("artifact %d: %v", n, err)
		}
		if over {
			break
		}
		if _, err := again.AckArtifact(t.Context(), &agentv1.AckArtifactRequest{CaptureId: id, Artifacts: []uint32{n}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the window has ended, or goes on", func() bool {
			kept, err := a.captures.get(id)
			return err != nil || n < 2 || kept.ended()
		})
	}
	if r.summary == nil {
		t.Error("no summary")
	}
	eventually(t, "nothing is kept once it was told", func() bool { return a.captures.count() == 0 })
}
