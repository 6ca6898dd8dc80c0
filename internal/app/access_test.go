package app

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/api"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/cli"
	"github.com/opscenter/opscenter/internal/join"
	"github.com/opscenter/opscenter/internal/ops"
)

const passphrase = "correct horse battery"

// guarded runs a centre that asks for a login, with a user ann who administers
// it, and returns a token of each role.
func guarded(t *testing.T) (at string, tokens map[auth.Role]string) {
	t.Helper()
	dir := t.TempDir()
	accounts, done, err := openAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := accounts.AddUser(t.Context(), "test", "ann", passphrase, []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}); err != nil {
		t.Fatal(err)
	}
	tokens = map[auth.Role]string{}
	for _, r := range auth.Roles() {
		secret, _, err := accounts.NewToken(t.Context(), auth.Actor{Name: "test", Permissions: auth.All()}, auth.TokenRequest{Name: string(r), Grants: []auth.Grant{{Role: r, Scope: auth.Everywhere}}})
		if err != nil {
			t.Fatal(err)
		}
		tokens[r] = secret
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	at, _ = serve(t, cli.ServeOptions{DataDir: dir, Login: "required"})
	return at, tokens
}

// door is one way in, as the table sees it.
type door struct {
	method, path string
	need         auth.Permission // empty = whoever is known
	open         bool            // to everyone
	stream       bool
}

// unasked are the routes that are meant to be open to everyone.
func unasked() []string {
	return []string{"GET /healthz", "GET /login", "POST /login", "GET /login/style.css", "GET /login/oidc", "GET /login/oidc/callback", "POST /logout", "POST /login/token"}
}

// undeclared says what is wrong with how a route says who may take it; empty =
// nothing is.
func undeclared(r route) string {
	switch {
	case r.on == everyone && r.pattern != join.Path && !slices.Contains(unasked(), r.pattern):
		return r.pattern + " is open to everyone: should it be? then say so here"
	case r.on == checked && r.pattern != "/api/" && !strings.HasPrefix(r.pattern, "/opscenter.api.v1."):
		return r.pattern + " says that what is behind it checks: only the API does"
	case r.on != everyone && r.on != checked && r.need == "":
		return r.pattern + " declares no permission"
	}
	return ""
}

// TestARouteThatDeclaresNothingIsFound is why the table can be trusted with
// routes that do not exist yet.
func TestARouteThatDeclaresNothingIsFound(t *testing.T) {
	for want, r := range map[string]route{
		"/new declares no permission":                                {pattern: "/new"},
		"GET /new declares no permission":                            {pattern: "GET /new", on: aCapture},
		"/debug/pprof/ declares no permission":                       {pattern: "/debug/pprof/", on: something},
		"/new is open to everyone: should it be? then say so here":   {pattern: "/new", on: everyone},
		"/new says that what is behind it checks: only the API does": {pattern: "/new", on: checked},
		"": {pattern: "/new", need: auth.View},
	} {
		if got := undeclared(r); got != want {
			t.Errorf("%s: %q, want %q", r.pattern, got, want)
		}
	}
	// What declares nothing and is served all the same lets nobody in.
	authorizer := auth.NewLoopback()
	w := httptest.NewRecorder()
	r := route{pattern: "/new", handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it is let through") })}
	request := httptest.NewRequest(http.MethodGet, "/new", nil)
	request = request.WithContext(auth.WithActor(request.Context(), auth.Actor{Name: "user:ann", Grants: []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}}))
	r.allowed(authorizer, parts{}).ServeHTTP(w, request)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d", w.Code)
	}
}

// TestNothingIsServedBesideTheTable asks for what Go programs serve without
// meaning to.
func TestNothingIsServedBesideTheTable(t *testing.T) {
	url, token, _ := under(t)
	c := client(t, &http.Transport{})
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{
		"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/vars", "/debug/requests", "/debug/events",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.health.v1.Health/Check", "/opscenter.agent.v1.AgentService/Hello", "/.well-known/x",
	} {
		if code, _ := send(t, c, http.MethodGet, url+path, ""); code != http.StatusUnauthorized {
			t.Errorf("%s without a login: %d", path, code)
		}
		code, body := send(t, c, http.MethodGet, url+path, "", "Authorization", "Bearer "+token)
		if code != http.StatusNotFound && !strings.Contains(body, "<title>OPS Center</title>") {
			t.Errorf("%s as an administrator: %d %.200s", path, code, body)
		}
	}
}

