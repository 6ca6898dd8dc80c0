package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

var update = flag.Bool("update", false, "write the tables that tests keep in the documentation")

// bound is one limit: what operators read of it, and what who goes beyond it is told.
type bound struct {
	what, zh string
	most     string // as it is without configuration
	holds    string // centre, agent or both
	key      string // of the configuration or the agent, which changes it; empty = nothing does
	says     string // to who goes beyond; … stands for names of captures and times
	beyond   func(t *testing.T) string
	// test goes beyond where this package cannot, as "folder.TestName"; says, without
	// its numbers, is then in that test or in what it tests.
	test string
}

func bounds() []bound {
	return []bound{
		{"captures at once of an instance", "單一實例同時進行的擷取", "2, of which one may take the CPU profile and one the trace", "both", "limits.captures.per_instance, agent.Limits.MaxConcurrentCaptures",
			"ops-center/… is in 2 captures already (…), the most at once: wait until one ends, or stop one", thirdCapture, ""},
		{"captured at once of a service of more than ten", "超過十個實例的服務同時被擷取者", "a quarter, at most 10", "centre", "limits.captures.per_service",
			"of the 40 instances of color-game/user-service at most 10 are captured at once, and 0 are running: ask for up to 10, or name the instances", nil, "internal/capture.TestALargeService"},
		{"captured at once by the centre", "中心同時擷取的實例", "32", "centre", "limits.captures.per_center",
			"the centre captures at most 1 instances at once, and all are running (…): wait until one ends, or stop one", overTheCentre, ""},
		{"captures of an instance within an hour", "單一實例每小時的擷取次數", "60", "centre", "limits.captures.per_hour",
			"ops-center/… was captured 1 times within an hour, the most for one instance: try again in …", overTheHour, ""},
		{"rest of an instance between captures", "單一實例兩次擷取之間的間隔", "10 s, once ten have followed each other", "centre", "limits.captures.cooldown",
			"ops-center/… was captured 10 times in a row and has to rest: try again in …", tooManyInARow, ""},
		{"length of a capture, its CPU profile included", "擷取長度（含 CPU 剖析）", "30 s, up to 10 min", "both", "agent.Limits.MaxDuration",
			"duration 10m1s is out of range: use 1s to 10m0s", start(`"duration":"601s"`), ""},
		{"window of the execution trace", "執行追蹤的時間窗", "5 s, up to 30 s", "both", "agent.Limits.MaxTraceWindow",
			"trace window 31s is out of range: use up to 30s", start(`"traceWindow":"31s"`), ""},
		{"size of the execution trace", "執行追蹤的大小", "128 MiB, up to 512 MiB when asked", "both", "agent.Limits.MaxTraceBytes",
			"trace cap of 536870913 bytes is out of range: use 1 MiB to 512 MiB", start(`"traceMaxBytes":536870913`), ""},
		{"artifacts of an instance in a capture", "單一實例在一次擷取中的產出物", "512 MiB", "both", "agent.Limits.MaxCaptureBytes",
			"sent more than 1 MiB, the most for one capture: ask for fewer kinds or a shorter trace", nil, "internal/agentlink.TestACaptureIsBounded"},
		{"goroutines of which the full dump is taken", "仍會取得完整傾印的 goroutine 數", "below 1,000", "both", "",
			"goroutine.txt was not taken: with 1000", nil, "agent.TestHundredThousandGoroutines"},
		{"message of an agent; piece of an artifact", "代理程式的訊息；產出物的分段", "1 MiB; 64 KiB", "both", "",
			"received message larger than max", nil, "internal/agentlink.TestAHelloThatIsRefused"},
		{"agents", "代理程式", "5,000", "centre", "limits.fleet.agents",
			"the centre has 1 agents, the most it takes: run another centre for some services, or raise limits.fleet.agents", crowd(fleet.Bounds{Agents: 1}), ""},
		{"services", "服務", "2,000", "centre", "limits.fleet.services",
			"the centre has 1 services, the most it takes: is OPS_SERVICE made of something that differs from process to process? Else run another centre for some of them, or raise limits.fleet.services", crowd(fleet.Bounds{Services: 1}), ""},
		{"instances", "實例", "20,000", "centre", "limits.fleet.instances",
			"the centre has 1 instances, the most it takes: run another centre for some services, or raise limits.fleet.instances", crowd(fleet.Bounds{Instances: 1}), ""},
		{"labels of an instance", "實例的標籤", "30", "both", "",
			"agent: 31 labels are too many: use at most 30", func(t *testing.T) string { return label(t, 31, "k", "v") }, ""},
		{"name of a label; its value", "標籤名稱；標籤值", "128; 256 bytes", "both", "",
			`agent: label "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk" is too long or has no name: use a name of 1 to 128 bytes and a value of at most 256`, func(t *testing.T) string { return label(t, 1, strings.Repeat("k", 129), "v") }, ""},
		{"requests of a caller", "單一呼叫者的請求", "100 a second, 400 at once after a rest", "centre", "access.limits.per_second, access.limits.burst",
			"user:ann by token:all asks more than 0.001 times a second: ask less often", tooOften, ""},
		{"requests of a caller that run at once", "單一呼叫者同時進行的請求", "128", "centre", "access.limits.concurrent",
			"3 requests of ann are running, which is the most: wait until one ends", nil, "internal/auth.TestACallerWhoAsksTooMuchIsToldWhenToComeBack"},
		{"tries of a password from an address", "單一位址嘗試密碼的次數", "5, then each doubles the wait up to 5 min", "centre", "",
			"too many tries: wait ", nil, "internal/auth/sqlite.TestGuessingIsSlow"},
		{"refused agents from an address", "單一位址被拒的代理程式", "10 a minute", "centre", "",
			"too many agents were refused from 127.0.0.1: try again in a minute", nil, "internal/join.TestWhoGuessesHasToWait"},
		{"headers of a request", "請求標頭", "64 KiB", "centre", "", "431 Request Header Fields Too Large", longHeader, ""},
		{"time for headers", "傳送標頭的時間", "5 s", "centre", "", "(the connection is closed)", slowHeader, ""},
		{"body of a call", "呼叫的內容", "1 MiB; 5 MiB with descriptors of the console", "centre", "", "is larger than configured max 1048576", longBody, ""},
		{"bundle that is imported", "匯入的封存檔", "10 GiB", "centre", "", "the bundle is larger than 10 GiB, the most that is imported: read it where it is, with `ops diagnose FILE`", hugeBundle, ""},
		{"a file when it is unpacked for analysis", "為分析而解壓縮的檔案", "1 GiB, and 200 times its size from 16 MiB on", "centre", "",
			"the profile is larger than 16 MiB when unpacked, which is the limit for its size: download it and open it with go tool pprof", bomb, ""},
		{"samples of a profile; depth of a stack; labels of a sample", "剖析檔的樣本；堆疊深度；樣本的標籤", "5 million; 1,024; 30", "centre", "",
			"the profile has a stack of 1100 frames and the limit is 1024: download it and open it with go tool pprof", nil, "internal/profile.TestWhatPassesALimitIsRefusedInWords"},
		{"free disk", "磁碟可用空間", "1 GiB or 5 %, the larger; 64 MiB of ballast", "centre", "disk-reserve", "no new captures: the disk has … free and … are kept in reserve: delete captures or free some space", fullDisk, ""},
	}
}

