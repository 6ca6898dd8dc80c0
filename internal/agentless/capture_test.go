package agentless_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	profile "github.com/google/pprof/profile"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/agentless"
	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/archive/localblob"
	"github.com/opscenter/opscenter/internal/archive/sqlite"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
)

// child makes the test binary a process of its own that serves net/http/pprof.
const child = "AGENTLESS_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		serveAndBurn()
	}
	goleak.VerifyTestMain(m)
}

func serveAndBurn() {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // the process ends by being killed
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for { // a little work for the CPU profile to see
			for at := time.Now(); time.Since(at) < 2*time.Millisecond; {
			}
			time.Sleep(8 * time.Millisecond)
		}
	}()
	panic(http.Serve(l, mux)) //nolint:gosec // no timeouts: as a careless service does it
}

// spawn starts a process that can be killed.
func spawn(t *testing.T) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:noctx // killed below
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // it may be dead already
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(addr), kill
}

type engineFleet struct{ *fleet.Fleet }

func (f engineFleet) Instances(k ops.ServiceKey) []ops.Instance {
	return f.Fleet.Instances(fleet.Filter{Project: k.Project, Service: k.Service})
}

// centre is a fleet, an engine and an archive on disk, with one target.
func centre(t *testing.T, url string) (*capture.Engine, *archive.Archive) {
	t.Helper()
	dir := t.TempDir()
	rows, err := sqlite.Open(t.Context(), filepath.Join(dir, "ops.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rows.Close() })
	blobs, err := localblob.Open(localblob.Config{Dir: filepath.Join(dir, "blobs")})
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := any(blobs).(interface{ Close() error }); ok {
		t.Cleanup(func() { _ = c.Close() })
	}
	kept, err := archive.Open(t.Context(), archive.Config{Catalogue: rows, Blobs: blobs, Reserve: -1, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	known := fleet.New(fleet.Config{})
	engine := capture.New(capture.Config{Fleet: engineFleet{known}, Archive: kept})
	connector := agentless.New(agentless.Config{Fleet: known})

	ctx, cancel := context.WithCancel(t.Context())
	var ended []chan struct{}
	run := func(f func()) {
		c := make(chan struct{})
		ended = append(ended, c)
		go func() { defer close(c); f() }()
	}
	run(func() { _ = known.Run(ctx) })
	run(func() { _ = engine.Run(ctx) })
	run(func() {
		_ = connector.Connect(ctx, ops.Target{Project: "color-game", Service: "user-service", Source: "static", URL: url})
	})
	t.Cleanup(func() {
		cancel()
		for _, c := range ended {
			<-c
		}
	})
	changed := known.Subscribe()
	defer changed.Close()
	for len(known.Instances(fleet.Filter{})) == 0 {
		if _, err := changed.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return engine, kept
}

func request(d time.Duration, kinds ...ops.Kind) capture.Request {
	return capture.Request{Project: "color-game", Service: "user-service", Actor: "local:pia", Spec: ops.Spec{Duration: d, Kinds: kinds}}
}

func await(t *testing.T, e *capture.Engine, id ops.CaptureID) ops.Capture {
	t.Helper()
	for {
		s, err := e.Capture(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if s.State.Ended() {
			return s.Capture
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// recording waits until the one target of a capture is at an activity.
func recording(t *testing.T, e *capture.Engine, id ops.CaptureID, activity string) {
	t.Helper()
	for {
		s, err := e.Capture(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if s.State.Ended() {
			t.Fatalf("the capture is %s, %q, before it was at %s", s.State, s.Reason, activity)
		}
		for _, l := range s.Live {
			if strings.Contains(l.Progress.Activity, activity) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAKilledProcessLeavesEvidence(t *testing.T) {
	t.Parallel()
	url, kill := spawn(t)
	e, kept := centre(t, url)
	c, err := e.Start(t.Context(), request(16*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	recording(t, e, c.ID, "cpu segment 2")
	kill()
	at := time.Now()
	got := await(t, e, c.ID)
	if late := time.Since(at); late > 30*time.Second {
		t.Errorf("noticed after %v", late)
	}
	if got.State != ops.CapturePartial || !strings.HasPrefix(got.Reason, "connection lost at ") {
		t.Errorf("capture is %s, %q", got.State, got.Reason)
	}
	var names []string
	for _, a := range got.Targets[0].Artifacts {
		names = append(names, a.Name)
		if a.Name != "cpu.pprof" {
			continue
		}
		blob, _, err := kept.OpenArtifact(t.Context(), ops.ArtifactRef{Capture: got.ID, Instance: got.Targets[0].Instance.ID, Name: a.Name})
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.Parse(blob)
		_ = blob.Close() // read only
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Duration(p.DurationNanos); d < 7*time.Second || d > 12*time.Second {
			t.Errorf("cpu.pprof covers %v, want its first segment of 8 s", d)
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "trace.out" }) // it had just begun
	want := []string{
		"allocs.before.pprof", "block.before.pprof", "cpu.pprof", "goroutine.before.pprof", "heap.before.pprof",
		"mutex.before.pprof", "runtime.before.json", "runtime.json",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
}

func TestTwoCapturesAtOnceOfOneProcess(t *testing.T) {
	t.Parallel()
	url, _ := spawn(t)
	e, _ := centre(t, url)
	first, err := e.Start(t.Context(), request(8*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	recording(t, e, first.ID, "cpu segment 1") // and goes on for longer than the second takes
	second, err := e.Start(t.Context(), request(time.Second, ops.KindCPU, ops.KindHeap, ops.KindMutex))
	if err != nil {
		t.Fatal(err)
	}
	got := await(t, e, second.ID)
	if got.State != ops.CapturePartial || !strings.Contains(got.Reason, "cpu profiling already in use") {
		t.Errorf("the second is %s, %q", got.State, got.Reason)
	}
	got = await(t, e, first.ID)
	if got.State != ops.CaptureDone {
		t.Errorf("the first is %s, %q", got.State, got.Reason)
	}
	var names []string
	for _, a := range got.Targets[0].Artifacts {
		names = append(names, a.Name)
	}
	for _, want := range []string{"cpu.pprof", "block.pprof", "mutex.pprof", "allocs.pprof", "trace.out", "goroutine.txt", "runtime.json"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing of %v", want, names)
		}
	}
}
