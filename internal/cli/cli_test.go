package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// screen is a terminal that remembers what was written on it.
type screen struct {
	mu     sync.Mutex // guards b and writes
	b      bytes.Buffer
	writes int
}

// redrawn waits until what is known now has been drawn.
func (s *screen) redrawn() {
	drawn := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.writes
	}
	before := drawn()
	for end := time.Now().Add(time.Minute); drawn() < before+2 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

func (*screen) IsTerminal() bool { return true }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// keyboard is a terminal on which someone types.
type keyboard struct{ io.Reader }

func (keyboard) IsTerminal() bool { return true }

const firstID = "01jz0000000000000000000001"

func TestFirstInterruptStopsAndKeeps(t *testing.T) {
	c := newCentre(t, "")
	signals := make(chan os.Signal, 4)
	c.never = true
	c.onLook = func(n int) {
		if n == 2 {
			signals <- os.Interrupt
		}
	}
	stdout, stderr, code := run{cfg: Config{Signals: signals}}.ops(t, c, "capture", "game-service", "--all")
	if code != ExitOK || stdout != firstID+"\n" {
		t.Errorf("got exit %d and %q, want the capture that was kept", code, stdout)
	}
	want := `ops: capture 01jz0000000000000000000001: 30s of color-game/game-service on 2 instances
ops: stopping capture 01jz0000000000000000000001 and keeping what was collected: Ctrl-C again cancels it and drops everything
ops: host-a/101: done, 4 files, 3.3 MiB, stopped early
ops: host-b/102: done, 4 files, 3.3 MiB, stopped early
`
	if stderr != want {
		t.Errorf("standard error:\n%s\nwant:\n%s", stderr, want)
	}
	if !slices.Equal(c.stopped, []string{firstID}) || c.cancelled != nil {
		t.Errorf("stopped %v and cancelled %v, want one stop alone", c.stopped, c.cancelled)
	}
}

func TestSecondInterruptCancelsAndDrops(t *testing.T) {
	c := newCentre(t, "")
	signals := make(chan os.Signal, 4)
	c.never = true
	c.onLook = func(n int) {
		if n == 2 || n == 3 {
			signals <- os.Interrupt
		}
	}
	stdout, stderr, code := run{cfg: Config{Signals: signals}}.ops(t, c, "capture", "game-service", "--all", "--note", "deaf")
	if code != ExitInterrupted || stdout != "" {
		t.Errorf("got exit %d and %q, want 130 and nothing", code, stdout)
	}
	if !strings.HasSuffix(stderr, "ops: capture 01jz0000000000000000000001 was cancelled: cancelled by local:ann\n") {
		t.Errorf("standard error ends with %q", stderr)
	}
	if len(c.stopped) != 1 || len(c.cancelled) != 1 {
		t.Errorf("stopped %v and cancelled %v, want each once", c.stopped, c.cancelled)
	}
}

func TestInterruptBeforeTheCaptureBegins(t *testing.T) {
	signals := make(chan os.Signal, 1)
	arrived := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // a centre that hangs
	}))
	t.Cleanup(srv.Close)
	go func() {
		<-arrived
		signals <- os.Interrupt
	}()
	_, stderr, code := run{cfg: Config{Signals: signals}}.ops(t, &centre{url: srv.URL}, "capture", "game-service")
	if code != ExitInterrupted || stderr != "ops: interrupted\n" {
		t.Errorf("got exit %d and %q", code, stderr)
	}
}

func TestCaptureOutlivesACentreThatRestarts(t *testing.T) {
	c := newCentre(t, "")
	c.away = 3
	stdout, stderr, code := run{}.ops(t, c, "capture", "legacy")
	if code != ExitOK || stdout != firstID+"\n" {
		t.Errorf("got exit %d and %q", code, stdout)
	}
	if strings.Count(stderr, "ops: the centre is away, waiting for it (restarting)\n") != 1 {
		t.Errorf("standard error should say once that the centre is away:\n%s", stderr)
	}
}

func TestCaptureGivesUpOnACentreThatStaysAway(t *testing.T) {
	c := newCentre(t, "")
	c.away = 1 << 30
	now := testNow
	cfg := Config{Now: func() time.Time { now = now.Add(10 * time.Second); return now }}
	stdout, stderr, code := run{cfg: cfg}.ops(t, c, "capture", "legacy")
	want := "ops: the centre has been away for 1m0s: once it is back, `ops captures` says what became of capture 01jz0000000000000000000001\n"
	if code != ExitUnavailable || stdout != "" || !strings.HasSuffix(stderr, want) {
		t.Errorf("got exit %d, %q and %q", code, stdout, stderr)
	}
}

