//go:build linux

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
)

// childStart is what the child holds from the start.
const childStart = 128 << 20

var held [][]byte // what the child leaks; a global so that it is live

func leak(n int) {
	b := make([]byte, n)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	held = append(held, b)
}

// child is the service: it leaks until it is killed at its limit, as the kernel
// would, or waits to be asked to end.
func child() {
	switch os.Getenv("OPS_TEST_CHILD") {
	case "centre":
		centre()
		return
	case "profiled":
		profiledChild()
	}
	for range 128 {
		leak(childStart / 128)
	}
	// Its limit is a little above what it has, whatever the build adds to that.
	limit := resident() * 100 / 85
	debug.SetMemoryLimit(limit)
	a, err := agent.Start(agent.Config{Project: "color-game", Service: "doomed", LastWords: "signal"})
	if err != nil {
		panic(err)
	}
	defer a.Close()
	switch os.Getenv("OPS_TEST_CHILD") {
	case "waits":
		time.Sleep(time.Minute)
		return
	case "panics":
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is told to
		defer a.Recover()
		panic("out of dice")
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	for {
		time.Sleep(500 * time.Millisecond)
		if resident() > limit*95/100 {
			<-told // how soon it is heard depends on the machine; at 99 % nothing is collected any more
		}
		leak(int(limit / 100))
		if resident() > limit {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}

func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return pages * int64(os.Getpagesize())
}

// startChild starts one that ends with the test; it is told something by closing its
// input.
func startChild(t *testing.T, kind, url string) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OPS_TEST_CHILD="+kind, "OPS_CENTER="+url, "OPS_SPOOL_DIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	tell, err := cmd.StdinPipe()
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
	return cmd, tell
}

func names(c *apiv1.Capture) (out []string) {
	for _, a := range c.GetTargets()[0].GetArtifacts() {
		out = append(out, a.GetName())
	}
	slices.Sort(out)
	return out
}

// A process that is killed at its memory limit leaves what held the memory.
func TestAProcessThatIsKilledHasSaidWhatLeaks(t *testing.T) {
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{})
	cmd, tell := startChild(t, "leaks", url)
	c := apiv1connect.NewTriggerServiceClient(hc, url)
	history(t, c, "last-words", "archived")
	_ = tell.Close() // on to its limit
	err := cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v", err)
	}
	fired := history(t, c, "last-words", "fired")
	if !strings.HasPrefix(fired.GetReason(), "memory is 9") {
		t.Errorf("it fired because %q", fired.GetReason())
	}
	done := history(t, c, "last-words", "diagnosed")
	captures := apiv1connect.NewCaptureServiceClient(hc, url)
	got, err := captures.GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: done.GetCaptureId()}))
	if err != nil {
		t.Fatal(err)
	}
	if n := names(got.Msg.GetCapture()); !slices.Contains(n, "heap.pprof") || !slices.Contains(n, "goroutine.pprof") {
		t.Errorf("it left %q", n)
	}
	said, err := captures.GetDiagnosis(t.Context(), connect.NewRequest(&apiv1.GetDiagnosisRequest{CaptureId: done.GetCaptureId()}))
	if err != nil {
		t.Fatal(err)
	}
	var diagnosis struct {
		Findings []struct {
			Rule  string
			Where []struct{ Function string }
		}
	}
	if err := json.Unmarshal([]byte(said.Msg.GetJson()), &diagnosis); err != nil {
		t.Fatal(err)
	}
	for _, f := range diagnosis.Findings {
		if len(f.Where) > 0 && strings.HasSuffix(f.Where[0].Function, ".leak") {
			return
		}
	}
	t.Errorf("no finding names leak:\n%s", said.Msg.GetJson())
}

// SIGTERM ends a process as ever, and its last words are with the centre.
func TestATerminatedProcessSendsItsLastWords(t *testing.T) {
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{RulesDir: writeRules(t, `rules:
  - name: watched
    for: {project: color-game, service: doomed}
    when: {slow: bet, longer: 40ms}
    do: [snapshot]
`)})
	cmd, _ := startChild(t, "waits", url)
	c := apiv1connect.NewTriggerServiceClient(hc, url)
	running(t, c, "watched") // so the centre follows the process
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("the child ended with %v, not by the signal", cmd.ProcessState)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v to end", took)
	}
	if e := history(t, c, "last-words", "archived"); e.GetReason() != "the process was asked to end (terminated)" {
		t.Errorf("last words because %q", e.GetReason())
	}
}

// quietAddress is one where a centre can come back: the system gives its port to
// nobody who does not ask for it.
func quietAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			_ = l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

const watchedRule = `rules:
  - name: watched
    for: {project: color-game, service: doomed}
    when: {slow: bet, longer: 40ms}
    do: [snapshot]
`

