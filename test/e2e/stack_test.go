// Package e2e runs the real centre and the real Color Game, switches one trouble
// after the other on, captures through the command line, and finds in the files
// what an engineer would find there. It knows the programs only from outside.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs are built once for all tests.
var programs struct{ dir, ops, colorgame string }

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		fmt.Println("e2e: with -short every test here is skipped: they need minutes")
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs.dir, programs.ops, programs.colorgame = dir, filepath.Join(dir, "ops"), filepath.Join(dir, "colorgame")
	for out, pkg := range map[string]string{programs.ops: "./cmd/ops", programs.colorgame: "./examples/colorgame"} {
		build := exec.Command("go", "build", "-o", out, pkg)
		build.Dir = filepath.Join("..", "..")
		if said, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: building %s: %v\n%s", pkg, err, said)
			return 1
		}
	}
	defer shared.end()
	return m.Run()
}

// process is a program under test whose end is waited for.
type process struct {
	cmd   *exec.Cmd
	out   *bytes.Buffer // written until ended is closed
	mu    *sync.Mutex   // guards out
	ended chan struct{}
	err   error // how it ended; read after ended
}

// start runs a program and keeps what it says.
func start(env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), out: &bytes.Buffer{}, mu: &sync.Mutex{}, ended: make(chan struct{})}
	// However full the disk of the tests is: captures are taken.
	p.cmd.Env = append(append(cleanEnv(), "OPS_DISK_RESERVE=64MiB"), env...)
	p.cmd.Dir = programs.dir
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// end interrupts the program and waits for it.
func (p *process) end() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("it does not end when interrupted"), p.cmd.Process.Kill())
	}
}

// cleanEnv is our environment without what would lead the programs elsewhere.
func cleanEnv() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OPS_") && !strings.HasPrefix(kv, "SCENARIO=") {
			env = append(env, kv)
		}
	}
	return env
}

// stack is a running demo.
type stack struct {
	demo   *process
	file   string
	center string
}

// shared is the one demo of all scenarios; game starts it.
var shared sharedStack

type sharedStack struct {
	once sync.Once
	s    *stack
	err  error
}

func (h *sharedStack) end() {
	if h.s == nil {
		return
	}
	err := h.s.demo.end()
	if said := h.s.demo.said(); err != nil || strings.Contains(said, "ended by itself") {
		fmt.Fprintf(os.Stderr, "e2e: the demo ended (%v), and said:\n%s", err, said)
	}
}

// game returns the running demo with everything healthy, starting it if need be.
func game(t *testing.T) *stack {
	t.Helper()
	if testing.Short() {
		t.Skip("needs minutes; runs without -short")
	}
	shared.once.Do(func() { shared.s, shared.err = startStack() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.s
}

func startStack() (*stack, error) {
	return startStackWith("")
}

// startStackWith starts a demo with a scenario on from the start; "" = none.
func startStackWith(scenario string) (*stack, error) {
	s := &stack{file: filepath.Join(programs.dir, "stack"+scenario+".json")}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s.center = "http://" + listen
	s.demo, err = start([]string{"COLORGAME_AUDIT_EVERY=2s", "COLORGAME_LEDGER_SEATS=160"}, programs.colorgame, "demo", "--scenario="+scenario, "--ops", programs.ops, "--listen", listen,
		"--data", filepath.Join(programs.dir, "data"+scenario), "--stack", s.file)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(2 * time.Minute)
	for !strings.Contains(s.demo.said(), "Ctrl-C ends everything") {
		select {
		case <-s.demo.ended:
			return nil, fmt.Errorf("the demo ended (%v) and said:\n%s", s.demo.err, s.demo.said())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("the demo is not up after two minutes. It said:\n%s", s.demo.said()), s.demo.end())
		}
	}
	if strings.Contains(s.demo.said(), "without a database") {
		return nil, errors.Join(fmt.Errorf("the end-to-end tests need a database. The demo said:\n%s", s.demo.said()), s.demo.end())
	}
	return s, nil
}

// freeAddress is one where a centre can come back: the system gives its port to
// nobody who does not ask for it, least of all to an agent that dials it meanwhile.
func freeAddress() (address string, err error) {
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

// member is a process of the game, as the stack file has it.
type member struct {
	Name, API, Admin string
	PID              int
}

func (s *stack) member(t *testing.T, name string) member {
	t.Helper()
	b, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Processes []member }
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	for _, m := range f.Processes {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("there is no %s in %s", name, b)
	return member{}
}

// state is what a member says of itself.
type state struct {
	PID     int
	At      time.Time
	Figures map[string]float64
}

func (m member) state(ctx context.Context) (s state, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Admin+"/admin/state", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// figure reads one figure of a member.
func (s *stack) figure(t *testing.T, name, figure string) float64 {
	t.Helper()
	st, err := s.member(t, name).state(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	v, ok := st.Figures[figure]
	if !ok && !strings.Contains(figure, "_ms") { // a latency without samples is left out
		t.Fatalf("%s has no figure %s, but %v", name, figure, st.Figures)
	}
	return v
}

// until waits for a figure to be as wanted.
func (s *stack) until(t *testing.T, name, figure string, wanted func(float64) bool) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		v := s.figure(t, name, figure)
		if wanted(v) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s of %s is still %v", figure, name, v)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func atLeast(n float64) func(float64) bool { return func(v float64) bool { return v >= n } }
func atMost(n float64) func(float64) bool  { return func(v float64) bool { return v <= n } }

// fault switches a scenario on through the game's own command line, and off
// again when the test has ended.
func (s *stack) fault(t *testing.T, scenario string) {
	t.Helper()
	set := func(state string) {
		if out, err := exec.Command(programs.colorgame, "fault", scenario, state, "--stack", s.file).CombinedOutput(); err != nil {
			t.Errorf("fault %s %s: %v\n%s", scenario, state, err, out)
		}
	}
	set("on")
	t.Cleanup(func() { set("off") })
}

// ops runs the command line against a centre and returns standard output and
// the exit code.
func ops(t *testing.T, server string, args ...string) (stdout string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, programs.ops, append(args, "--server", server)...)
	cmd.Env = cleanEnv()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("ops %s: %v", strings.Join(args, " "), err)
	}
	t.Logf("ops %s: exit code %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), errs.String())
	return out.String(), cmd.ProcessState.ExitCode()
}

// The exit codes of ops capture that leave something to read.
const (
	exitDone    = 0
	exitPartial = 4
)

// sourceLine returns the line of the game's source file that is text.
func sourceLine(t *testing.T, file, text string) int64 {
	t.Helper()
	return sourceLineAfter(t, file, "", text)
}

// sourceLineAfter is sourceLine for a line that is only once behind a line that
// begins with mark.
func sourceLineAfter(t *testing.T, file, mark, text string) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "examples", "colorgame", "internal", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	found, passed := int64(0), mark == ""
	for i, line := range strings.Split(string(b), "\n") {
		passed = passed || strings.HasPrefix(line, mark)
		if passed && strings.TrimSpace(line) == text {
			if found != 0 {
				t.Fatalf("%s has %q twice", file, text)
			}
			found = int64(i + 1)
		}
	}
	if found == 0 {
		t.Fatalf("%s has no line %q", file, text)
	}
	return found
}

// kill ends a process as the kernel's OOM killer does.
func kill(t *testing.T, pid int) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL here")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
