package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"

	"github.com/opscenter/opscenter/internal/auth"
)

// These log in to a whole centre with a provider of OpenID Connect. What a forged
// answer looks like in each of its parts is in internal/auth/oidc.

// shutter is a listener behind which nobody answers while it is shut.
type shutter struct {
	net.Listener
	mu   sync.Mutex // guards all below
	shut bool
	open []net.Conn
}

func (s *shutter) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		if !s.shut {
			s.open = append(s.open, c)
			s.mu.Unlock()
			return c, nil
		}
		s.mu.Unlock()
		_ = c.Close()
	}
}

func (s *shutter) set(shut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = shut
	for _, c := range s.open {
		_ = c.Close()
	}
	s.open = nil
}

// spoilt is a user of whom the provider's token says something else.
type spoilt struct {
	*mockoidc.MockUser
	spoil func(*mockoidc.IDTokenClaims)
}

func (u spoilt) Claims(scope []string, c *mockoidc.IDTokenClaims) (jwt.Claims, error) {
	u.spoil(c)
	return u.MockUser.Claims(scope, c)
}

// sso is a centre over TLS, and a provider.
type sso struct {
	*configured
	provider *mockoidc.MockOIDC
	shutter  *shutter
	at       string // where ops.example.com is
}

func startSSO(t *testing.T) *sso {
	t.Helper()
	provider, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sso{provider: provider, shutter: &shutter{Listener: ln, shut: true}}
	if err := provider.Start(s.shutter, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = provider.Shutdown() })

	data := t.TempDir()
	accounts, done, err := openAccounts(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(accounts.AddUser(t.Context(), "test", "ann", passphrase, []auth.Grant{{Role: auth.Administer, Scope: auth.Everywhere}}), done()); err != nil {
		t.Fatal(err)
	}
	s.configured = prepared(t)
	s.start(data, fmt.Sprintf(`listen: 127.0.0.1:0
allow-host: [ops.example.com]
login: required
tls: auto
access:
  groups: {engineering: ["viewer@ops-center"]}
  oidc: {issuer: "%s", client_id: "%s", client_secret: "%s", url: "https://ops.example.com", name: Game Login, scopes: [profile, email, groups]}
projects: {ops-center: {roles: {operator: [design]}}}
`, provider.Issuer(), provider.Config().ClientID, provider.Config().ClientSecret))
	at, _, _ := strings.Cut(s.url, "\n") // the pin follows
	s.at, s.url = strings.TrimPrefix(at, "https://"), "https://ops.example.com"
	s.http = nil // everybody here has a browser of their own
	return s
}

