package game

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

var (
	errColor = errors.New("no such colour")
	errStake = errors.New("a stake is at least one credit")
	errLimit = errors.New("the daily limit is reached")
	errFunds = errors.New("the wallet does not hold that much")
)

// Limits knows how much a player may still stake today.
type Limits interface {
	Remaining(ctx context.Context, player string) (int64, error)
}

// Wallet is a player's credits.
type Wallet struct {
	mu      sync.Mutex // guards balance
	balance int64
}

// Debit takes credits out, if there are enough, and returns what is left.
func (w *Wallet) Debit(n int64) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n > w.balance {
		return w.balance, errFunds
	}
	w.balance -= n
	return w.balance, nil
}

// Balance returns what it holds.
func (w *Wallet) Balance() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.balance
}

// Credit puts credits in.
func (w *Wallet) Credit(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.balance += n
}

// Room is a table at which rounds are played: bets are taken, a colour is
// drawn, bets are paid.
type Room struct {
	id     int
	limits Limits
	// strict says whether a bet's limit is checked and its stake booked in one
	// step. Otherwise two bets at the same instant may both see the same rest.
	strict func() bool

	mu      sync.Mutex // guards everything below
	round   int64
	bets    []placed
	stakes  map[string]int64
	history []string
	won     map[string]int64
	// turnover is what all rounds have staked, as of the last audit.
	turnover int64
}

type placed struct {
	bet    wire.Bet
	wallet *Wallet
}

func newRoom(id int, limits Limits, strict func() bool) *Room {
	return &Room{id: id, limits: limits, strict: strict, round: 1, stakes: map[string]int64{}, won: map[string]int64{}}
}

// PlaceBet takes a bet for the running round.
func (r *Room) PlaceBet(ctx context.Context, w *Wallet, b wire.Bet) (wire.Receipt, error) {
	if err := validate(b); err != nil {
		return wire.Receipt{}, err
	}
	if r.strict() {
		return r.placeStrict(ctx, w, b)
	}
	rest, err := r.limits.Remaining(ctx, b.Player)
	if err != nil {
		return wire.Receipt{}, fmt.Errorf("checking the limit of %s: %w", b.Player, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.book(w, b, rest)
}

// placeStrict checks the limit and books the stake in one step, so that nobody
// outruns their limit with two bets at the same instant.
func (r *Room) placeStrict(ctx context.Context, w *Wallet, b wire.Bet) (wire.Receipt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest, err := r.limits.Remaining(ctx, b.Player)
	if err != nil {
		return wire.Receipt{}, fmt.Errorf("checking the limit of %s: %w", b.Player, err)
	}
	return r.book(w, b, rest)
}

func validate(b wire.Bet) error {
	if b.Stake < 1 {
		return errStake
	}
	for _, c := range wire.Colors() {
		if b.Color == c {
			return nil
		}
	}
	return errColor
}

// book takes the stake. The caller holds r.mu.
func (r *Room) book(w *Wallet, b wire.Bet, rest int64) (wire.Receipt, error) {
	if b.Stake > rest {
		return wire.Receipt{}, errLimit
	}
	balance, err := w.Debit(b.Stake)
	if err != nil {
		return wire.Receipt{}, err
	}
	r.bets = append(r.bets, placed{b, w})
	r.stakes[b.Color] += b.Stake
	return wire.Receipt{Round: r.round, Balance: balance}, nil
}

// settle ends the round: it draws a colour, pays the winners and returns every
// bet with its payout.
func (r *Room) settle() []wire.Record {
	colors := wire.Colors()
	winner := colors[rand.IntN(len(colors))]
	r.mu.Lock()
	defer r.mu.Unlock()
	records := make([]wire.Record, 0, len(r.bets))
	for _, p := range r.bets {
		rec := wire.Record{Bet: p.bet, Round: r.round}
		if p.bet.Color == winner {
			rec.Payout = p.bet.Stake * int64(len(colors))
			p.wallet.Credit(rec.Payout)
			r.won[p.bet.Player] += rec.Payout
		}
		records = append(records, rec)
	}
	r.round++
	r.bets = nil
	clear(r.stakes)
	if r.history = append(r.history, winner); len(r.history) > historyLength {
		r.history = r.history[1:]
	}
	return records
}

const (
	historyLength = 50
	leaderCount   = 10
)

// board is what the lobby shows of the room now.
func (r *Room) board() wire.Board {
	b := wire.Board{Room: r.id, Sent: time.Now(), Stakes: map[string]int64{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	b.Round = r.round
	for color, stake := range r.stakes {
		b.Stakes[color] = stake
	}
	b.History = append(b.History, r.history...)
	for name, won := range r.won {
		if len(b.Leaders) == leaderCount {
			break
		}
		b.Leaders = append(b.Leaders, wire.Leader{Name: name, Won: won})
	}
	return b
}
