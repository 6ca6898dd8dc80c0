package sqlite_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/auth/sqlite"
	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	password = "correct horse battery"
	another  = "staple of the battery"
)

// house is accounts with a clock that stands still until it is moved.
type house struct {
	*auth.Accounts
	door *auth.Door
	dir  string
	mu   sync.Mutex
	time time.Time
}

func (h *house) now() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.time }
func (h *house) later(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.time = h.time.Add(d)
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), time: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)}
	store, err := sqlite.Open(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if h.Accounts, err = auth.NewAccounts(t.Context(), auth.AccountsConfig{Store: store, Now: h.now, PasswordKiB: 64, Groups: map[string][]auth.Grant{"sre": {{Role: auth.Controller, Scope: auth.Everywhere}}}}); err != nil {
		t.Fatal(err)
	}
	h.door = &auth.Door{Accounts: h.Accounts}
	h.add(t, "ann", auth.Grant{Role: auth.Administer, Scope: auth.Everywhere})
	h.add(t, "bob", auth.Grant{Role: auth.Operator, Scope: "color"})
	return h
}

func (h *house) add(t *testing.T, name string, grants ...auth.Grant) {
	t.Helper()
	if err := h.AddUser(t.Context(), "test", name, password, grants); err != nil {
		t.Fatal(err)
	}
}

