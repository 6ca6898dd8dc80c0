package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/examples/colorgame/internal/scenario"
)

// With TEST_CHILD set the test program is a child of the demo.
func TestMain(m *testing.M) {
	switch os.Getenv("TEST_CHILD") {
	case "":
		goleak.VerifyTestMain(m)
	case "serves":
		fmt.Println("I serve")
		_, _ = io.Copy(io.Discard, os.Stdin) // until we are told to end
	case "fails":
		fmt.Println("I have no cards")
		os.Exit(3)
	}
}

func newChild(t *testing.T, does string) *child {
	return &child{
		failed:  make(chan struct{}),
		Process: Process{Name: "game-service", Log: filepath.Join(t.TempDir(), "log")},
		args:    []string{os.Args[0]}, env: []string{"TEST_CHILD=" + does}, stdin: true,
		health: "http://127.0.0.1:1/",
	}
}

func TestNoDemoIsSaid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stack.json")
	_, err := ReadStack(file)
	if want := "no demo runs here (there is no " + file + "): start one with `make demo`, or name its file with --stack"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStack(file); err == nil || !strings.HasPrefix(err.Error(), file+" is not a demo's: ") {
		t.Errorf("a broken file: %v", err)
	}
}

func TestAStackIsReadAsItWasWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "stack.json")
	s := Stack{Center: "http://127.0.0.1:8080", Project: Project, Processes: []Process{{Name: "robot", PID: 7, Admin: "http://127.0.0.1:1"}}}
	if err := s.write(file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadStack(file)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := got.Process("robot"); !ok || p.PID != 7 || got.Center != s.Center {
		t.Errorf("%+v", got)
	}
	if _, ok := got.Process("dealer"); ok {
		t.Error("there is a dealer")
	}
}

func TestAFaultReachesEveryProcessOfTheGame(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, r.Method+" "+r.URL.Path)
		if strings.HasPrefix(r.URL.Path, "/broken") {
			http.Error(w, "out of order", http.StatusInternalServerError)
		}
	}))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	s := Stack{Processes: []Process{{Name: "ops", API: srv.URL}, {Name: "robot", Admin: srv.URL}, {Name: "game-service", Admin: srv.URL}}}
	if err := s.Fault(t.Context(), scenario.LoginStorm, true); err != nil {
		t.Fatal(err)
	}
	if want := []string{"PUT /admin/faults/1/on", "PUT /admin/faults/1/on"}; !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
	err := s.Fault(t.Context(), scenario.SlowRecords, true)
	if want := "scenario 2 needs a database, and this demo runs without: see what `colorgame demo` said at its start"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	s.Processes[1].Admin += "/broken"
	err = s.Fault(t.Context(), scenario.SessionLeak, false)
	if want := "robot: 500 Internal Server Error: out of order"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := (Stack{}).Fault(t.Context(), scenario.SessionLeak, true); err == nil || err.Error() != "no process of the game is running" {
		t.Errorf("an empty stack: %v", err)
	}
}

func TestAChildThatDiesIsSaidAndStartedAgain(t *testing.T) {
	c := newChild(t, "serves")
	ctx, end := context.WithCancel(t.Context())
	pids, said := make(chan int, 10), make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(ctx, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) }, func(pid int) { pids <- pid })
	}()
	first := <-pids
	for !strings.Contains(string(c.lastWords()), "I serve") {
		time.Sleep(time.Millisecond)
	}
	p, err := os.FindProcess(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := <-said; !strings.HasPrefix(got, "game-service ended by itself (signal: killed) and is started again.") || !strings.HasSuffix(got, "I serve") {
		t.Errorf("said %q", got)
	}
	if gone, second := <-pids, <-pids; gone != 0 || second == 0 || second == first {
		t.Errorf("process %d, then %d, then %d", first, gone, second)
	}
	end()
	<-done
	if last := <-pids; last != 0 {
		t.Errorf("process %d is left", last)
	}
}

func TestAChildThatNeverServesIsAnError(t *testing.T) {
	c := newChild(t, "fails")
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(ctx, func(string, ...any) {}, func(int) {})
	}()
	err := c.ready(ctx)
	if want := "game-service does not start. Its last words, from " + c.Log + ":\nI have no cards"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	end()
	<-done
}

func TestLastWordsAreTheLast(t *testing.T) {
	c := newChild(t, "")
	if err := os.WriteFile(c.Log, []byte(strings.Repeat("blah blah\n", 1000)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	words := string(c.lastWords())
	if len(words) > lastWordsLength || !strings.HasPrefix(words, "blah blah\n") || !strings.HasSuffix(words, "the end") {
		t.Errorf("last words: %q", words)
	}
}

// Whoever follows the README has a centre on the default address when the demo
// starts, and that centre has ./ops-data locked.
func TestBesideARunningCentreTheDemoHasItsOwnData(t *testing.T) {
	for _, c := range []struct {
		cfg          Config
		listen, want string
	}{
		{Config{}, defaultListen, "ops-data"},
		{Config{}, "127.0.0.1:40071", "ops-data-demo"},
		{Config{Data: "mine"}, "127.0.0.1:40071", "mine"},
		{Config{Listen: "127.0.0.1:9090"}, "127.0.0.1:9090", "ops-data"},
	} {
		c.cfg.Out = io.Discard
		if got := (&demo{cfg: c.cfg}).data(c.listen); got != c.want {
			t.Errorf("%+v at %s: %s, want %s", c.cfg, c.listen, got, c.want)
		}
	}
}

func TestASecondDemoIsRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	file := filepath.Join(t.TempDir(), "stack.json")
	if err := (Stack{Center: "http://127.0.0.1:8080", Processes: []Process{{Name: "robot", Admin: srv.URL}}}).write(file); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Config{StackFile: file})
	if want := "a demo is already running (centre http://127.0.0.1:8080, see " + file + "): end it first, or give this one its own --stack"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