// TestLimits goes beyond every limit and reads what it says.
func TestLimits(t *testing.T) {
	for _, b := range bounds() {
		t.Run(strings.ReplaceAll(b.what, " ", "-"), func(t *testing.T) {
			if b.what == "time for headers" {
				t.Parallel() // it lasts
			}
			if b.beyond == nil {
				if !strings.Contains(sourceOf(t, b.test), b.says) {
					t.Errorf("%s does not look for %q", b.test, b.says)
				}
				return
			}
			got := b.beyond(t)
			if pattern := strings.ReplaceAll(regexp.QuoteMeta(b.says), "…", ".+"); !regexp.MustCompile(pattern).MatchString(got) {
				t.Errorf("it says\n%s\nwant\n%s", got, b.says)
			}
		})
	}
}

// TestLimitsAreDocumented keeps the tables of both languages true.
func TestLimitsAreDocumented(t *testing.T) {
	var en, zh strings.Builder
	en.WriteString("\n| limit | default | held by | changed by | who goes beyond reads |\n|---|---|---|---|---|\n")
	zh.WriteString("\n| 限制 | 預設值 | 由誰把關 | 以何設定變更 | 超過時的訊息 |\n|---|---|---|---|---|\n")
	inChinese := strings.NewReplacer(
		", of which one may take the CPU profile and one the trace", "，其中 CPU 剖析與追蹤各只能有一個", "a quarter, at most 10", "四分之一，至多 10",
		", once ten have followed each other", "，連續十次之後", "30 s, up to ", "30 秒，最長 ", "5 s, up to ", "5 秒，最長 ", " min", " 分鐘", "10 s", "10 秒", "5 s", "5 秒", "30 s", "30 秒",
		", up to 512 MiB when asked", "，另行要求時可達 512 MiB", "below 1,000", "少於 1,000", "; ", "；", "256 bytes", "256 位元組",
		"100 a second, 400 at once after a rest", "每秒 100 個，閒置之後可一次 400 個", "5, then each doubles the wait up to", "5 次，之後每次等待加倍，最長", "10 a minute", "每分鐘 10 個",
		"5 MiB with descriptors of the console", "含主控台描述檔時 5 MiB", ", and 200 times its size from 16 MiB on", "；超過 16 MiB 時不超過原大小的 200 倍", "5 million", "500 萬",
		"1 GiB or 5 %, the larger", "1 GiB 或 5 %，取較大者", "64 MiB of ballast", "另有 64 MiB 的壓艙檔",
	)
	holders := map[string]string{"centre": "中心", "agent": "代理程式", "both": "兩者"}
	for _, b := range bounds() {
		key := "–"
		if b.key != "" {
			key = "`" + strings.ReplaceAll(b.key, ", ", "`, `") + "`"
		}
		fmt.Fprintf(&en, "| %s | %s | %s | %s | %s |\n", b.what, b.most, b.holds, key, b.says)
		fmt.Fprintf(&zh, "| %s | %s | %s | %s | %s |\n", b.zh, inChinese.Replace(b.most), holders[b.holds], key, b.says)
	}
	for name, table := range map[string]string{"operations.md": en.String(), "operations.zh-TW.md": zh.String()} {
		keep(t, filepath.Join("..", "..", "docs", name), "limits", "./internal/app -run TestLimitsAre", table+"\n")
	}
}