// enter logs in and returns the session's secret.
func (h *house) enter(t *testing.T, name string) string {
	t.Helper()
	e, err := h.Login(t.Context(), auth.Attempt{Name: name, Password: password, Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return e.Session
}

// as is who the door takes a request with this session or token for.
func (h *house) as(secret string) (auth.Actor, error) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if strings.HasPrefix(secret, auth.TokenPrefix) {
		r.Header.Set("Authorization", "Bearer "+secret)
	} else {
		r.AddCookie(&http.Cookie{Name: auth.SessionCookie, Value: secret})
	}
	return h.door.Authenticate(r)
}

func (h *house) known(t *testing.T, secret string) auth.Actor {
	t.Helper()
	a, err := h.as(secret)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *house) out(t *testing.T, secret, why string) {
	t.Helper()
	a, err := h.as(secret)
	if ops.KindOf(err) != ops.Denied {
		t.Fatalf("%s: still in as %v, %v", why, a, err)
	}
}

func TestALoginIsWhoItSays(t *testing.T) {
	h := open(t)
	bob := h.known(t, h.enter(t, " BOB "))
	if bob.Name != "user:bob" || bob.Holder() != "user:bob" {
		t.Errorf("%+v", bob)
	}
	if !bob.May(auth.Capture, auth.Subject{Project: "color", Service: "user"}) || bob.May(auth.View, auth.Subject{Project: "chess"}) {
		t.Error("bob may not do what he was granted, or more")
	}
	for name, try := range map[string]auth.Attempt{
		"another password": {Name: "bob", Password: another}, "nobody": {Name: "eve", Password: password}, "empty": {Name: "bob"},
		"of a user who does not exist": {Name: "eve"}, "far too long": {Name: "bob", Password: strings.Repeat("x", 1<<16)},
		"the name as a pattern": {Name: "bo_", Password: password}, "not a name": {Name: "bob\x00", Password: password},
	} {
		try.Address = name
		_, err := h.Login(t.Context(), try)
		if ops.KindOf(err) != ops.Denied || err.Error() != "the name or the password is wrong" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsAreNotKept(t *testing.T) {
	h := open(t)
	session := h.enter(t, "bob")
	token, _, err := h.NewToken(t.Context(), h.known(t, session), auth.TokenRequest{Name: "ci", Grants: []auth.Grant{{Role: auth.Viewer, Scope: "color"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(token) != len(auth.TokenPrefix)+43 || !strings.HasPrefix(token, "opsp_") {
		t.Errorf("a token is %q", token)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for what, secret := range map[string]string{"session": session, "token": token, "password": password} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s holds a %s", filepath.Base(f), what)
			}
		}
		if i, err := os.Stat(f); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %v %v", filepath.Base(f), i.Mode(), err)
		}
	}
}

func TestALoginTakesTheBrowsersOldSessionAway(t *testing.T) {
	h := open(t)
	planted := h.enter(t, "bob") // somebody put theirs into ann's browser
	e, err := h.Login(t.Context(), auth.Attempt{Name: "ann", Password: password, Address: "192.0.2.1", Session: planted})
	if err != nil {
		t.Fatal(err)
	}
	if e.Session == planted {
		t.Fatal("the session was not renewed")
	}
	h.out(t, planted, "after a login in its browser")
	if a := h.known(t, e.Session); a.Name != "user:ann" {
		t.Errorf("%s", a.Name)
	}
}

func TestSessionsEnd(t *testing.T) {
	for why, end := range map[string]func(t *testing.T, h *house, session string){
		"nobody used it": func(_ *testing.T, h *house, _ string) { h.later(12*time.Hour + time.Second) },
		"it is a week old, however used": func(t *testing.T, h *house, s string) {
			for range 14 {
				h.later(12*time.Hour - time.Minute)
				if _, err := h.as(s); err != nil {
					t.Fatalf("it ended early: %v", err)
				}
			}
			h.later(30 * time.Minute)
		},
		"logout": func(t *testing.T, h *house, s string) {
			if _, err := h.Logout(t.Context(), h.known(t, s), false); err != nil {
				t.Fatal(err)
			}
		},
		"logout everywhere, elsewhere": func(t *testing.T, h *house, _ string) {
			if n, err := h.Logout(t.Context(), h.known(t, h.enter(t, "bob")), true); err != nil || n != 2 {
				t.Fatal(n, err)
			}
		},
		"a new password, elsewhere": func(t *testing.T, h *house, _ string) {
			other := h.enter(t, "bob")
			if err := h.ChangePassword(t.Context(), h.known(t, other), password, another); err != nil {
				t.Fatal(err)
			}
			h.known(t, other) // the one in which it was changed stays
		},
		"a new password by an administrator": func(t *testing.T, h *house, _ string) {
			if err := h.SetPassword(t.Context(), "user:ann", "bob", another, ""); err != nil {
				t.Fatal(err)
			}
		},
		"disabled": func(t *testing.T, h *house, _ string) {
			if err := h.DisableUser(t.Context(), "user:ann", "bob", true); err != nil {
				t.Fatal(err)
			}
		},
		"removed": func(t *testing.T, h *house, _ string) {
			if err := h.RemoveUser(t.Context(), "user:ann", "bob"); err != nil {
				t.Fatal(err)
			}
		},
		"an administrator ends all of them": func(t *testing.T, h *house, _ string) {
			if n, err := h.EndSessions(t.Context(), "user:ann", "user:bob"); err != nil || n != 1 {
				t.Fatal(n, err)
			}
		},
		"twenty newer ones": func(t *testing.T, h *house, _ string) {
			for range 20 {
				h.later(time.Millisecond)
				h.enter(t, "bob")
			}
		},
	} {
		t.Run(why, func(t *testing.T) {
			h := open(t)
			bob, ann := h.enter(t, "bob"), h.enter(t, "ann")
			actor := h.known(t, bob)
			end(t, h, bob)
			h.out(t, bob, why)
			if err := h.door.Still(t.Context(), actor); ops.KindOf(err) != ops.Denied {
				t.Errorf("a stream would go on: %v", err)
			}
			if !strings.Contains(why, "used") {
				h.known(t, ann) // hers has nothing to do with it
			}
		})
	}
}

func TestAStreamNoticesThatARoleIsGone(t *testing.T) {
	h := open(t)
	actor := h.known(t, h.enter(t, "bob"))
	if err := h.door.Still(t.Context(), actor); err != nil {
		t.Fatal(err)
	}
	if err := h.Unbind(t.Context(), auth.Actor{Name: "user:ann", Permissions: auth.All()}, auth.Binding{Holder: "user:bob", Grant: auth.Grant{Role: auth.Operator, Scope: "color"}}); err != nil {
		t.Fatal(err)
	}
	if err := h.door.Still(t.Context(), actor); ops.KindOf(err) != ops.Denied {
		t.Errorf("%v", err)
	}
}

func TestTokensAreBoundedByTheirOwner(t *testing.T) {
	h := open(t)
	bob := h.known(t, h.enter(t, "bob"))
	for _, g := range []auth.Grant{{Role: auth.Operator, Scope: auth.Everywhere}, {Role: auth.Controller, Scope: "color"}, {Role: auth.Administer, Scope: "color"}} {
		if _, _, err := h.NewToken(t.Context(), bob, auth.TokenRequest{Name: "more", Grants: []auth.Grant{g}}); ops.KindOf(err) != ops.Denied {
			t.Errorf("bob gave away %s: %v", g, err)
		}
	}
	secret, made, err := h.NewToken(t.Context(), bob, auth.TokenRequest{Name: "ci", Grants: []auth.Grant{{Role: auth.Operator, Scope: "color"}}, Life: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	color := auth.Subject{Project: "color"}
	if a := h.known(t, secret); !a.May(auth.Capture, color) || a.Name != "user:bob by token:ci" {
		t.Errorf("%+v", a)
	}
	admin := auth.Actor{Name: "user:ann", Permissions: auth.All()}
	operator := auth.Binding{Holder: "user:bob", Grant: auth.Grant{Role: auth.Operator, Scope: "color"}}
	if err := h.Bind(t.Context(), admin, auth.Binding{Holder: "user:bob", Grant: auth.Grant{Role: auth.Viewer, Scope: "color"}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Unbind(t.Context(), admin, operator); err != nil {
		t.Fatal(err)
	}
	if a := h.known(t, secret); a.May(auth.Capture, color) {
		t.Error("the token can what its owner cannot any more")
	}
	tokens, err := h.Tokens(t.Context(), bob)
	if err != nil || len(tokens) != 1 || tokens[0].Used.IsZero() {
		t.Errorf("%+v %v", tokens, err)
	}
	if err := h.RevokeToken(t.Context(), h.known(t, h.enter(t, "bob")), made.ID); err != nil {
		t.Fatal(err)
	}
	h.out(t, secret, "revoked")

	secret, _, err = h.NewToken(t.Context(), admin, auth.TokenRequest{Name: "short", Grants: []auth.Grant{{Role: auth.Viewer, Scope: auth.Everywhere}}, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	h.known(t, secret)
	h.later(time.Hour)
	h.out(t, secret, "expired")
}

func TestSomebodyElsesTokenIsNotThere(t *testing.T) {
	h := open(t)
	_, made, err := h.NewToken(t.Context(), h.known(t, h.enter(t, "ann")), auth.TokenRequest{Name: "hers", Grants: []auth.Grant{{Role: auth.Viewer, Scope: auth.Everywhere}}})
	if err != nil {
		t.Fatal(err)
	}
	bob := h.known(t, h.enter(t, "bob"))
	if tokens, err := h.Tokens(t.Context(), bob); err != nil || len(tokens) != 0 {
		t.Errorf("bob sees %v, %v", tokens, err)
	}
	if err := h.RevokeToken(t.Context(), bob, made.ID); ops.KindOf(err) != ops.NotFound {
		t.Errorf("%v", err)
	}
}

func TestTheLastAdministratorStays(t *testing.T) {
	h := open(t)
	admin := auth.Grant{Role: auth.Administer, Scope: auth.Everywhere}
	by := auth.Actor{Name: "user:ann", Permissions: auth.All()}
	for what, try := range map[string]func() error{
		"disable": func() error { return h.DisableUser(t.Context(), "user:ann", "ann", true) },
		"remove":  func() error { return h.RemoveUser(t.Context(), "user:ann", "ann") },
		"revoke":  func() error { return h.Unbind(t.Context(), by, auth.Binding{Holder: "user:ann", Grant: admin}) },
	} {
		if err := try(); ops.KindOf(err) != ops.Conflict || !strings.Contains(err.Error(), "is the last user who administers this centre") {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.add(t, "cat", admin)
	if err := h.RemoveUser(t.Context(), "user:cat", "ann"); err != nil {
		t.Errorf("with another one: %v", err)
	}
}

func TestGuessingIsSlow(t *testing.T) {
	h := open(t)
	guess := func(address, name string) error {
		_, err := h.Login(t.Context(), auth.Attempt{Name: name, Password: another, Address: address})
		return err
	}
	guesses := 0
	for range 600 { // one every two seconds for 20 minutes
		if ops.KindOf(guess("192.0.2.66", "bob")) == ops.Denied {
			guesses++
		}
		h.later(2 * time.Second)
	}
	if guesses > 16 {
		t.Errorf("%d passwords were tried in 20 minutes", guesses)
	}
	if err := guess("192.0.2.66", "ann"); ops.KindOf(err) != ops.Exhausted || !strings.Contains(err.Error(), "too many tries: wait ") {
		t.Errorf("another account from the same address: %v", err)
	}
	// He himself comes in from elsewhere.
	h.later(20 * time.Second)
	h.enter(t, "bob")
}

func TestAnAttackFromEverywhereDoesNotLockTheOwnerOut(t *testing.T) {
	h := open(t)
	e, err := h.Login(t.Context(), auth.Attempt{Name: "bob", Password: password, Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 60 {
		if _, err := h.Login(t.Context(), auth.Attempt{Name: "bob", Password: another, Address: "198.51.100." + string(rune('a'+i%26)) + string(rune('a'+i/26))}); ops.KindOf(err) == ops.Exhausted {
			refused++
		}
	}
	if refused < 30 {
		t.Errorf("only %d of 60 guesses from everywhere were refused", refused)
	}
	if _, err := h.Login(t.Context(), auth.Attempt{Name: "bob", Password: password, Address: "203.0.113.9"}); ops.KindOf(err) != ops.Exhausted {
		t.Errorf("a browser that nobody knows: %v", err)
	}
	if _, err := h.Login(t.Context(), auth.Attempt{Name: "bob", Password: password, Address: "203.0.113.9", Device: e.Device}); err != nil {
		t.Errorf("his own browser: %v", err)
	}
	if _, err := h.Login(t.Context(), auth.Attempt{Name: "ann", Password: password, Address: "203.0.113.9", Device: e.Device}); err != nil {
		t.Errorf("somebody else: %v", err)
	}
}

func TestManyAtOnceGetNoMoreTries(t *testing.T) {
	h := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	tried := 0
	for range 40 {
		wg.Go(func() {
			if _, err := h.Login(context.Background(), auth.Attempt{Name: "bob", Password: another, Address: "192.0.2.7"}); ops.KindOf(err) == ops.Denied {
				mu.Lock()
				tried++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if tried > 6 {
		t.Errorf("%d passwords were tried at once", tried)
	}
}

func TestPasswordsThatAreNone(t *testing.T) {
	h := open(t)
	for pw, want := range map[string]string{
		"short":                  "the password has 5 characters and needs at least 12: a few random words do",
		strings.Repeat("x", 257): "the password is longer than 256 bytes: use a shorter one",
		"carl-the-user":          "the password is the user's name with little else: use other words",
		"not \xff utf-8 at all":  "the password is not valid UTF-8: type it again",
	} {
		if err := h.AddUser(t.Context(), "test", "carl", pw, nil); err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("%q: %v", pw, err)
		}
	}
	if err := h.AddUser(t.Context(), "test", "ann", password, nil); ops.KindOf(err) != ops.Conflict {
		t.Errorf("a name that is taken: %v", err)
	}
	for _, name := range []string{"", "a b", "../x", "-dash", strings.Repeat("a", 65), "naïve", "user:x"} {
		if err := h.AddUser(t.Context(), "test", name, password, nil); ops.KindOf(err) != ops.Invalid {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}

func TestGroupsHaveRolesFromTheConfigurationAndTheStore(t *testing.T) {
	h := open(t)
	e, err := h.Enter(t.Context(), "oidc:cat@example.com", []string{"sre", "dev"}, "the provider", auth.Attempt{Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	cat := h.known(t, e.Session)
	if !cat.May(auth.Control, auth.Subject{}) || cat.May(auth.Admin, auth.Subject{}) {
		t.Errorf("%+v", cat)
	}
	e, err = h.Enter(t.Context(), "oidc:dan@example.com", []string{"dev"}, "the provider", auth.Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	if dan := h.known(t, e.Session); dan.Somewhere(auth.View) {
		t.Errorf("without a role he may %+v", dan)
	}
	if err := h.Bind(t.Context(), auth.Actor{Name: "user:ann", Permissions: auth.All()}, auth.Binding{Holder: "group:dev", Grant: auth.Grant{Role: auth.Viewer, Scope: "chess"}}); err != nil {
		t.Fatal(err)
	}
	if dan := h.known(t, e.Session); !dan.May(auth.View, auth.Subject{Project: "chess"}) {
		t.Errorf("with one he may %+v", dan)
	}
}

// recorder keeps what it is told, and fails as often as it shall.
type recorder struct {
	audit.Recorder
	mu    sync.Mutex
	fails int
	said  []string
}

type act struct {
	audit.Action
	r  *recorder
	in audit.Intent
}

func (r *recorder) Begin(_ context.Context, in audit.Intent) (audit.Action, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails > 0 {
		r.fails--
		return nil, ops.Errorf(ops.Exhausted, "the disk is full")
	}
	return act{r: r, in: in}, nil
}

func (a act) End(_ context.Context, o audit.Outcome) error {
	a.r.mu.Lock()
	defer a.r.mu.Unlock()
	a.r.said = append(a.r.said, a.in.Actor+" "+a.in.Action+" "+a.in.Subject+" "+string(o.Result))
	return nil
}

func TestEventsWaitUntilTheyAreOnRecord(t *testing.T) {
	h := open(t)
	h.enter(t, "bob")
	_, _ = h.Login(t.Context(), auth.Attempt{Name: "bob", Password: another, Address: "192.0.2.9"})
	r := &recorder{fails: 1}
	h.Record = r
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // one round, and the last one
	for range 2 {
		_ = h.Run(ctx)
	}
	want := []string{"test user.add ann ok", "test user.add bob ok", "user:bob login password ok", "user:bob login.refused password refused"}
	if strings.Join(r.said, "\n") != strings.Join(want, "\n") {
		t.Errorf("on record:\n%s", strings.Join(r.said, "\n"))
	}
	if left, err := h.Store.Events(t.Context(), 10); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestRefusalsDoNotFillTheRecord(t *testing.T) {
	h := open(t)
	before, err := h.Store.Events(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		h.Refused(t.Context(), "user:eve", "192.0.2.9", "call.refused", "x", ops.Errorf(ops.Denied, "no"))
	}
	after, err := h.Store.Events(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(after) - len(before); n < 1 || n > 10 {
		t.Errorf("500 refusals made %d rows", n)
	}
}

// TestTheCommandLineAndACentreShareTheFile has two stores of one directory.
func TestTheCommandLineAndACentreShareTheFile(t *testing.T) {
	h := open(t)
	session := h.enter(t, "bob")
	store, err := sqlite.Open(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	other, err := auth.NewAccounts(t.Context(), auth.AccountsConfig{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.DisableUser(t.Context(), "local", "bob", true); err != nil {
		t.Fatal(err)
	}
	h.out(t, session, "disabled by the command line")
}

func TestAPasswordThatSomebodyElseMadeIsGoodForChoosingOnesOwn(t *testing.T) {
	for how, begin := range map[string]func(t *testing.T, h *house){
		"an account that an administrator made": func(t *testing.T, h *house) {
			if err := h.Invite(t.Context(), "user:ann", "eve", password, []auth.Grant{{Role: auth.Viewer, Scope: "color"}}); err != nil {
				t.Fatal(err)
			}
		},
		"a new password by an administrator": func(t *testing.T, h *house) {
			h.add(t, "eve", auth.Grant{Role: auth.Viewer, Scope: "color"})
			if err := h.ResetPassword(t.Context(), "user:ann", "eve", password); err != nil {
				t.Fatal(err)
			}
		},
	} {
		h := open(t)
		begin(t, h)
		try := func(now, own string) (auth.Entered, error) {
			return h.Login(t.Context(), auth.Attempt{Name: "eve", Password: now, New: own, Address: "192.0.2.1"})
		}
		for own, want := range map[string]string{
			"":       "this password was made for you: choose one of your own",
			password: "the new password is the one that was made for you: choose another",
			"short":  "the password has 5 characters and needs at least 12: a few random words do",
		} {
			if e, err := try(password, own); err == nil || err.Error() != want || e.Session != "" {
				t.Errorf("%s, with %q: %v", how, own, err)
			}
		}
		if _, _, err := h.LoginForToken(t.Context(), auth.Attempt{Name: "eve", Password: password}, auth.TokenRequest{Name: "cli"}); !errors.Is(err, auth.ErrChoose) {
			t.Errorf("%s: a token for it: %v", how, err)
		}
		if _, err := try(another, password+"!"); ops.KindOf(err) != ops.Denied {
			t.Errorf("%s: a wrong password chooses: %v", how, err)
		}
		e, err := try(password, another)
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		h.known(t, e.Session)
		if _, err := try(password, ""); ops.KindOf(err) != ops.Denied {
			t.Errorf("%s: the old one is still good: %v", how, err)
		}
		if _, err := try(another, ""); err != nil {
			t.Errorf("%s: the own one is not good: %v", how, err)
		}
	}
}
