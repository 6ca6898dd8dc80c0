package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lobby is a running gateway whose users' tokens are their names.
type lobby struct {
	*Service
	url string
}

func open(t *testing.T, cfg Config) lobby {
	t.Helper()
	users := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if name == "" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		wire.Write(w, wire.Profile{Name: name})
	}))
	t.Cleanup(users.Close)
	cfg.Users = wire.NewClient(users.URL, 10*time.Second, 2)
	s := New(cfg)
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return lobby{s, srv.URL}
}

func (l lobby) dial(t *testing.T, query string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, l.url+"/ws?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// until waits for a figure: sockets are the kernel's, so there is no fake clock.
func (l lobby) until(t *testing.T, figure string, want float64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); l.Figures()[figure] != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is %v, want %v", figure, l.Figures()[figure], want)
		}
	}
}

func TestPlayersHearAnnouncements(t *testing.T) {
	l := open(t, Config{})
	conns := []*websocket.Conn{l.dial(t, "token=ann"), l.dial(t, "token=bob")}
	l.until(t, "clients", 2)
	resp, err := http.Post(l.url+"/announce", "application/json", strings.NewReader(`{"room":1}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("announcing: %s", resp.Status)
	}
	for _, c := range conns {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, msg, err := c.Read(ctx)
		cancel()
		if err != nil || string(msg) != `{"room":1}` {
			t.Errorf("heard %q, %v", msg, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestAStrangerIsNotLetIn(t *testing.T) {
	l := open(t, Config{})
	resp, err := http.Get(l.url + "/ws")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || l.Figures()["sessions"] != 0 {
		t.Errorf("%s, %v sessions", resp.Status, l.Figures()["sessions"])
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestASessionEndsWithItsSocket(t *testing.T) {
	l := open(t, Config{})
	for range 5 {
		c := l.dial(t, "token=ann")
		l.until(t, "sessions", 1)
		_ = c.CloseNow()
		l.until(t, "sessions", 0)
	}
	if f := l.Figures(); f["disconnects_total"] != 5 || f["sessions_held"] != 0 {
		t.Errorf("figures: %v", f)
	}
}

// This is scenario 5: players come back without saying which socket they lost,
// and so each disconnect leaves a session and a goroutine.
func TestSessionsThatNobodyResumesAreHeld(t *testing.T) {
	l := open(t, Config{Resume: func() bool { return true }})
	const disconnects = 20
	for i := range disconnects {
		c := l.dial(t, "token=ann")
		l.until(t, "sessions", 1)
		_ = c.CloseNow()
		l.until(t, "sessions_held", float64(i+1))
	}
	left := func() int {
		stacks := make([]byte, 1<<20)
		return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*Session).hold(")
	}
	for deadline := time.Now().Add(time.Minute); left() != disconnects; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines were left by %d disconnects", left(), disconnects)
		}
	}
	l.LetGo()
	l.until(t, "sessions_held", 0)
}

func TestAPlayerResumesTheirOwnSession(t *testing.T) {
	l := open(t, Config{Resume: func() bool { return true }})
	c := l.dial(t, "token=ann")
	l.until(t, "sessions", 1)
	_ = c.CloseNow()
	l.until(t, "sessions_held", 1)
	l.dial(t, "token=bob&resume=1")
	l.until(t, "sessions", 1)
	if f := l.Figures(); f["resumes_total"] != 0 || f["sessions_held"] != 1 {
		t.Errorf("somebody else resumed: %v", f)
	}
	l.dial(t, "token=ann&resume=1")
	l.until(t, "resumes_total", 1)
	l.until(t, "sessions_held", 0)
	l.until(t, "sessions", 2)
}

func TestAGraceEndsAHeldSession(t *testing.T) {
	l := open(t, Config{Resume: func() bool { return true }, ResumeGrace: 10 * time.Millisecond})
	c := l.dial(t, "token=ann")
	l.until(t, "sessions", 1)
	_ = c.CloseNow()
	l.until(t, "disconnects_total", 1)
	l.until(t, "sessions_held", 0)
}

func TestTheBacklogIsARing(t *testing.T) {
	s := newSession("ann", 1)
	chunk := []byte(strings.Repeat("x", len(s.backlog)/4-1))
	for range 5 {
		s.remember(chunk)
	}
	s.remember([]byte("last"))
	end := (5*len(chunk) + 4) % len(s.backlog)
	if s.end != end || string(s.backlog[end-4:end]) != "last" {
		t.Errorf("the ring ends at %d, want %d", s.end, end)
	}
}

func TestTheLedgerForgetsNothingUntilItIsBurnt(t *testing.T) {
	disputed := false
	l := open(t, Config{Disputed: func() bool { return disputed }, LedgerSeats: 3})
	announce := func() {
		t.Helper()
		resp, err := http.Post(l.url+"/announce", "application/json", strings.NewReader(`{"room":1}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	announce()
	l.until(t, "ledger_tickets", 0)
	disputed = true
	announce()
	announce()
	l.until(t, "ledger_tickets", 6)
	l.BurnLedger()
	l.until(t, "ledger_tickets", 0)
}
