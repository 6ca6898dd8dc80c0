package user

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

func newService(t *testing.T, ttl func() time.Duration) *Service {
	t.Helper()
	s, err := New(Config{Accounts: 2, SessionTTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOnlyTheRightPasswordLogsIn(t *testing.T) {
	s := newService(t, nil)
	for _, c := range []wire.Credentials{
		{Name: AccountName(0), Password: AccountPassword(1)},
		{Name: "nobody", Password: AccountPassword(0)},
		{},
	} {
		if _, err := s.Login(c); err != errCredentials {
			t.Errorf("Login(%+v): %v", c, err)
		}
	}
	token, err := s.Login(wire.Credentials{Name: AccountName(0), Password: AccountPassword(0)})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := s.Profile(token); err != nil || p.Name != "player-001" {
		t.Errorf("Profile: %+v, %v", p, err)
	}
}

func TestASecondLoginEndsTheFirstSession(t *testing.T) {
	s := newService(t, nil)
	me := wire.Credentials{Name: AccountName(1), Password: AccountPassword(1)}
	first, err := s.Login(me)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Login(me); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Profile(first); err != errSession {
		t.Errorf("the first session: %v", err)
	}
	if f := s.Figures(); f["sessions"] != 1 || f["logins_total"] != 2 {
		t.Errorf("figures: %v", f)
	}
}

func TestAShortenedSessionCostsALogin(t *testing.T) {
	ttl := time.Hour
	s := newService(t, func() time.Duration { return ttl })
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	c := wire.NewClient(srv.URL, 10*time.Second, 1)
	defer c.Close()

	var login wire.Login
	if err := c.Post(t.Context(), "/login", "", wire.Credentials{Name: AccountName(0), Password: AccountPassword(0)}, &login); err != nil {
		t.Fatal(err)
	}
	var me wire.Profile
	if err := c.Get(t.Context(), "/me", login.Token, &me); err != nil || len(me.Friends) != friends {
		t.Fatalf("me: %d friends, %v", len(me.Friends), err)
	}
	ttl = -1
	err := c.Get(t.Context(), "/me", login.Token, &me)
	if want := "GET /me: 401 Unauthorized: session is unknown or has expired: log in again"; !wire.IsStatus(err, http.StatusUnauthorized) || err.Error() != want {
		t.Errorf("with an expired session: %v, want %s", err, want)
	}
}

func TestABodyThatIsNoJSONIsRefused(t *testing.T) {
	s := newService(t, nil)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/login", nil))
	if w.Code != http.StatusBadRequest || w.Body.String() != "body is not the JSON this expects: EOF\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The remedy of scenario 1: a lower cost holds for each account from its next
// login on.
func TestTheCostOfHashingIsSetWhileItRuns(t *testing.T) {
	s := newService(t, nil)
	me := wire.Credentials{Name: AccountName(0), Password: AccountPassword(0)}
	costOf := func() int {
		cost, err := bcrypt.Cost(*s.accounts[me.Name].kept.Load())
		if err != nil {
			t.Fatal(err)
		}
		return cost
	}
	if before, err := s.SetCost(bcrypt.MinCost); err != nil || before != bcrypt.DefaultCost || costOf() != bcrypt.DefaultCost {
		t.Errorf("before a login: %d, %v, hashed with %d", before, err, costOf())
	}
	for range 2 { // with the old hash, and with the new one
		if _, err := s.Login(me); err != nil || costOf() != bcrypt.MinCost {
			t.Errorf("after a login: %v, hashed with %d", err, costOf())
		}
	}
	if _, err := s.Login(wire.Credentials{Name: me.Name, Password: "wrong"}); err != errCredentials {
		t.Errorf("a wrong password: %v", err)
	}
	for _, cost := range []int{3, 32} {
		if before, err := s.SetCost(cost); err == nil || before != bcrypt.MinCost {
			t.Errorf("SetCost(%d): %d, %v", cost, before, err)
		}
	}
}
