package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/ops"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chat is a chat at the other end: it remembers what it got and answers as told.
type chat struct {
	mu      sync.Mutex
	began   time.Time
	got     []string // "15s critical …"
	answers []answer // one each, then 200
}

type answer struct {
	status int
	header string
	body   string
	err    error
}

func (c *chat) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var m genericMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	a := answer{status: 200}
	if len(c.answers) > 0 {
		a, c.answers = c.answers[0], c.answers[1:]
	}
	c.got = append(c.got, fmt.Sprintf("%v %s ×%d", time.Since(c.began), m.Title, m.Count))
	if a.err != nil {
		return nil, a.err
	}
	h := http.Header{}
	if a.header != "" {
		h.Set("Retry-After", a.header)
	}
	return &http.Response{StatusCode: a.status, Status: fmt.Sprint(a.status), Header: h, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

func (c *chat) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.got, "\n")
}

// within runs fn in a bubble with a notifier of one channel.
func within(t *testing.T, ch Channel, c *chat, fn func(t *testing.T, n *Notifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ch.Name, ch.Type, ch.URL = "oncall", Webhook, "https://chat.example.com/hook"
		n, err := New(Config{Channels: []Channel{ch}, BaseURL: "https://ops.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		c.began = time.Now()
		n.client.Transport = c
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		synctest.Wait()
		fn(t, n)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func event(subject string, s ops.Severity) Event {
	return Event{
		Kind: Diagnosis, Severity: s, Project: "color-game", Service: "game-service", Subject: subject, Address: "pod-1/7",
		Title:    ops.Text{EN: "PlaceBet holds a lock while it waits for the database", ZH: "PlaceBet 持有鎖時等待資料庫"},
		Detail:   ops.Text{EN: "38 s of waiting in 10 s.", ZH: "10 秒內共等待 38 秒。"},
		Function: "main.(*Room).PlaceBet", Place: "room.go:98", Path: "/captures/01J",
	}
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got = strings.TrimSpace(got); got != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWhatBelongsTogetherIsOneMessage(t *testing.T) {
	c := &chat{}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) {
		for range 3 {
			n.Tell(event("lock-held-across-io", ops.Critical))
			time.Sleep(4 * time.Second)
		}
		n.Tell(event("heap-growth", ops.Warning))
		n.Tell(event("timer-leak", ops.Notice)) // below the channel's least
		time.Sleep(time.Minute)
	})
	want(t, c.text(), `
15s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×3
27s [warning] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1`)
}

func TestTheSameTroubleIsToldAgainLaterOrWhenItGetsWorse(t *testing.T) {
	c := &chat{}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) {
		for range 40 {
			n.Tell(event("heap-growth", ops.Warning))
			time.Sleep(time.Minute)
		}
		n.Tell(event("heap-growth", ops.Critical))
		time.Sleep(time.Minute)
	})
	want(t, c.text(), `
15s [warning] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1
30m15s [warning] color-game/game-service: PlaceBet holds a lock while it waits for the database ×30
40m15s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×10`)
}

func TestQuietHoursHoldAllButCritical(t *testing.T) {
	c := &chat{}
	// A bubble begins at midnight UTC, which is eight in the morning in Taipei.
	within(t, Channel{Quiet: &Quiet{From: "22:00", To: "09:30", Zone: "Asia/Taipei"}}, c, func(t *testing.T, n *Notifier) {
		n.Tell(event("heap-growth", ops.Warning))
		n.Tell(event("deadlock", ops.Critical))
		time.Sleep(time.Minute)
		if until := n.Channels()[0].QuietUntil; until.UTC().Format("15:04") != "01:30" {
			t.Errorf("quiet until %v", until)
		}
		time.Sleep(3 * time.Hour)
	})
	want(t, c.text(), `
15s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1
1h30m0s [warning] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1`)
}

func TestAChatThatIsAwayIsTriedAgain(t *testing.T) {
	c := &chat{answers: []answer{{err: errors.New("no route")}, {status: 503, body: "later"}, {status: 429, header: "120"}}}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) {
		n.Tell(event("deadlock", ops.Critical))
		time.Sleep(time.Hour)
		s := n.Channels()[0]
		want(t, s.Say(), "1 sent, 0 failed, 0 waiting, 0 dropped")
		if s.Recent[0].Attempts != 4 || s.LastError != "chat.example.com asks to wait: " {
			t.Errorf("%+v", s)
		}
	})
	if got := strings.Count(c.text(), "\n") + 1; got != 4 {
		t.Errorf("%d attempts:\n%s", got, c.text())
	}
}

