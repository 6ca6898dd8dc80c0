package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
)

// beside writes a file next to the configuration, as write does.
func (c *configured) beside(name, text string) {
	c.t.Helper()
	file := filepath.Join(filepath.Dir(c.file), name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		c.t.Fatal(err)
	}
}

// eventually asks until the answer is as it should be.
func (c *configured) eventually(what, want string, ask func() string) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got := ask()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: %q, want %q\n%s", what, got, want, &c.log)
		}
	}
}

// check is what `ops config check` says of the file.
func (c *configured) check() string {
	var out, bad strings.Builder
	code := cli.Main(c.t.Context(), []string{"config", "check", c.file}, cli.Config{
		Sections: func() []config.Section { return new(sections).list() }, CheckConfig: checkConfig,
		Stdout: &out, Stderr: &bad, Getenv: func(string) string { return "" },
	})
	return strings.ReplaceAll(fmt.Sprintf("%d %s%s", code, &out, &bad), filepath.Dir(c.file), "DIR")
}

// TestEachPartOfTheConfigurationCountsAtOnce changes what the parts of a running
// centre were told, each in its own file or section, and looks at what they do.
// None of the agents notices.
func TestEachPartOfTheConfigurationCountsAtOnce(t *testing.T) {
	chat := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(chat.Close)
	old := httptest.NewServer(http.DefaultServeMux)
	t.Cleanup(old.Close)
	const base = "listen: 127.0.0.1:0\nheartbeat: 1s\nhealth: health.yaml\nnotify: chats.yaml\ncontrol-policy: policy.yaml\nrules: rules\n"
	c := prepared(t)
	c.beside("health.yaml", "")
	c.beside("chats.yaml", "")
	c.beside("policy.yaml", "")
	c.start(t.TempDir(), base)
	self := instances(t, c.http, c.url, 1)[0]

	// Thresholds of health.
	inTrouble := func() string {
		var out []string
		for _, i := range instances(t, c.http, c.url, 1) {
			for _, v := range i.GetHealth().GetIssues() {
				if v.GetCheck() == "cpu" {
					out = append(out, fmt.Sprint(i.GetService(), " ", v.GetThreshold()))
				}
			}
		}
		return strings.Join(out, ", ")
	}
	c.beside("health.yaml", "defaults:\n  cpu: {warning: 0.0000001, critical: 0, for: 0s}\n")
	c.eventually("a threshold of next to nothing", "ops-center 1e-07", inTrouble)
	c.beside("health.yaml", "defaults:\n  cpu: {off: true}\n")
	c.eventually("a check that is off", "", inTrouble)

	// Who is told.
	chats := func() string {
		list, err := apiv1connect.NewNotifyServiceClient(c.http, c.url).ListChannels(t.Context(), connect.NewRequest(&apiv1.ListChannelsRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, ch := range list.Msg.GetChannels() {
			out = append(out, ch.GetChannel().GetName())
		}
		return strings.Join(out, ", ")
	}
	c.beside("chats.yaml", "channels:\n  - {name: oncall, type: webhook, url: '"+chat.URL+"'}\n  - {name: night, type: webhook, url: '"+chat.URL+"'}\n")
	c.eventually("two chats", "night, oncall", chats)
	c.beside("chats.yaml", "channels:\n  - {name: night, type: webhook, url: '"+chat.URL+"'}\n")
	c.eventually("one chat", "night", chats)

	// What may be done.
	collect := func() string {
		_, err := runControl(t.Context(), apiv1connect.NewControlServiceClient(c.http, c.url), &apiv1.InvokeControlRequest{
			Run: &apiv1.ControlRun{Selection: &apiv1.ControlSelection{InstanceIds: []string{self.GetId()}}, Name: "gc"}, Reason: "to see", Confirm: self.GetId(),
		})
		return connect.CodeOf(err).String()
	}
	c.beside("policy.yaml", "default: {deny: [gc]}\n")
	c.eventually("a control that is forbidden", "permission_denied", collect)

	// Rules, in their directory.
	rules := func() string {
		list, err := apiv1connect.NewTriggerServiceClient(c.http, c.url).ListTriggers(t.Context(), connect.NewRequest(&apiv1.ListTriggersRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list.Msg.GetFiles() {
			if f.GetName() == "mine.yaml" {
				return "there " + f.GetError()
			}
		}
		return "none"
	}
	c.beside("rules/mine.yaml", "rules: []\n")
	c.eventually("a file of rules", "there ", rules)

	// What is told to the operator, where instances are, and what they are called.
	c.write(base + "log-level: debug\nsources: {static: [{project: game, service: old, url: \"" + old.URL + "/debug/pprof\"}]}\nprojects: {game: {labels: {team: core}, expect: {old: 2}}}\n")
	c.eventually("a source, with the labels of its project", "game/old core", func() string {
		for _, i := range instances(t, c.http, c.url, 1) {
			if i.GetProject() == "game" {
				return i.GetProject() + "/" + i.GetService() + " " + i.GetLabels()["team"]
			}
		}
		return ""
	})
	c.eventually("more in the log", "true", func() string { return fmt.Sprint(strings.Contains(c.log.String(), "level=DEBUG")) })

	// What waits for a start says so, each key of it, and the rest counts.
	c.write(base + "tls: auto\npublic-url: https://ops.example.com\nretention: 9d\naccess: {session_idle: 1h}\njoin: {life: 12h}\nlimits: {captures: {per_center: 3}}\n")
	s := c.until("taken", c.value("retention")("9d"))
	if got := strings.Join(s.GetWaiting(), " "); got != "access join limits public-url tls" {
		t.Errorf("waiting: %s", got)
	}
	if !strings.Contains(c.log.String(), "part of the configuration waits for the next start") {
		t.Errorf("the log does not say that something waits:\n%s", &c.log)
	}

	// What is wrong in any of the files keeps all as it was, and says where: on the
	// page of administrators, in the log, and to whoever checks it beforehand.
	for name, file := range map[string]struct{ text, want string }{
		"health.yaml": {"defaults:\n  cpu: {warnin: 1}\n", "thresholds: DIR/health.yaml: line 2: unknown field \"warnin\""},
		"chats.yaml":  {"channels:\n  - {nam: night}\n", "--notify DIR/chats.yaml: [2:6] unknown field \"nam\""},
		"policy.yaml": {"default: {denny: [gc]}\n", "--control-policy DIR/policy.yaml: [1:11] unknown field \"denny\""},
	} {
		before, err := os.ReadFile(filepath.Join(filepath.Dir(c.file), name))
		if err != nil {
			t.Fatal(err)
		}
		c.beside(name, file.text)
		c.eventually(name, file.want, func() string { return strings.ReplaceAll(c.state().GetProblem(), filepath.Dir(c.file), "DIR") })
		if got, want := c.check(), "2 ops: "+file.want+"\n"; got != want {
			t.Errorf("ops config check: %q, want %q", got, want)
		}
		c.beside(name, string(before))
		c.eventually(name+" right again", "", func() string { return c.state().GetProblem() })
	}
	if chats() != "night" || collect() != "permission_denied" {
		t.Error("a wrong file changed something")
	}
	for _, i := range instances(t, c.http, c.url, 1) {
		if i.GetId() == self.GetId() && (i.GetState() != self.GetState() || !i.GetJoined().AsTime().Equal(self.GetJoined().AsTime())) {
			t.Errorf("the agent was dropped: %v, then %v", self, i)
		}
	}
}

// TestWhatConfigInitWritesIsRight: what a user begins with, with every line taken,
// is taken by `ops config check`; what it names elsewhere exists.
func TestWhatConfigInitWritesIsRight(t *testing.T) {
	c := prepared(t)
	var out strings.Builder
	if code := cli.Main(t.Context(), []string{"config", "init"}, cli.Config{
		Sections: func() []config.Section { return new(sections).list() }, Stdout: &out, Stderr: &c.log, Getenv: func(string) string { return "" },
	}); code != cli.ExitOK {
		t.Fatalf("%d %s", code, &c.log)
	}
	c.write(out.String())
	if got := c.check(); got != "0 DIR/ops.yaml is right: 0 values said\n" {
		t.Errorf("as it is written: %s", got)
	}
	c.beside("oidc.secret", "hush")
	var all []string
	for line := range strings.Lines(out.String()) {
		if text, ok := strings.CutPrefix(line, "#"); ok && (!strings.HasPrefix(text, " ") || strings.HasPrefix(text, "  ")) {
			all = append(all, strings.ReplaceAll(text, "/etc/ops/oidc.secret", filepath.Join(filepath.Dir(c.file), "oidc.secret")))
		}
	}
	cluster := slices.IndexFunc(all, func(line string) bool { return line == "  kubernetes:\n" }) // is needed for that one
	all = slices.Delete(all, cluster, cluster+2)
	c.write(strings.Join(all, ""))
	if got := c.check(); !strings.HasPrefix(got, "0 DIR/ops.yaml is right: ") {
		t.Errorf("with every line taken: %s\n%s", got, strings.Join(all, ""))
	}
}
