package toolui

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	runtimetrace "runtime/trace"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorded is a trace of this process of about two generations.
var recorded = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := runtimetrace.Start(&b); err != nil {
		panic(err)
	}
	var mu sync.Mutex
	for end := time.Now().Add(1300 * time.Millisecond); time.Now().Before(end); {
		ctx, task := runtimetrace.NewTask(context.Background(), "request")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				runtimetrace.WithRegion(ctx, "work", func() { mu.Lock(); time.Sleep(200 * time.Microsecond); mu.Unlock() })
			})
		}
		wg.Wait()
		task.End()
	}
	runtimetrace.Stop()
	return b.Bytes()
})

func tracePath(name, page string) string { return "/trace/01cap/boot-1/" + name + "/" + page }

// stock is the real trace viewer, built once for all tests.
var stock = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), "ops-tool-ui-test-"+runtime.Version())
	ui, err := New(Config{Open: (&shelf{}).open, Dir: dir})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ui.Run(ctx) }()
	for ui.scratchDir() == "" {
		time.Sleep(time.Millisecond)
	}
	path, err := ui.tool.get(ctx)
	cancel()
	<-ended
	return path, err
})

func stockViewer(t testing.TB) string {
	t.Helper()
	path, err := stock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// opened follows an opening window until it is open, or is not.
func (b *bench) opened(path string) answer {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		a := b.get(path)
		if a.code != http.StatusAccepted || time.Now().After(end) {
			return a
		}
		if !strings.Contains(a.body, `http-equiv="refresh"`) {
			b.t.Errorf("the waiting page does not reload itself:\n%s", a.body)
		}
	}
}

