package toolui

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	googlepprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

// live takes every kind of profile from this process.
var live = sync.OnceValue(func() map[string][]byte {
	out := map[string][]byte{}
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	var cpu bytes.Buffer
	if err := pprof.StartCPUProfile(&cpu); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		wg.Go(func() {
			for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
				mu.Lock()
				burn()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	pprof.StopCPUProfile()
	out["cpu.pprof"] = cpu.Bytes()
	for _, kind := range []string{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate"} {
		var b bytes.Buffer
		if err := pprof.Lookup(kind).WriteTo(&b, 0); err != nil {
			panic(err)
		}
		out[kind+".pprof"] = b.Bytes()
	}
	return out
})

//go:noinline
func burn() {
	x := 1
	for i := range 20000 {
		x = x*31 + i
	}
	sink = x
}

var sink int

func encoded(t testing.TB, p *googlepprof.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func profilePath(name, view string) string { return "/pprof/01cap/boot-1/" + name + "/" + view }

func TestEveryKindInEveryView(t *testing.T) {
	if _, err := exec.LookPath("dot"); err != nil {
		t.Log("graphviz is not installed: the graph is not looked at")
	}
	b := start(t, Config{})
	for name, content := range live() {
		b.shelf.put(ref(name), content)
		for _, view := range views {
			if view == "graph" && graphProblem() != "" {
				continue
			}
			a := b.get(profilePath(name, view))
			if a.code != http.StatusOK || !strings.Contains(a.body, "</html>") {
				t.Errorf("%s of %s: %d %.300s", view, name, a.code, a.body)
			}
			if !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "sandbox allow-scripts ") {
				t.Errorf("%s of %s has policy %q", view, name, a.header.Get("Content-Security-Policy"))
			}
			if !strings.Contains(a.body, hidden) {
				t.Errorf("%s of %s shows menu entries of what is off", view, name)
			}
		}
	}
	if a := b.get(profilePath("cpu.pprof", "flamegraph")); !strings.Contains(a.body, "internal/toolui.burn") {
		t.Error("the flame graph does not name the function that burnt the CPU")
	}
	if a := b.get(profilePath("cpu.pprof", "top?si=samples")); !strings.Contains(a.body, `id="sampletype-cpu"`) {
		t.Error("there is no switch of sample types")
	}
	if a := b.get(profilePath("cpu.pprof", "top?g=lines")); !strings.Contains(a.body, "profiles_test.go:") {
		t.Error("g=lines shows no lines")
	}
	if n := b.viewer.starts.Load(); n != 1 {
		t.Errorf("%d viewers were started, want 1 for all", n)
	}
}

func TestAddressesLeadToTheFlameGraph(t *testing.T) {
	b := start(t, Config{BasePath: "/ops"})
	b.shelf.put(ref("cpu.pprof"), live()["cpu.pprof"])
	for _, prefix := range []string{"", "/ops"} {
		for path, want := range map[string]string{
			profilePath("cpu.pprof", "?si=samples"):                    "./flamegraph?si=samples",
			"/pprof/01cap/boot-1/cpu.pprof":                            "./cpu.pprof/",
			"/pprof/01cap/boot-1/cpu.pprof/vs/01cap/boot-1/cpu.pprof":  "./cpu.pprof/",
			"/pprof/01cap/boot-1/cpu.pprof/vs/01cap/boot-1/cpu.pprof/": "./flamegraph",
		} {
			if a := b.get(prefix + path); a.code != http.StatusFound || a.header.Get("Location") != want {
				t.Errorf("%s: %d to %q, want %q", prefix+path, a.code, a.header.Get("Location"), want)
			}
		}
		if a := b.get(prefix + profilePath("cpu.pprof", "flamegraph")); a.code != http.StatusOK {
			t.Errorf("%s: %d", prefix, a.code)
		} else if m := regexp.MustCompile(`(?:href|src|action)="(/|https?:)[^"]*"`).FindString(a.body); m != "" {
			t.Errorf("the page links to %s, which no proxy's prefix survives", m)
		}
	}
}

func TestWhatCannotBeShownIsSaidInWords(t *testing.T) {
	b := start(t, Config{})
	b.shelf.put(ref("cpu.pprof"), live()["cpu.pprof"])
	b.shelf.put(ref("mutex.pprof"), live()["mutex.pprof"])
	b.shelf.put(ref("text.pprof"), []byte("goroutine profile: total 3\n"))
	b.shelf.put(ref("empty.pprof"), nil)
	tests := []struct {
		path string
		code int
		want string
	}{
		{profilePath("none.pprof", "flamegraph"), 404, "There is no artifact 01cap/boot-1/none.pprof: it may have been deleted."},
		{"/pprof/01cap/..%2f..%2fetc/passwd/flamegraph", 404, "There is no such artifact: open it from its capture&#39;s page."},
		{"/pprof/01CAP/boot-1/cpu.pprof/flamegraph", 404, "There is no such artifact: open it from its capture&#39;s page."},
		{profilePath("text.pprof", "flamegraph"), 422, "The profile is damaged (it is not a protocol buffer, or it is cut off): capture it again."},
		{profilePath("empty.pprof", "flamegraph"), 422, "The profile is empty: capture it again."},
		{profilePath("cpu.pprof", "source"), 404, "Source and disassembly would be read from the centre&#39;s disk, not from where the program was built: download the profile and open it with go tool pprof where the source is."},
		{profilePath("cpu.pprof", "saveconfig?config=x"), 404, "The views are flamegraph, graph, top, peek."},
		{profilePath("cpu.pprof", "deleteconfig?config=x"), 404, "The views are flamegraph, graph, top, peek."},
		{profilePath("cpu.pprof", "download"), 404, "The views are flamegraph, graph, top, peek."},
		{profilePath("cpu.pprof", "top?si=nothing"), 400, "pprof cannot show this: "},
		{profilePath("cpu.pprof", "top?f=((("), 400, "pprof cannot show this: "},
		{profilePath("cpu.pprof", "top?tf=99999999999999999999:"), 400, "pprof cannot use these parameters ("},
		{profilePath("cpu.pprof", "vs/01cap/boot-1/mutex.pprof/flamegraph"), 400, "These profiles are of different kinds (samples/count cpu/nanoseconds per cpu/nanoseconds, and contentions/count delay/nanoseconds per contentions/count): choose profiles of one kind."},
		{profilePath("cpu.pprof", "vs/01cap/boot-1/none.pprof/flamegraph"), 404, "The profile to compare with: there is no artifact 01cap/boot-1/none.pprof: it may have been deleted."},
		{"/elsewhere", 404, "Open profiles and traces from their capture&#39;s page."},
	}
	for _, tt := range tests {
		a := b.get(tt.path)
		if a.code != tt.code || !strings.Contains(strings.ToLower(a.body), strings.ToLower(tt.want)) {
			t.Errorf("%s: %d, want %d with %q\n%s", tt.path, a.code, tt.code, tt.want, a.body)
		}
		if a.header.Get("Content-Type") != "text/html; charset=utf-8" || a.header.Get("Content-Security-Policy") != pageCSP {
			t.Errorf("%s: %v", tt.path, a.header)
		}
	}
	if n := b.viewer.starts.Load(); n > 1 {
		t.Errorf("%d viewers were started: something killed the first", n)
	}
	resp, err := http.Post(b.url+profilePath("cpu.pprof", "flamegraph"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// A profile of 132 bytes made pprof's source view print any file of the host.
func TestAProfileReadsNoFileOfThisHost(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.txt")
	if err := os.WriteFile(secret, []byte("the-secret-line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &googlepprof.Function{ID: 1, Name: "leak", SystemName: "leak", Filename: secret, StartLine: 1}
	m := &googlepprof.Mapping{ID: 1, Start: 1, Limit: 100, File: secret}
	l := &googlepprof.Location{ID: 1, Mapping: m, Address: 5, Line: []googlepprof.Line{{Function: f, Line: 1}}}
	p := &googlepprof.Profile{
		SampleType: []*googlepprof.ValueType{{Type: "n", Unit: "count"}}, PeriodType: &googlepprof.ValueType{},
		Function: []*googlepprof.Function{f}, Mapping: []*googlepprof.Mapping{m}, Location: []*googlepprof.Location{l},
		Sample: []*googlepprof.Sample{{Location: []*googlepprof.Location{l}, Value: []int64{1}}},
	}
	b := start(t, Config{})
	b.shelf.put(ref("leak.pprof"), encoded(t, p))
	for _, view := range []string{"source?f=leak", "disasm?f=leak", "list?f=leak", "weblist?f=leak", "ui/source?f=leak", "flamegraph", "top", "peek?f=leak", "graph", "./source?f=leak", "%2e%2e/source?f=leak"} {
		if a := b.get(profilePath("leak.pprof", view)); strings.Contains(a.body, "the-secret-line") {
			t.Errorf("%s shows the file", view)
		}
	}
}

func TestCraftedNamesBecomeNoScriptsOrLinks(t *testing.T) {
	const name = `</script><script>alert(1)</script>"];N9 [URL="javascript:alert(2)" label="x`
	p := profiletest.Synthetic(profiletest.Shape{Samples: 20, Functions: 5, MaxDepth: 5, Seed: 1})
	p.Mapping[0].File, p.Mapping[0].BuildID, p.DocURL = name, name, "javascript:alert(3)"
	for _, f := range p.Function {
		f.Name, f.SystemName, f.Filename = name, name, name
	}
	for _, s := range p.Sample {
		s.Label = map[string][]string{name: {name}}
	}
	p.SampleType[1].Type, p.SampleType[1].Unit = name, name
	p.Comments = []string{name}
	b := start(t, Config{})
	b.shelf.put(ref("evil.pprof"), encoded(t, p))
	for _, view := range views {
		a := b.get(profilePath("evil.pprof", view))
		for _, bad := range []string{"<script>alert(1)", `href="javascript:`, `URL="javascript:`, `xlink:href="javascript:`} {
			if strings.Contains(a.body, bad) {
				t.Errorf("%s contains %s", view, bad)
			}
		}
		if !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "sandbox ") && a.code == http.StatusOK {
			t.Errorf("%s is not in a sandbox", view)
		}
	}
}

func TestWithoutGraphvizTheOtherViewsWork(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := start(t, Config{})
	b.shelf.put(ref("cpu.pprof"), live()["cpu.pprof"])
	want := "The graph view needs Graphviz, which is not installed on the centre's host: install it there (apt-get install graphviz, dnf install graphviz, brew install graphviz) and reload. Flame graph, top and peek work without it."
	a := b.get(profilePath("cpu.pprof", "graph"))
	if a.code != http.StatusNotImplemented || !strings.Contains(a.body, strings.ReplaceAll(want, "'", "&#39;")) {
		t.Errorf("%d %s", a.code, a.body)
	}
	if _, graph := b.Problems(); graph != want {
		t.Errorf("problem = %q", graph)
	}
	if a := b.get(profilePath("cpu.pprof", "flamegraph")); a.code != http.StatusOK {
		t.Errorf("flame graph: %d", a.code)
	}
}

func TestDiffCountsFromTheBase(t *testing.T) {
	base := profiletest.Synthetic(profiletest.Shape{Samples: 50, Functions: 9, MaxDepth: 6, Seed: 1})
	main := profiletest.Synthetic(profiletest.Shape{Samples: 50, Functions: 9, MaxDepth: 6, Seed: 1})
	for _, s := range main.Sample {
		s.Value[0] *= 3
		s.Value[1] *= 3
	}
	b := start(t, Config{})
	b.shelf.put(ref("before.pprof"), encoded(t, base))
	b.shelf.put(ref("after.pprof"), encoded(t, main))
	a := b.get(profilePath("after.pprof", "vs/01cap/boot-1/before.pprof/top?si=samples"))
	var total int64
	for _, s := range base.Sample {
		total += s.Value[0]
	}
	// Three times the base less the base is twice the base.
	if want := fmt.Sprintf("Showing nodes accounting for %d, 200.00%% of %d total", 2*total, total); !strings.Contains(a.body, want) {
		t.Errorf("%d: no %q", a.code, want)
	}
}

func TestLargeProfilesAreReducedAndSaySo(t *testing.T) {
	b := start(t, Config{})
	p := profiletest.Synthetic(profiletest.Shape{Samples: 30_000, Functions: 500, MaxDepth: 20, Labels: 1, Seed: 1})
	b.shelf.put(ref("cpu.pprof"), encoded(t, p))
	a := b.get(profilePath("cpu.pprof", "flamegraph"))
	if a.code != http.StatusOK || !strings.Contains(a.body, "Reduced copy: frames under 0.025 % of the total are summed up as (pruned)") {
		t.Errorf("%d %.2000s", a.code, a.body)
	}
	if len(a.body) > 30<<20 {
		t.Errorf("the page has %d bytes", len(a.body))
	}
	if a := b.get(profilePath("cpu.pprof", "top?g=lines&f=Method")); a.code != http.StatusOK || !regexp.MustCompile(`file\d+\.go:\d+`).MatchString(a.body) {
		t.Errorf("g=lines shows no lines: %d", a.code)
	}
}

func TestTwentySessionsAtOnce(t *testing.T) {
	b := start(t, Config{})
	var wg sync.WaitGroup
	for i := range 20 {
		name := fmt.Sprintf("cpu.%d.pprof", i)
		b.shelf.put(ref(name), encoded(t, profiletest.Synthetic(profiletest.Shape{Samples: 300, Functions: 50, MaxDepth: 12, Seed: uint64(i)})))
		for _, view := range []string{"flamegraph", "top", "peek?f=Method"} {
			wg.Go(func() {
				if a := b.get(profilePath(name, view)); a.code != http.StatusOK {
					t.Errorf("%s of %s: %d %.500s", view, name, a.code, a.body)
				}
			})
		}
	}
	wg.Wait()
	if n := b.viewer.starts.Load(); n != 1 {
		t.Errorf("%d viewers were started, want 1", n)
	}
}

func TestTheLeastRecentlyUsedGivesWay(t *testing.T) {
	b := start(t, Config{MaxProfiles: 2})
	for _, name := range []string{"heap.pprof", "block.pprof", "mutex.pprof"} {
		b.shelf.put(ref(name), live()[name])
		if a := b.get(profilePath(name, "top")); a.code != http.StatusOK {
			t.Fatalf("%s: %d", name, a.code)
		}
	}
	waitFor(t, func() bool {
		files, err := filepath.Glob(filepath.Join(b.scratchDir(), "*.profile"))
		return err == nil && len(files) == 2
	})
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusOK {
		t.Errorf("what gave way does not open again: %d", a.code)
	}
}

func TestIdleSessionsAreClosedAndTheirViewerEnds(t *testing.T) {
	b := start(t, Config{IdleAfter: 300 * time.Millisecond})
	b.shelf.put(ref("heap.pprof"), live()["heap.pprof"])
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusOK {
		t.Fatal(a.code)
	}
	waitFor(t, func() bool {
		<-b.viewer.token
		defer b.viewer.release()
		return b.viewer.current == nil
	})
}

func TestADeletedArtifactIsNotShownAnyMore(t *testing.T) {
	b := start(t, Config{})
	b.shelf.put(ref("heap.pprof"), live()["heap.pprof"])
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusOK {
		t.Fatal(a.code)
	}
	b.shelf.remove(ref("heap.pprof"))
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusNotFound {
		t.Errorf("%d after it was deleted", a.code)
	}
}

func TestABombEndsAChildAndNotTheCentre(t *testing.T) {
	// Small when packed, and in need of more memory than the child may take.
	var samples bytes.Buffer
	samples.Write([]byte{0x0a, 0x02, 0x08, 0x00, 0x32, 0x00, 0x22, 0x06, 0x08, 0x01, 0x22, 0x02, 0x08, 0x01, 0x2a, 0x02, 0x08, 0x01})
	deep := append([]byte{0x12, 0x98, 0x08, 0x0a, 0x80, 0x08}, bytes.Repeat([]byte{0x01}, 1024)...)
	deep = append(deep, 0x12, 0x01, 0x05, 0x7a, 0x10) // and a field of noise, lest the ratio give it away
	noise := rand.NewChaCha8([32]byte{})
	for samples.Len() < 80<<20 {
		samples.Write(deep)
		if _, err := io.CopyN(&samples, noise, 16); err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	zw, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zw.Write(samples.Bytes()); err != nil {
		t.Fatal(err)
	}
	zw.Close()
	b := start(t, Config{ProfileMemory: 300 << 20})
	b.shelf.put(ref("bomb.pprof"), packed.Bytes())
	b.shelf.put(ref("heap.pprof"), live()["heap.pprof"])
	a := b.get(profilePath("bomb.pprof", "flamegraph"))
	if a.code != http.StatusUnprocessableEntity || !strings.Contains(a.body, "The reader of profiles needed more than 300 MiB of memory and was stopped: download the file and open it with go tool.") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusOK {
		t.Errorf("another profile: %d", a.code)
	}
}

func TestAViewerThatDiesIsReplaced(t *testing.T) {
	b := start(t, Config{})
	b.shelf.put(ref("heap.pprof"), live()["heap.pprof"])
	b.shelf.put(ref("block.pprof"), live()["block.pprof"])
	for i := range 3 {
		for _, name := range []string{"heap.pprof", "block.pprof"} {
			if a := b.get(profilePath(name, "top")); a.code != http.StatusOK {
				t.Errorf("%s, viewer %d: %d %s", name, i, a.code, a.body)
			}
		}
		<-b.viewer.token
		p := b.viewer.current.process
		if err := p.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-p.done
		b.viewer.release()
	}
	if n := b.viewer.starts.Load(); n != 3 {
		t.Errorf("%d viewers were started, want 3", n)
	}
}

func TestNothingOfAChildOutlivesRun(t *testing.T) {
	var pid int
	dir := t.TempDir()
	t.Run("open", func(t *testing.T) {
		b := start(t, Config{Dir: dir})
		b.shelf.put(ref("heap.pprof"), live()["heap.pprof"])
		if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusOK {
			t.Fatal(a.code)
		}
		<-b.viewer.token
		pid = b.viewer.current.process.cmd.Process.Pid
		b.viewer.release()
		if residentBytes(pid) == 0 && runtime.GOOS == "linux" {
			t.Error("the viewer does not run")
		}
	})
	if residentBytes(pid) != 0 {
		t.Errorf("process %d runs on", pid)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAChildStartsNoChildren(t *testing.T) {
	t.Setenv(childEnv, "1")
	b := start(t, Config{})
	b.shelf.put(ref("heap.pprof"), live()["heap.pprof"])
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusInternalServerError {
		t.Errorf("%d", a.code)
	}
}

func TestBeforeRunTheUISaysSo(t *testing.T) {
	s := &shelf{files: map[ops.ArtifactRef][]byte{ref("heap.pprof"): live()["heap.pprof"]}}
	ui, err := New(Config{Open: s.open})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(ui)
	defer srv.Close()
	b := &bench{UI: ui, t: t, url: srv.URL}
	if a := b.get(profilePath("heap.pprof", "top")); a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, "The tool UIs are starting or stopping: reload the page.") {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within a minute")
		}
	}
}