// browser is a new one, with no cookies.
func (s *sso) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := client(s.t, &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificate is tested elsewhere
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "ops.example.com:443" {
				addr = s.at
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	c.Jar = jar
	return c
}

// begun follows a login with the provider up to the address that brings the browser
// back to the centre.
func (s *sso) begun(c *http.Client) string {
	s.t.Helper()
	callback := ""
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/login/oidc/callback" {
			callback = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	code, page := send(s.t, c, http.MethodGet, s.url+"/login/oidc?to=%2Fcaptures", "")
	c.CheckRedirect = nil
	if callback == "" {
		s.t.Fatalf("the provider did not send the browser back: %d %s", code, page)
	}
	return callback
}

// session is the cookie that a browser would show.
func (s *sso) session(c *http.Client) string {
	u, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, k := range c.Jar.Cookies(u) {
		if k.Name == auth.SessionCookie {
			return k.Value
		}
	}
	return ""
}

// who is how the centre calls somebody.
func (s *sso) who(c *http.Client, session string) string {
	s.t.Helper()
	header := []string{"Content-Type", "application/json"}
	if session != "" {
		header = append(header, "Cookie", auth.SessionCookie+"="+session)
	}
	code, answer := send(s.t, c, http.MethodPost, s.url+"/opscenter.api.v1.SystemService/GetSystem", "{}", header...)
	if _, rest, ok := strings.Cut(answer, `"actor":"`); ok && code == http.StatusOK {
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	return fmt.Sprint(code)
}

func TestSingleSignOnOfAWholeCentre(t *testing.T) {
	s := startSSO(t)

	// The provider is down: the page says so, and who has a password comes in.
	jane := s.browser()
	if code, page := send(t, jane, http.MethodGet, s.url+"/login/oidc", ""); code != http.StatusBadGateway || !strings.Contains(page, "Game Login does not answer: try again in a moment") {
		t.Errorf("while it is down: %d %s", code, page)
	}
	ann := s.browser()
	if code, page := send(t, ann, http.MethodPost, s.url+"/login", url.Values{"name": {"ann"}, "password": {passphrase}}.Encode(), "Content-Type", "application/x-www-form-urlencoded"); s.who(ann, "") != "user:ann" {
		t.Fatalf("%d %s", code, page)
	}
	s.shutter.set(false)

	// Somebody planted their own session in the browser: the login ends it.
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	mallory := s.browser()
	if _, page := send(t, mallory, http.MethodPost, s.url+"/login", url.Values{"name": {"ann"}, "password": {passphrase}}.Encode(), "Content-Type", "application/x-www-form-urlencoded"); s.who(mallory, "") != "user:ann" {
		t.Fatal(page)
	}
	planted := s.session(mallory)
	jane.Jar.SetCookies(u, []*http.Cookie{{Name: auth.SessionCookie, Value: planted, Path: "/", Secure: true}})
	callback := s.begun(jane)
	if code, page := send(t, jane, http.MethodGet, callback, ""); code != http.StatusOK || !strings.Contains(page, `content="0;url=/captures"`) {
		t.Fatalf("%d %s", code, page)
	}
	if s.who(jane, "") != "oidc:jane.doe@example.com" || s.session(jane) == planted || s.who(s.browser(), planted) != "401" {
		t.Errorf("in as %s; the planted session is %s", s.who(jane, ""), s.who(s.browser(), planted))
	}

	instances(t, ann, s.url, 1)
	// Groups are roles: from access.groups, and from the project's.
	if code, body := post(t, jane, s.url, "FleetService/ListInstances", "{}"); code != http.StatusOK || !strings.Contains(body, "ops-center") {
		t.Errorf("engineering sees nothing: %d %s", code, body)
	}
	const capture = `{"project":"ops-center","service":"ops-center","spec":{"kinds":["runtime"],"duration":"1s"}}`
	if code, body := post(t, jane, s.url, "CaptureService/StartCapture", capture); code != http.StatusOK {
		t.Errorf("design does not operate: %d %s", code, body)
	}
	if code, _ := post(t, jane, s.url, "AccessService/ListUsers", "{}"); code != http.StatusForbidden {
		t.Errorf("nobody gave her users: %d", code)
	}

	// The answer is good once, in one browser.
	if code, page := send(t, jane, http.MethodGet, callback, ""); code != http.StatusBadRequest || !strings.Contains(page, "this login did not begin in this browser, or too long ago: begin again") {
		t.Errorf("again: %d %s", code, page)
	}

	// Logged out is out, also for who kept the cookie.
	kept := s.session(jane)
	send(t, jane, http.MethodPost, s.url+"/logout", "")
	if s.session(jane) != "" || s.who(s.browser(), kept) != "401" {
		t.Errorf("after the logout: %q, and with the cookie %s", s.session(jane), s.who(s.browser(), kept))
	}

	// What the provider's token says is believed only if it is for this login, here.
	for name, spoil := range map[string]func(*mockoidc.IDTokenClaims){
		"for another client":       func(c *mockoidc.IDTokenClaims) { c.Audience = jwt.ClaimStrings{"another-client"} },
		"for others besides":       func(c *mockoidc.IDTokenClaims) { c.Audience = jwt.ClaimStrings{"another-client", "a-third"} },
		"of another provider":      func(c *mockoidc.IDTokenClaims) { c.Issuer = "https://login.example.com" },
		"that has expired":         func(c *mockoidc.IDTokenClaims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Hour)) },
		"of another login (nonce)": func(c *mockoidc.IDTokenClaims) { c.Nonce = "chosen" },
		"of no login (nonce)":      func(c *mockoidc.IDTokenClaims) { c.Nonce = "" },
	} {
		s.provider.QueueUser(spoilt{mockoidc.DefaultUser(), spoil})
		victim := s.browser()
		code, page := send(t, victim, http.MethodGet, s.begun(victim), "")
		if code != http.StatusUnauthorized || !strings.Contains(page, "cannot be trusted") && !strings.Contains(page, "this answer is to another login") || s.session(victim) != "" {
			t.Errorf("a token %s: %d %s", name, code, page)
		}
	}

	// It goes down again: who is in stays in, and who was on the way is told.
	again, late := s.browser(), s.browser()
	if code, page := send(t, again, http.MethodGet, s.begun(again), ""); code != http.StatusOK {
		t.Fatalf("%d %s", code, page)
	}
	callback = s.begun(late)
	s.shutter.set(true)
	if code, page := send(t, late, http.MethodGet, callback, ""); code != http.StatusBadGateway || !strings.Contains(page, "Game Login does not answer: try again in a moment") || s.session(late) != "" {
		t.Errorf("while it is down again: %d %s", code, page)
	}
	if s.who(again, "") != "oidc:jane.doe@example.com" {
		t.Errorf("who was in is %s", s.who(again, ""))
	}

	s.onRecord(ann)
}

// onRecord waits until the logins and the refusals are.
func (s *sso) onRecord(ann *http.Client) {
	s.t.Helper()
	want := []string{"login oidc:jane.doe@example.com", "login.refused", "login user:ann", "logout oidc:jane.doe@example.com"}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		_, body := post(s.t, ann, s.url, "ControlService/ListAudit", `{"limit":200}`)
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool {
			action, actor, _ := strings.Cut(w, " ")
			return strings.Contains(body, `"action":"`+action+`"`) && strings.Contains(body, actor)
		})
		if len(missing) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%q are not on record: %s", missing, body)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