// keep compares what a document has between two marks with text, or writes it.
func keep(t *testing.T, name, mark, command, text string) {
	t.Helper()
	begin, end := "<!-- "+mark+": written by `go test "+command+" -update` -->\n", "<!-- /"+mark+" -->"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		t.Fatalf("%s: the marks of the table %q are gone", name, mark)
	case old == text:
	case !*update:
		t.Fatalf("%s is behind: -update writes it\ngot\n%s\nwant\n%s", name, old, text)
	default:
		if err := os.WriteFile(name, []byte(before+begin+text+end+after), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
}

// sourceOf returns the file that declares a test, given as "folder.TestName".
func sourceOf(t *testing.T, test string) string {
	t.Helper()
	at := strings.LastIndexByte(test, '.')
	files, err := filepath.Glob(filepath.Join("..", "..", test[:max(at, 0)], "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("\nfunc "+test[at+1:]+"(")) {
			return string(b)
		}
	}
	t.Errorf("there is no test %s", test)
	return ""
}

// limited runs a centre with sections as change leaves them.
func limited(t *testing.T, o cli.ServeOptions, change func(section any)) string {
	t.Helper()
	o.DataDir, o.Listen = t.TempDir(), "127.0.0.1:0"
	o.Load = func(sections []config.Section) (cli.ServeOptions, error) {
		for _, s := range sections {
			change(s.Into)
		}
		return cli.ServeOptions{}, nil
	}
	at, _ := serve(t, o)
	return at
}

// captured asks for captures of the centre itself, one after the other, and
// returns the answer to the last.
func captured(t *testing.T, limits capture.Limits, times int, spec string) string {
	t.Helper()
	at := limited(t, cli.ServeOptions{}, func(s any) {
		if l, ok := s.(*limitsSection); ok {
			l.Captures = limits
		}
	})
	return startMany(t, at, times, spec)
}

func startMany(t *testing.T, at string, times int, spec string) string {
	t.Helper()
	c := client(t, &http.Transport{})
	instances(t, c, at, 1)
	for n := 1; ; n++ {
		code, body := post(t, c, at, "CaptureService/StartCapture", `{"project":"ops-center","service":"ops-center","spec":{"kinds":["runtime"],`+spec+`}}`)
		if n == times {
			if code == http.StatusOK {
				t.Errorf("it is let through: %s", body)
			}
			return said(body)
		}
		if code != http.StatusOK {
			t.Fatalf("capture %d: %d %s", n, code, body)
		}
	}
}

// said is the message of an error in Connect's JSON.
func said(body string) string {
	var e struct{ Code, Message string }
	if json.Unmarshal([]byte(body), &e) != nil {
		return body
	}
	return e.Message
}

const aWhile = `"duration":"60s"`

func thirdCapture(t *testing.T) string { return captured(t, capture.Limits{}, 3, aWhile) }
func overTheCentre(t *testing.T) string {
	return captured(t, capture.Limits{PerCenter: 1}, 2, aWhile)
}
func overTheHour(t *testing.T) string { return captured(t, capture.Limits{PerHour: 1}, 2, aWhile) }
func tooManyInARow(t *testing.T) string {
	return captured(t, capture.Limits{PerInstance: 20}, 11, aWhile)
}

func start(spec string) func(t *testing.T) string {
	return func(t *testing.T) string { return captured(t, capture.Limits{}, 1, spec) }
}

// mute is an instance that says nothing.
type mute struct{ ops.Link }

func (mute) Watch(ctx context.Context, _ time.Duration, _ bool, fn func(ops.Sample)) error {
	fn(ops.Sample{})
	<-ctx.Done()
	return ctx.Err()
}

// crowd has two instances join a fleet.
func crowd(b fleet.Bounds) func(t *testing.T) string {
	return func(t *testing.T) string {
		f := fleet.New(fleet.Config{Bounds: b})
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			left <- f.Join(ctx, ops.Instance{ID: "boot-1", Project: "color-game", Service: "lobby"}, mute{})
		}()
		for len(f.Instances(fleet.Filter{})) == 0 {
			time.Sleep(time.Millisecond)
		}
		err := f.Join(ctx, ops.Instance{ID: "boot-2", Project: "color-game", Service: "wallet"}, mute{})
		cancel()
		<-left
		if ops.KindOf(err) != ops.Exhausted {
			t.Errorf("%v is no Exhausted", err)
		}
		return fmt.Sprint(err)
	}
}

func label(t *testing.T, n int, name, value string) string {
	t.Helper()
	labels := map[string]string{}
	for i := range n {
		labels[name+strings.Repeat("x", i)] = value
	}
	a, err := agent.Start(agent.Config{Center: "http://127.0.0.1:1", Labels: labels})
	if err == nil {
		t.Error(errors.Join(errors.New("it starts"), a.Close()))
	}
	return fmt.Sprint(err)
}

func tooOften(t *testing.T) string {
	dir := t.TempDir()
	accounts, done, err := openAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}
	if err := accounts.AddUser(t.Context(), "test", "ann", passphrase, all); err != nil {
		t.Fatal(err)
	}
	token, _, err := accounts.LoginForToken(t.Context(), auth.Attempt{Name: "ann", Password: passphrase}, auth.TokenRequest{Name: "all"})
	if err := errors.Join(err, done()); err != nil {
		t.Fatal(err)
	}
	at, _ := serve(t, cli.ServeOptions{DataDir: dir, Login: "required", Load: func(sections []config.Section) (cli.ServeOptions, error) {
		for _, s := range sections {
			if set, ok := s.Into.(*auth.Settings); ok {
				set.Limits, set.Login = auth.Limits{PerSecond: 0.001, Burst: 1}, "required"
			}
		}
		return cli.ServeOptions{}, nil
	}})
	c := client(t, &http.Transport{})
	for range 2 {
		code, body := send(t, c, http.MethodGet, at+"/metrics", "", "Authorization", "Bearer "+token)
		if code == http.StatusTooManyRequests {
			if !strings.Contains(body, "Retry-After: ") {
				t.Error("it does not say when to come back")
			}
			return body
		}
	}
	return "nothing"
}

