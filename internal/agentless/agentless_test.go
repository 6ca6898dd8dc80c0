package agentless_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	profile "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/agentless"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

// process is what a service that serves net/http/pprof looks like. Handlers in
// broken take the place of its endpoints.
type process struct {
	*httptest.Server
	requests atomic.Int64
}

func serve(t *testing.T, broken map[string]http.HandlerFunc, configure ...func(*httptest.Server)) *process {
	t.Helper()
	mux := http.NewServeMux()
	for path, h := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline,
		"/debug/pprof/profile": pprof.Profile, "/debug/pprof/trace": pprof.Trace,
	} {
		if broken[path] == nil {
			mux.HandleFunc(path, h)
		}
	}
	for path, h := range broken {
		mux.HandleFunc(path, h)
	}
	p := &process{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		mux.ServeHTTP(w, r)
	}))
	for _, c := range configure {
		c(p.Server)
	}
	p.Start()
	t.Cleanup(p.Server.Close)
	return p
}

func (p *process) target() ops.Target {
	return ops.Target{Project: "color-game", Service: "user-service", Source: "static", URL: p.URL + "/debug/pprof"}
}

// open reaches a target with more patience than a busy machine needs.
func open(t *testing.T, target ops.Target) (ops.Instance, *agentless.Link) {
	t.Helper()
	return openFor(t, time.Minute, target)
}

// hasty is for targets that are silent, so that a test waits for little; what does
// answer beside it must do so within it.
const hasty = 5 * time.Second

func openFor(t *testing.T, patience time.Duration, target ops.Target) (ops.Instance, *agentless.Link) {
	t.Helper()
	i, l, err := agentless.New(agentless.Config{Patience: patience}).Open(t.Context(), target)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(l.Close)
	return i, l
}

func TestLink(t *testing.T) {
	opstest.TestLink(t, func(t *testing.T) opstest.LinkTarget {
		p := serve(t, nil)
		_, l, err := agentless.New(agentless.Config{Patience: 3 * time.Second}).Open(t.Context(), p.target())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return opstest.LinkTarget{Link: l, Kill: func() {
			_ = p.Listener.Close()
			p.CloseClientConnections()
		}}
	})
}

// window runs one of a second over some kinds.
func window(t *testing.T, l ops.Link, kinds ...ops.Kind) (*opstest.Recorder, ops.CollectSummary, error) {
	t.Helper()
	spec, err := ops.Spec{Duration: time.Second, Kinds: kinds}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	r := opstest.NewRecorder()
	sum, err := l.Collect(t.Context(), "c-window", spec, r)
	return r, sum, err
}

func texts(losses []ops.Loss) (out []string) {
	for _, l := range losses {
		out = append(out, fmt.Sprintf("%s %s: %s", l.Kind, l.Reason, took.ReplaceAllString(l.Message, "connection after T")))
	}
	slices.Sort(out)
	return out
}

// took is a time that depends on the machine.
var took = regexp.MustCompile(`connection after [0-9.]+m?s`)