// A goroutine that panics ends the process as ever, and what everybody did is with
// the centre.
func TestAProcessThatPanicsSaysWhy(t *testing.T) {
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{RulesDir: writeRules(t, watchedRule)})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OPS_TEST_CHILD=panics", "OPS_CENTER="+url, "OPS_SPOOL_DIR="+t.TempDir())
	var said strings.Builder
	cmd.Stderr = &said
	tell, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := apiv1connect.NewTriggerServiceClient(hc, url)
	running(t, c, "watched") // so the centre follows the process
	_ = tell.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(said.String(), "panic: out of dice") {
		t.Errorf("it ended with %d and said %q, want a panic with its value", code, said.String())
	}
	e := history(t, c, "last-words", "archived")
	if e.GetReason() != "the process panicked: out of dice" {
		t.Errorf("last words because %q", e.GetReason())
	}
	got, err := apiv1connect.NewCaptureServiceClient(hc, url).GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: e.GetCaptureId()}))
	if err != nil {
		t.Fatal(err)
	}
	if n := names(got.Msg.GetCapture()); !slices.Contains(n, "goroutine.pprof") {
		t.Errorf("it left %q", n)
	}
}

// centre is a centre that can be killed.
func centre() {
	err := Serve(context.Background(), cli.ServeOptions{
		Listen: os.Getenv("OPS_TEST_LISTEN"), DataDir: os.Getenv("OPS_TEST_DATA"), RulesDir: os.Getenv("OPS_TEST_RULES"), Out: io.Discard,
	})
	if err != nil {
		panic(err)
	}
}

const longRule = `rules:
  - name: long
    for: {service: tables}
    when: {slow: bet, longer: 40ms}
    do:
      - capture: {for: 8s, kinds: [cpu, goroutine]}
    limits: {cooldown: 10m, times: 1, per: 1h}
`

// A centre that is killed while it fetches what an instance kept has all of it, and
// once, when it is back.
func TestACentreThatIsKilledWhileItFetches(t *testing.T) {
	hc := client(t, &http.Transport{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := cli.ServeOptions{Listen: l.Addr().String(), DataDir: t.TempDir(), RulesDir: writeRules(t, longRule)}
	_ = l.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OPS_TEST_CHILD=centre", "OPS_TEST_LISTEN="+o.Listen, "OPS_TEST_DATA="+o.DataDir, "OPS_TEST_RULES="+o.RulesDir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	url := "http://" + o.Listen
	a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "tables", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	running(t, apiv1connect.NewTriggerServiceClient(hc, url), "long")
	a.Slow(t.Context(), "bet", 50*time.Millisecond)
	captures := apiv1connect.NewCaptureServiceClient(hc, url)
	mine := func() []*apiv1.Capture {
		resp, err := captures.ListCaptures(t.Context(), connect.NewRequest(&apiv1.ListCapturesRequest{}))
		if err != nil {
			return nil
		}
		return resp.Msg.GetCaptures()
	}
	for end := time.Now().Add(time.Minute); len(mine()) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the centre does not fetch what the instance keeps")
		}
	}
	_ = cmd.Process.Kill() // the window still has seconds to go
	_ = cmd.Wait()
	hc.CloseIdleConnections()

	serve(t, o)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		all := mine()
		if len(all) == 1 && all[0].GetState() == apiv1.CaptureState_CAPTURE_STATE_DONE {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the restart there are %v", all)
		}
	}
	got, err := captures.GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: mine()[0].GetId()}))
	if err != nil {
		t.Fatal(err)
	}
	n := names(got.Msg.GetCapture())
	for _, want := range []string{"cpu.pprof", "goroutine.pprof"} {
		if !slices.Contains(n, want) {
			t.Errorf("it has %q, without %s", n, want)
		}
	}
	if got.Msg.GetCapture().GetActor() != "rule:long" {
		t.Errorf("it is of %q", got.Msg.GetCapture().GetActor())
	}
}

// Rules fire while the centre is away; what they collected and how often they may
// is there when it is back.
func TestRulesGoOnWithoutTheCentre(t *testing.T) {
	hc := client(t, &http.Transport{})
	o := cli.ServeOptions{Listen: quietAddress(t), DataDir: t.TempDir(), RulesDir: writeRules(t, strings.Replace(stallRule, "cooldown: 1m", "cooldown: 10s", 1))}
	url, stop := serve(t, o)
	a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "tables", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	c := apiv1connect.NewTriggerServiceClient(hc, url)
	running(t, c, "stall")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	hc.CloseIdleConnections()
	a.Slow(t.Context(), "bet", 50*time.Millisecond) // nobody is there
	time.Sleep(500 * time.Millisecond)

	serve(t, o)
	done := history(t, c, "stall", "archived")
	if done.GetInstanceId() != a.BootID() {
		t.Errorf("it is of %s", done.GetInstanceId())
	}
	history(t, c, "stall", "fired")
	time.Sleep(time.Until(done.GetAt().AsTime().Add(10 * time.Second))) // cooled down
	a.Slow(t.Context(), "bet", 50*time.Millisecond)
	refused := history(t, c, "stall", "refused")
	if !strings.Contains(refused.GetReason(), "its budget of 1 within 1h0m0s is used up for 5") {
		t.Errorf("refused because %q", refused.GetReason())
	}
}
