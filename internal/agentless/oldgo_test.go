package agentless_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	profile "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

var update = flag.Bool("update", false, "with OPS_TEST_FULL=1: record again what older Go answers")

// older are Go releases whose processes are captured as they are.
var older = []olderGo{
	{version: "1.16.15", trace: 11, trimmed: true, recorded: true},
	{version: "1.18.10", trace: 11},
	{version: "1.20.14", trace: 19},
	{version: "1.21.13", trace: 21, trimmed: true, recorded: true},
	{version: "1.22.12", trace: 22},
	{version: "1.23.12", trace: 23, trimmed: true, recorded: true},
	{version: "1.24.11", trace: 23},
	{version: "1.25.5", trace: 25},
}

type olderGo struct {
	version  string
	trace    int  // of which release its traces say they are
	trimmed  bool // built with -trimpath, so that no path tells the version
	recorded bool // what it answers is in testdata: only of trimmed ones, which name no paths of the machine
}

// TestOlderGo builds testdata/service with each release and captures it.
func TestOlderGo(t *testing.T) {
	if os.Getenv("OPS_TEST_FULL") == "" {
		t.Skip("needs eight toolchains of 70 MB each from the module proxy: OPS_TEST_FULL=1 runs it, as make test-full does; TestOlderGoRecorded has what some of them answered")
	}
	for _, g := range older {
		t.Run(g.version, func(t *testing.T) {
			real := g.serve(t)
			if !*update || !g.recorded {
				g.check(t, real)
				return
			}
			recorder := &recorder{answers: map[string][]byte{}}
			g.check(t, recorder.before(t, real))
			recorder.save(t, g.folder())
		})
	}
}

// TestOlderGoRecorded captures what processes of older releases answered once.
func TestOlderGoRecorded(t *testing.T) {
	for _, g := range older {
		if g.recorded {
			t.Run(g.version, func(t *testing.T) {
				t.Parallel()
				g.check(t, replay(t, g.folder()))
			})
		}
	}
}

func (g olderGo) folder() string { return filepath.Join("testdata", "go"+g.version) }

// serve builds the service with the release and runs it.
func (g olderGo) serve(t *testing.T) (base string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "service")
	gotool := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = filepath.Join("testdata", "service")
		cmd.Env = append(os.Environ(), "GOTOOLCHAIN=go"+g.version, "GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s with Go %s: %w\n%s", args[0], g.version, err, out)
		}
		return nil
	}
	if err := gotool("env", "GOROOT"); err != nil {
		t.Skipf("no toolchain: %v", err)
	}
	if err := gotool("build", fmt.Sprintf("-trimpath=%t", g.trimmed), "-o", program, "."); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be dead already
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(address)
}

// check captures the service and looks for what its source says.
func (g olderGo) check(t *testing.T, base string) {
	t.Helper()
	_, l := open(t, ops.Target{Project: "color-game", Service: "user-service", Source: "static", URL: base + "/debug/pprof"})
	r, sum, err := window(t, l)
	if err != nil {
		t.Fatal(err)
	}
	wantArtifacts := []string{
		"allocs.after.pprof", "allocs.before.pprof", "block.after.pprof", "block.before.pprof", "cpu.0.pprof",
		"goroutine.before.pprof", "goroutine.pprof", "goroutine.txt", "heap.before.pprof", "heap.pprof",
		"mutex.after.pprof", "mutex.before.pprof", "runtime.before.json", "runtime.json", "trace.out",
	}
	if diff := cmp.Diff(wantArtifacts, artifactNames(r)); diff != "" {
		t.Errorf("artifacts (-want +got):\n%s", diff)
	}
	wantLosses := []string{
		"block not_set: the block profile's rate is the process's own and cannot be read from outside: waits shorter than it are sampled",
		"goroutineleak unsupported: the process lists no goroutine leak profile: it takes a build of Go 1.26 or later with that experiment",
		"heap-types unsupported: heap-types cannot be had from outside the process: put the agent in",
	}
	if g.trace < 22 {
		wantLosses = append(wantLosses, fmt.Sprintf("trace unsupported: the trace is in the format of Go 1.%d, from before Go 1.22, and cannot be opened here: download it and run go tool trace", g.trace))
	}
	if diff := cmp.Diff(wantLosses, texts(sum.Losses)); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
	for _, a := range r.Artifacts() {
		g.checkArtifact(t, a)
	}
}