// firstWindow puts a trace up and returns the path of its first window.
func (b *bench) firstWindow(name string, content []byte) string {
	b.t.Helper()
	b.shelf.put(ref(name), content)
	windows, _, err := b.TraceWindows(context.Background(), ref(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return tracePath(name, fmt.Sprintf("%d-%d/", windows[0].FromGeneration, windows[0].ToGeneration))
}

var links = regexp.MustCompile(`(?:href|src|action)=["']?([^"'\s>]*)`)

func TestEveryPageOfTheTraceViewer(t *testing.T) {
	b := start(t, Config{TraceViewer: stockViewer(t)})
	at := b.firstWindow("trace.out", recorded())
	main := b.opened(at)
	if main.code != http.StatusOK || !strings.Contains(main.body, "View trace by proc") {
		t.Fatalf("%d %s", main.code, main.body)
	}
	if strings.Contains(main.body, "mmu") {
		t.Error("the first page leads to the plot that needs other servers")
	}
	for _, name := range []string{"", "trace?view=proc", "trace?view=thread", "goroutines", "usertasks", "usertask?type=request", "userregions", "goroutine?name=runtime.bgsweep"} {
		a := b.get(at + name)
		if a.code != http.StatusOK || a.header.Get("Content-Security-Policy") != traceCSP {
			t.Errorf("%s: %d, policy %q\n%.500s", name, a.code, a.header.Get("Content-Security-Policy"), a.body)
		}
		for _, m := range links.FindAllStringSubmatch(a.body, -1) {
			if to := m[1]; strings.HasPrefix(to, "/") {
				t.Errorf("%s links to %s, which no prefix survives", name, to)
			}
		}
		if strings.Contains(a.body, "'/jsontrace") {
			t.Errorf("%s loads events from the root", name)
		}
	}
	if a := b.get(at + "mmu"); a.code != http.StatusNotFound || !strings.Contains(a.body, "loads scripts from elsewhere") {
		t.Errorf("mmu: %d", a.code)
	}
}

func TestTheTimelineLoadsFromItsSandbox(t *testing.T) {
	b := start(t, Config{TraceViewer: stockViewer(t), BasePath: "/ops"})
	at := b.firstWindow("trace.out", recorded())
	if a := b.opened(at); a.code != http.StatusOK {
		t.Fatal(a.code)
	}
	a := b.get(at + "trace?view=proc")
	m := regexp.MustCompile(`url = '\./(_[A-Z0-9]+/jsontrace\?[^']*)'`).FindStringSubmatch(a.body)
	if m == nil || !strings.Contains(a.body, storageShim) {
		t.Fatalf("the page does not say where its events are:\n%.3000s", a.body)
	}
	token, _, _ := strings.Cut(m[1], "/")
	for _, path := range []string{m[1], token + "/static/webcomponents.min.js", token + "/static/trace_viewer_full.html"} {
		req, err := http.NewRequest(http.MethodGet, b.url+"/ops"+at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !b.Holds(req) {
			t.Errorf("%s does not carry its right with it", path)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		req.Header.Set("Origin", "null")
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
			continue
		}
		zr, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(zr)
		if err != nil || len(content) < 1000 {
			t.Errorf("%s: %d bytes, %v", path, len(content), err)
		}
	}
	for _, path := range []string{"_WRONG/jsontrace", token + "/goroutines", token + "/io?raw=1"} {
		if a := b.get(at + path); a.code != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.code)
		}
	}
	req, err := http.NewRequest(http.MethodGet, b.url+at+"_WRONG/jsontrace", nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.Holds(req) {
		t.Error("a wrong secret carries a right")
	}
}

func TestTheViewersProfilesOpenInPprof(t *testing.T) {
	b := start(t, Config{TraceViewer: stockViewer(t)})
	at := b.firstWindow("trace.out", recorded())
	if a := b.opened(at); a.code != http.StatusOK {
		t.Fatal(a.code)
	}
	for _, name := range []string{"block", "sched", "syscall", "regionblock?type=work"} {
		a := b.get(at + name)
		if a.code != http.StatusFound || !regexp.MustCompile(`^\./pprof/[A-Za-z0-9_-]+/flamegraph$`).MatchString(a.header.Get("Location")) {
			t.Errorf("%s: %d to %q", name, a.code, a.header.Get("Location"))
			continue
		}
		page := b.get(at + strings.TrimPrefix(a.header.Get("Location"), "./"))
		if page.code == http.StatusNotFound && name == "syscall" {
			continue // there may have been none
		}
		if page.code != http.StatusOK || !strings.Contains(page.body, "flamegraph") {
			t.Errorf("%s: %d %.500s", name, page.code, page.body)
		}
	}
	if a := b.get(at + "block?raw=1"); a.code != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") {
		t.Errorf("raw: %d %v", a.code, a.header)
	}
	if a := b.get(at + "pprof/bm9wZQ/flamegraph"); a.code != http.StatusNotFound {
		t.Errorf("a made-up profile: %d", a.code)
	}
}

func TestTracesOfOlderGoVersionsOpen(t *testing.T) {
	files, err := filepath.Glob("../trace/testdata/*.trace")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	b := start(t, Config{TraceViewer: stockViewer(t)})
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if a := b.opened(b.firstWindow(name, content)); a.code != http.StatusOK || !strings.Contains(a.body, "View trace by proc") {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
}

func TestTheListOfWindows(t *testing.T) {
	b := start(t, Config{TraceViewer: stockViewer(t)})
	whole := recorded()
	b.shelf.put(ref("trace.out"), whole)
	b.shelf.put(ref("cut.out"), whole[:len(whole)-10])
	b.shelf.put(ref("cpu.pprof"), live()["cpu.pprof"])
	b.shelf.put(ref("old.out"), []byte("go 1.19 trace\x00\x00\x00"))

	windows, loss, err := b.TraceWindows(t.Context(), ref("trace.out"))
	if err != nil || len(windows) != 1 || loss != "" || windows[0].SizeBytes != int64(len(whole))-16 || windows[0].Length < time.Second/2 {
		t.Errorf("%+v, %q, %v", windows, loss, err)
	}
	if a := b.get(tracePath("trace.out", "")); a.code != http.StatusFound || a.header.Get("Location") != fmt.Sprintf("./%d-%d/", windows[0].FromGeneration, windows[0].ToGeneration) {
		t.Errorf("one window: %d to %q", a.code, a.header.Get("Location"))
	}
	if a := b.get("/trace/01cap/boot-1/trace.out"); a.header.Get("Location") != "./trace.out/" {
		t.Errorf("no slash: %d to %q", a.code, a.header.Get("Location"))
	}
	if a := b.get(tracePath("cut.out", "")); a.code != http.StatusOK || !strings.Contains(a.body, "of the trace cannot be read (it ends within") || !strings.Contains(a.body, `href="./1-1/"`) {
		t.Errorf("cut: %d %s", a.code, a.body)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		tracePath("none.out", ""):                            {404, "There is no artifact 01cap/boot-1/none.out: it may have been deleted."},
		tracePath("cpu.pprof", ""):                           {422, "This is not a Go execution trace: choose another artifact."},
		tracePath("old.out", ""):                             {400, "This trace was written by Go 1.19 and only those of Go 1.22 and later can be opened in parts: download it and run go tool trace."},
		tracePath("trace.out", "x"):                          {404, "A window of a trace is named by its generations, as in 3-5: go to the list of windows."},
		tracePath("trace.out", "900-901/"):                   {404, "The trace has no generations 900 to 901: choose a window from its list."},
		tracePath("trace.out", "99999999999999999999999-1/"): {404, "A window of a trace is named by its generations, as in 3-5: go to the list of windows."},
	} {
		if a := b.opened(path); a.code != want.code || !strings.Contains(a.body, want.text) {
			t.Errorf("%s: %d, want %d with %q\n%s", path, a.code, want.code, want.text, a.body)
		}
	}
}

// fake is a trace viewer that does what a script says.
func fake(t testing.TB, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "viewer")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAViewerThatFailsIsAPageInWords(t *testing.T) {
	tests := []struct {
		name, script string
		cfg          Config
		code         int
		want         string
	}{
		{"dies", "echo unsupported >&2; exit 1", Config{}, 422, "The trace viewer ended by itself (exit status 1) and this file may be why: reload the page, and if it happens again, download the file and open it with go tool."},
		{"out of memory", "echo 'fatal error: runtime: out of memory' >&2; exit 2", Config{TraceMemory: 1 << 30}, 422, "The trace viewer needed more than 1024 MiB of memory and was stopped: download the file and open it with go tool."},
		{"never ready", "exec /bin/sleep 60", Config{Timeout: 500 * time.Millisecond}, 422, "The trace viewer took longer than 500ms to read this window and was stopped: choose a smaller one, or download the trace and run go tool trace."},
		{"ready and gone", "echo 'listening on http://127.0.0.1:1' >&2; /bin/sleep 0.5", Config{}, 503, "The trace viewer ended: reload the page."},
		{"grows", "x=0123456789; while :; do x=$x$x; done", Config{TraceMemory: 50 << 20}, 422, "The trace viewer needed more than 50 MiB of memory and was stopped: download the file and open it with go tool."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "grows" && runtime.GOOS != "linux" {
				t.Skip("memory is watched on Linux")
			}
			tt.cfg.TraceViewer = fake(t, tt.script)
			b := start(t, tt.cfg)
			a := b.opened(b.firstWindow("trace.out", recorded()))
			if a.code != tt.code || !strings.Contains(a.body, tt.want) {
				t.Errorf("%d, want %d with %q\n%s", a.code, tt.code, tt.want, a.body)
			}
		})
	}
}

func TestAViewerThatAnswersNoMore(t *testing.T) {
	// A server that listens and never answers.
	stuck := make(chan struct{})
	srv := newServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
	}))
	defer close(stuck)
	b := start(t, Config{TraceViewer: fake(t, "echo 'listening on "+srv+"' >&2; exec /bin/sleep 60"), Timeout: 500 * time.Millisecond})
	a := b.opened(b.firstWindow("trace.out", recorded()))
	if want := "The trace viewer took longer than 500ms over this page and was stopped: choose a smaller window, or download the trace and run go tool trace."; a.code != 422 || !strings.Contains(a.body, want) {
		t.Errorf("%d, want %q\n%s", a.code, want, a.body)
	}
}