func TestAChatThatRefusesIsNotTriedAgain(t *testing.T) {
	c := &chat{answers: []answer{{status: 404, body: "no such hook https://chat.example.com/hook"}}}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) {
		n.Tell(event("deadlock", ops.Critical))
		time.Sleep(time.Hour)
		s := n.Channels()[0]
		want(t, s.Say(), "0 sent, 1 failed, 0 waiting, 0 dropped")
		want(t, s.LastError, "chat.example.com refuses with 404: no such hook •••")
	})
}

func TestAFleetInFlamesIsBounded(t *testing.T) {
	c := &chat{}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) {
		for i := range 400 {
			for range 50 {
				n.Tell(event(fmt.Sprint("rule-", i), ops.Critical))
			}
		}
		time.Sleep(time.Minute)
		want(t, n.Channels()[0].Say(), "256 sent, 0 failed, 0 waiting, 7200 dropped")
		n.Tell(event("rule-399", ops.Critical)) // there is room again
		time.Sleep(time.Minute)
		want(t, n.Channels()[0].Say(), "257 sent, 0 failed, 0 waiting, 7200 dropped")
	})
}

func TestWhatWaitsIsToldWhenTheCentreEnds(t *testing.T) {
	c := &chat{}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) { n.Tell(event("deadlock", ops.Critical)) })
	want(t, c.text(), "0s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1")
}