// doors are every route there is: the rows of routes, the files of the API, and
// every call of the schema.
func doors(t *testing.T) (out []door) {
	t.Helper()
	for _, r := range routes(cli.ServeOptions{}, parts{}) {
		if wrong := undeclared(r); wrong != "" {
			t.Error(wrong)
		}
		if r.on == checked {
			continue
		}
		method, path, ok := strings.Cut(r.pattern, " ")
		if !ok {
			method, path = http.MethodGet, r.pattern
		}
		if path == "/pprof/" || path == "/trace/" {
			path += "01nosuch/boot/cpu.pprof/"
		}
		out = append(out, door{method, path, r.need, r.on == everyone, false})
	}
	for _, pattern := range unasked()[1:] {
		method, path, _ := strings.Cut(pattern, " ")
		out = append(out, door{method, path, "", true, false})
	}
	for _, r := range api.Routes() {
		method, path, _ := strings.Cut(r.Pattern, " ")
		if r.Need == "" {
			t.Errorf("%s declares no permission", r.Pattern)
		}
		path = strings.NewReplacer("{capture}", "01nosuch", "{instance}", "boot", "{artifact}", "cpu.pprof").Replace(path)
		out = append(out, door{method, path, r.Need, false, false})
	}
	return append(out, calls(t)...)
}

// calls are the RPCs, with what their proto declares.
func calls(t *testing.T) (out []door) {
	t.Helper()
	names := map[apiv1.Permission]auth.Permission{
		apiv1.Permission_PERMISSION_VIEW: auth.View, apiv1.Permission_PERMISSION_DOWNLOAD: auth.Download, apiv1.Permission_PERMISSION_CAPTURE: auth.Capture,
		apiv1.Permission_PERMISSION_DELETE: auth.Delete, apiv1.Permission_PERMISSION_CONTROL: auth.Control, apiv1.Permission_PERMISSION_AUDIT: auth.Audit, apiv1.Permission_PERMISSION_ADMIN: auth.Admin,
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			svc := f.Services().Get(i)
			for j := range svc.Methods().Len() {
				m := svc.Methods().Get(j)
				p, _ := proto.GetExtension(m.Options(), apiv1.E_Permission).(apiv1.Permission)
				scope, _ := proto.GetExtension(m.Options(), apiv1.E_Scope).(apiv1.Scope)
				path := "/" + string(svc.FullName()) + "/" + string(m.Name())
				need, ok := names[p]
				if !ok && scope != apiv1.Scope_SCOPE_SELF {
					t.Errorf("%s declares no permission", path)
				}
				out = append(out, door{http.MethodPost, path, need, false, m.IsStreamingServer()})
			}
		}
		return true
	})
	return out
}

// knock makes a request and says how it was answered: "open", "who are you",
// "no", "wrong site" or "wrong name".
func knock(t *testing.T, c *http.Client, url string, d door, token, origin string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var body io.Reader
	typ := "application/json"
	if d.method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	if d.stream {
		const ask = `{"captures":true}` // makes the stream of changes say something at once
		body, typ = bytes.NewReader(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(ask))), ask...)), "application/connect+json"
	}
	r, err := http.NewRequestWithContext(ctx, d.method, url+d.path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", typ)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	switch origin {
	case "same":
		r.Header.Set("Origin", url)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	case "cross-site":
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", "cors")
	case "null":
		r.Header.Set("Origin", "null")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Sec-Fetch-Mode", "no-cors")
	case "rebinding":
		r.Host = "evil.example"
		r.Header.Set("Origin", "http://evil.example")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", d.path, err)
	}
	defer resp.Body.Close()
	if strings.Contains(d.path, "/Watch") && resp.StatusCode == http.StatusOK && d.stream {
		head := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, head); err != nil || head[0] == 0 {
			return "open" // it waits for something to tell, or told it
		}
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	text := string(b)
	switch {
	case resp.StatusCode == http.StatusMisdirectedRequest:
		return "wrong name"
	case strings.Contains(text, "another site's page"):
		return "wrong site"
	case resp.StatusCode == http.StatusUnauthorized && !strings.HasPrefix(d.path, "/login"):
		return "who are you"
	case resp.StatusCode == http.StatusForbidden && !strings.HasPrefix(d.path, "/login"), strings.Contains(text, `"code":"permission_denied"`) && !strings.HasPrefix(d.path, "/login"):
		if !strings.Contains(text, "may not do this") {
			t.Errorf("%s: refused with %s", d.path, text)
		}
		return "no"
	case resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		t.Errorf("%s: %d %s", d.path, resp.StatusCode, text)
	}
	return "open"
}