func artifactNames(r *opstest.Recorder) (out []string) {
	for _, a := range r.Artifacts() {
		name := a.Begun.Name
		if !a.Committed {
			name += " (partial)"
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func TestTheFullSetOfARealProcess(t *testing.T) {
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	c := make(chan int)
	go func() { c <- 1 }()
	<-c

	vars := map[string]http.HandlerFunc{"/debug/vars": func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(map[string]any{"cmdline": []string{"x"}, "memstats": m})
	}}
	_, l := open(t, serve(t, vars).target())
	r, sum, err := window(t, l)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"allocs.after.pprof", "allocs.before.pprof", "block.after.pprof", "block.before.pprof", "cpu.0.pprof",
		"goroutine.before.pprof", "goroutine.pprof", "goroutine.txt", "heap.before.pprof", "heap.pprof",
		"mutex.after.pprof", "mutex.before.pprof", "runtime.before.json", "runtime.json", "trace.out",
	}
	if diff := cmp.Diff(want, artifactNames(r)); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
	wantLosses := []string{
		"block not_set: the block profile's rate is the process's own and cannot be read from outside: waits shorter than it are sampled",
		"goroutineleak unsupported: the process lists no goroutine leak profile: it takes a build of Go 1.26 or later with that experiment",
		"heap-types unsupported: heap-types cannot be had from outside the process: put the agent in",
	}
	if diff := cmp.Diff(wantLosses, texts(sum.Losses)); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
	for _, a := range r.Artifacts() {
		switch {
		case strings.HasSuffix(a.Begun.Name, ".pprof"):
			if _, err := profile.ParseData(a.Data); err != nil {
				t.Errorf("%s: %v", a.Begun.Name, err)
			}
		case a.Begun.Name == "goroutine.txt":
			if !strings.HasPrefix(string(a.Data), "goroutine ") {
				t.Errorf("goroutine.txt begins with %.40q", a.Data)
			}
		case a.Begun.Name == "runtime.json":
			checkRuntime(t, a.Data)
		}
		wantPhase := ops.PhaseAfter
		switch {
		case strings.Contains(a.Begun.Name, ".before."):
			wantPhase = ops.PhaseBefore
		case slices.Contains([]ops.Kind{ops.KindCPU, ops.KindTrace, ops.KindRuntime}, a.Begun.Kind):
			wantPhase = ops.PhaseWindow
		}
		if a.Begun.Phase != wantPhase {
			t.Errorf("%s has phase %s, want %s", a.Begun.Name, a.Begun.Phase, wantPhase)
		}
	}
}

func checkRuntime(t *testing.T, data []byte) {
	t.Helper()
	var f struct {
		Schema   string
		Instance struct{ ID, Service string }
		Build    struct {
			GoVersion string `json:"go_version"`
		}
		Rates struct {
			MutexFraction int `json:"mutex_fraction"`
		}
		Series struct {
			Seconds []float64
			Columns map[string][]float64
		}
		Memory struct{ Before, After map[string]float64 }
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatalf("runtime.json: %v\n%s", err, data)
	}
	if f.Schema != "opscenter.runtime/v1" || f.Instance.Service != "user-service" || f.Build.GoVersion != "" && f.Build.GoVersion != runtime.Version() || f.Rates.MutexFraction != 1 {
		t.Errorf("runtime.json: %s", data)
	}
	if len(f.Series.Seconds) < 2 || len(f.Series.Columns["/sched/goroutines:goroutines"]) != len(f.Series.Seconds) || len(f.Series.Columns["/gc/heap/goal:bytes"]) != len(f.Series.Seconds) {
		t.Errorf("series: %+v", f.Series)
	}
	if f.Memory.After["/gc/heap/allocs:bytes"] < f.Memory.Before["/gc/heap/allocs:bytes"] || f.Memory.Before["/memory/classes/total:bytes"] == 0 {
		t.Errorf("memory: %+v", f.Memory)
	}
}

func text(code int, s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, s)
	}
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// heapProfile is what the real endpoint sends.
func heapProfile() []byte {
	w := httptest.NewRecorder()
	pprof.Handler("heap").ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	return w.Body.Bytes()
}