func TestBarsAreDrawnOnATerminalOnly(t *testing.T) {
	c := newCentre(t, "")
	tty := &screen{}
	c.onLook = func(int) { tty.redrawn() } // the bars' own clock redraws every 150 ms
	stdout, _, code := run{stderr: tty}.ops(t, c, "capture", "game-service", "--all")
	if code != ExitOK || stdout != firstID+"\n" {
		t.Errorf("got exit %d and %q", code, stdout)
	}
	drawn := tty.String()
	for _, want := range []string{"host-a/101", "host-b/102", " 33 %", "recording CPU, 1.0 MiB", "ops: look at it with `ops open " + firstID + "`\n"} {
		if !strings.Contains(drawn, want) {
			t.Errorf("%q was not drawn in:\n%q", want, drawn)
		}
	}
}

func TestManyTargetsShareABar(t *testing.T) {
	c := newCentre(t, "")
	c.instances = nil
	for n := range 30 {
		c.instances = append(c.instances, instance(fmt.Sprintf("b00t-%02d", n), "p", "many", fmt.Sprintf("host/%d", n), apiv1.InstanceState_INSTANCE_STATE_UP))
	}
	tty := &screen{}
	c.onLook = func(int) { tty.redrawn() }
	if _, _, code := (run{stderr: tty}).ops(t, c, "capture", "many", "--all"); code != ExitOK {
		t.Errorf("exit %d", code)
	}
	if drawn := tty.String(); !strings.Contains(drawn, "30 instances") || !strings.Contains(drawn, "0 of 30 ended, 30 MiB") {
		t.Errorf("no shared bar in %q", drawn)
	}
}

func TestCaptureAsksOnlyForWhatWasSaid(t *testing.T) {
	for _, test := range []struct {
		args string
		want *apiv1.StartCaptureRequest
	}{
		{"legacy", &apiv1.StartCaptureRequest{Project: "poker", Service: "legacy", MaxInstances: 1, Spec: &apiv1.CaptureSpec{}}},
		{"game-service --all", &apiv1.StartCaptureRequest{Project: "color-game", Service: "game-service", Spec: &apiv1.CaptureSpec{}}},
		{"game-service --max 7 -d 90s", &apiv1.StartCaptureRequest{Project: "color-game", Service: "game-service", MaxInstances: 7, Spec: &apiv1.CaptureSpec{Duration: durationpb.New(90 * time.Second)}}},
		{"game-service/b00t-a2 --kinds cpu,trace --trace-window 3s --fidelity balanced --note x", &apiv1.StartCaptureRequest{
			Project: "color-game", Service: "game-service", InstanceIds: []string{"b00t-a2"}, Note: "x",
			Spec: &apiv1.CaptureSpec{Kinds: []string{"cpu", "trace"}, TraceWindow: durationpb.New(3 * time.Second), Fidelity: "balanced"},
		}},
	} {
		c := newCentre(t, "")
		run{}.ops(t, c, append([]string{"capture", "--no-wait"}, strings.Fields(test.args)...)...)
		if len(c.asked) != 1 {
			t.Errorf("capture %s asked %d times", test.args, len(c.asked))
			continue
		}
		c.asked[0].Spec.Duration = withoutDefault(c.asked[0].Spec.Duration)
		if !proto.Equal(c.asked[0], test.want) {
			t.Errorf("capture %s asked for\n%v, want\n%v", test.args, c.asked[0], test.want)
		}
	}
}

// withoutDefault takes back the default that the centre filled in.
func withoutDefault(d *durationpb.Duration) *durationpb.Duration {
	if d.AsDuration() == 30*time.Second {
		return nil
	}
	return d
}

func TestDeleteAsksOnATerminal(t *testing.T) {
	for _, test := range []struct {
		typed, want string
		code, left  int
	}{
		{"y\n", "ops: capture " + firstID + ": deleted\n", ExitOK, 0},
		{"YES\n", "ops: capture " + firstID + ": deleted\n", ExitOK, 0},
		{"\n", "ops: capture " + firstID + " stays\n", ExitInterrupted, 1},
		{"no\n", "ops: capture " + firstID + " stays\n", ExitInterrupted, 1},
		{"", "ops: capture " + firstID + " stays\n", ExitInterrupted, 1},
	} {
		c := newCentre(t, "")
		run{}.ops(t, c, "capture", "legacy")
		run{}.ops(t, c, "pin", firstID)
		_, stderr, code := run{stdin: keyboard{strings.NewReader(test.typed)}}.ops(t, c, "delete", firstID)
		want := "Delete capture " + firstID + " of poker/legacy (3.3 MiB), which is pinned? [y/N] " + test.want
		if stderr != want || code != test.code || len(c.captures) != test.left {
			t.Errorf("%q: exit %d, %d captures left, %q; want %d, %d, %q", test.typed, code, len(c.captures), stderr, test.code, test.left, want)
		}
	}
}

