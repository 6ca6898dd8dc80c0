// Package loginpage is the centre's door as browsers see it: pages of a few
// hundred bytes, served to everyone, that hold nothing of the centre but its
// name. It knows forms, cookies and redirects; who may come in is auth's matter.
package loginpage

import (
	"bytes"
	"context"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
)

//go:embed page.html page.css
var files embed.FS

// Identity is whom a provider vouches for.
type Identity struct {
	Name   string
	Groups []string
}

// Provider is somebody else whom people log in with.
type Provider interface {
	// Name is what people call it.
	Name() string
	// Begin returns where to send a browser, and what its cookie has to keep until
	// it is back.
	Begin(ctx context.Context) (to string, keep []byte, err error)
	// Finish checks what the provider sent the browser back with. Denied when it
	// proves nothing.
	Finish(ctx context.Context, keep []byte, query url.Values) (Identity, error)
}

// Config is what the pages need.
type Config struct {
	Door     *auth.Door
	BasePath string
	Provider Provider // nil = there is none
	// Passwords says whether anybody could log in with one.
	Passwords bool
	// Tokens is the style sheet with the colours of the centre's own pages.
	Tokens string
	Logger *slog.Logger // nil = silent
}

// Pages serves everything below /login, and /logout.
type Pages struct {
	Config
	page *template.Template
	css  []byte
	mux  *http.ServeMux
}

// Patterns are what Pages serves, for http.ServeMux; all of it to everyone.
func Patterns() []string {
	return []string{"GET /login", "POST /login", "GET /login/style.css", "GET /login/oidc", "GET /login/oidc/callback", "POST /logout", "POST /login/token"}
}

// oidcCookie keeps what a login with a provider has to remember. It is sent
// along when the provider sends the browser back, which a strict one is not.
const oidcCookie = "__Host-ops_oidc"

// The lives of cookies. How long a session lasts is the centre's to say; a
// browser may forget it earlier.
const (
	deviceLife = 180 * 24 * time.Hour
	oidcLife   = 10 * time.Minute
	// formBytes bounds what a login may send.
	formBytes = 8 << 10
	formTime  = 15 * time.Second
)

// New returns the pages.
func New(cfg Config) (*Pages, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	css, err := files.ReadFile("page.css")
	if err != nil {
		return nil, err
	}
	page, err := template.ParseFS(files, "page.html")
	if err != nil {
		return nil, err
	}
	p := &Pages{Config: cfg, page: page, css: append([]byte(byPreference(cfg.Tokens)+"\n"), css...), mux: http.NewServeMux()}
	for i, h := range []http.HandlerFunc{p.show, p.login, p.style, p.begin, p.finish, p.logout, p.token} {
		p.mux.HandleFunc(Patterns()[i], h)
	}
	return p, nil
}

// byPreference makes the dark theme follow the system: there is no script here
// that could know what somebody chose in the page.
func byPreference(css string) string {
	const dark = `:root[data-theme="dark"] {`
	before, rest, ok := strings.Cut(css, dark)
	block, after, whole := strings.Cut(rest, "\n}")
	if !ok || !whole {
		return css
	}
	return before + "@media (prefers-color-scheme: dark) { :root {" + block + "\n} }" + after
}

// ServeHTTP expects paths without the base path.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	// Strangers may send here: they get no longer than a form takes. What has no
	// connection of its own, in tests, has no deadline either.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(formTime))
	p.mux.ServeHTTP(w, r)
}

// Welcome answers a browser that shows no login with the way to it, and reports
// whether it did: programs are to be told in their own way.
func (p *Pages) Welcome(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		// Somebody followed a link from elsewhere: the browser keeps its strict
		// cookie back until a page of ours asks for the same again.
		p.goOn(w, r, p.BasePath+inside(strings.TrimPrefix(r.URL.RequestURI(), p.BasePath)))
		return true
	}
	to := p.BasePath + "/login"
	if here := strings.TrimPrefix(r.URL.RequestURI(), p.BasePath); here != "/" && here != "" {
		to += "?to=" + url.QueryEscape(here)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return true
}

// view is what the page shows.
type view struct {
	Base, To, Name, Provider, Message string
	Chinese, Passwords                bool
	Choose                            bool   // a password of one's own
	GoOn                              string // set = the page sends the browser there
}

func (p *Pages) render(w http.ResponseWriter, r *http.Request, code int, v view) {
	v.Base, v.Passwords = p.BasePath, p.Passwords
	if p.Provider != nil {
		v.Provider = p.Provider.Name()
	}
	v.Chinese = chinese(r)
	var b bytes.Buffer
	if err := p.page.Execute(&b, v); err != nil {
		p.Logger.ErrorContext(r.Context(), "login page", "err", err)
		http.Error(w, "the centre failed at this; its log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes())
}

// chinese reports whether Chinese is what the browser asks for first.
func chinese(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(r.Header.Get("Accept-Language"))), "zh")
}

