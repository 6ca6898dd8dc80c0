package agent

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

func TestSomethingElseProfiles(t *testing.T) {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	if err := trace.Start(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer trace.Stop()
	_, client := joined(t, nil)
	r := mustCollect(t, client, request("capture-inuse", time.Second))
	const wantCPU = "there is no CPU profile: something else in the process is taking a CPU profile (cpu profiling already in use)"
	if l := r.wantLoss(agentv1.Kind_KIND_CPU, lossInUse); l.Message != wantCPU {
		t.Errorf("loss %q, want %q", l.Message, wantCPU)
	}
	const wantTrace = "there is no trace: something else in the process is tracing (execution tracer already enabled)"
	if l := r.wantLoss(agentv1.Kind_KIND_TRACE, lossInUse); l.Message != wantTrace {
		t.Errorf("loss %q, want %q", l.Message, wantTrace)
	}
	for _, name := range []string{"heap.pprof", "goroutine.pprof", "block.after.pprof", "mutex.after.pprof", "runtime.json", "goroutine.txt"} {
		r.file(name)
	}
	if !trace.IsEnabled() {
		t.Error("the stranger's trace was stopped")
	}
	if err := pprof.StartCPUProfile(io.Discard); err == nil {
		t.Error("the stranger's CPU profile was stopped")
	}
}

func TestTwoCapturesAtOnce(t *testing.T) {
	_, client := joined(t, nil)
	results := make([]*received, 2)
	var err error
	results[0], err = collect(t, t.Context(), client, request("capture-a", time.Minute), func(r *received) {
		if results[1] != nil || !recording(r) {
			return
		}
		results[1] = mustCollect(t, client, request("capture-b", time.Second))
		if _, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "capture-a"}); err != nil {
			t.Error(err)
		}
	})
	if err != nil || results[1] == nil {
		t.Fatal(err, results[1])
	}
	inUse := 0
	for _, r := range results {
		for _, name := range []string{"heap.pprof", "goroutine.pprof", "block.after.pprof", "mutex.after.pprof", "runtime.json"} {
			r.file(name)
		}
		if r.loss(agentv1.Kind_KIND_CPU, lossInUse) != nil {
			inUse++
		}
	}
	if inUse != 1 {
		t.Errorf("%d captures miss the CPU profile, want one", inUse)
	}
	wantRestored(t)
}

