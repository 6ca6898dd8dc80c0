package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
)

// configured is a centre that was started with a configuration file.
type configured struct {
	t    testing.TB
	file string
	url  string
	http *http.Client
	log  journal
}

func startConfigured(t testing.TB, text string) *configured {
	t.Helper()
	return startConfiguredIn(t, t.TempDir(), text)
}

// startConfiguredIn starts it on a data directory that may hold something.
func startConfiguredIn(t testing.TB, dir, text string) *configured {
	t.Helper()
	c := prepared(t)
	c.start(dir, text)
	return c
}

// prepared is one that was not started yet.
func prepared(t testing.TB) *configured {
	t.Helper()
	return &configured{t: t, file: filepath.Join(t.TempDir(), "ops.yaml"), http: client(t, &http.Transport{})}
}

func (c *configured) start(dir, text string) {
	t := c.t
	t.Helper()
	c.write(text)
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := cli.Main(ctx, []string{"serve", "--config", c.file, "--data", dir}, cli.Config{
			Serve: Serve, Sections: func() []config.Section { return new(sections).list() }, CheckConfig: checkConfig,
			Stdout: w, Stderr: &c.log, Getenv: func(string) string { return "" }, Signals: make(chan os.Signal),
		})
		w.Close()
		ended <- code
	}()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatalf("the centre ended with %d: %s", <-ended, &c.log)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	c.url = strings.TrimPrefix(strings.TrimSpace(string(line[:n])), "OPS Center is at ")
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != cli.ExitOK && code != cli.ExitInterrupted {
			t.Errorf("the centre ended with %d: %s", code, &c.log)
		}
	})
}

// write replaces the file as an editor or a config map does.
func (c *configured) write(text string) {
	c.t.Helper()
	if err := os.WriteFile(c.file+".new", []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(c.file+".new", c.file); err != nil {
		c.t.Fatal(err)
	}
}

func (c *configured) state() *apiv1.GetConfigResponse {
	c.t.Helper()
	resp, err := apiv1connect.NewConfigServiceClient(c.http, c.url).GetConfig(c.t.Context(), connect.NewRequest(&apiv1.GetConfigRequest{}))
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.Msg
}

// until waits for the state to be as it should.
func (c *configured) until(what string, ok func(*apiv1.GetConfigResponse) bool) *apiv1.GetConfigResponse {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s := c.state()
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("never %s: %v", what, s)
		}
	}
}

func (c *configured) value(key string) func(string) func(*apiv1.GetConfigResponse) bool {
	return func(want string) func(*apiv1.GetConfigResponse) bool {
		return func(s *apiv1.GetConfigResponse) bool {
			for _, v := range s.GetValues() {
				if v.GetKey() == key {
					return v.GetValue() == want
				}
			}
			return false
		}
	}
}

