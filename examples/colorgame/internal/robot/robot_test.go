package robot

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/game"
	"github.com/opscenter/opscenter/examples/colorgame/internal/gateway"
	"github.com/opscenter/opscenter/examples/colorgame/internal/user"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running starts a part and its API, and ends both with the test.
func running(t *testing.T, p chassis.Part) (url string) {
	t.Helper()
	srv := httptest.NewServer(p.Handler())
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return srv.URL
}

func TestTheCrowdPlaysTheGame(t *testing.T) {
	const players = 8
	users, err := user.New(user.Config{Accounts: players})
	if err != nil {
		t.Fatal(err)
	}
	var bad atomic.Bool
	cfg := Config{Players: players, BadNetwork: bad.Load}
	cfg.Users = running(t, users)
	cfg.Gateway = running(t, gateway.New(gateway.Config{Users: wire.NewClient(cfg.Users, 10*time.Second, 2)}))
	cfg.Game = running(t, game.New(game.Config{Lobby: wire.NewClient(cfg.Gateway, 10*time.Second, 2)}))

	r := New(cfg)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	until := func(figure string, least float64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); r.Figures()[figure] < least; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is %v, want %v; all: %v", figure, r.Figures()[figure], least, r.Figures())
			}
		}
	}
	until("logins_total", players)
	until("sockets_total", players)
	until("bets_total", 4*players)
	until("look_count", 5*players)
	until("push_count", 10)
	until("drops_total", 6) // all who are near
	// Another network is another connection, for the far ones.
	sockets := r.Figures()["sockets_total"]
	bad.Store(true)
	until("sockets_total", sockets+players/farShare)
	if f := r.Figures(); f["bet_errors"] != 0 {
		t.Errorf("%v bets went wrong", f["bet_errors"])
	}
}

func TestACrowdWithoutServicesEnds(t *testing.T) {
	r := New(Config{Players: 4, Users: "http://127.0.0.1:1", Game: "http://127.0.0.1:1", Gateway: "http://127.0.0.1:1", Database: "postgres://127.0.0.1:1/none", Report: func() bool { return true }})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for r.Figures()["look_errors"] == 0 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	if f := r.Figures(); f["look_errors"] == 0 || f["bets_total"] != 0 {
		t.Errorf("figures: %v", f)
	}
}
