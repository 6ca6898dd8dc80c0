// Package game is the game-service: rooms, wallets and bets. It announces what
// happens to the gateway and hands settled bets to the game-record-service; how
// either does its work it does not know.
package game

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

// Config of the service.
type Config struct {
	// Rooms is how many there are; 0 = 4.
	Rooms int
	// Limits of the players; nil = nobody has one.
	Limits Limits
	// StrictLimits says whether limits hold for simultaneous bets too, asked at
	// every bet. Nil = no.
	StrictLimits func() bool
	// Books are what rooms are audited against while Audited says so; nil = never.
	Books   Books
	Audited func() bool
	// AuditEvery is the time between two audits; 0 = a minute.
	AuditEvery time.Duration
	Lobby      *wire.Client // the gateway; nil = nothing is announced
	Records    *wire.Client // the game-record-service; nil = nothing is kept
}

const (
	roundLength   = time.Second
	boardInterval = 80 * time.Millisecond // of each room's announcements
	firstBalance  = 1_000_000             // credits of a new wallet
	minBalance    = 10_000                // below it the house tops a wallet up
)

// Service plays.
type Service struct {
	cfg    Config
	rooms  []*Room
	outbox *outbox
	slow   func(ctx context.Context, name string, took time.Duration)

	mu      sync.Mutex // guards wallets
	wallets map[string]*Wallet

	bets, rejected, announceErrors  atomic.Int64
	audited, auditErrors, lastAudit atomic.Int64 // lastAudit in Unix nanoseconds
	latency                         chassis.Latency
}

// New makes the service.
func New(cfg Config) *Service {
	if cfg.Rooms == 0 {
		cfg.Rooms = 4
	}
	if cfg.StrictLimits == nil {
		cfg.StrictLimits = func() bool { return false }
	}
	if cfg.Audited == nil {
		cfg.Audited = func() bool { return false }
	}
	if cfg.AuditEvery == 0 {
		cfg.AuditEvery = time.Minute
	}
	if cfg.Limits == nil {
		cfg.Limits = noLimits{}
	}
	s := &Service{cfg: cfg, slow: func(context.Context, string, time.Duration) {}, wallets: map[string]*Wallet{}, outbox: newOutbox(cfg.Records)}
	for i := range cfg.Rooms {
		s.rooms = append(s.rooms, newRoom(i, cfg.Limits, cfg.StrictLimits))
	}
	return s
}

// TellSlow has fn told how long each bet took. It is called before the service is
// used.
func (s *Service) TellSlow(fn func(ctx context.Context, name string, took time.Duration)) {
	s.slow = fn
}

// PlaceBet takes a bet.
func (s *Service) PlaceBet(ctx context.Context, b wire.Bet) (wire.Receipt, error) {
	began := time.Now()
	defer func() {
		s.latency.Since(began)
		s.slow(ctx, "place-bet", time.Since(began))
	}()
	if b.Room < 0 || b.Room >= len(s.rooms) {
		return wire.Receipt{}, fmt.Errorf("there is no room %d: rooms are 0 to %d", b.Room, len(s.rooms)-1)
	}
	s.auditIfDue(ctx, s.rooms[b.Room], began)
	receipt, err := s.rooms[b.Room].PlaceBet(ctx, s.wallet(b.Player), b)
	if err != nil {
		s.rejected.Add(1)
		return receipt, err
	}
	s.bets.Add(1)
	return receipt, nil
}

func (s *Service) wallet(player string) *Wallet {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.wallets[player]
	if !ok {
		w = &Wallet{balance: firstBalance}
		s.wallets[player] = w
	}
	return w
}

// Handler implements chassis.Part.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bets", func(w http.ResponseWriter, r *http.Request) {
		bet, ok := wire.Read[wire.Bet](w, r)
		if !ok {
			return
		}
		receipt, err := s.PlaceBet(r.Context(), bet)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		wire.Write(w, receipt)
	})
	return mux
}

