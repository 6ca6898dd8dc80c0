package app

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/web"
)

// These attack a whole centre through its port. What needs no centre is tested
// where it lives: guessing, fixation and tokens in auth, other sites' pages in
// the table of routes, profiles that name files in toolui, readers in their
// fuzz tests, frames of the tunnel in agentlink.

// journal is a log that can be searched.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) { j.mu.Lock(); defer j.mu.Unlock(); return j.b.Write(p) }
func (j *journal) String() string              { j.mu.Lock(); defer j.mu.Unlock(); return j.b.String() }

// under runs a centre with a login whose log is kept.
func under(t *testing.T) (url string, token string, log *journal) {
	t.Helper()
	dir := t.TempDir()
	accounts, done, err := openAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.AddUser(t.Context(), "test", "ann", passphrase, []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}); err != nil {
		t.Fatal(err)
	}
	token, _, err = accounts.NewToken(t.Context(), auth.Actor{Name: "test", Permissions: auth.All()}, auth.TokenRequest{Name: "all", Grants: []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	log = &journal{}
	url, _ = serve(t, cli.ServeOptions{DataDir: dir, Login: "required", Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	return url, token, log
}

// send makes one request and returns what came back, headers included.
func send(t testing.TB, c *http.Client, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	_ = resp.Header.Write(&b)
	_, _ = io.Copy(&b, io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, b.String()
}

func TestNoSecretIsInAnAnswerOrTheLog(t *testing.T) {
	url, token, log := under(t)
	c := client(t, &http.Transport{})
	wrong := auth.TokenPrefix + strings.Repeat("w", 43)
	const guess = "hunter2hunter2"
	tries := []struct{ method, path, body, header, value string }{
		{"GET", "/?token=" + wrong, "", "", ""},
		{"GET", "/opscenter.api.v1.FleetService/ListInstances?token=" + wrong + "&access_token=" + wrong, "", "", ""},
		{"GET", "/api/audit.jsonl", "", "Authorization", "Bearer " + wrong},
		{"POST", "/opscenter.api.v1.SystemService/GetSystem", "{}", "Authorization", "Bearer " + wrong},
		{"POST", "/opscenter.api.v1.SystemService/GetSystem", "{", "Authorization", "Bearer " + token},
		{"GET", "/api/captures/01nosuch/x/y", "", "Authorization", "Bearer " + token},
		{"POST", "/login", "name=ann&password=" + guess, "Content-Type", "application/x-www-form-urlencoded"},
		{"POST", "/login/token", `{"name":"ann","password":"` + guess + `"}`, "Content-Type", "application/json"},
		{"POST", "/opscenter.agent.v1/tunnel", "", "Authorization", "Bearer " + wrong},
	}
	for _, try := range tries {
		code, answer := send(t, c, try.method, url+try.path, try.body, "Content-Type", "application/json", try.header, try.value)
		for _, secret := range []string{wrong, token, guess} {
			if strings.Contains(answer, secret) {
				t.Errorf("%s %s: %d quotes a secret: %s", try.method, try.path, code, answer)
			}
		}
		if strings.Contains(try.path, wrong) && code < 400 {
			t.Errorf("a token in the address is taken: %d", code)
		}
	}
	// A token in the address does not count even if it is right.
	if code, _ := send(t, c, "GET", url+"/api/audit.jsonl?token="+token+"&access_token="+token, ""); code != http.StatusUnauthorized {
		t.Errorf("a right token in the address: %d", code)
	}
	time.Sleep(50 * time.Millisecond) // the log of the last one
	for _, secret := range []string{wrong, token, guess, passphrase} {
		if strings.Contains(log.String(), secret) {
			t.Error("the log holds a secret")
		}
	}
}

func TestPathsDoNotLeaveTheirRoots(t *testing.T) {
	url, token, _ := under(t)
	c := client(t, &http.Transport{})
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{
		"/api/captures/..%2f..%2f..%2fetc/passwd/x", "/api/captures/01abc/..%2f..%2faccess.db/cpu.pprof", "/api/captures/01abc/boot/..%2faccess.db",
		"/api/captures/%2e%2e/%2e%2e/access.db", "/pprof/..%2f..%2f/x/access.db/", "/trace/%2e%2e%2f%2e%2e/x/y/", "/..%2faccess.db", "/%2e%2e/%2e%2e/etc/passwd",
		"/assets/..%2f..%2f..%2fgo.mod", "/api/captures/01abc/boot/access.db%00.pprof", "/login/..%2f..%2faccess.db", "/api/captures/01abc%00/boot/x",
	} {
		code, body := send(t, c, "GET", url+path, "", "Authorization", "Bearer "+token)
		if strings.Contains(body, "SQLite format") || strings.Contains(body, "root:") || strings.Contains(body, "module github.com") {
			t.Errorf("%s: %d answers with a file", path, code)
		}
		if code >= 500 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// TestABombIsNotUnpacked sends a bundle and a request that would unpack to a
// thousand times their size.
func TestABombIsNotUnpacked(t *testing.T) {
	url, token, _ := under(t)
	c := client(t, &http.Transport{})
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 24<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"SystemService/GetSystem", "ConsoleService/PutDescriptors", "AccessService/AddUser"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/opscenter.api.v1."+call, bytes.NewReader(bomb.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Content-Type": "application/proto", "Content-Encoding": "gzip", "Authorization": "Bearer " + token} {
			r.Header.Set(k, v)
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(b), "is larger than configured max") {
			t.Errorf("%s: %d %s", call, resp.StatusCode, b)
		}
	}
	if code, body := send(t, c, "POST", url+"/api/import", bomb.String(), "Authorization", "Bearer "+token); code != http.StatusBadRequest && code != http.StatusUnprocessableEntity {
		t.Errorf("a bundle that is none: %d %s", code, body)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAnAgentWithoutProofIsTurnedAway(t *testing.T) {
	url, token, _ := under(t)
	c := client(t, &http.Transport{})
	for name, authorization := range map[string]string{"nothing": "", "junk": "Bearer junk", "a person's token": "Bearer " + token} {
		code, body := send(t, c, "POST", url+"/opscenter.agent.v1/tunnel", "", "Connection", "Upgrade", "Upgrade", "opscenter-agent/1",
			"Ops-Protocol", "1", "Ops-Project", "color-game", "Ops-Service", "wallet", "Ops-Boot-Id", "boot-forged-0001", "Authorization", authorization)
		if code != http.StatusUnauthorized && code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if _, body := send(t, c, "POST", url+"/opscenter.api.v1.FleetService/ListInstances", "{}", "Authorization", "Bearer "+token, "Content-Type", "application/json"); strings.Contains(body, "wallet") {
		t.Errorf("a forged instance is in the fleet: %s", body)
	}
}

// TestARequestNamesNoAddressToDial looks for fields by which somebody could make
// the centre dial, and tries the sources that may name addresses.
func TestARequestNamesNoAddressToDial(t *testing.T) {
	var dialled sync.Map
	inner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { dialled.Store(r.URL.Path, true) }))
	defer inner.Close()
	dir := t.TempDir()
	sd := filepath.Join(dir, "targets.json")
	if err := os.WriteFile(sd, []byte(`[{"targets":["169.254.169.254:80","[fe80::1]:80","[::ffff:169.254.169.254]:80","[fd00:ec2::254]:80"],"labels":{"service":"metadata"}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &journal{}
	url, _ := serve(t, cli.ServeOptions{FileSD: []string{sd}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	c := client(t, &http.Transport{})
	for _, call := range []string{
		`CaptureService/StartCapture {"instanceIds":["` + inner.URL + `"]}`,
		`ConsoleService/ListMethods {"instanceId":"` + inner.URL + `"}`,
		`ConsoleService/DescribeMethod {"instanceIds":["` + strings.TrimPrefix(inner.URL, "http://") + `"],"method":"a.B/C"}`,
		`FleetService/GetInstance {"instanceId":"` + inner.URL + `"}`,
	} {
		name, body, _ := strings.Cut(call, " ")
		if code, answer := post(t, c, url, name, body); code < 400 {
			t.Errorf("%s: %d %s", call, code, answer)
		}
	}
	dialled.Range(func(path, _ any) bool { t.Errorf("the centre dialled %v", path); return true })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, body := post(t, c, url, "FleetService/ListInstances", `{"includeGone":true}`)
		if said := log.String(); strings.Contains(said, "169.254.169.254") && (strings.Contains(said, "refused") || strings.Contains(said, "not dial") || strings.Contains(said, "link-local")) {
			if strings.Contains(body, `"INSTANCE_STATE_UP"`) && strings.Contains(body, `"metadata"`) {
				t.Errorf("the metadata service is an instance: %s", body)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said of the addresses that are refused:\n%s", log)
		}
	}
}

// TestTheAttacksAreTested holds the tables of docs/security.md, in both languages,
// to the tests that there are.
func TestTheAttacksAreTested(t *testing.T) {
	named := regexp.MustCompile("`([a-z0-9/]+\\.Test[A-Za-z0-9]+)`")
	var tests [2][]string
	for i, name := range []string{"security.md", "security.zh-TW.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			tests[i] = append(tests[i], m[1])
			sourceOf(t, m[1])
		}
	}
	if len(tests[0]) < 40 || !slices.Equal(tests[0], tests[1]) {
		t.Errorf("English names %d tests, Chinese %d, or others: they say the same", len(tests[0]), len(tests[1]))
	}
}

// TestThePageMakesNoMarkupOfStrings reads the page's sources: names of functions,
// labels and services are text nodes and text on a canvas, never markup or code.
// The policy would stop them too.
func TestThePageMakesNoMarkupOfStrings(t *testing.T) {
	bad := regexp.MustCompile(`v-html|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function\(|createContextualFragment|srcdoc|javascript:`)
	files := 0
	err := filepath.WalkDir(filepath.Join("..", "..", "web", "src"), func(name string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(name); err != nil || d.IsDir() || ext != ".ts" && ext != ".vue" || strings.HasSuffix(name, ".test.ts") {
			return err
		}
		files++
		b, err := os.ReadFile(name)
		if found := bad.Find(b); found != nil {
			t.Errorf("%s makes markup or code of strings: %s", name, found)
		}
		return err
	})
	if err != nil || files < 100 {
		t.Errorf("%d files, %v", files, err)
	}
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(web.ContentSecurityPolicy, part) {
			t.Errorf("the page's policy lacks %s: %s", part, web.ContentSecurityPolicy)
		}
	}
	if strings.Contains(web.ContentSecurityPolicy, "unsafe-eval") {
		t.Error("the page's policy lets strings run")
	}
}

// TestTheTranslationsAreWhole compares the shape of what operators read in two
// languages: headings, tables and commands.
func TestTheTranslationsAreWhole(t *testing.T) {
	count := regexp.MustCompile(`(?m)^(## |### |\| \S|` + "```" + `)`)
	for _, name := range []string{"security", "operations"} {
		var shape [2]map[string]int
		for i, ext := range []string{".md", ".zh-TW.md"} {
			b, err := os.ReadFile(filepath.Join("..", "..", "docs", name+ext))
			if err != nil {
				t.Fatal(err)
			}
			other := name + []string{".zh-TW.md", ".md"}[i]
			if head, _, _ := strings.Cut(string(b), "\n## "); !strings.Contains(head, "("+other+")") {
				t.Errorf("%s%s does not lead to %s", name, ext, other)
			}
			shape[i] = map[string]int{}
			for _, m := range count.FindAll(b, -1) {
				shape[i][strings.TrimRight(string(m[:2]), " `")]++
			}
		}
		for what, n := range shape[0] {
			if shape[1][what] < n*9/10 { // a row may be on its way
				t.Errorf("%s: of %d lines that begin with %q %d are in the Chinese text", name, n, what, shape[1][what])
			}
		}
	}
}