// TestBrokenEndpoints says for each way in which an endpoint may be broken which
// artifacts arrive all the same, and which losses are stated.
func TestBrokenEndpoints(t *testing.T) {
	heap := heapProfile()
	var plain bytes.Buffer
	if p, err := profile.ParseData(heap); err != nil {
		t.Fatal(err)
	} else if err := p.WriteUncompressed(&plain); err != nil {
		t.Fatal(err)
	}
	const heapBoth = "heap.before.pprof heap.pprof"
	for _, c := range []struct {
		name   string
		path   string // below /debug/pprof/
		h      http.HandlerFunc
		kinds  []ops.Kind
		files  string
		losses []string

		patience time.Duration
	}{
		{
			name: "an old Go without the endpoint", path: "mutex", h: text(404, "Unknown profile\n"), kinds: []ops.Kind{ops.KindHeap, ops.KindMutex},
			files: heapBoth, losses: []string{"mutex unsupported: mutex is not there (404 Not Found: Unknown profile): the process's Go version has no such profile, or does not serve it"},
		},
		{
			name: "forbidden", path: "profile", h: text(403, "<html><title>403 Forbidden</title>nginx</html>"), kinds: []ops.Kind{ops.KindCPU, ops.KindHeap},
			files: heapBoth, losses: []string{"cpu failed: profile is refused (403 Forbidden: 403 Forbidden): put credentials that may read it into the target's URL"},
		},
		{
			name: "an internal error", path: "heap", h: text(500, "out of \x1b[31mmemory\nsecond line"), kinds: []ops.Kind{ops.KindGoroutine, ops.KindHeap},
			files: "goroutine.before.pprof goroutine.pprof", losses: []string{"heap failed: heap answers 500 Internal Server Error: out of [31mmemory"},
		},
		{
			name: "the CPU profiler is in use", path: "profile", h: text(500, "Could not enable CPU profiling: cpu profiling already in use\n"), kinds: []ops.Kind{ops.KindCPU, ops.KindHeap},
			files: heapBoth, losses: []string{"cpu in_use: something else in the process is recording (Could not enable CPU profiling: cpu profiling already in use): the others are not affected"},
		},
		{
			name: "in use, said with 200", path: "trace", h: text(200, "Could not enable tracing: tracing is already enabled\n"), kinds: []ops.Kind{ops.KindTrace},
			files: "", losses: []string{"trace in_use: something else in the process is recording (Could not enable tracing: tracing is already enabled): the others are not affected"},
		},
		{
			name: "an HTML page instead of a profile", path: "heap", h: text(200, "<!doctype html><html><head><title>Sign in</title></head>"), kinds: []ops.Kind{ops.KindGoroutine, ops.KindHeap},
			files: "goroutine.before.pprof goroutine.pprof", losses: []string{"heap failed: heap answers with something else (Sign in): check the path of the target's URL"},
		},
		{
			name: "the text format of long ago", path: "heap", h: text(200, "heap profile: 3: 1024 [4: 2048] @ heap/1048576\n"), kinds: []ops.Kind{ops.KindHeap},
			files: "", losses: []string{"heap unsupported: heap answers in the text format of Go before 1.9, which holds no symbols"},
		},
		{
			name: "nothing", path: "heap", h: text(200, ""), kinds: []ops.Kind{ops.KindHeap},
			files: "", losses: []string{"heap failed: heap answered with nothing"},
		},
		{
			name: "a redirect", path: "heap", h: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://user:pw@169.254.169.254/latest?token=x", http.StatusFound)
			}, kinds: []ops.Kind{ops.KindHeap},
			files: "", losses: []string{"heap failed: heap answers with a redirect (302 Found to http://169.254.169.254/latest), which is not followed: use the final address in the target's URL"},
		},
		{
			name: "it hangs", path: "heap", h: hang, kinds: []ops.Kind{ops.KindGoroutine, ops.KindHeap},
			patience: hasty, files: "goroutine.before.pprof goroutine.pprof", losses: []string{"heap timed_out: heap sent nothing for 5s"},
		},
		{
			name: "the profile hangs", path: "profile", h: hang, kinds: []ops.Kind{ops.KindCPU, ops.KindHeap},
			patience: hasty, files: heapBoth, losses: []string{"cpu timed_out: profile sent nothing for 5s beyond the 1s it was to record"},
		},
		{
			name: "it hangs in the middle", path: "heap", h: func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write(heap[:len(heap)/2])
				_ = http.NewResponseController(w).Flush()
				hang(w, r)
			}, kinds: []ops.Kind{ops.KindHeap},
			patience: hasty, files: "heap.before.pprof (partial)", losses: []string{"heap timed_out: heap sent nothing for 5s"},
		},
		{
			name: "the connection dies in the middle", path: "heap", h: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(heap)))
				_, _ = w.Write(heap[:100])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}, kinds: []ops.Kind{ops.KindGoroutine, ops.KindHeap},
			files: "goroutine.before.pprof goroutine.pprof heap.before.pprof (partial) heap.pprof (partial)",
			losses: []string{
				"heap truncated: heap.before.pprof was cut off after 100 bytes: the server closed the connection after T (unexpected EOF)",
				"heap truncated: heap.pprof was cut off after 100 bytes: the server closed the connection after T (unexpected EOF)",
			},
		},
		{
			name: "a profile that is not compressed", path: "heap", h: text(200, plain.String()), kinds: []ops.Kind{ops.KindHeap}, files: heapBoth,
		},
		{
			name: "a proxy that compresses once more", path: "heap", h: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				_, _ = z.Write(heap)
				_ = z.Close()
			}, kinds: []ops.Kind{ops.KindHeap}, files: heapBoth,
		},
		{
			name: "an old server's WriteTimeout", path: "profile", h: text(400, "profile duration exceeds server's WriteTimeout\n"), kinds: []ops.Kind{ops.KindCPU, ops.KindHeap},
			files: heapBoth, losses: []string{"cpu failed: the server does not let a request last 1s (400 Bad Request: profile duration exceeds server's WriteTimeout): serve net/http/pprof without a WriteTimeout, or raise it"},
		},
		{
			name: "the server closes a long request", path: "profile", h: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, kinds: []ops.Kind{ops.KindCPU, ops.KindHeap},
			files: heapBoth, losses: []string{"cpu failed: the server closed the connection after T, of a request that records for 1s: its WriteTimeout, or a proxy's timeout, is probably shorter than that"},
		},
		{
			name: "block profiling is off", path: "{$}", h: text(200, indexPage(map[string]int{"goroutine": 5, "block": 0})), kinds: []ops.Kind{ops.KindBlock},
			files:  "block.after.pprof block.before.pprof",
			losses: []string{"block not_set: the block profile is empty, as it is where block profiling is off (the default); it cannot be switched on from outside: call runtime.SetBlockProfileRate in the service, or put the agent in"},
		},
		{
			name: "mutex profiling is off", path: "unused", h: text(200, ""), kinds: []ops.Kind{ops.KindMutex},
			files:  "mutex.after.pprof mutex.before.pprof",
			losses: []string{"mutex not_set: mutex profiling is off in the process (the default), so that the mutex profile has nothing of this window; it cannot be switched on from outside: call runtime.SetMutexProfileFraction in the service, or put the agent in"},
		},
		{
			name: "many goroutines", path: "{$}", h: text(200, indexPage(map[string]int{"goroutine": 5000, "goroutineleak": 0})), kinds: []ops.Kind{ops.KindGoroutine, ops.KindGoroutineDump, ops.KindGoroutineLeak},
			files: "goroutine.before.pprof goroutine.pprof",
			losses: []string{
				"goroutine-dump skipped: the process has 5000 goroutines: a dump of 1000 or more would stop it for long",
				"goroutineleak skipped: the process has 5000 goroutines: with 2000 or more the leak profile can stop it for long",
			},
		},
		{
			name: "an index of somebody's own", path: "{$}", h: text(200, "<html>welcome</html>"), kinds: []ops.Kind{ops.KindGoroutine, ops.KindGoroutineDump},
			files:  "goroutine.before.pprof goroutine.pprof",
			losses: []string{"goroutine-dump skipped: the index page does not say how many goroutines there are, and a dump of many would stop the process for long"},
		},
		{
			name: "no memory statistics", path: "heap", h: text(404, "gone"), kinds: []ops.Kind{ops.KindRuntime},
			files: "runtime.before.json runtime.json", losses: []string{"runtime unsupported: no memory statistics: neither /debug/vars nor the text of the heap profile gives them"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.patience == 0 {
				c.patience = time.Minute
			}
			_, l := openFor(t, c.patience, serve(t, map[string]http.HandlerFunc{"/debug/pprof/" + c.path: c.h}).target())
			r, sum, err := window(t, l, c.kinds...)
			if err != nil {
				t.Fatalf("Collect: %v, want losses", err)
			}
			var files []string
			for _, n := range artifactNames(r) {
				if !slices.Contains(c.kinds, ops.KindCPU) || !strings.HasPrefix(n, "cpu") {
					files = append(files, n)
				}
			}
			if got := strings.Join(files, " "); got != c.files {
				t.Errorf("files\n got %s\nwant %s", got, c.files)
			}
			if diff := cmp.Diff(c.losses, texts(sum.Losses)); diff != "" {
				t.Errorf("losses (-want +got):\n%s", diff)
			}
			for _, a := range r.Artifacts() {
				if a.Ends != 1 {
					t.Errorf("%s ended %d times", a.Begun.Name, a.Ends)
				}
				if strings.HasSuffix(a.Begun.Name, ".pprof") && a.Committed {
					if _, err := profile.ParseData(a.Data); err != nil {
						t.Errorf("%s: %v", a.Begun.Name, err)
					}
				}
			}
		})
	}
}