// inside returns the path to go on to after the login, if it is one of ours: a
// login must not send people to somebody else's page.
func inside(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(to, "/") ||
		strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(u.Path, "/login") {
		return "/"
	}
	return to
}

// goOn sends the browser to a page of ours by one of ours, so that it sends the
// session's strict cookie: after a redirect that began elsewhere it would not.
func (p *Pages) goOn(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	p.render(w, r, http.StatusOK, view{GoOn: to})
}

func (p *Pages) show(w http.ResponseWriter, r *http.Request) {
	p.render(w, r, http.StatusOK, view{To: inside(r.URL.Query().Get("to"))})
}

func (p *Pages) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(p.css)
}

func value(r *http.Request, cookie string) string {
	c, err := r.Cookie(cookie)
	if err != nil {
		return ""
	}
	return c.Value
}

func (p *Pages) attempt(r *http.Request) auth.Attempt {
	return auth.Attempt{
		Address: p.Door.Address(r), UserAgent: r.UserAgent(), Device: value(r, auth.DeviceCookie), Session: value(r, auth.SessionCookie),
	}
}

func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytes)
	if err := r.ParseForm(); err != nil {
		p.refuse(w, r, http.StatusBadRequest, view{}, ops.Errorf(ops.Invalid, "the form did not arrive whole: try again"))
		return
	}
	a := p.attempt(r)
	// Only from the body: what is in an address ends up in logs.
	a.Name, a.Password, a.New = r.PostForm.Get("name"), r.PostForm.Get("password"), r.PostForm.Get("new")
	v := view{Name: a.Name, To: inside(r.PostForm.Get("to"))}
	e, err := p.Door.Accounts.Login(r.Context(), a)
	if err != nil {
		p.refuse(w, r, 0, v, err)
		return
	}
	p.let(w, e)
	http.Redirect(w, r, p.BasePath+v.To, http.StatusSeeOther)
}

// let gives the browser its cookies.
func (p *Pages) let(w http.ResponseWriter, e auth.Entered) {
	set(w, auth.SessionCookie, e.Session, p.Door.Accounts.SessionMax, http.SameSiteStrictMode)
	if e.Device != "" {
		set(w, auth.DeviceCookie, e.Device, deviceLife, http.SameSiteStrictMode)
	}
}

// set sets a cookie; life 0 deletes it.
func set(w http.ResponseWriter, name, value string, life time.Duration, same http.SameSite) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: same, MaxAge: int(life / time.Second)}
	if life == 0 {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// refuse shows the form again with what was wrong. Code 0 = by the error's kind.
func (p *Pages) refuse(w http.ResponseWriter, r *http.Request, code int, v view, err error) {
	v.Message = err.Error()
	var retry *auth.RetryError
	kind := ops.KindOf(err)
	switch {
	case errors.As(err, &retry):
		code = http.StatusTooManyRequests
		wait := strconv.Itoa(int(max(retry.After, time.Second) / time.Second))
		w.Header().Set("Retry-After", wait)
		if chinese(r) {
			v.Message = "嘗試次數過多：請於 " + wait + " 秒後再試。"
		}
	case code != 0:
	case errors.Is(err, auth.ErrChoose):
		code, v.Choose = http.StatusForbidden, true
		if chinese(r) {
			v.Message = "這組密碼是別人為您設定的：請改用您自己的密碼。"
		}
	case kind == ops.Invalid: // of the new password
		code, v.Choose = http.StatusBadRequest, true
		if chinese(r) {
			v.Message = "新密碼不適用：至少 12 個字元，不能只是使用者名稱，也不能是原來那一組。"
		}
	case kind == ops.Denied:
		code = http.StatusUnauthorized
		if chinese(r) {
			v.Message = "名稱或密碼錯誤。"
		}
	default:
		p.Logger.ErrorContext(r.Context(), "login", "err", err)
		code, v.Message = http.StatusInternalServerError, "the centre failed at this; its log says why"
	}
	p.render(w, r, code, v)
}

// logout ends the session, or with everywhere=1 all of the user's.
func (p *Pages) logout(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytes)
	if actor, err := p.Door.Authenticate(r); err == nil {
		if _, err := p.Door.Accounts.Logout(r.Context(), actor, r.PostFormValue("everywhere") == "1"); err != nil && ops.KindOf(err) != ops.Conflict {
			p.refuse(w, r, 0, view{}, err)
			return
		}
	}
	set(w, auth.SessionCookie, "", 0, http.SameSiteStrictMode)
	http.Redirect(w, r, p.BasePath+"/login", http.StatusSeeOther)
}

