package evidence_test

import (
	"bytes"
	"compress/gzip"
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

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

func file(name string, b []byte) evidence.File {
	return evidence.File{Name: name, Reader: bytes.NewReader(b), Size: int64(len(b))}
}

func lookup(t *testing.T, name string, debug int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup(name).WriteTo(&b, debug); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// contended makes block and mutex events.
func contended() {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				mu.Lock()
				time.Sleep(time.Millisecond)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// Names mean nothing: what a file is, it says itself.
func TestFilesAreKnownByTheirContent(t *testing.T) {
	defer runtime.SetBlockProfileRate(0)
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	runtime.SetBlockProfileRate(1)
	var cpu, tr bytes.Buffer
	if err := pprof.StartCPUProfile(&cpu); err != nil {
		t.Fatal(err)
	}
	if err := trace.Start(&tr); err != nil {
		t.Fatal(err)
	}
	contended()
	trace.Stop()
	pprof.StopCPUProfile()
	runtime.GC()

	e, err := evidence.Load(t.Context(), []evidence.File{
		file("1", cpu.Bytes()), file("2", tr.Bytes()), file("3", lookup(t, "heap", 0)), file("4", lookup(t, "allocs", 0)),
		file("5", lookup(t, "block", 0)), file("6", lookup(t, "mutex", 0)), file("7", lookup(t, "goroutine", 0)), file("8", lookup(t, "goroutine", 2)),
		file("9", []byte(`{"schema":"opscenter.runtime/v1","build":{"module_path":"github.com/opscenter/opscenter"},"window":{"seconds":3},"process":{"gomaxprocs":2}}`)),
	}, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if e.CPU == nil || e.Trace == nil || e.Heap == nil || e.Allocs == nil || e.Block == nil || e.Mutex == nil || e.Goroutines == nil || e.Dump == nil || e.Runtime == nil {
		t.Fatalf("%+v", e)
	}
	if len(e.Losses) > 0 {
		t.Errorf("losses %+v", e.Losses)
	}
	if !e.Block.Whole || !e.Mutex.Whole {
		t.Error("a plain block or mutex profile is of the process's whole life")
	}
	if e.Window != 3*time.Second || e.Procs() != 2 {
		t.Errorf("window %v, procs %d", e.Window, e.Procs())
	}
	// One frame for one line, whichever artifact it comes from.
	at := func(s evidence.Stack) *evidence.Frame {
		if i := s.Index(evidence.Named("github.com/opscenter/opscenter/internal/evidence_test.contended")); i >= 0 {
			return s[i]
		}
		return nil
	}
	unlock := e.Mutex.By(e.Mutex.Type("delay"), at)
	if len(unlock) != 1 || unlock[0].Frame.Origin != evidence.OwnCode {
		t.Fatalf("mutex: %+v", unlock)
	}
	same := slices.ContainsFunc(e.Trace.Locks, func(l evidence.Lock) bool {
		return slices.ContainsFunc(l.Unlocks, func(u evidence.Samples) bool { return at(u.Stack) == unlock[0].Frame })
	})
	if !same {
		t.Error("the trace's unlock is not the frame of the mutex profile")
	}
}

func TestTwoEndsMakeAWindow(t *testing.T) {
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	contended()
	before := lookup(t, "mutex", 0)
	contended()
	after := lookup(t, "mutex", 0)
	g := lookup(t, "goroutine", 0)
	e, err := evidence.Load(t.Context(), []evidence.File{
		file("mutex.after.pprof", after), file("mutex.before.pprof", before), file("goroutine.pprof", g), file("goroutine.before.pprof", g),
	}, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if e.Mutex == nil || e.Mutex.Whole || e.GoroutinesBefore == nil || e.Goroutines == nil {
		t.Fatalf("%+v", e)
	}
	whole, err := evidence.Load(t.Context(), []evidence.File{file("mutex", after)}, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	typ := e.Mutex.Type("contentions")
	if d, w := e.Mutex.Total(typ), whole.Mutex.Total(typ); d <= 0 || d >= w {
		t.Errorf("the window has %d contentions, the whole life %d", d, w)
	}
}

func TestOnlyTheStartSaysNothingOfTheWindow(t *testing.T) {
	e, err := evidence.Load(t.Context(), []evidence.File{file("allocs.before.pprof", lookup(t, "allocs", 0)), file("goroutine.pprof", lookup(t, "goroutine", 0))}, evidence.Options{})
	if err != nil || e.Allocs != nil {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestWhatCannotBeReadIsALoss(t *testing.T) {
	g := lookup(t, "goroutine", 0)
	heap := lookup(t, "heap", 0)
	e, err := evidence.Load(t.Context(), []evidence.File{
		file("goroutine.pprof", g), file("heap.pprof", heap[:len(heap)/2]), file("cpu.pprof", nil),
		file("trace.out", []byte("go 1.26 trace\x00\x00\x00 and nothing more")), file("runtime.json", []byte(`{"schema":"opscenter.runtime/v1","series":7}`)),
	}, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []ops.Kind{ops.KindHeap, ops.KindCPU, ops.KindTrace, ops.KindRuntime} {
		if e.Lost(k) == nil {
			t.Errorf("%s is lost without a word: %+v", k, e.Losses)
		}
	}
}

// People keep traces and dumps packed, as they keep everything.
func TestPackedTracesAndDumps(t *testing.T) {
	pack := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	var tr bytes.Buffer
	if err := trace.Start(&tr); err != nil {
		t.Fatal(err)
	}
	contended()
	trace.Stop()
	e, err := evidence.Load(t.Context(), []evidence.File{file("trace.out.gz", pack(tr.Bytes())), file("dump.txt.gz", pack(lookup(t, "goroutine", 2)))}, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !e.Has(ops.KindTrace) || !e.Has(ops.KindGoroutineDump) || len(e.Losses) != 0 {
		t.Errorf("trace %v, dump %v, losses %v", e.Has(ops.KindTrace), e.Has(ops.KindGoroutineDump), e.Losses)
	}
	cut := pack(tr.Bytes())
	_, err = evidence.Load(t.Context(), []evidence.File{file("trace.out.gz", cut[:len(cut)/2])}, evidence.Options{})
	if err == nil || !strings.Contains(err.Error(), "trace.out.gz could not be read") {
		t.Errorf("half of a packed trace: %v", err)
	}
}

// The text form of the other profiles is known for what it is.
func TestProfilesAsTextAreNotForReading(t *testing.T) {
	for _, name := range []string{"heap", "block", "mutex", "threadcreate"} {
		_, err := evidence.Load(t.Context(), []evidence.File{file(name, lookup(t, name, 1))}, evidence.Options{})
		if err == nil || !strings.Contains(err.Error(), "text form of ?debug=1") || !strings.Contains(err.Error(), "fetch it without ?debug") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingOfOurs(t *testing.T) {
	_, err := evidence.Load(t.Context(), []evidence.File{file("photo.jpg", []byte("\xff\xd8\xff\xe0JFIF")), file("set.json", []byte(`{"schema":"other/v1"}`))}, evidence.Options{})
	if ops.KindOf(err) != ops.Invalid || !strings.HasPrefix(err.Error(), `none of the 2 files is an artifact (set.json has the schema "other/v1"; photo.jpg: `) {
		t.Errorf("%v", err)
	}
}

func TestWhoseCode(t *testing.T) {
	known := evidence.NewFrames("example.com/shop")
	unknown := evidence.NewFrames("")
	for _, c := range []struct {
		frames         *evidence.Frames
		function, file string
		want           evidence.Origin
	}{
		{known, "main.main", "/src/main.go", evidence.OwnCode},
		{known, "example.com/shop/cart.(*Cart[...]).Add", "/src/cart/cart.go", evidence.OwnCode},
		{known, "example.com/shopping.Buy", "/root/go/pkg/mod/example.com/shopping@v1.0.0/b.go", evidence.LibraryCode},
		{known, "net/http.(*conn).serve", "/usr/local/go/src/net/http/server.go", evidence.StdCode},
		{known, "net/http.(*conn).serve", "net/http/server.go", evidence.StdCode},
		{known, "runtime.mallocgc", "/usr/local/go/src/runtime/malloc.go", evidence.RuntimeCode},
		{known, "internal/runtime/maps.(*Map).Put", "/usr/local/go/src/internal/runtime/maps/map.go", evidence.RuntimeCode},
		{known, "runtime.blockevent", "/usr/local/go/src/runtime/mprof.go", evidence.ObserverCode},
		{known, "github.com/opscenter/opscenter/agent.(*Agent).run", "/m/agent/agent.go", evidence.ObserverCode},
		{unknown, "github.com/jackc/pgx/v5.(*Conn).Exec", "/root/go/pkg/mod/github.com/jackc/pgx/v5@v5.1.0/conn.go", evidence.LibraryCode},
		{unknown, "example.com/shop/cart.Add", "/src/cart/cart.go", evidence.OwnCode},
		{unknown, "text/adventure.Run", "/home/dev/text/adventure/run.go", evidence.OwnCode},
		{unknown, "golang.org/x/net/http2.(*Framer).ReadFrame", "golang.org/x/net/http2/frame.go", evidence.LibraryCode},
		{unknown, "", "", evidence.RuntimeCode},
		{unknown, "gcWriteBarrier", "/usr/local/go/src/runtime/asm_amd64.s", evidence.RuntimeCode},
	} {
		if f := c.frames.Of(c.function, c.file, 1); f.Origin != c.want {
			t.Errorf("%s in %s: origin %d, want %d", c.function, c.file, f.Origin, c.want)
		}
	}
}

func TestHistogramQuantile(t *testing.T) {
	b := func(v float64) *float64 { return &v }
	h := evidence.Histogram{Counts: []uint64{90, 9, 1}, Bounds: []*float64{b(0), b(1), b(10), nil}}
	for q, want := range map[float64]float64{0.5: 1, 0.95: 10, 1: 10} {
		if got := h.Quantile(q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
	if got := (evidence.Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("empty: %v", got)
	}
}

// FuzzLoad reads whatever somebody calls an artifact.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"../goroutines/testdata/go1.26.8/*", "../trace/testdata/go1.2*.trace"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, p := range paths {
			if b, err := os.ReadFile(p); err == nil && len(b) < 64<<10 {
				f.Add(b)
			}
		}
	}
	f.Add([]byte(`{"schema":"opscenter.runtime/v1","histograms":{"x":{"counts":[1],"buckets":[null]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := evidence.Load(t.Context(), []evidence.File{file("x", b)}, evidence.Options{})
		if err == nil && e == nil {
			t.Error("neither evidence nor an error")
		}
	})
}

// go test -memprofile writes an allocs profile, which has the live heap in it.
func TestTheLiveHeapIsInAnAllocsProfile(t *testing.T) {
	e, err := evidence.Load(t.Context(), []evidence.File{file("mem.out", lookup(t, "allocs", 0))}, evidence.Options{})
	if err != nil || e.Heap == nil || e.Allocs == nil || !e.Allocs.Whole {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestAGoroutineDumpBehindALog(t *testing.T) {
	log := strings.Repeat("2026/11/22 03:00:00 something happened\n", 40) + "panic: no such room\n\n"
	e, err := evidence.Load(t.Context(), []evidence.File{file("crash.log", append([]byte(log), lookup(t, "goroutine", 2)...))}, evidence.Options{})
	if err != nil || e.Dump == nil || e.Dump.Total == 0 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestFiguresThatNoProcessHas(t *testing.T) {
	for _, bad := range []string{
		`{"schema":"opscenter.runtime/v1","process":{"gomaxprocs":9223372036854775807}}`,
		`{"schema":"opscenter.runtime/v1","window":{"seconds":-1}}`,
		`{"schema":"opscenter.runtime/v1","cgroup":{"cpu_quota_cores":1e300}}`,
	} {
		if _, err := evidence.ReadRuntime(strings.NewReader(bad)); ops.KindOf(err) != ops.Corrupt {
			t.Errorf("%s: %v", bad, err)
		}
	}
	r, err := evidence.ReadRuntime(strings.NewReader(`{"schema":"opscenter.runtime/v1","series":{"seconds":[0,1],"columns":{"a":[1,2],"short":[1],"huge":[1,1e300]}}}`))
	if err != nil || r.Values("a") == nil || r.Values("short") != nil || r.Values("huge") != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// A dump that is longer than Go ever writes is read as far as Go writes.
func TestAnEndlessDumpIsReadSoFar(t *testing.T) {
	one := "goroutine 7 [chan receive]:\nmain.wait(0x1)\n\t/x/main.go:3 +0x1\n\n"
	whole := bytes.Repeat([]byte(one), (65<<20)/len(one))
	e, err := evidence.Load(t.Context(), []evidence.File{file("dump.txt", whole)}, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n, most := e.Dump.Total, (64<<20)/len(one)+1; n > most || n < most-2 || e.Lost(ops.KindGoroutineDump) == nil {
		t.Errorf("%d goroutines, want those of 64 MiB: %d, and a loss: %v", n, most, e.Losses)
	}
}