// A profiler that ends while a segment waits for it leaves the rest to us.
func TestProfilerBecomesFree(t *testing.T) {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	_, client := joined(t, nil)
	once := false
	r, err := collect(t, t.Context(), client, request("capture-later", 4*time.Second, agentv1.Kind_KIND_CPU), func(r *received) {
		if recording(r) && !once {
			once = true
			pprof.StopCPUProfile()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profile.ParseData(r.file("cpu.0.pprof")); err != nil {
		t.Error(err)
	}
	if l := r.wantLoss(agentv1.Kind_KIND_CPU, lossInUse); !strings.HasPrefix(l.Message, "the CPU profile misses ") {
		t.Errorf("loss %q", l.Message)
	}
}

func TestSomethingElseStopsOurProfile(t *testing.T) {
	_, client := joined(t, nil)
	once := false
	r, err := collect(t, t.Context(), client, request("capture-stopped", time.Minute, agentv1.Kind_KIND_CPU), func(r *received) {
		if recording(r) && !once {
			once = true
			pprof.StopCPUProfile()
			if _, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "capture-stopped"}); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profile.ParseData(r.file("cpu.0.pprof")); err != nil {
		t.Error(err)
	}
	const want = "something else in the process stopped the CPU profile before its time: it covers less than its window"
	if l := r.wantLoss(agentv1.Kind_KIND_CPU, lossTruncated); l.Message != want {
		t.Errorf("loss %q, want %q", l.Message, want)
	}
}

func TestNoWritableSpool(t *testing.T) {
	work(t)
	a, client := joined(t, func(c *Config, _ *tuning) { c.SpoolDir = filepath.Join(t.TempDir(), "nowhere") })
	r := mustCollect(t, client, request("capture-nospool", 2*time.Second))
	for _, name := range []string{"cpu.0.pprof", "heap.pprof", "goroutine.pprof", "trace.out", "runtime.json"} {
		r.file(name)
	}
	if l := r.wantLoss(kindOfAll, lossFailed); !strings.HasPrefix(l.Message, "there is no writable spool directory (open ") {
		t.Errorf("loss %q", l.Message)
	}
	for _, got := range r.artifacts {
		if got.begin.Resumable {
			t.Errorf("%s says it is resumable", got.begin.Name)
		}
	}
	if n := a.captures.count(); n != 0 {
		t.Errorf("%d captures kept, of which nothing is left", n)
	}
}

func TestSpoolLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	_, client := joined(t, func(c *Config, _ *tuning) { c.SpoolDir = dir })
	mustCollect(t, client, request("capture-files", time.Second))
	// The data is still kept, in files that have no name.
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("files %v in the spool directory, %v", files, err)
	}
}

func TestTraceCap(t *testing.T) {
	_, client := joined(t, nil)
	stop := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(stop)
	ping := make(chan int)
	for range 4 { // some MB a second of events
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case ping <- 1:
				}
			}
		})
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-ping:
				}
			}
		})
	}
	req := request("capture-cap", 30*time.Second, agentv1.Kind_KIND_TRACE)
	req.TraceWindow = durationpb.New(30 * time.Second)
	req.TraceMaxBytes = 1 << 20
	once := false
	r, err := collect(t, t.Context(), client, req, func(r *received) {
		if !once && slices.Contains(r.events, "end trace.out") { // and the window would go on without it
			once = true
			if _, err := client.StopCapture(t.Context(), &agentv1.StopCaptureRequest{CaptureId: "capture-cap"}); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	data := r.file("trace.out")
	if len(data) < 1<<20 || len(data) > 16<<20 {
		t.Errorf("the trace has %d bytes, want the cap of 1 MiB and its flush", len(data))
	}
	if span := readTrace(t, data); span <= 0 || span > 25*time.Second {
		t.Errorf("the trace spans %v, want less than its window", span)
	}
	if l := r.wantLoss(agentv1.Kind_KIND_TRACE, lossTruncated); !strings.HasPrefix(l.Message, "the trace reached its cap of 1048576 bytes after ") {
		t.Errorf("loss %q", l.Message)
	}
}

// A spool that does not take anything must not hold up the trace.
func TestStuckTraceSpool(t *testing.T) {
	release := make(chan struct{})
	stopped := make(chan struct{})
	p := newTracePipe(writerFunc(func(b []byte) (int, error) { <-release; return len(b), nil }), 1<<30, func() { close(stopped) })
	go p.drain()
	block := make([]byte, 64<<10)
	start := time.Now()
	for range 1000 {
		if n, err := p.Write(block); n != len(block) || err != nil {
			t.Fatal(n, err)
		}
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("1000 writes took %v", took)
	}
	<-stopped
	p.close()
	close(release)
	<-p.drained
	asked, lost, err := p.result()
	if asked != traceSpoolSlow || lost < 1000*64<<10-pipeHardBytes-64<<10 || err != nil {
		t.Errorf("asked %v, lost %d, %v", asked, lost, err)
	}
}

func TestHundredThousandGoroutines(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a gigabyte")
	}
	const many = 100_000
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range many {
		all.Go(func() { <-stop })
	}
	defer all.Wait()
	defer close(stop)
	_, client := joined(t, nil)
	start := time.Now()
	r := mustCollect(t, client, request("capture-many", time.Second))
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("took %v", took)
	}
	p, err := profile.ParseData(r.file("goroutine.pprof"))
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, s := range p.Sample {
		n += s.Value[0]
	}
	if n < many {
		t.Errorf("the profile has %d goroutines, want %d", n, many)
	}
	if l := r.wantLoss(agentv1.Kind_KIND_GOROUTINE_DUMP, lossSkipped); !strings.HasPrefix(l.Message, "goroutine.txt was not taken: with 1000") {
		t.Errorf("loss %q", l.Message)
	}
}

func TestNoCollectionForABusyProcess(t *testing.T) {
	for _, tc := range []struct {
		recent       int
		cores, quota float64
		want         string
	}{
		{5, 1.7, 2, ""},
		{6, 0, 2, "the collector already ran 6 times in the last 5s"},
		{0, 1.8, 2, "the process uses 1.80 of its 2.00 cores"},
		{0, 0.45, 0.5, "the process uses 0.45 of its 0.50 cores"},
	} {
		if err := collectionHurts(tc.recent, tc.cores, tc.quota, cpuShareMax); err == nil && tc.want != "" || err != nil && err.Error() != tc.want {
			t.Errorf("%d collections, %v of %v cores: %v, want %q", tc.recent, tc.cores, tc.quota, err, tc.want)
		}
	}
	_, client := joined(t, func(_ *Config, tune *tuning) { tune.cpuShareMax = 0 }) // always too busy
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := mustCollect(t, client, request("capture-busy", time.Second, agentv1.Kind_KIND_HEAP))
	runtime.ReadMemStats(&after)
	if after.NumForcedGC != before.NumForcedGC {
		t.Errorf("%d collections were forced", after.NumForcedGC-before.NumForcedGC)
	}
	for _, name := range []string{"heap.before.pprof", "heap.pprof"} {
		losses := r.named(name).end.Losses
		if len(losses) != 1 || losses[0].Reason != lossSkipped || !strings.HasPrefix(losses[0].Message, name+" is as of the last garbage collection: none was run for it, because the process uses ") {
			t.Errorf("%s: losses %v", name, losses)
		}
	}
}