// Run implements chassis.Part: it plays the rounds and announces the boards.
func (s *Service) Run(ctx context.Context) error {
	var rooms sync.WaitGroup
	for i, r := range s.rooms {
		// Rooms do not settle at the same instant.
		offset := roundLength * time.Duration(i) / time.Duration(len(s.rooms))
		rooms.Go(func() { s.playRounds(ctx, r, offset) })
		if s.cfg.Lobby != nil {
			rooms.Go(func() { s.announceBoard(ctx, r) })
		}
	}
	rooms.Wait()
	s.outbox.close()
	if s.cfg.Lobby != nil {
		s.cfg.Lobby.Close()
	}
	return nil
}

func (s *Service) playRounds(ctx context.Context, r *Room, offset time.Duration) {
	if !sleep(ctx, offset) {
		return
	}
	round := time.NewTicker(roundLength)
	defer round.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-round.C:
		}
		for _, rec := range r.settle() {
			s.outbox.send(rec)
			if w := s.wallet(rec.Player); w.low() {
				w.Credit(firstBalance)
			}
		}
	}
}

func (s *Service) announceBoard(ctx context.Context, r *Room) {
	tick := time.NewTicker(boardInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.cfg.Lobby.Post(ctx, "/announce", "", r.board(), nil); err != nil {
			s.announceErrors.Add(1)
		}
	}
}

// Figures implements chassis.Part.
func (s *Service) Figures() chassis.Figures {
	f := s.outbox.figures()
	f["bets_total"] = float64(s.bets.Load())
	f["bets_rejected"] = float64(s.rejected.Load())
	f["announce_errors"] = float64(s.announceErrors.Load())
	f["audits_total"] = float64(s.audited.Load())
	f["audit_errors"] = float64(s.auditErrors.Load())
	s.latency.Into(f, "bet")
	return f
}

func (w *Wallet) low() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.balance < minBalance
}

type noLimits struct{}

func (noLimits) Remaining(context.Context, string) (int64, error) { return 1 << 40, nil }

// SQLLimits reads limits from Postgres.
type SQLLimits struct{ Pool *pgxpool.Pool }

// remaining is what a player may still stake. pg_sleep stands for the way to the
// database: a real game's is in another zone, the demo's is next door.
const remaining = `
	SELECT coalesce((SELECT daily_limit FROM colorgame.player_limits WHERE player = $1), 1000000)
	FROM pg_sleep(0.01)`

// Remaining implements Limits.
func (l SQLLimits) Remaining(ctx context.Context, player string) (rest int64, err error) {
	err = l.Pool.QueryRow(ctx, remaining, player).Scan(&rest)
	return rest, err
}

// outbox hands records over without making the rounds wait. Each record is on
// its way in a goroutine of its own; how many may be is bounded, and what is too
// much is dropped and counted.
type outbox struct {
	to    *wire.Client // nil = everything is dropped
	slots chan struct{}
	wg    sync.WaitGroup

	sent, failed, dropped atomic.Int64
}

const outboxSlots = 256

func newOutbox(to *wire.Client) *outbox {
	return &outbox{to: to, slots: make(chan struct{}, outboxSlots)}
}

func (o *outbox) send(rec wire.Record) {
	if o.to == nil {
		o.dropped.Add(1)
		return
	}
	select {
	case o.slots <- struct{}{}:
	default:
		o.dropped.Add(1)
		return
	}
	o.wg.Go(func() {
		defer func() { <-o.slots }()
		// A settled bet is kept also when the service is told to end: the
		// client's own timeout bounds it.
		if err := o.to.Post(context.Background(), "/records", "", rec, nil); err != nil {
			o.failed.Add(1)
			return
		}
		o.sent.Add(1)
	})
}

// close returns when every record has been handed over or has failed.
func (o *outbox) close() {
	o.wg.Wait()
	if o.to != nil {
		o.to.Close()
	}
}

func (o *outbox) figures() chassis.Figures {
	return chassis.Figures{
		"records_in_flight": float64(len(o.slots)),
		"records_sent":      float64(o.sent.Load()),
		"records_failed":    float64(o.failed.Load()),
		"records_dropped":   float64(o.dropped.Load()),
	}
}

// sleep waits, and reports whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