func longHeader(t *testing.T) string {
	at, _ := serve(t, cli.ServeOptions{})
	code, _ := send(t, client(t, &http.Transport{}), http.MethodGet, at+"/healthz", "", "X-Long", strings.Repeat("x", 80<<10))
	return fmt.Sprintf("%d %s", code, http.StatusText(code))
}

func slowHeader(t *testing.T) string {
	at, _ := serve(t, cli.ServeOptions{})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(at, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, conn)
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return "it waits on"
	}
	return "(the connection is closed)"
}

func longBody(t *testing.T) string {
	at, _ := serve(t, cli.ServeOptions{})
	code, body := post(t, client(t, &http.Transport{}), at, "SystemService/GetSystem", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`)
	if code != http.StatusTooManyRequests {
		t.Errorf("%d", code)
	}
	return said(body)
}

func hugeBundle(t *testing.T) string {
	at, _ := serve(t, cli.ServeOptions{})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/api/import", io.NopCloser(strings.NewReader("PK")))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 10<<30 + 1
	r.Header.Set("Expect", "100-continue")
	resp, err := client(t, &http.Transport{ExpectContinueTimeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return said(string(b))
}

func bomb(t *testing.T) string {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 17<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = profile.Read(&b, profile.Limits{})
	return fmt.Sprint(err)
}

func fullDisk(t *testing.T) string {
	at, _ := serve(t, cli.ServeOptions{DiskReserveBytes: 1 << 60})
	return startMany(t, at, 1, aWhile)
}

// TestAnAgentReadsThatTheFleetIsFull is why nobody is turned away in silence.
func TestAnAgentReadsThatTheFleetIsFull(t *testing.T) {
	at := limited(t, cli.ServeOptions{}, func(s any) {
		if l, ok := s.(*limitsSection); ok {
			l.Fleet.Agents = 1 // the centre's own
		}
	})
	instances(t, client(t, &http.Transport{}), at, 1)
	log := &journal{}
	a, err := agent.Start(agent.Config{Center: at, Project: "color-game", Service: "lobby", SpoolDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const want = "the centre has 1 agents, the most it takes: run another centre for some services, or raise limits.fleet.agents"
	for end := time.Now().Add(time.Minute); !strings.Contains(log.String(), want); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the agent says\n%s", log)
		}
	}
	if !strings.Contains(log.String(), "429 Too Many Requests") {
		t.Errorf("the agent says\n%s", log)
	}
}