// TestEveryRouteForEveryRoleFromEveryOrigin is the table that says who gets in
// where. What is not declared is closed; a new route that declares nothing fails.
func TestEveryRouteForEveryRoleFromEveryOrigin(t *testing.T) {
	url, tokens := guarded(t)
	c := client(t, &http.Transport{MaxIdleConnsPerHost: 4})
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	all := doors(t)
	if len(all) < 70 {
		t.Fatalf("only %d routes are found", len(all))
	}
	asked := 0
	for _, d := range all {
		for _, origin := range []string{"none", "same", "cross-site", "null", "rebinding"} {
			for _, role := range append(auth.Roles(), "") {
				want := "open"
				switch {
				case origin == "rebinding":
					want = "wrong name"
				case origin == "cross-site" || origin == "null":
					want = "wrong site"
				case d.open:
				case role == "":
					want = "who are you"
				case d.need != "" && !slices.Contains(role.Permissions(), d.need):
					want = "no"
				}
				if d.path == "/opscenter.api.v1.AccessService/LogOut" && want == "open" {
					continue // ends what the rest of the table needs
				}
				asked++
				if got := knock(t, c, url, d, tokens[role], origin); got != want {
					t.Errorf("%s %s as %q from %s: %s, want %s", d.method, d.path, role, origin, got, want)
				}
			}
		}
	}
	t.Logf("%d routes, %d requests", len(all), asked)
}

// TestNobodyButMoreThanAViewerTakesRawFilesOrChangesAnything reads the schema.
func TestNobodyButMoreThanAViewerTakesRawFilesOrChangesAnything(t *testing.T) {
	viewers := []string{"DescribeMethod", "ListMethods"} // ask what would be
	protoregistry.GlobalFiles.RangeFilesByPackage("opscenter.api.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			ms := f.Services().Get(i).Methods()
			for j := range ms.Len() {
				m := ms.Get(j)
				p, _ := proto.GetExtension(m.Options(), apiv1.E_Permission).(apiv1.Permission)
				changes := !strings.HasPrefix(string(m.Name()), "Get") && !strings.HasPrefix(string(m.Name()), "List") && !strings.HasPrefix(string(m.Name()), "Watch") &&
					!strings.HasPrefix(string(m.Name()), "Search") && !strings.HasPrefix(string(m.Name()), "Find") && !strings.HasPrefix(string(m.Name()), "Open")
				if changes && p == apiv1.Permission_PERMISSION_VIEW && !slices.Contains(viewers, string(m.Name())) {
					t.Errorf("%s needs no more than view", m.FullName())
				}
			}
		}
		return true
	})
	for _, r := range api.Routes() {
		if r.Need == auth.View {
			t.Errorf("%s needs no more than view", r.Pattern)
		}
	}
}

func TestTheRefusalSaysWhatToTypeAndThatWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "ops")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/ops").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	data := filepath.Join(dir, "the data")
	run := exec.Command(bin, "serve", "--listen", "0.0.0.0:0", "--data", data)
	out, err := run.CombinedOutput()
	if err == nil {
		t.Fatalf("it starts: %s", out)
	}
	if at := bytes.Index(out, []byte("ops: ")); at > 0 { // behind the log
		out = out[at:]
	}
	want := "ops: --listen 0.0.0.0:0 would let the network in without TLS and a login, so the centre does not start. It does after:\n" +
		"  " + bin + " user add admin --admin --data '" + data + "'\n" +
		"  " + bin + " serve --listen 0.0.0.0:0 --data '" + data + "' --tls auto\n" +
		"(The first asks for a password. Single sign-on instead: access.oidc in the configuration file. --tls auto makes a certificate authority in the data directory; --tls-cert and --tls-key take your own certificate.)\n"
	if string(out) != want {
		t.Fatalf("got\n%s\nwant\n%s", out, want)
	}
	lines := strings.Split(string(out), "\n")
	add := exec.Command("sh", "-c", lines[1])
	add.Stdin = strings.NewReader(passphrase + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	serve := exec.Command("sh", "-c", "exec "+strings.TrimSpace(lines[2]))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	serve.Stdout = w
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	said := make([]byte, 400)
	n, err := r.Read(said)
	_ = serve.Process.Signal(os.Interrupt)
	_ = serve.Wait()
	if err != nil || !strings.HasPrefix(string(said[:n]), "OPS Center is at https://127.0.0.1:") {
		t.Fatalf("%v %s", err, said[:n])
	}
}

func TestWhatIsLackingIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	crt, key, _ := certificate(t, dir)
	for name, c := range map[string]struct {
		o    cli.ServeOptions
		want string
	}{
		"own certificate, no login": {cli.ServeOptions{Listen: ":8443", TLSCert: crt, TLSKey: key},
			"--listen :8443 would let the network in without a login, so the centre does not start. It does after:\n  ops user add admin --admin --data DIR\n  ops serve --listen :8443\n(The first asks for a password. Single sign-on instead: access.oidc in the configuration file.)"},
		"a proxy that nobody said is safe": {cli.ServeOptions{Listen: "127.0.0.1:8080", AllowHosts: []string{"ops.example.com"}},
			"--allow-host lets others in through a proxy without a login, so the centre does not start. It does after:\n  ops user add admin --admin --data DIR\n  ops serve --listen 127.0.0.1:8080\n(The first asks for a password. Single sign-on instead: access.oidc in the configuration file. if the proxy asks for a login itself, say --login off.)"},
		"off beyond loopback": {cli.ServeOptions{Listen: ":8443", Login: "off"},
			"--login off is for a centre on loopback behind a proxy that asks for a login itself; --listen :8443 would let the network in: leave one of them out"},
		"nonsense": {cli.ServeOptions{Listen: ":8443", Login: "maybe"}, "login: \"maybe\" is unknown: use auto, required or off"},
	} {
		c.o.DataDir = t.TempDir()
		err := Serve(t.Context(), c.o)
		if want := strings.ReplaceAll(c.want, "DIR", c.o.DataDir); err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("%s: got\n%v\nwant\n%s", name, err, want)
		}
	}
}

// browser logs ann in and returns a client with her cookies.
func browser(t *testing.T, url string) *http.Client {
	t.Helper()
	return browserOf(t, url, "ann")
}

// browserOf logs somebody else in.
func browserOf(t *testing.T, url, name string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, &http.Transport{})
	c.Jar = secureJar{jar}
	resp, err := c.PostForm(url+"/login", map[string][]string{"name": {name}, "password": {passphrase}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		t.Fatalf("%d at %s", resp.StatusCode, resp.Request.URL)
	}
	return c
}

// post sends JSON and returns code and body.
func post(t testing.TB, c *http.Client, url, call, body string) (int, string) {
	t.Helper()
	resp, err := c.Post(url+"/opscenter.api.v1."+call, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestWhatHappensAtTheDoorIsOnRecord(t *testing.T) {
	url, tokens := guarded(t)
	c := browser(t, url)
	resp, err := client(t, &http.Transport{}).PostForm(url+"/login", map[string][]string{"name": {"ann"}, "password": {"not her password"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	viewer := client(t, &http.Transport{})
	viewer.Transport = bearer{viewer.Transport, tokens[auth.Viewer]}
	if code, body := post(t, viewer, url, "CaptureService/DeleteCapture", `{"captureId":"01nosuch"}`); code != http.StatusForbidden {
		t.Fatalf("%d %s", code, body)
	}
	if code, body := post(t, c, url, "AccessService/GrantRole", `{"binding":{"holder":"group:sre","grant":{"role":"operator","scope":"color-game"}}}`); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	want := []string{"login", "login.refused", "call.refused", "role.grant", "user.add", "token.create"}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		code, body := post(t, c, url, "ControlService/ListAudit", `{}`)
		var got struct {
			Entries []struct{ Action, Actor string }
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%d %s", code, body)
		}
		missing := slices.DeleteFunc(slices.Clone(want), func(a string) bool {
			return slices.ContainsFunc(got.Entries, func(e struct{ Action, Actor string }) bool { return e.Action == a })
		})
		if len(missing) == 0 {
			for secret := range map[string]bool{tokens[auth.Viewer]: true, passphrase: true, "not her password": true} {
				if strings.Contains(body, secret) {
					t.Errorf("the record holds a secret: %s", body)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v are not on record: %s", missing, body)
		}
	}
}

// secureJar keeps Secure cookies for plain loopback, as browsers do.
type secureJar struct{ *cookiejar.Jar }

func (j secureJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
			panic("a cookie that is not safe: " + c.String())
		}
		c.Secure = false
	}
	j.Jar.SetCookies(u, cookies)
}