func TestLeakGate(t *testing.T) {
	text := func(waiters string) profileText {
		return profileText("goroutine profile: total 9\n" +
			"5 @ 0x47 0x48\n# labels: {\"a\":\"b\"}\n#\t0x47\tmain.idle+0x1\t/a/b.go:1\n\n" +
			waiters + " @ 0x1 0x2\n#\t0x48e0ad\tsync.runtime_SemacquireMutex+0x2d\t/go/sema.go:95\n#\t0x2\tmain.lock+0x2\t/a/b.go:2\n\n" +
			"700 @ 0x1 0x3\n#\t0x48e0ad\tsync.runtime_notifyListWait+0x2d\t/go/sema.go:95\n\n")
	}
	if err := leakGate(5000, text("1300")); err != nil {
		t.Errorf("2000 waiters: %v", err)
	}
	for name, tc := range map[string]struct {
		goroutines int
		profile    profileText
		want       string
	}{
		"waiters":    {5000, text("1301"), "2001 goroutines wait on mutexes, wait groups or conditions, more than 2000: the process could stop for seconds"},
		"goroutines": {200_001, text("1"), "200001 goroutines are more than 200000"},
	} {
		if err := leakGate(tc.goroutines, tc.profile); err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	// What the runtime writes is what is read.
	var mu sync.Mutex
	mu.Lock()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { mu.Lock(); mu.Unlock() }) //nolint:staticcheck // only to wait
	}
	var c waiterCount
	eventually(t, "20 waiters are counted", func() bool {
		c = waiterCount{}
		if err := pprof.Lookup("goroutine").WriteTo(&c, 1); err != nil {
			t.Fatal(err)
		}
		return c.waiters >= 20
	})
	mu.Unlock()
	all.Wait()
}

type profileText string

// WriteTo writes the text in small pieces, as the runtime does.
func (p profileText) WriteTo(w io.Writer, _ int) error {
	for b := []byte(p); len(b) > 0; {
		n := min(len(b), 7)
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func TestLeaksAtMostEveryTenMinutes(t *testing.T) {
	r := &runtimeArbiter{}
	now := time.Now()
	if err := r.mayLookForLeaks(now); err != nil {
		t.Error(err)
	}
	const want = "the last one was 4m0s ago and one is taken at most every 10m0s: ask again later"
	if err := r.mayLookForLeaks(now.Add(4 * time.Minute)); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := r.mayLookForLeaks(now.Add(10 * time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestQueueHoldsNoMoreThanItsSpace(t *testing.T) {
	done := make(chan struct{})
	s := newSpool(filepath.Join(t.TempDir(), "nowhere"), 1<<30, done)
	st := s.open()
	if st.resumable() || s.loss() == nil {
		t.Fatal("a queue says it is a file")
	}
	data := make([]byte, queueBytes+1)
	for i := range data {
		data[i] = byte(i / 251)
	}
	if n, err := st.Write(data); n == len(data) || err != errQueueFull {
		t.Errorf("wrote %d, %v", n, err)
	}
	var got bytes.Buffer
	b := make([]byte, chunkBytes)
	for {
		n, err := st.ReadAt(b, int64(got.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		got.Write(b[:n])
	}
	if !bytes.HasPrefix(data, got.Bytes()) || got.Len() < queueBytes-chunkBytes {
		t.Errorf("read %d bytes", got.Len())
	}
	if _, err := st.ReadAt(b, 0); err == nil {
		t.Error("what was sent could be read again")
	}
	st.close()
	if _, err := st.Write(data[:1]); err != errStoreClosed {
		t.Errorf("after close: %v", err)
	}
}

func TestCaptureLimitCutsArtifacts(t *testing.T) {
	work(t)
	const limit = 16 << 10 // less than any trace
	_, client := joined(t, func(c *Config, _ *tuning) { c.Limits.MaxCaptureBytes = limit })
	r := mustCollect(t, client, request("capture-small", time.Second, agentv1.Kind_KIND_TRACE, agentv1.Kind_KIND_GOROUTINE))
	total := 0
	for _, a := range r.artifacts {
		total += a.data.Len()
	}
	if total > limit {
		t.Errorf("%d bytes arrived, the limit is %d", total, limit)
	}
	if l := r.wantLoss(agentv1.Kind_KIND_TRACE, lossTruncated); !strings.HasPrefix(l.Message, "the last ") && l.Message != "trace.out was cut: the capture's size limit is reached" {
		t.Errorf("losses %v", r.losses())
	}
	if l := r.wantLoss(agentv1.Kind_KIND_GOROUTINE, lossTruncated); l.Message != "goroutine.pprof was cut: the capture's size limit is reached" {
		t.Errorf("loss %q", l.Message)
	}
}