func (g olderGo) checkArtifact(t *testing.T, a opstest.RecordedArtifact) {
	t.Helper()
	name := a.Begun.Name
	switch {
	case strings.HasSuffix(name, ".pprof"):
		p, err := profile.ParseData(a.Data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		site := map[string]string{
			"cpu.0.pprof": "main.burn", "mutex.after.pprof": "main.holdTheLock", "block.after.pprof": "main.holdTheLock",
			"heap.pprof": "main.keepMemory", "allocs.after.pprof": "main.keepMemory", "goroutine.pprof": "main.holdTheLock",
		}[name]
		if site != "" && lastValueAt(p, site) == 0 {
			t.Errorf("%s says nothing of %s", name, site)
		}
	case name == "goroutine.txt":
		if !bytes.HasPrefix(a.Data, []byte("goroutine ")) || !bytes.Contains(a.Data, []byte("main.holdTheLock")) {
			t.Errorf("goroutine.txt begins with %.40q", a.Data)
		}
	case name == "trace.out":
		if want := fmt.Sprintf("go 1.%d trace\x00", g.trace); !bytes.HasPrefix(a.Data, []byte(want)) {
			t.Errorf("trace.out begins with %.16q, want %q", a.Data, want)
		}
	case name == "runtime.json":
		var f struct {
			Build struct {
				GoVersion string `json:"go_version"`
			}
			Rates struct {
				MutexFraction int `json:"mutex_fraction"`
			}
			Memory struct{ After map[string]float64 }
		}
		if err := json.Unmarshal(a.Data, &f); err != nil {
			t.Errorf("runtime.json: %v", err)
		}
		want := "go" + g.version
		if g.trimmed {
			want = "" // and not what the trace's header says, which is another
		}
		if f.Build.GoVersion != want || f.Rates.MutexFraction != 1 || f.Memory.After["/memory/classes/heap/objects:bytes"] < 64<<20 {
			t.Errorf("runtime.json: %s", a.Data)
		}
	}
}

// lastValueAt sums the last sample type over the stacks with a function.
func lastValueAt(p *profile.Profile, function string) (sum int64) {
	for _, s := range p.Sample {
		if slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
			return slices.ContainsFunc(l.Line, func(l profile.Line) bool { return l.Function.Name == function })
		}) {
			sum += s.Value[len(s.Value)-1]
		}
	}
	return sum
}

// recorder keeps what a process answers.
type recorder struct {
	mu      sync.Mutex
	answers map[string][]byte // by fileOf; the last answer of each
}

// fileOf names the answer to a request.
func fileOf(u *url.URL) string {
	name := strings.TrimPrefix(u.Path, "/debug/") + "?" + u.RawQuery
	return strings.Trim(strings.NewReplacer("/", "-", "?", "_", "&", "_").Replace(name), "-_")
}

// before puts the recorder before a process.
func (r *recorder) before(t *testing.T, base string) string {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) },
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			if resp.StatusCode == http.StatusOK {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.answers[fileOf(resp.Request.URL)] = body
			}
			return nil
		},
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}

func (r *recorder) save(t *testing.T, folder string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, body := range r.answers {
		if err := os.WriteFile(filepath.Join(folder, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var secondsOf = regexp.MustCompile(`seconds=(\d+)`)

// replay answers from a folder. What lasts, lasts.
func replay(t *testing.T, folder string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := os.ReadFile(filepath.Join(folder, filepath.Base(fileOf(r.URL))))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		if m := secondsOf.FindStringSubmatch(r.URL.RawQuery); m != nil {
			if d, err := time.ParseDuration(m[1] + "s"); err == nil {
				time.Sleep(d)
			}
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