func TestEachChatGetsItsForm(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)
	odd := event("channel-backpressure", ops.Critical)
	odd.Title = ops.Text{EN: "`ch <- *msg` <@everyone> & [link](x)", ZH: "`ch <- *msg` 卡住"}
	odd.At = now
	second := odd
	second.Address = "pod-2/9"
	for _, typ := range Types() {
		t.Run(string(typ), func(t *testing.T) {
			ch := Channel{Name: "x", Type: typ, URL: "https://chat.example.com/hook?key=k", Token: "tok/en", To: "42", Secret: "s3cret", Lang: ops.TraditionalChinese}
			if ch.publicAPI() {
				ch.URL = ""
			}
			m := render([]Event{odd, second}, 3, ch.Lang, "https://ops.example.com/ops/")
			m.ID = "id"
			r, err := requestOf(ch, m, now)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			fmt.Fprintln(&b, "POST", r.url)
			_ = r.header.Write(&b)
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(r.body); err != nil {
				t.Fatal(err)
			}
			golden(t, string(typ), b.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, wanted) {
		t.Errorf("%s differs (-update writes it):\n%s", file, got)
	}
}

func TestARobotRefusesWithACode(t *testing.T) {
	for _, x := range []struct {
		typ    Type
		status int
		body   string
		again  time.Duration
		err    string
	}{
		{Feishu, 200, `{"code":0}`, 0, ""},
		{Feishu, 200, `{"code":19021,"msg":"sign match fail"}`, -1, `h refuses: {"code":19021,"msg":"sign match fail"}`},
		{Feishu, 200, `{"code":9499,"msg":"too many"}`, 30 * time.Second, `h asks to wait: {"code":9499,"msg":"too many"}`},
		{DingTalk, 200, `{"errcode":0,"errmsg":"ok"}`, 0, ""},
		{DingTalk, 200, `{"errcode":310000,"errmsg":"sign not match"}`, -1, `h refuses: {"errcode":310000,"errmsg":"sign not match"}`},
		{DingTalk, 200, `<html>`, -1, "h answers what is no answer of a robot: <html>"},
		{LINE, 409, `{}`, 0, ""},
		{Telegram, 429, `{"ok":false,"parameters":{"retry_after":7}}`, 7 * time.Second, `h asks to wait: {"ok":false,"parameters":{"retry_after":7}}`},
		{Slack, 302, ``, -1, "h refuses with 302: "},
		{Teams, 202, ``, 0, ""},
	} {
		req, _ := http.NewRequest(http.MethodPost, "https://h/x", nil)
		again, err := judge(Channel{Type: x.typ}, &http.Response{StatusCode: x.status, Status: fmt.Sprint(x.status), Request: req, Header: http.Header{}}, []byte(x.body))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if again != x.again || got != x.err {
			t.Errorf("%s %d %s: %v %q", x.typ, x.status, x.body, again, got)
		}
	}
}

func TestSecretsStayWhereTheyWereGiven(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notify.json")
	n, err := New(Config{File: file})
	if err != nil {
		t.Fatal(err)
	}
	put := func(c Channel) {
		t.Helper()
		if err := n.Put(c); err != nil {
			t.Fatal(err)
		}
	}
	put(Channel{Name: "team", Type: Webhook, URL: "https://chat.example.com/secret-path", Token: "token", Secret: "key"})
	shown := n.Channels()[0].Channel
	if shown.URL != "https://chat.example.com/•••" || shown.Token != "•••" || shown.Secret != "•••" {
		t.Errorf("shown: %+v", shown)
	}
	shown.Lang = ops.TraditionalChinese
	put(shown) // as it came from the page
	if c := n.channels["team"].channel; c.URL != "https://chat.example.com/secret-path" || c.Token != "token" || c.Secret != "key" {
		t.Errorf("kept: %+v", c)
	}
	shown.URL = "https://elsewhere.example.com/"
	put(shown)
	if c := n.channels["team"].channel; c.Token == "token" || c.Secret == "key" {
		t.Errorf("another address got the secrets: %+v", c)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	again, err := New(Config{File: file})
	if err != nil || len(again.Channels()) != 1 || again.Channels()[0].Channel.Lang != ops.TraditionalChinese {
		t.Errorf("after a restart: %v %v", again.Channels(), err)
	}
	if err := again.Delete("team"); err != nil || len(again.Channels()) != 0 {
		t.Error(err)
	}
	want(t, again.Delete("team").Error(), `there is no channel "team": see the list of channels`)
}

func TestDeclaredChannelsAreChangedInTheirFile(t *testing.T) {
	n, err := New(Config{Channels: []Channel{{Name: "a", Type: Slack, URL: "https://x.example.com/y"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{n.Delete("a"), n.Put(Channel{Name: "a", Type: Slack, URL: "https://z.example.com/"})} {
		want(t, err.Error(), `channel "a" is declared in a file: change it there`)
	}
}

func TestTheDeclaredChannelsAreReplacedWhileOthersGoOn(t *testing.T) {
	c := &chat{}
	within(t, Channel{}, c, func(t *testing.T, n *Notifier) {
		n.Tell(event("lock-held-across-io", ops.Critical))
		time.Sleep(5 * time.Second)
		same := Channel{Name: "oncall", Type: Webhook, URL: "https://chat.example.com/hook"}
		more := Channel{Name: "more", Type: Webhook, URL: "https://chat.example.com/other", GroupFor: Duration(time.Second)}
		n.Declare([]Channel{same, more}) // what waits in the first one waits on
		n.Tell(event("heap-growth", ops.Critical))
		time.Sleep(time.Minute)
		same.Least = ops.Critical
		n.Declare([]Channel{same}) // it changed, and the other is gone
		n.Tell(event("timer-leak", ops.Warning))
		time.Sleep(time.Minute)
		if all := n.Channels(); len(all) != 1 || all[0].Channel.Name != "oncall" || !all[0].Declared {
			t.Errorf("%+v", all)
		}
		n.Declare(nil)
		if all := n.Channels(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
	want(t, c.text(), `
6s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1
15s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1
20s [critical] color-game/game-service: PlaceBet holds a lock while it waits for the database ×1`)
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOOK", "https://chat.example.com/h")
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := Parse([]byte(`
channels:
  - name: oncall
    type: slack
    url: ${env:HOOK}
    least: critical
    projects: [color-*]
    group_for: 30s
    quiet: { from: "23:00", to: "07:30", zone: Asia/Taipei }
  - { name: phone, type: line, token: "${file:token}", to: C1, lang: zh-TW, events: [ended, rule] }
`), dir)
	if err != nil {
		t.Fatal(err)
	}
	if all[0].URL != "https://chat.example.com/h" || all[1].Token != "abc" || time.Duration(all[0].GroupFor) != 30*time.Second {
		t.Errorf("%+v", all)
	}
	for in, wanted := range map[string]string{
		"channels: [{name: a, type: slak, url: https://x.example.com}]":                                 `channel "a": type: "slak" is none of webhook, slack, telegram, line, teams, feishu, dingtalk`,
		"channels: [{name: a, type: slack}]":                                                            `channel "a": url: the webhook's address is needed`,
		"channels: [{name: a, type: slack, url: 'file:///etc/passwd'}]":                                 `channel "a": url: an address such as https://chat.example.com/hook is needed`,
		"channels: [{name: a, type: telegram, token: x}]":                                               `channel "a": to: who shall read it is needed: a chat, group or user id`,
		"channels: [{name: a, type: slack, url: '${env:NOT_THERE}'}]":                                   `channel "a": the environment has no NOT_THERE`,
		"channels: [{name: a b, type: slack}]":                                                          `"a b" is no name of a channel: use letters, digits, dot, underscore and hyphen`,
		"channels: [{name: a, type: slack, url: https://x.example.com, events: [x]}]":                   `channel "a": events: "x" is none of diagnosis, health, ended, rule`,
		"channels: [{name: a, type: slack, url: https://x.example.com, services: ['[']}]":               `channel "a": the pattern "[" cannot be right: use a name, or * for a part of it`,
		"channels: [{name: a, type: slack, url: https://x.example.com, quiet: {from: 7, to: '25:00'}}]": `channel "a": quiet: from and to: a time of day such as "23:00" is needed`,
		"channels:\n  - name: a\n    colour: red\n":                                                     `[3:5] unknown field "colour"`,
	} {
		if _, err := Parse([]byte(in), dir); err == nil || err.Error() != wanted {
			t.Errorf("%s:\n got %v\nwant %s", in, err, wanted)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("channels: [{name: a, type: slack, url: https://x.example.com, group_for: 1s}]"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Parse(b, "/nowhere") })
}

// crowd is a fleet of one instance.
type crowd struct {
	mu    sync.Mutex
	inst  ops.Instance
	topic changes.Topic[ops.InstanceID]
}

func (c *crowd) Instance(ops.InstanceID) (ops.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inst, nil
}
func (c *crowd) Subscribe() *changes.Subscription[ops.InstanceID] { return c.topic.Subscribe() }

func (c *crowd) is(state ops.InstanceState, reason string, issues ...ops.HealthIssue) {
	c.mu.Lock()
	c.inst.State, c.inst.StateReason, c.inst.Health = state, reason, ops.Health{Issues: issues}
	c.inst.LastSeen = time.Now()
	c.mu.Unlock()
	c.topic.Publish("i")
	time.Sleep(20 * time.Second) // longer than a group waits
}

func TestTheFleetIsWatched(t *testing.T) {
	c := &chat{}
	within(t, Channel{RepeatAfter: Duration(time.Second)}, c, func(t *testing.T, n *Notifier) {
		f := &crowd{inst: ops.Instance{ID: "i", Project: "color-game", Service: "gateway-service", Address: "pod-1/7", Joined: time.Now(),
			Heartbeat: ops.Heartbeat{RSSBytes: 500 << 20}, Process: ops.Process{MemoryLimitBytes: 512 << 20}}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Watch(ctx, f) }()
		synctest.Wait()
		memory := func(l ops.HealthLevel, v float64) ops.HealthIssue {
			return ops.HealthIssue{Check: ops.CheckMemory, Level: l, Value: v}
		}
		f.is(ops.InstanceUp, "")
		f.is(ops.InstanceUp, "", memory(ops.HealthWarning, 0.86))
		f.is(ops.InstanceUp, "", memory(ops.HealthWarning, 0.88))
		f.is(ops.InstanceUp, "", memory(ops.HealthCritical, 0.96))
		f.is(ops.InstanceSuspect, "no heartbeat", ops.HealthIssue{Check: ops.CheckHeartbeat, Level: ops.HealthCritical})
		f.is(ops.InstanceGone, ops.VerdictLikelyOOM)
		f.is(ops.InstanceGone, ops.VerdictLikelyOOM)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	want(t, c.text(), `
35s [warning] color-game/gateway-service: memory at 86 % of its limit ×1
1m15s [critical] color-game/gateway-service: memory at 96 % of its limit ×1
1m55s [critical] color-game/gateway-service: a process was likely killed for its memory ×1`)
}

func TestFindingsBecomeEvents(t *testing.T) {
	body := func(title string) []byte {
		return []byte(`{"schema":"opscenter.diagnosis/v1","instance":{"id":"i"},"findings":[
			{"rule":"lock-held-across-io","severity":"critical","title":"` + title + `","summary":"s","where":[{"function":"main.f","file":"/src/room.go","line":98}],"caused_by":null},
			{"rule":"scheduler-latency","severity":"warning","title":"effect","summary":"s","where":[],"caused_by":"lock-held-across-io/main.f"}]}`)
	}
	c := ops.Capture{ID: "01J", Project: "p", Service: "s", Targets: []ops.CaptureTarget{{Instance: ops.Instance{ID: "i", Address: "pod-1/7"}}}}
	all, err := FromFindings(c, ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: body("held"), ops.TraditionalChinese: body("持有")}})
	if err != nil || len(all) != 1 {
		t.Fatalf("%v %v", all, err)
	}
	e := all[0]
	want(t, fmt.Sprintf("%s %s %s %s %s %s/%s", e.Subject, e.Severity, e.Address, e.Function, e.Place, e.Title.EN, e.Title.ZH),
		"lock-held-across-io critical pod-1/7 main.f room.go:98 held/持有")
	if _, err := FromFindings(c, ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: []byte("{")}}); ops.KindOf(err) != ops.Corrupt {
		t.Error(err)
	}
}