func indexPage(counts map[string]int) string {
	var b strings.Builder
	for name, n := range counts {
		fmt.Fprintf(&b, "<tr><td>%d</td><td><a href='%s?debug=1'>%s</a></td></tr>\n", n, name, name)
	}
	return b.String()
}

func TestShortRequestsWhereLongOnesAreCut(t *testing.T) {
	t.Parallel()
	var asked []string
	_, l := open(t, serve(t, map[string]http.HandlerFunc{"/debug/pprof/profile": func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.FormValue("seconds"))
		if s := r.FormValue("seconds"); len(s) > 1 || s > "1" {
			text(503, "<html><head><title>Timeout</title></head></html>")(w, r)
			return
		}
		time.Sleep(100 * time.Millisecond) // not the whole second, so that a busy machine gets to several too
		_, _ = w.Write(heapProfile())
	}}).target())
	spec, err := ops.Spec{Duration: 8 * time.Second, Kinds: []ops.Kind{ops.KindCPU}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	r := opstest.NewRecorder()
	sum, err := l.Collect(t.Context(), "c-short", spec, r)
	if err != nil || len(sum.Losses) > 0 {
		t.Errorf("Collect: %v, %v", err, texts(sum.Losses))
	}
	if len(asked) < 5 || !slices.Equal(slices.Compact(slices.Clone(asked)), []string{"8", "2", "1"}) || len(artifactNames(r)) != len(asked)-2 {
		t.Errorf("asked for %v, got %v", asked, artifactNames(r))
	}
}

