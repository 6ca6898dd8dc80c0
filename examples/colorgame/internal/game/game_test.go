package game

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slowLimits answers after a while, as a database does.
type slowLimits struct {
	takes time.Duration
	rest  int64
	err   error
}

func (l slowLimits) Remaining(ctx context.Context, _ string) (int64, error) {
	if !sleep(ctx, l.takes) {
		return 0, ctx.Err()
	}
	return l.rest, l.err
}

func bet(stake int64) wire.Bet { return wire.Bet{Player: "player-001", Color: "red", Stake: stake} }

func TestTheRulesOfABet(t *testing.T) {
	for name, c := range map[string]struct {
		bet  wire.Bet
		rest int64
		want error
	}{
		"accepted":       {bet(10), 100, nil},
		"no stake":       {bet(0), 100, errStake},
		"negative stake": {bet(-10), 100, errStake},
		"no such colour": {wire.Bet{Player: "player-001", Color: "mauve", Stake: 1}, 100, errColor},
		"limit":          {bet(101), 100, errLimit},
		"funds":          {bet(1001), 10000, errFunds},
	} {
		t.Run(name, func(t *testing.T) {
			for _, strict := range []bool{false, true} {
				room := newRoom(0, slowLimits{rest: c.rest}, func() bool { return strict })
				w := &Wallet{balance: 1000}
				r, err := room.PlaceBet(t.Context(), w, c.bet)
				if !errors.Is(err, c.want) {
					t.Fatalf("strict %t: %v, want %v", strict, err, c.want)
				}
				if c.want == nil && r != (wire.Receipt{Round: 1, Balance: 990}) {
					t.Errorf("strict %t: %+v", strict, r)
				}
				if c.want != nil && w.balance != 1000 {
					t.Errorf("strict %t: a refused bet cost %d", strict, 1000-w.balance)
				}
			}
		})
	}
}

// This is scenario 4: strict limits make a burst of bets wait for one another.
func TestStrictLimitsSerialiseABurst(t *testing.T) {
	const players, takes = 30, 50 * time.Millisecond
	burst := func(strict bool) time.Duration {
		room := newRoom(0, slowLimits{takes: takes, rest: 1000}, func() bool { return strict })
		start := time.Now()
		var wg sync.WaitGroup
		for range players {
			wg.Go(func() {
				if _, err := room.PlaceBet(t.Context(), &Wallet{balance: 100}, bet(1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	if took := burst(true); took < players*takes {
		t.Errorf("a burst with strict limits took %v", took)
	}
	if took := burst(false); took >= players*takes {
		t.Errorf("a burst took %v", took)
	}
}

// slowBooks are asked for a while.
type slowBooks struct{ takes time.Duration }

func (b slowBooks) Staked(ctx context.Context, _ int) (int64, error) {
	if !sleep(ctx, b.takes) {
		return 0, ctx.Err()
	}
	return 1000, nil
}

// This is scenario 6: one burst waits for the audit, and none after it until the
// next is due.
func TestAnAuditStallsOneBurstAPeriod(t *testing.T) {
	const takes = time.Second
	audited := false
	s := New(Config{Books: slowBooks{takes}, Audited: func() bool { return audited }})
	var mu sync.Mutex
	var slowest time.Duration
	s.TellSlow(func(_ context.Context, name string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if slowest = max(slowest, took); name != "place-bet" {
			t.Errorf("told of %q", name)
		}
	})
	burst := func() time.Duration {
		slowest = 0
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if _, err := s.PlaceBet(t.Context(), bet(1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return slowest
	}
	if took := burst(); took >= takes {
		t.Errorf("a bet took %v when all is well", took)
	}
	audited = true
	for range 2 {
		if took := burst(); took < takes {
			t.Errorf("the slowest bet of an audit took %v, want %v", took, takes)
		}
		if took := burst(); took >= takes {
			t.Errorf("a bet between two audits took %v", took)
		}
		s.lastAudit.Add(-int64(time.Minute))
	}
	if f := s.Figures(); f["audits_total"] != 2 || f["audit_errors"] != 0 {
		t.Errorf("figures: %v", f)
	}
	if got := s.rooms[0].turnover; got < 1000+36 || got > 1000+48 {
		t.Errorf("the turnover is %d, want that of the books and of three bursts or more", got)
	}
}

func TestSettlingPaysTheWinnersOnce(t *testing.T) {
	room := newRoom(3, noLimits{}, func() bool { return false })
	wallets := map[string]*Wallet{}
	for _, color := range wire.Colors() {
		wallets[color] = &Wallet{balance: 100}
		if _, err := room.PlaceBet(t.Context(), wallets[color], wire.Bet{Player: color, Color: color, Stake: 10}); err != nil {
			t.Fatal(err)
		}
	}
	records := room.settle()
	if len(records) != 4 {
		t.Fatalf("%d records", len(records))
	}
	winner := room.history[0]
	for _, rec := range records {
		payout, balance := int64(0), int64(90)
		if rec.Color == winner {
			payout, balance = 40, 130
		}
		if rec.Payout != payout || wallets[rec.Color].balance != balance || rec.Round != 1 {
			t.Errorf("%+v, wallet %d", rec, wallets[rec.Color].balance)
		}
	}
	if again := room.settle(); len(again) != 0 {
		t.Errorf("settled twice: %v", again)
	}
	if b := room.board(); b.Round != 3 || len(b.History) != 2 || len(b.Stakes) != 0 || len(b.Leaders) != 1 {
		t.Errorf("board: %+v", b)
	}
}

func TestSettledBetsAreHandedOver(t *testing.T) {
	var mu sync.Mutex
	kept := map[int64]int{}
	records := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, ok := wire.Read[wire.Record](w, r)
		if !ok {
			return
		}
		mu.Lock()
		kept[rec.Round]++
		mu.Unlock()
	}))
	defer records.Close()
	var boards sync.Map
	lobby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, ok := wire.Read[wire.Board](w, r); ok {
			boards.Store(b.Room, true)
		}
	}))
	defer lobby.Close()

	s := New(Config{Rooms: 2, Lobby: wire.NewClient(lobby.URL, time.Second, 2), Records: wire.NewClient(records.URL, time.Second, 2)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for range 3 {
		if _, err := s.PlaceBet(ctx, bet(1)); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for {
		mu.Lock()
		n := kept[1] + kept[2]
		mu.Unlock()
		if n == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records were kept", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for room := range 2 {
		if _, ok := boards.Load(room); !ok {
			t.Errorf("room %d was never announced", room)
		}
	}
	if f := s.Figures(); f["bets_total"] != 3 || f["records_sent"] != 3 || f["records_in_flight"] != 0 {
		t.Errorf("figures: %v", f)
	}
}

func TestTheOutboxIsBounded(t *testing.T) {
	release := make(chan struct{})
	records := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer records.Close()
	o := newOutbox(wire.NewClient(records.URL, 20*time.Second, 2))
	for range outboxSlots + 5 {
		o.send(wire.Record{})
	}
	close(release)
	o.close()
	if o.sent.Load() != outboxSlots || o.dropped.Load() != 5 {
		t.Errorf("%d sent, %d dropped", o.sent.Load(), o.dropped.Load())
	}
}

func TestARoomThatIsNotThere(t *testing.T) {
	s := New(Config{})
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/bets", strings.NewReader(`{"room": 7, "color": "red", "stake": 1}`)))
	if want := "there is no room 7: rooms are 0 to 3\n"; w.Code != http.StatusUnprocessableEntity || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