// token is the login of programs: a name and a password for an API token that can
// do what the user can. It begins no session.
func (p *Pages) token(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Name     string `json:"name"`
		Password string `json:"password"`
		New      string `json:"new"`     // instead of one that was made for them
		Token    string `json:"token"`   // what to call it
		Seconds  int64  `json:"seconds"` // of its life
	}
	answer := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v) //nolint:errchkjson // strings
	}
	if t := r.Header.Get("Content-Type"); t != "application/json" {
		answer(http.StatusUnsupportedMediaType, map[string]string{"code": "invalid_argument", "message": "send JSON"})
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, formBytes)).Decode(&ask); err != nil {
		answer(http.StatusBadRequest, map[string]string{"code": "invalid_argument", "message": "the request is no JSON of this form"})
		return
	}
	a := p.attempt(r)
	a.Name, a.Password, a.New, a.Session = ask.Name, ask.Password, ask.New, ""
	secret, t, err := p.Door.Accounts.LoginForToken(r.Context(), a, auth.TokenRequest{Name: ask.Token, Life: time.Duration(ask.Seconds) * time.Second})
	var retry *auth.RetryError
	switch kind := ops.KindOf(err); {
	case err == nil:
		answer(http.StatusOK, map[string]string{"secret": secret, "holder": string(t.Owner), "expires": t.Expires.UTC().Format(time.RFC3339)})
	case errors.As(err, &retry):
		w.Header().Set("Retry-After", strconv.Itoa(int(max(retry.After, time.Second)/time.Second)))
		answer(http.StatusTooManyRequests, map[string]string{"code": "resource_exhausted", "message": err.Error()})
	case errors.Is(err, auth.ErrChoose):
		answer(http.StatusBadRequest, map[string]string{"code": "failed_precondition", "message": "this password was made for you: choose one of your own on the centre's page first"})
	case kind == ops.Denied:
		answer(http.StatusForbidden, map[string]string{"code": "permission_denied", "message": err.Error()})
	case kind == ops.Invalid:
		answer(http.StatusBadRequest, map[string]string{"code": "invalid_argument", "message": err.Error()})
	default:
		p.Logger.ErrorContext(r.Context(), "login", "err", err)
		answer(http.StatusInternalServerError, map[string]string{"code": "internal", "message": "the centre failed at this; its log says why"})
	}
}

// kept is what the cookie of a login with the provider holds.
type kept struct {
	Provider []byte `json:"p"`
	To       string `json:"t"`
}

func (p *Pages) begin(w http.ResponseWriter, r *http.Request) {
	if p.Provider == nil {
		http.NotFound(w, r)
		return
	}
	to, keep, err := p.Provider.Begin(r.Context())
	if err != nil {
		p.Logger.ErrorContext(r.Context(), "login with a provider", "err", err)
		p.render(w, r, http.StatusBadGateway, view{Message: p.Provider.Name() + " does not answer: try again in a moment"})
		return
	}
	b, err := json.Marshal(kept{keep, inside(r.URL.Query().Get("to"))})
	if err != nil {
		p.refuse(w, r, 0, view{}, err)
		return
	}
	set(w, oidcCookie, base64.RawURLEncoding.EncodeToString(b), oidcLife, http.SameSiteLaxMode)
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (p *Pages) finish(w http.ResponseWriter, r *http.Request) {
	if p.Provider == nil {
		http.NotFound(w, r)
		return
	}
	set(w, oidcCookie, "", 0, http.SameSiteLaxMode) // it is good once
	var k kept
	b, err := base64.RawURLEncoding.DecodeString(value(r, oidcCookie))
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil || len(k.Provider) == 0 {
		p.render(w, r, http.StatusBadRequest, view{Message: "this login did not begin in this browser, or too long ago: begin again"})
		return
	}
	id, err := p.Provider.Finish(r.Context(), k.Provider, r.URL.Query())
	a := p.attempt(r)
	if ops.KindOf(err) == ops.Unavailable {
		p.Logger.ErrorContext(r.Context(), "login with a provider", "err", err)
		p.render(w, r, http.StatusBadGateway, view{Message: err.Error()})
		return
	}
	if err != nil {
		p.Door.Accounts.Refused(r.Context(), "", a.Address, "login.refused", p.Provider.Name(), err)
		p.Logger.WarnContext(r.Context(), "login with a provider refused", "err", err)
		p.render(w, r, http.StatusUnauthorized, view{Message: err.Error()})
		return
	}
	e, err := p.Door.Accounts.Enter(r.Context(), auth.Holder("oidc:"+id.Name), id.Groups, p.Provider.Name(), a)
	if err != nil {
		p.refuse(w, r, 0, view{}, err)
		return
	}
	p.let(w, e)
	p.goOn(w, r, p.BasePath+inside(k.To))
}