func TestTheTraceIsCutAtItsCap(t *testing.T) {
	t.Parallel()
	_, l := open(t, serve(t, map[string]http.HandlerFunc{"/debug/pprof/trace": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "go 1.26 trace\x00\x00\x00")
		for r.Context().Err() == nil { // an endless stream
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}}).target())
	spec, err := ops.Spec{Duration: time.Second, Kinds: []ops.Kind{ops.KindTrace}, TraceMaxBytes: 2 << 20}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	r := opstest.NewRecorder()
	sum, err := l.Collect(t.Context(), "c-cap", spec, r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"trace truncated: trace.out was cut at 2 MiB, the most for it"}, texts(sum.Losses)); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
	if a := r.Artifacts()[0]; a.Committed || len(a.Data) != 2<<20 || a.Loss.Reason != ops.LossTruncated {
		t.Errorf("kept %d bytes, committed %v, %+v", len(a.Data), a.Committed, a.Loss)
	}
}

func TestASilentTargetIsGivenUp(t *testing.T) {
	t.Parallel()
	var silent atomic.Bool
	p := serve(t, nil)
	inner := p.Config.Handler
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if silent.Load() {
			hang(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
	_, l := openFor(t, hasty, p.target())
	spec, err := ops.Spec{Duration: time.Minute, Kinds: []ops.Kind{ops.KindGoroutine, ops.KindCPU}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	r := opstest.NewRecorder()
	go func() {
		for !slices.Contains(artifactNames(r), "goroutine.before.pprof") && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		silent.Store(true)
	}()
	at := time.Now()
	_, err = l.Collect(t.Context(), "c-silent", spec, r)
	if want := p.URL + "/debug/pprof has not answered for 5s"; ops.KindOf(err) != ops.Unavailable || err.Error() != want {
		t.Errorf("Collect: %v, want %s", err, want)
	}
	if late := time.Since(at); late > 45*time.Second {
		t.Errorf("given up after %v", late)
	}
	if got := artifactNames(r); !slices.Contains(got, "goroutine.before.pprof") {
		t.Errorf("kept %v", got)
	}
}

func TestARestartWithinTheWindow(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	_, l := open(t, serve(t, map[string]http.HandlerFunc{"/debug/vars": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"memstats":{"TotalAlloc":%d,"Sys":1}}`, 1000-asked.Add(1))
	}}).target())
	_, sum, err := window(t, l, ops.KindRuntime)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{" failed: the process was restarted within the window: what was taken at its start is of another process, so that nothing of it can be subtracted"}
	if diff := cmp.Diff(want, texts(sum.Losses)); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
}

func TestWatchTellsWhatEndpointsTell(t *testing.T) {
	t.Parallel()
	_, l := open(t, serve(t, map[string]http.HandlerFunc{
		"/debug/pprof/{$}": text(200, indexPage(map[string]int{"goroutine": 42, "threadcreate": 9})),
		"/debug/vars":      text(200, `{"memstats":{"HeapAlloc":5000,"HeapObjects":70,"NumGC":3,"Sys":9000,"NextGC":8000}}`),
	}).target())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got ops.Sample
	err := l.Watch(ctx, time.Second, true, func(s ops.Sample) { got = s; cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v", err)
	}
	h := got.Heartbeat
	if h.Goroutines != 42 || h.Threads != 9 || h.LiveHeapBytes != 5000 || h.HeapObjects != 70 || h.GCCycles != 3 || h.At.IsZero() {
		t.Errorf("heartbeat: %+v", h)
	}
	if !slices.ContainsFunc(got.Metrics, func(m ops.Metric) bool { return m.Name == "/gc/heap/goal:bytes" && m.Value == 8000 }) {
		t.Errorf("metrics: %+v", got.Metrics)
	}
}

func TestInstance(t *testing.T) {
	p := serve(t, map[string]http.HandlerFunc{
		"/debug/pprof/cmdline":   text(200, "/srv/user-service\x00-password=hunter2"),
		"/debug/pprof/{$}":       text(200, indexPage(map[string]int{"goroutine": 4, "heap": 1, "goroutineleak": 0})),
		"/debug/pprof/goroutine": text(200, "goroutine profile: total 4\n#\t0x1\truntime.main+0x1\t/root/go/pkg/mod/golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64/src/runtime/proc.go:290\n"),
	})
	target := p.target()
	target.Service = ""
	target.Labels = map[string]string{"zone": "a"}
	u, _ := url.Parse(target.URL)
	u.User = url.UserPassword("ops", "s3cret")
	target.URL = u.String() + "/?x=1#y"
	i, _ := open(t, target)

	if !strings.HasPrefix(string(i.ID), "agentless-") || !i.ID.Valid() {
		t.Errorf("id %q", i.ID)
	}
	if i.Address != p.URL+"/debug/pprof" {
		t.Errorf("address %q", i.Address)
	}
	if i.Service != "user-service" || i.Project != "color-game" || !i.Agentless || i.Source != "static" || i.Labels["zone"] != "a" || i.State != ops.InstanceUp {
		t.Errorf("instance: %+v", i)
	}
	if i.Build.GoVersion != "go1.26.8" || i.Build.GOOS != "linux" || i.Build.GOARCH != "amd64" || i.Process.Executable != "/srv/user-service" {
		t.Errorf("build %+v, process %+v", i.Build, i.Process)
	}
	want := []ops.Kind{ops.KindCPU, ops.KindHeap, ops.KindGoroutine, ops.KindTrace, ops.KindRuntime, ops.KindGoroutineDump, ops.KindGoroutineLeak}
	if diff := cmp.Diff(want, i.Kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
	if s := fmt.Sprintf("%+v", i); strings.Contains(s, "s3cret") || strings.Contains(s, "hunter2") || strings.Contains(s, "ops:") {
		t.Errorf("a secret shows: %s", s)
	}
	again, _ := open(t, target)
	other := target
	other.Source = "file-sd"
	elsewhere, _ := open(t, other)
	if again.ID != i.ID || elsewhere.ID == i.ID {
		t.Errorf("ids %s, again %s, of another source %s", i.ID, again.ID, elsewhere.ID)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	guarded := func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "ops" || p != "s3cret" || r.Header.Get("Cookie") != "" {
			text(401, "who are you?")(w, r)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1", Path: "/"})
		pprof.Index(w, r)
	}
	p := serve(t, map[string]http.HandlerFunc{"/debug/pprof/": guarded, "/debug/pprof/cmdline": guarded})
	target := p.target()
	_, _, err := agentless.New(agentless.Config{}).Open(t.Context(), target)
	if want := p.URL + "/debug/pprof refuses access (401 Unauthorized: who are you?): put credentials that may read it into the target's URL"; ops.KindOf(err) != ops.Denied || err.Error() != want {
		t.Errorf("without: %v, want %s", err, want)
	}
	repeat := func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		http.Error(w, "not with "+password, http.StatusUnauthorized)
	}
	echo := serve(t, map[string]http.HandlerFunc{"/debug/pprof/": repeat, "/debug/pprof/cmdline": repeat})
	loud := echo.target()
	loud.URL = strings.Replace(loud.URL, "http://", "http://ops:s3cret@", 1)
	if _, _, err := agentless.New(agentless.Config{}).Open(t.Context(), loud); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "not with ***") {
		t.Errorf("a target that repeats the password: %v", err)
	}
	target.URL = strings.Replace(target.URL, "http://", "http://ops:s3cret@", 1)
	_, l := openFor(t, hasty, target)
	r, sum, err := window(t, l, ops.KindHeap)
	if err != nil || len(artifactNames(r)) != 2 {
		t.Errorf("with: %v %v", err, texts(sum.Losses))
	}
	p.Listener.Close()
	p.CloseClientConnections()
	_, _, err = window(t, l, ops.KindHeap)
	if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "ops:") {
		t.Errorf("error of a dead target: %v", err)
	}
}

func TestTargetsThatCannotBe(t *testing.T) {
	notPprof := httptest.NewServer(text(200, "<html>shop</html>"))
	t.Cleanup(notPprof.Close)
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	refused := func(a, why string) string {
		return "address " + a + " is " + why + ": targets there are refused; list the address of the service itself"
	}
	const linkLocal, cloud, many, noHost = "link-local, where clouds keep metadata and credentials", "a cloud's metadata service", "multicast", "not the address of one host"
	for _, c := range []struct {
		url  string
		kind ops.ErrorKind
		want string
	}{
		{"http://user:s3cret@host:port/\x00", ops.Invalid, "the target's URL cannot be parsed: use http://host:port/debug/pprof"},
		{"grpc://host:1", ops.Invalid, `the target's URL must be of the form http://host:port/debug/pprof, got scheme "grpc" and host "host:1"`},
		{"http://:6060", ops.Invalid, `the target's URL must be of the form http://host:port/debug/pprof, got scheme "http" and host ":6060"`},
		{"file:///etc/passwd", ops.Invalid, `the target's URL must be of the form http://host:port/debug/pprof, got scheme "file" and host ""`},
		{"http://169.254.169.254/latest/meta-data", ops.Denied, "http://169.254.169.254/latest/meta-data: dial tcp 169.254.169.254:80: " + refused("169.254.169.254", linkLocal)},
		{"http://[::ffff:169.254.169.254]", ops.Denied, "http://[::ffff:169.254.169.254]/debug/pprof: dial tcp 169.254.169.254:80: " + refused("169.254.169.254", linkLocal)},
		{"http://[fe80::1]:6060", ops.Denied, "http://[fe80::1]:6060/debug/pprof: dial tcp [fe80::1]:6060: " + refused("fe80::1", linkLocal)},
		{"http://[fd00:ec2::254]", ops.Denied, "http://[fd00:ec2::254]/debug/pprof: dial tcp [fd00:ec2::254]:80: " + refused("fd00:ec2::254", cloud)},
		{"http://224.0.0.1", ops.Denied, "http://224.0.0.1/debug/pprof: dial tcp 224.0.0.1:80: " + refused("224.0.0.1", many)},
		{"http://0.0.0.0:6060", ops.Denied, "http://0.0.0.0:6060/debug/pprof: dial tcp 0.0.0.0:6060: " + refused("0.0.0.0", noHost)},
		{notPprof.URL, ops.Unavailable, notPprof.URL + "/debug/pprof answers, but not as net/http/pprof does: check the path of the target's URL, which must lead to the index page"},
		{missing.URL + "/x/", ops.Unavailable, missing.URL + "/x answers 404: check the path of the target's URL, and that the process serves net/http/pprof"},
		{closed.URL, ops.Unavailable, closed.URL + "/debug/pprof does not answer: dial tcp " + closed.Listener.Addr().String() + ": connect: connection refused"},
	} {
		_, _, err := agentless.New(agentless.Config{}).Open(t.Context(), ops.Target{URL: c.url})
		if ops.KindOf(err) != c.kind || err == nil || err.Error() != c.want {
			t.Errorf("%s\n got %v (%s)\nwant %s (%s)", c.url, err, ops.KindOf(err), c.want, c.kind)
		}
	}
}

// joiner takes one instance in until its link ends.
type joiner struct{ joined chan ops.Instance }

func (f *joiner) Join(ctx context.Context, i ops.Instance, l ops.Link) error {
	f.joined <- i
	return l.Watch(ctx, time.Second, false, func(ops.Sample) {})
}

func TestConnectLastsAsLongAsTheTarget(t *testing.T) {
	t.Parallel()
	p := serve(t, nil)
	f := &joiner{joined: make(chan ops.Instance, 1)}
	c := agentless.New(agentless.Config{Fleet: f})
	ended := make(chan error, 1)
	go func() { ended <- c.Connect(t.Context(), p.target()) }()
	if i := <-f.joined; i.Address != p.URL+"/debug/pprof" {
		t.Errorf("joined: %+v", i)
	}
	p.Listener.Close()
	p.CloseClientConnections()
	select {
	case err := <-ended:
		if ops.KindOf(err) != ops.Unavailable {
			t.Errorf("Connect: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Connect has not noticed that the target died")
	}
}

func TestPollingIsCheap(t *testing.T) {
	t.Parallel()
	p := serve(t, nil)
	_, l := open(t, p.target())
	before, began := p.requests.Load(), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
	defer cancel()
	_ = l.Watch(ctx, time.Second, false, func(ops.Sample) {})
	took := time.Since(began)
	if n := p.requests.Load() - before; n > 1+int64(took/time.Second) {
		t.Errorf("%d requests in %v, want one a second", n, took)
	}
}
