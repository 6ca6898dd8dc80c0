package corpus

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Go tests its goroutine leak profile on kernels of real bugs, of CockroachDB, etcd,
// gRPC, Kubernetes, Moby and others, and on patterns of its own, and says of each
// which goroutines it leaks. They are built here out of the toolchain's source, as
// programs whose users run into the bug again and again, and judged from outside,
// without that profile: a warning or worse must begin at a line of such a goroutine.
func TestLeaksOfGoItself(t *testing.T) {
	if os.Getenv("OPS_TEST_FULL") == "" {
		t.Skip("OPS_TEST_FULL is not set: it runs 83 programs for a quarter of a minute each")
	}
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "runtime")
	leaks := listedLeaks(t, filepath.Join(source, "goroutineleakprofile_test.go"))
	program := leakProgram(t, filepath.Join(source, "testdata", "testgoroutineleakprofile"))
	ops := filepath.Join(t.TempDir(), "ops")
	goBuild(t, "../../..", "-o", ops, "./cmd/ops")

	names := strings.Fields(string(output(t, program)))
	said := make([]string, len(names))
	at := make(chan struct{}, 2) // programs at once
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			at <- struct{}{}
			defer func() { <-at }()
			said[i] = judgeLeak(t, ops, program, name, leaks[name])
		})
	}
	all.Wait()
	expected, right := 0, 0
	for i, name := range names {
		if said[i] == "" {
			continue
		}
		expected++
		if strings.HasPrefix(said[i], "right") {
			right++
		}
		t.Logf("%-24s %s", name, said[i])
	}
	t.Logf("%d of %d began at a goroutine that Go lists", right, expected)
	if expected < 70 || 100*right < 95*expected {
		t.Errorf("that is less than 95 %%, or too few programs")
	}
}

// listedLeaks reads from Go's test which goroutines a program leaks, as functions.
func listedLeaks(t *testing.T, file string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skip("the toolchain's tests are not here:", err)
	}
	out := map[string][]string{}
	one := regexp.MustCompile("`([^`]*)`")
	for _, m := range regexp.MustCompile("make(?:Flaky|Any)?Test\\(\"(\\w+)\",((?:\\s*(?://[^\\n]*\\n\\s*)*`[^`]*`,?)+)").FindAllSubmatch(b, -1) {
		for _, l := range one.FindAllSubmatch(m[2], -1) {
			// `\(\*Server_grpc795\)\.Serve\(.* \[sync\.Mutex\.Lock\]`
			function, _, _ := strings.Cut(string(l[1]), `\(.*`)
			function, _, _ = strings.Cut(function, ` \[`)
			out[string(m[1])] = append(out[string(m[1])], strings.ReplaceAll(function, `\`, ""))
		}
	}
	return out
}

const leakMain = `package main

import (
	"fmt"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"time"
)

const yieldCount = 10

var cmds = map[string]func(){}

func register(name string, f func()) { cmds[name] = f }

func registerInit(name string, f func()) {
	if len(os.Args) >= 2 && os.Args[1] == name {
		f()
	}
}

type noProfile struct{}

func (noProfile) WriteTo(any, int) error { return nil }

func main() {
	if len(os.Args) < 2 {
		for name := range cmds {
			fmt.Println(name)
		}
		return
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	serve := func() {
		defer func() { _ = recover() }()
		cmds[os.Args[1]]()
	}
	go serve()
	time.Sleep(400 * time.Millisecond)
	pace := 1500 * time.Millisecond // of those that leak dozens at once
	if runtime.NumGoroutine() < 30 {
		pace = 100 * time.Millisecond
	}
	for range time.Tick(pace) {
		go serve()
	}
}
`

// leakProgram builds all of them as one program that takes a name.
func leakProgram(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	files, _ := filepath.Glob(filepath.Join(source, "goker", "*.go"))
	for _, file := range append(files, filepath.Join(source, "simple.go"), filepath.Join(source, "commonpatterns.go")) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Skip("the toolchain's tests are not here:", err)
		}
		if filepath.Base(file) == "main.go" {
			continue
		}
		text := strings.ReplaceAll(string(b), `pprof.Lookup("goroutineleak")`, "noProfile{}")
		write(t, filepath.Join(dir, filepath.Base(file)), strings.ReplaceAll(text, "\t\"runtime/pprof\"\n", ""))
	}
	write(t, filepath.Join(dir, "main.go"), leakMain)
	write(t, filepath.Join(dir, "go.mod"), "module leaks\n\ngo 1.26\n")
	program := filepath.Join(dir, "leaks")
	goBuild(t, dir, "-o", program, ".")
	return program
}

func goBuild(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func output(t *testing.T, name string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// judgeLeak runs one and says how it was judged; "" where nothing is expected, or
// the bug did not show.
func judgeLeak(t *testing.T, ops, program, name string, leaks []string) string {
	if len(leaks) == 0 {
		return ""
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	addr := l.Addr().String()
	_ = l.Close()
	p, err := start(append(cleanEnv(), "PPROF_ADDR="+addr, "GOMAXPROCS=2"), program, name)
	if err != nil {
		return err.Error()
	}
	defer p.end()
	if err := sleep(t.Context(), 4*time.Second); err != nil {
		return err.Error()
	}
	findings, _, err := Diagnose(t.Context(), ops, "http://"+addr+"/debug/pprof", "-d", "8s")
	if err != nil {
		return err.Error()
	}
	stuck, err := stacksOf(t.Context(), addr, leaks)
	if err != nil {
		return err.Error()
	}
	if len(stuck) == 0 {
		return ""
	}
	for _, f := range findings {
		if f.grave() && slices.Contains(stuck, untyped(f.place().Function)) {
			return "right: " + f.String()
		}
	}
	return fmt.Sprintf("wrong: %v; stuck in %v", findings, stuck)
}

// untyped is a function's name without its type arguments.
func untyped(function string) string { return typeArguments.ReplaceAllString(function, "") }

var call = regexp.MustCompile(`(?m)^(main\..*)\([^()]*\)$`)

// stacksOf are the program's functions in the stacks of goroutines that Go lists.
func stacksOf(ctx context.Context, addr string, leaks []string) (out []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/debug/pprof/goroutine?debug=2", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	for g := range strings.SplitSeq(string(b), "\n\n") {
		var in []string
		listed := false
		for _, m := range call.FindAllStringSubmatch(g, -1) {
			listed = listed || slices.ContainsFunc(leaks, func(l string) bool { return strings.Contains(m[1], l) })
			in = append(in, untyped(m[1]))
		}
		if listed {
			out = append(out, in...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
