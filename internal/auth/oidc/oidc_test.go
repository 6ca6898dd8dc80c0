package oidc_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/oauth2-proxy/mockoidc"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/loginpage"
	"github.com/opscenter/opscenter/internal/auth/oidc"
	"github.com/opscenter/opscenter/internal/auth/sqlite"
)

// stage is a provider, a centre's login pages over TLS, and a browser.
type stage struct {
	provider *mockoidc.MockOIDC
	accounts *auth.Accounts
	door     *auth.Door
	centre   *httptest.Server
	browser  *http.Client
}

func set(t *testing.T, change func(*auth.OIDCSettings)) *stage {
	t.Helper()
	provider, err := mockoidc.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Shutdown() })
	store, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s := &stage{provider: provider}
	if s.accounts, err = auth.NewAccounts(t.Context(), auth.AccountsConfig{Store: store, Groups: map[string][]auth.Grant{"engineering": {{Role: auth.Operator, Scope: "color"}}}}); err != nil {
		t.Fatal(err)
	}
	s.door = &auth.Door{Accounts: s.accounts}
	var pages http.Handler
	s.centre = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/login") {
			actor, err := s.door.Authenticate(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, actor.Name)
			return
		}
		pages.ServeHTTP(w, r)
	}))
	t.Cleanup(s.centre.Close)
	cfg := auth.OIDCSettings{
		Issuer: provider.Issuer(), ClientID: provider.Config().ClientID, ClientSecret: provider.Config().ClientSecret,
		URL: s.centre.URL, Name: "Game Login", Scopes: []string{"profile", "email", "groups"}, NameClaim: "preferred_username",
	}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if pages, err = loginpage.New(loginpage.Config{Door: s.door, Provider: oidc.New(cfg, nil)}); err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = s.centre.Client()
	s.browser.Jar = jar
	return s
}

func (s *stage) get(t *testing.T, at string) (*http.Response, string) {
	t.Helper()
	if strings.HasPrefix(at, "/") {
		at = s.centre.URL + at
	}
	resp, err := s.browser.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// stop makes the browser stop before the centre's callback and returns its address.
func (s *stage) stop(t *testing.T) string {
	t.Helper()
	var callback string
	s.browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/login/oidc/callback" {
			callback = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	s.get(t, "/login/oidc?to=%2Fcaptures")
	s.browser.CheckRedirect = nil
	if callback == "" {
		t.Fatal("the provider did not send the browser back")
	}
	return callback
}

func TestALoginWithTheProvider(t *testing.T) {
	s := set(t, nil)
	callback := s.stop(t)
	resp, page := s.get(t, callback)
	if resp.StatusCode != http.StatusOK || !strings.Contains(page, `content="0;url=/captures"`) {
		t.Fatalf("%d %s", resp.StatusCode, page)
	}
	for _, c := range resp.Cookies() {
		if c.Name == auth.SessionCookie && (c.SameSite != http.SameSiteStrictMode || !c.Secure || !c.HttpOnly) {
			t.Errorf("%s", c)
		}
	}
	if _, name := s.get(t, "/captures"); name != "oidc:jane.doe" {
		t.Errorf("in as %q", name)
	}
	sessions, err := s.accounts.Store.Sessions(t.Context(), "oidc:jane.doe")
	if err != nil || len(sessions) != 1 || strings.Join(sessions[0].Groups, " ") != "engineering design" {
		t.Errorf("%+v %v", sessions, err)
	}

	// The same answer again, even in the same browser, is worth nothing.
	if resp, page := s.get(t, callback); resp.StatusCode != http.StatusBadRequest || !strings.Contains(page, "this login did not begin in this browser, or too long ago: begin again") {
		t.Errorf("again: %d %s", resp.StatusCode, page)
	}
}

func TestAnswersThatProveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		settings func(*auth.OIDCSettings)
		user     mockoidc.User
		spoil    func(t *testing.T, s *stage, callback string) string
		want     string
	}{
		"another browser's": {spoil: func(t *testing.T, s *stage, callback string) string {
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.browser.Jar = jar
			return callback
		}, want: "this login did not begin in this browser"},
		"another login's": {spoil: func(t *testing.T, s *stage, callback string) string {
			s.stop(t)
			return callback
		}, want: "this answer is to another login: begin again"},
		"a state that somebody chose": {spoil: func(_ *testing.T, _ *stage, callback string) string {
			u, _ := url.Parse(callback)
			q := u.Query()
			q.Set("state", "chosen")
			u.RawQuery = q.Encode()
			return u.String()
		}, want: "this answer is to another login: begin again"},
		"a code that was not given": {spoil: func(_ *testing.T, _ *stage, callback string) string {
			u, _ := url.Parse(callback)
			q := u.Query()
			q.Set("code", "chosen-code")
			u.RawQuery = q.Encode()
			return u.String()
		}, want: "Game Login does not take the code that it gave: begin again"},
		"a code that another login's verifier goes with": {spoil: func(t *testing.T, s *stage, callback string) string {
			first, _ := url.Parse(callback)
			second, _ := url.Parse(s.stop(t))
			q := second.Query()
			q.Set("code", first.Query().Get("code"))
			second.RawQuery = q.Encode()
			return second.String()
		}, want: "Game Login does not take the code that it gave: begin again"},
		"an error with markup": {spoil: func(_ *testing.T, _ *stage, callback string) string {
			u, _ := url.Parse(callback)
			return with(u, "error", "<script>alert(1)</script>")
		}, want: "Game Login did not let you in (&#34;&lt;script&gt;alert(1)&lt;/script&gt;&#34;): ask who runs it"},
		"an address that is not verified": {settings: func(o *auth.OIDCSettings) { o.NameClaim = "" },
			user: &mockoidc.MockUser{Subject: "1", Email: "ceo@example.com", Groups: []string{"engineering"}}, want: "Game Login has not verified the address ceo@example.com"},
		"no name": {user: &mockoidc.MockUser{Subject: "1"}, want: "Game Login does not say your preferred_username, or it cannot be a name"},
		"a token that has expired": {spoil: func(_ *testing.T, s *stage, callback string) string {
			s.provider.AccessTTL = -time.Hour
			return callback
		}, want: "cannot be trusted: its token is not for this centre, has expired, or has no valid signature"},
	} {
		t.Run(name, func(t *testing.T) {
			s := set(t, c.settings)
			if c.user != nil {
				s.provider.QueueUser(c.user)
			}
			callback := s.stop(t)
			if c.spoil != nil {
				callback = c.spoil(t, s, callback)
			}
			resp, page := s.get(t, callback)
			if resp.StatusCode < 400 || !strings.Contains(page, c.want) {
				t.Errorf("%d %s", resp.StatusCode, page)
			}
			if resp, _ := s.get(t, "/captures"); resp.StatusCode != http.StatusUnauthorized {
				t.Error("it is let in")
			}
		})
	}
}

func with(u *url.URL, key, value string) string {
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func TestSomebodyElsesClientIsNotThisCentre(t *testing.T) {
	s := set(t, func(o *auth.OIDCSettings) { o.ClientID = "another-client" })
	resp, _ := s.get(t, "/login/oidc")
	if resp.StatusCode < 400 {
		t.Errorf("%d", resp.StatusCode)
	}
}

func TestAProviderThatIsDown(t *testing.T) {
	s := set(t, nil)
	if err := s.provider.Shutdown(); err != nil {
		t.Fatal(err)
	}
	resp, page := s.get(t, "/login/oidc")
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(page, "Game Login does not answer: try again in a moment") {
		t.Errorf("%d %s", resp.StatusCode, page)
	}
}