func TestInterruptedQuestionDeletesNothing(t *testing.T) {
	c := newCentre(t, "")
	run{}.ops(t, c, "capture", "legacy")
	r, w := io.Pipe()
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	_, _, code := run{stdin: keyboard{r}, cfg: Config{Signals: signals}}.ops(t, c, "delete", firstID)
	w.Close()
	if code != ExitInterrupted || len(c.captures) != 1 {
		t.Errorf("exit %d, %d captures left", code, len(c.captures))
	}
}

func TestExportOfABrokenConnectionLeavesNoFile(t *testing.T) {
	c := newCentre(t, "")
	run{}.ops(t, c, "capture", "legacy")
	c.cutBundle = true
	dir := t.TempDir()
	_, stderr, code := run{}.ops(t, c, "export", firstID, "-o", filepath.Join(dir, "x.zip"))
	if code != ExitUnavailable || !strings.HasPrefix(stderr, "ops: the bundle broke off after ") || !strings.HasSuffix(stderr, ": try again\n") {
		t.Errorf("got exit %d and %q", code, stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the directory holds %v (%v)", left, err)
	}
}

func TestExportAndImportCarryTheSameBytes(t *testing.T) {
	c := newCentre(t, "")
	run{}.ops(t, c, "capture", "legacy")
	stdout, _, _ := run{}.ops(t, c, "export", firstID, "-o", "-")
	if stdout != string(bundleBytes) {
		t.Errorf("export - gave %d bytes, want %d", len(stdout), len(bundleBytes))
	}
	file := filepath.Join(t.TempDir(), "x.zip")
	tty := &screen{}
	run{stderr: tty}.ops(t, c, "export", firstID, "-o", file)
	run{stderr: tty}.ops(t, c, "import", file)
	run{stdin: strings.NewReader(stdout)}.ops(t, c, "import", "-")
	if len(c.imported) != 2 || c.imported[0] != string(bundleBytes) || c.imported[1] != string(bundleBytes) {
		t.Errorf("%d bundles arrived, want 2 whole ones", len(c.imported))
	}
}

func TestZipOnATerminalIsRefused(t *testing.T) {
	c := newCentre(t, "")
	var errs bytes.Buffer
	code := Main(t.Context(), []string{"export", firstID, "-o", "-", "--server", c.url}, Config{Stdout: &screen{}, Stderr: &errs, Getenv: func(string) string { return "" }})
	if want := "ops: a zip file does not belong on a terminal: name a file with -o\n"; code != ExitUsage || errs.String() != want {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestOpenShowsThePage(t *testing.T) {
	c := newCentre(t, "")
	run{}.ops(t, c, "capture", "legacy")
	var shown string
	cfg := Config{OpenBrowser: func(_ context.Context, url string) error { shown = url; return nil }}
	if _, _, code := (run{cfg: cfg}).ops(t, c, "open", firstID); code != ExitOK || shown != c.url+"/captures/"+firstID {
		t.Errorf("exit %d, showed %q", code, shown)
	}
	shown = ""
	if (run{cfg: cfg}).ops(t, c, "open", firstID, "--no-browser"); shown != "" {
		t.Errorf("--no-browser showed %q", shown)
	}
}

func TestForeignNamesCannotMoveTheCursor(t *testing.T) {
	c := newCentre(t, "")
	c.instances = []*apiv1.Instance{instance("b00t-x1", "p", "s", "host\x1b[2J\u202e/1\r\n", apiv1.InstanceState_INSTANCE_STATE_UP)}
	stdout, _, _ := run{}.ops(t, c, "instances")
	_, stderr, _ := run{}.ops(t, c, "capture", "s")
	for _, printed := range []string{stdout, stderr} {
		if strings.ContainsAny(printed, "\x1b\r\u202e") || !strings.Contains(printed, "host\ufffd[2J\ufffd/1\ufffd\ufffd") {
			t.Errorf("printed %q", printed)
		}
	}
}

func TestServeEndsOnAnInterrupt(t *testing.T) {
	signals := make(chan os.Signal, 1)
	ended := false
	cfg := Config{Signals: signals, Serve: func(ctx context.Context, _ ServeOptions) error {
		signals <- syscall.SIGTERM
		<-ctx.Done()
		ended = true
		return context.Cause(ctx)
	}}
	if _, stderr, code := (run{cfg: cfg}).ops(t, &centre{}, "serve"); code != ExitOK || !ended || stderr != "" {
		t.Errorf("exit %d, ended %v, %q", code, ended, stderr)
	}
}

func TestServeErrorsReachTheUser(t *testing.T) {
	cfg := Config{Serve: func(context.Context, ServeOptions) error {
		return ops.Errorf(ops.Invalid, "--listen 0.0.0.0:8080 is not loopback: add --tls-cert, --tls-key and --token-file")
	}}
	_, stderr, code := run{cfg: cfg}.ops(t, &centre{}, "serve")
	if want := "ops: --listen 0.0.0.0:8080 is not loopback: add --tls-cert, --tls-key and --token-file\n"; code != ExitUsage || stderr != want {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

// What an error tells to type has to be copied line by line; a terminal's
// controls are still none.
func TestLinesOfAnErrorStayLines(t *testing.T) {
	cfg := Config{Serve: func(context.Context, ServeOptions) error {
		return ops.Errorf(ops.Invalid, "make it once:\n  openssl rand -hex 32 > ops.token\nand start again\x1b[2J")
	}}
	_, stderr, _ := run{cfg: cfg}.ops(t, &centre{}, "serve")
	if want := "ops: make it once:\n  openssl rand -hex 32 > ops.token\nand start again\ufffd[2J\n"; stderr != want {
		t.Errorf("%q", stderr)
	}
}

func TestServeLogsAsTold(t *testing.T) {
	cfg := Config{Serve: func(_ context.Context, o ServeOptions) error {
		o.Logger.Info("quiet")
		o.Logger.Warn("loud", "n", 1)
		return nil
	}}
	_, stderr, _ := run{cfg: cfg}.ops(t, &centre{}, "--log-level", "warn", "--log-format", "json")
	var line struct {
		Msg string `json:"msg"`
		N   int    `json:"n"`
	}
	if err := json.Unmarshal([]byte(stderr), &line); err != nil || line.Msg != "loud" || line.N != 1 {
		t.Errorf("logged %q (%v)", stderr, err)
	}
}

func TestAClientWithoutACentreSaysSo(t *testing.T) {
	var errs bytes.Buffer
	code := Main(t.Context(), nil, Config{Stderr: &errs, Stdout: io.Discard})
	if want := "ops: this ops is a client only: run the centre where the full program is\n"; code != ExitUsage || errs.String() != want {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestChildVerbBypassesEverything(t *testing.T) {
	var got []string
	code := Main(t.Context(), []string{ChildVerb, "--help", "x"}, Config{Child: func(args []string) int { got = args; return 77 }})
	if code != 77 || !slices.Equal(got, []string{"--help", "x"}) {
		t.Errorf("exit %d with %q", code, got)
	}
	if code := Main(t.Context(), []string{ChildVerb}, Config{}); code != ExitUsage {
		t.Errorf("without a child: exit %d", code)
	}
}

func TestVersion(t *testing.T) {
	text, _, _ := run{}.ops(t, &centre{}, "version")
	if want := fmt.Sprintf("ops v1.2.3 (%s, %s/%s)\n", runtime.Version(), runtime.GOOS, runtime.GOARCH); text != want {
		t.Errorf("version prints %q, want %q", text, want)
	}
	flag, _, _ := run{}.ops(t, &centre{}, "--version")
	if flag != "v1.2.3\n" {
		t.Errorf("--version prints %q", flag)
	}
	answer, _, _ := run{}.ops(t, &centre{}, "version", "--json")
	var v struct{ Version, Go, OS, Arch string }
	if err := json.Unmarshal([]byte(answer), &v); err != nil || v.Version != "v1.2.3" || v.Go != runtime.Version() || v.OS != runtime.GOOS || v.Arch != runtime.GOARCH {
		t.Errorf("version --json prints %q (%v)", answer, err)
	}
}

func TestShellCompletionKnowsTheFleet(t *testing.T) {
	c := newCentre(t, "")
	run{}.ops(t, c, "capture", "legacy")
	for _, test := range []struct{ line, want string }{
		{"capture ", "game-service\ngateway-service\nuser-service\nlegacy\nlost-service\nuser-service\n:4\n"},
		{"open ", firstID + "\tlegacy 0s\n:36\n"},
		{"open " + firstID + " ", ":4\n"},
		{"--server http://127.0.0.1:1 capture ", ":1\n"},
	} {
		stdout, _, _ := run{}.ops(t, c, append([]string{"__complete"}, strings.Split(test.line, " ")...)...)
		if stdout != test.want {
			t.Errorf("completing %q gave %q, want %q", test.line, stdout, test.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, _, code := (run{}).ops(t, c, "completion", shell); code != 0 || len(stdout) < 1000 {
			t.Errorf("completion %s: exit %d, %d bytes", shell, code, len(stdout))
		}
	}
}

func TestErrorsOfTheWayToTheCentre(t *testing.T) {
	dial := func(err error) error {
		return connect.NewError(connect.CodeUnavailable, &net.OpError{Op: "dial", Err: err})
	}
	for _, test := range []struct {
		base string
		err  error
		kind ops.ErrorKind
		want string
	}{
		{defaultServer, dial(syscall.ECONNREFUSED), ops.Unavailable, "no centre is running at http://127.0.0.1:8080: start it with `ops serve`, or say where it is with --server or OPS_SERVER"},
		{"http://ops.example.com", dial(syscall.ECONNREFUSED), ops.Unavailable, "no centre is running at http://ops.example.com: start it there, or correct --server or OPS_SERVER"},
		{"http://nowhere", dial(&net.DNSError{Name: "nowhere"}), ops.Unavailable, "no such host as nowhere: correct --server or OPS_SERVER"},
		{"https://c", dial(x509.UnknownAuthorityError{}), ops.Unavailable, "the certificate of https://c is signed by no one this machine trusts: set SSL_CERT_FILE to its CA's certificate, or give the pin that the centre printed to `ops login --pin`"},
		{"https://c", dial(errors.New("http: server gave HTTP response to HTTPS client")), ops.Invalid, "https://c does not speak TLS: use http:// in --server"},
		{"http://c", context.DeadlineExceeded, ops.Unavailable, "http://c did not answer within 30s: is it the centre, and is it well?"},
		{"http://c", context.Canceled, ops.Cancelled, "the call to http://c was given up"},
		{"http://c", errors.New("unexpected EOF"), ops.Unavailable, "the call to http://c went wrong (unexpected EOF): see whether the centre runs, and try again"},
	} {
		err := (&client{base: test.base}).explain(t.Context(), test.err)
		if err.Error() != test.want || ops.KindOf(err) != test.kind {
			t.Errorf("%v is explained as %q (%s), want %q (%s)", test.err, err, ops.KindOf(err), test.want, test.kind)
		}
	}
}

func TestServersThatAreNoCentre(t *testing.T) {
	c := newCentre(t, "")
	root := strings.TrimSuffix(c.url, "/ops")
	_, stderr, code := run{}.ops(t, c, "services", "--server", root)
	if want := fmt.Sprintf("ops: %s answers, but not as a centre: is --server complete with its base path (%s/ops)?\n", root, root); code != ExitUsage || stderr != want {
		t.Errorf("another path: exit %d, %q", code, stderr)
	}

	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	// The server closes with part of the request unread: its reset may overtake
	// its answer, and then there is nothing to tell it by.
	for range 50 {
		_, stderr, code = run{}.ops(t, c, "services", "--server", "http://"+tls.Listener.Addr().String())
		if !strings.Contains(stderr, "connection reset") && !strings.Contains(stderr, "broken pipe") {
			break
		}
	}
	if want := "ops: the centre speaks TLS: use https:// in --server\n"; code != ExitUsage || stderr != want {
		t.Errorf("TLS: exit %d, %q", code, stderr)
	}

	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this centre does not go by the name x: start it with --allow-host x if it should", http.StatusMisdirectedRequest)
	}))
	defer other.Close()
	_, stderr, code = run{}.ops(t, c, "services", "--server", other.URL)
	if want := "ops: this centre does not go by the name x: start it with --allow-host x if it should\n"; code != ExitUsage || stderr != want {
		t.Errorf("other name: exit %d, %q", code, stderr)
	}
}

func TestListsGoOverPages(t *testing.T) {
	c := newCentre(t, "")
	for range 5 {
		run{}.ops(t, c, "capture", "legacy", "--no-wait")
	}
	stdout, _, _ := run{}.ops(t, c, "captures", "--json")
	var all struct {
		Captures []struct{ ID string }
		More     bool
	}
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all.Captures) != 5 || all.More {
		t.Errorf("got %+v (%v), want 5 captures", all, err)
	}
	stdout, _, _ = run{}.ops(t, c, "captures", "--json", "--limit", "3")
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all.Captures) != 3 || !all.More {
		t.Errorf("got %+v (%v), want 3 captures and more", all, err)
	}
}