// TestTheConfigurationChangesUnderLoad: while a capture runs on an agent, sources,
// retention and projects change again and again. Nobody is dropped.
func TestTheConfigurationChangesUnderLoad(t *testing.T) {
	debug := httptest.NewServer(http.DefaultServeMux)
	t.Cleanup(debug.Close)
	text := func(days int, more string) string {
		return fmt.Sprintf("listen: 127.0.0.1:0\nretention: %dd\n%s", days, more)
	}
	c := startConfigured(t, text(30, ""))
	self := instances(t, c.http, c.url, 1)[0]
	captures := apiv1connect.NewCaptureServiceClient(c.http, c.url)
	started, err := captures.StartCapture(t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{
		InstanceIds: []string{self.GetId()}, Spec: &apiv1.CaptureSpec{Duration: durationpb.New(3 * time.Second), Kinds: []string{"cpu", "goroutine", "heap"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	source := "sources: {static: [{project: game, service: user, url: \"" + debug.URL + "\"}]}\n"
	for n := range 6 {
		more := ""
		if n%2 == 0 {
			more = source + "projects: {game: {title: {en: Game}, retention: 3d}}\n"
		}
		c.write(text(7+n, more))
		c.until("taken", c.value("retention")(fmt.Sprintf("%dd", 7+n)))
	}
	c.write(text(20, source+"projects: {game: {title: {en: Game, zh-TW: 遊戲}, labels: {team: core}, retention: 3d}}\n"))
	c.until("taken", c.value("retention")("20d"))

	var game *apiv1.Instance
	for deadline := time.Now().Add(time.Minute); game == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, i := range instances(t, c.http, c.url, 2) {
			if i.GetProject() == "game" && i.GetState() == apiv1.InstanceState_INSTANCE_STATE_UP {
				game = i
			}
		}
	}
	for _, i := range instances(t, c.http, c.url, 2) {
		if i.GetId() == self.GetId() && (i.GetState() != self.GetState() || !i.GetJoined().AsTime().Equal(self.GetJoined().AsTime())) {
			t.Errorf("the agent was dropped: %v, then %v", self, i)
		}
	}
	if game == nil || game.GetLabels()["team"] != "core" {
		t.Errorf("of the new source there is %v", game)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		got, err := captures.GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: started.Msg.GetCapture().GetId()}))
		if err != nil {
			t.Fatal(err)
		}
		if st := got.Msg.GetCapture().GetState(); st == apiv1.CaptureState_CAPTURE_STATE_DONE {
			break
		} else if time.Now().After(deadline) || st == apiv1.CaptureState_CAPTURE_STATE_PARTIAL || st == apiv1.CaptureState_CAPTURE_STATE_FAILED {
			t.Fatalf("the capture is %v: %s", st, got.Msg.GetCapture().GetReason())
		}
		time.Sleep(50 * time.Millisecond)
	}
	projects, err := apiv1connect.NewProjectServiceClient(c.http, c.url).ListProjects(t.Context(), connect.NewRequest(&apiv1.ListProjectsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, p := range projects.Msg.GetProjects() {
		listed = append(listed, fmt.Sprintf("%s %q %q declared=%v %v", p.GetName(), p.GetTitleEn(), p.GetTitleZhTw(), p.GetDeclared(), p.GetRetention().AsDuration()))
	}
	if want := `game "Game" "遊戲" declared=true 72h0m0s; ops-center "" "" declared=false 480h0m0s`; strings.Join(listed, "; ") != want {
		t.Errorf("projects: %s, want %s", strings.Join(listed, "; "), want)
	}
}

func TestABrokenFileChangesNothing(t *testing.T) {
	c := startConfigured(t, "listen: 127.0.0.1:0\nretention: 30d\n")
	c.write("listen: 127.0.0.1:0\nretention: 7d\nretentoin-bytes: 1GiB\n")
	s := c.until("refused", func(s *apiv1.GetConfigResponse) bool { return s.GetProblem() != "" })
	if want := c.file + `:3:1: unknown key "retentoin-bytes": did you mean retention-bytes?`; s.GetProblem() != want || !c.value("retention")("30d")(s) {
		t.Errorf("%v\nwant %s", s, want)
	}
	// Who administers the centre is told on every page.
	sys, err := apiv1connect.NewSystemServiceClient(c.http, c.url).GetSystem(t.Context(), connect.NewRequest(&apiv1.GetSystemRequest{}))
	if err != nil || sys.Msg.GetConfigProblem() != s.GetProblem() || sys.Msg.GetConfigProblemSince() == nil || sys.Msg.GetConfigLoaded() == nil {
		t.Errorf("%v, %v", sys, err)
	}
	// What only a part of the centre can judge keeps the old one as well.
	c.write("listen: 127.0.0.1:0\nretention: 7d\nhealth: nowhere.yaml\n")
	s = c.until("refused again", func(s *apiv1.GetConfigResponse) bool { return strings.Contains(s.GetProblem(), "nowhere.yaml") })
	if !c.value("retention")("30d")(s) {
		t.Errorf("%v", s)
	}
	// A key that needs a start is named, the rest counts.
	c.write("listen: 127.0.0.1:1\nretention: 7d\n")
	s = c.until("right again", func(s *apiv1.GetConfigResponse) bool { return s.GetProblem() == "" })
	if strings.Join(s.GetWaiting(), ",") != "listen" || !c.value("retention")("7d")(s) {
		t.Errorf("%v", s)
	}

	onRecord := func() string {
		record, err := apiv1connect.NewControlServiceClient(c.http, c.url).ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Action: "config.reload"}))
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, r := range record.Msg.GetEntries() {
			said = append(said, r.GetActor()+" "+r.GetResult()+" "+strings.ReplaceAll(r.GetMessage(), filepath.Dir(c.file), "DIR")+" "+r.GetRequestJson())
		}
		return strings.Join(said, "\n")
	}
	want := `system ok the next start takes listen {"changed":["retention"],"waiting":["listen"]}
system failed thresholds: open DIR/nowhere.yaml: no such file or directory {}
system failed DIR/ops.yaml:3:1: unknown key "retentoin-bytes": did you mean retention-bytes? {}`
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // it counts before it is on record
		got := onRecord()
		if got == want {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("on record:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestWhatIsExpectedAndNotThereIsSaid(t *testing.T) {
	c := startConfigured(t, "listen: 127.0.0.1:0\nprojects:\n  color-game: {expect: {user-service: 3}}\n")
	short := func() string {
		res, err := apiv1connect.NewDiscoveryServiceClient(c.http, c.url).ListSources(t.Context(), connect.NewRequest(&apiv1.ListSourcesRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, s := range res.Msg.GetShortages() {
			out = append(out, fmt.Sprintf("%s/%s %d of %d, says %s, since known %t", s.GetProject(), s.GetService(), s.GetUp(), s.GetExpected(), s.GetSays(), s.GetSince().IsValid()))
		}
		return strings.Join(out, "\n")
	}
	if got, want := short(), "color-game/user-service 0 of 3, says projects.color-game.expect, since known true"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	res, err := c.http.Get(c.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if want := `opscenter_instances_missing{project="color-game",service="user-service"} 3`; err != nil || !strings.Contains(string(body), want) {
		t.Errorf("metrics have no %s: %v", want, err)
	}
	c.write("listen: 127.0.0.1:0\nprojects:\n  color-game: {title: {en: Color Game}}\n")
	for range 300 { // as long as until waits
		if short() == "" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("still %q", short())
}

func TestAnUndeclaredProjectIsRefused(t *testing.T) {
	debug := httptest.NewServer(http.DefaultServeMux)
	t.Cleanup(debug.Close)
	source := "sources: {static: [{project: stranger, service: user, url: \"" + debug.URL + "\"}]}\n"
	c := startConfigured(t, "listen: 127.0.0.1:0\nundeclared-projects: refuse\nprojects: {game: {}}\n"+source)
	list := func() *apiv1.ListProjectsResponse {
		t.Helper()
		resp, err := apiv1connect.NewProjectServiceClient(c.http, c.url).ListProjects(t.Context(), connect.NewRequest(&apiv1.ListProjectsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return resp.Msg
	}
	for deadline := time.Now().Add(time.Minute); len(list().GetRefused()) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was refused")
		}
	}
	if r := list().GetRefused()[0]; r.GetName() != "stranger" || r.GetService() != "user" || r.GetTimes() < 1 {
		t.Errorf("%v", r)
	}
	for _, i := range instances(t, c.http, c.url, 1) {
		if i.GetProject() == "stranger" {
			t.Errorf("%v joined", i)
		}
	}
	c.write("listen: 127.0.0.1:0\nundeclared-projects: refuse\nprojects: {game: {}, stranger: {}}\n" + source)
	instances(t, c.http, c.url, 2) // tried again within seconds
	if r := list().GetRefused(); len(r) != 0 {
		t.Errorf("still among the refused: %v", r)
	}
}