func TestWindowsGiveWayAndTheirFilesGo(t *testing.T) {
	b := start(t, Config{TraceViewer: stockViewer(t), MaxTraces: 1})
	for _, name := range []string{"a.out", "b.out"} {
		if a := b.opened(b.firstWindow(name, recorded())); a.code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, a.code, a.body)
		}
	}
	waitFor(t, func() bool {
		files, err := filepath.Glob(filepath.Join(b.scratchDir(), "*.trace"))
		return err == nil && len(files) == 1
	})
}

func TestIdleWindowsAreClosed(t *testing.T) {
	b := start(t, Config{TraceViewer: stockViewer(t), IdleAfter: 300 * time.Millisecond})
	if a := b.opened(b.firstWindow("a.out", recorded())); a.code != http.StatusOK {
		t.Fatal(a.code)
	}
	waitFor(t, func() bool {
		files, err := filepath.Glob(filepath.Join(b.scratchDir(), "*.trace"))
		return err == nil && len(files) == 0
	})
}

func TestWithoutAToolchainTheUISaysWhatToDo(t *testing.T) {
	b := start(t, Config{})
	b.tool.places = []string{filepath.Join(t.TempDir(), "go")}
	if trace, _ := b.Problems(); trace != noToolchain {
		t.Errorf("problem = %q", trace)
	}
	if a := b.opened(b.firstWindow("trace.out", recorded())); a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, "download traces and open them with go tool trace.") {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func TestAToolchainThatCannotBuildIsAProblemInWords(t *testing.T) {
	b := start(t, Config{})
	goTool := fake(t, "case $1 in env) echo '{\"GOVERSION\":\"go1.99\",\"GOOS\":\"linux\",\"GOARCH\":\"amd64\",\"GOTOOLDIR\":\"/nonexistent\"}';; *) echo 'no space left' >&2; exit 1;; esac")
	b.tool.places = []string{goTool}
	want := "could not be built with " + goTool + " (exit status 1: no space left): run `CGO_ENABLED=0 go build -o trace-viewer cmd/trace` where a Go toolchain works, and start the centre with --trace-viewer FILE."
	if a := b.opened(b.firstWindow("trace.out", recorded())); a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, want) {
		t.Errorf("%d %s", a.code, a.body)
	}
	if trace, _ := b.Problems(); trace != "The trace viewer "+want {
		t.Errorf("problem = %q", trace)
	}
}

func TestTheToolchainsOwnViewerIsTaken(t *testing.T) {
	dir := t.TempDir()
	viewer := filepath.Join(dir, "trace")
	if err := os.WriteFile(viewer, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := start(t, Config{})
	b.tool.places = []string{fake(t, "echo '{\"GOVERSION\":\"go1.24.9\",\"GOTOOLDIR\":\""+dir+"\"}'")}
	if got, err := b.tool.get(t.Context()); got != viewer || err != nil {
		t.Errorf("%q, %v; want %q", got, err, viewer)
	}
}

func TestAWrongTraceViewerIsAProblemInWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nothing")
	b := start(t, Config{TraceViewer: path})
	want := "The trace viewer " + path + " cannot be run (no such file or directory): start the centre with --trace-viewer naming a binary of cmd/trace, or without it."
	if trace, _ := b.Problems(); trace != want {
		t.Errorf("problem = %q, want %q", trace, want)
	}
	if a := b.opened(b.firstWindow("trace.out", recorded())); a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, want) {
		t.Errorf("%d %s", a.code, a.body)
	}
}
