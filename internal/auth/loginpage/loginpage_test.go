package loginpage

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/sqlite"
)

const password = "correct horse battery"

func pages(t *testing.T, base string) *Pages {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	a, err := auth.NewAccounts(t.Context(), auth.AccountsConfig{Store: store, PasswordKiB: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.AddUser(t.Context(), "test", "ann", password, []auth.Grant{{Role: auth.Viewer, Scope: auth.Everywhere}}); err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Door: &auth.Door{Accounts: a}, BasePath: base, Passwords: true, Tokens: ":root {\n}\n\n:root[data-theme=\"dark\"] {\n  --bg: #000;\n}\n"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ask(p http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestALoginGoesOnWithinTheCentreOnly(t *testing.T) {
	p := pages(t, "/ops")
	for to, want := range map[string]string{
		"":                      "/ops/",
		"/captures?x=1":         "/ops/captures?x=1",
		"//evil.example/x":      "/ops/",
		"https://evil.example":  "/ops/",
		"/\\evil.example":       "/ops/",
		"javascript:alert(1)":   "/ops/",
		"/x\r\nSet-Cookie: a=b": "/ops/",
		"/login?to=/login":      "/ops/",
		"evil.example":          "/ops/",
		"/%2f/evil.example":     "/ops/%2f/evil.example", // a path of ours that is not there
	} {
		form := httptest.NewRequest(http.MethodGet, "/", nil)
		q := form.URL.Query()
		q.Set("name", "ann")
		q.Set("password", password)
		q.Set("to", to)
		w := ask(p, http.MethodPost, "/login", q.Encode())
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != want {
			t.Errorf("%q: %d to %q, want %q", to, w.Code, w.Header().Get("Location"), want)
		}
	}
}

func TestALoginInTheAddressIsNone(t *testing.T) {
	p := pages(t, "")
	w := ask(p, http.MethodPost, "/login?name=ann&password=correct+horse+battery", "to=%2F")
	if w.Code != http.StatusUnauthorized || len(w.Result().Cookies()) != 0 {
		t.Errorf("%d %v", w.Code, w.Result().Cookies())
	}
	if strings.Contains(w.Body.String(), "horse") {
		t.Error("the password is in the page")
	}
}

func TestTheFormShowsWhatWasTypedHarmlessly(t *testing.T) {
	p := pages(t, "")
	w := ask(p, http.MethodPost, "/login", `name="><script>alert(1)</script>&password=x&to=/"><script>`)
	body := w.Body.String()
	if w.Code != http.StatusUnauthorized || strings.Contains(body, "<script") || !strings.Contains(body, "the name or the password is wrong") {
		t.Errorf("%d %s", w.Code, body)
	}
	csp := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'; style-src 'self'; form-action 'self'") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", w.Header())
	}
	if body := ask(p, http.MethodGet, "/login", "", "Accept-Language", "zh-TW,en;q=0.5").Body.String(); !strings.Contains(body, "使用者名稱") || !strings.Contains(body, `lang="zh-TW"`) {
		t.Errorf("%s", body)
	}
}

func TestTooManyTriesSayWhenToComeBack(t *testing.T) {
	p := pages(t, "")
	var w *httptest.ResponseRecorder
	for range 8 {
		w = ask(p, http.MethodPost, "/login", "name=ann&password=wrong")
	}
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "too many tries: wait ") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestWelcome(t *testing.T) {
	p := pages(t, "/ops")
	for name, c := range map[string]struct {
		method, target, accept, site string
		welcome                      bool
		to, says                     string
	}{
		"a browser":                    {"GET", "/ops/captures/01x?tab=a", "text/html", "none", true, "/ops/login?to=%2Fcaptures%2F01x%3Ftab%3Da", ""},
		"a browser at the front":       {"GET", "/ops/", "text/html,*/*", "", true, "/ops/login", ""},
		"a link from elsewhere":        {"GET", "/ops/captures", "text/html", "cross-site", true, "", `content="0;url=/ops/captures"`},
		"one that leads back out":      {"GET", "/ops//evil.example/", "text/html", "cross-site", true, "", `content="0;url=/ops/"`},
		"a program":                    {"GET", "/ops/api/audit.jsonl", "*/*", "", false, "", ""},
		"a call":                       {"POST", "/ops/x", "text/html", "", false, "", ""},
		"markup in the address":        {"GET", `/ops/"><script>`, "text/html", "cross-site", true, "", `url=/ops/%22%3E%3Cscript%3E`},
		"another site that would post": {"POST", "/ops/", "text/html", "cross-site", false, "", ""},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		r.RequestURI = c.target
		if u, err := r.URL.Parse(c.target); err == nil {
			r.URL = u
			r.URL.RawPath = ""
		}
		if strings.HasPrefix(c.target, "/ops//") {
			r.URL.Path = c.target
		}
		r.Header.Set("Accept", c.accept)
		r.Header.Set("Sec-Fetch-Site", c.site)
		w := httptest.NewRecorder()
		got := p.Welcome(w, r)
		if got != c.welcome || w.Header().Get("Location") != c.to || !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s: %v %q %s", name, got, w.Header().Get("Location"), w.Body)
		}
	}
}

func TestATokenForAProgram(t *testing.T) {
	p := pages(t, "")
	for body, want := range map[string]string{
		`{"name":"ann","password":"` + password + `","token":"laptop","seconds":3600}`: `200 "secret":"opsp_`,
		`{"name":"ann","password":"wrong","token":"laptop","seconds":3600}`:            `403 the name or the password is wrong`,
		`{"name":"ann","password":"` + password + `","token":"","seconds":3600}`:       `400 a token needs a name`,
		`{"name":"ann","password":"` + password + `","token":"x","seconds":999999999}`: `400 a token lives from a minute to 366 days`,
		`junk`: `400 no JSON`,
		`{"name":"` + strings.Repeat("x", 10_000) + `"}`: `400 no JSON`,
	} {
		r := httptest.NewRequest(http.MethodPost, "/login/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		code, says, _ := strings.Cut(want, " ")
		if http.StatusText(w.Code) == "" || !strings.HasPrefix(code, strings.TrimSpace(w.Result().Status[:3])) || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%.60s: %d %s", body, w.Code, w.Body)
		}
		if len(w.Result().Cookies()) != 0 {
			t.Error("a program gets a cookie")
		}
	}
	if w := ask(p, http.MethodPost, "/login/token", `{"name":"ann"}`, "Content-Type", "text/plain"); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("a form of another site could send it: %d", w.Code)
	}
}

func TestTheDarkThemeFollowsTheSystem(t *testing.T) {
	p := pages(t, "")
	css := ask(p, http.MethodGet, "/login/style.css", "").Body.String()
	if !strings.Contains(css, "@media (prefers-color-scheme: dark) { :root {\n  --bg: #000;\n} }") {
		t.Errorf("%.200s", css)
	}
}

func TestAPasswordThatWasMadeForSomebodyIsChangedInTheForm(t *testing.T) {
	p := pages(t, "")
	if err := p.Door.Accounts.Invite(t.Context(), "test", "bob", password, nil); err != nil {
		t.Fatal(err)
	}
	form := "name=bob&password=correct+horse+battery"
	for _, c := range []struct {
		more, language string
		code           int
		says           []string
	}{
		{"", "", http.StatusForbidden, []string{"this password was made for you: choose one of your own", `name="new"`}},
		{"", "zh-TW", http.StatusForbidden, []string{"這組密碼是別人為您設定的：請改用您自己的密碼。", "您自己的新密碼"}},
		{"&new=short", "", http.StatusBadRequest, []string{"the password has 5 characters and needs at least 12", `name="new"`}},
		{"&new=short", "zh-TW", http.StatusBadRequest, []string{"新密碼不適用"}},
	} {
		w := ask(p, http.MethodPost, "/login", form+c.more, "Accept-Language", c.language)
		for _, says := range c.says {
			if w.Code != c.code || !strings.Contains(w.Body.String(), says) || len(w.Result().Cookies()) != 0 || strings.Contains(w.Body.String(), "horse") {
				t.Errorf("%q: %d %v %s", c.more, w.Code, w.Result().Cookies(), w.Body)
			}
		}
	}
	if w := ask(p, http.MethodPost, "/login/token", `{"name":"bob","password":"`+password+`","token":"cli"}`, "Content-Type", "application/json"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "choose one of your own on the centre's page first") {
		t.Errorf("a token: %d %s", w.Code, w.Body)
	}
	if w := ask(p, http.MethodPost, "/login", form+"&new=staple+of+the+battery"); w.Code != http.StatusSeeOther || len(w.Result().Cookies()) == 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(p, http.MethodPost, "/login", "name=bob&password=staple+of+the+battery"); w.Code != http.StatusSeeOther {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
