// Command bet-expiry runs bets that are void when they are not settled in time.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type BetID uint64

type State int

const (
	Open State = iota
	Settled
	Void
)

type Bet struct {
	ID     BetID
	Player string
	Stake  int64
	State  State
	Slip   [96]byte
}

var errClosed = errors.New("bet is closed")

// Deadline calls something when a bet has been open for too long.
type Deadline interface {
	Watch(id BetID, onLate func(BetID))
}

type afterFunc struct {
	limit time.Duration
	fired atomic.Int64
}

func (d *afterFunc) Watch(id BetID, onLate func(BetID)) {
	time.AfterFunc(d.limit, func() { // want: timer-leak
		d.fired.Add(1)
		onLate(id)
	})
}

// Registry has the open bets.
type Registry[K comparable, V any] struct {
	mu   sync.Mutex
	open map[K]V
}

func (r *Registry[K, V]) Put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[k] = v
}

func (r *Registry[K, V]) Take(k K) (v V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok = r.open[k]; ok {
		delete(r.open, k)
	}
	return v, ok
}

func (r *Registry[K, V]) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

type BetService struct {
	open     *Registry[BetID, *Bet]
	deadline Deadline
	next     atomic.Uint64
	settled  atomic.Int64
}

func (s *BetService) Place(player string, stake int64) BetID {
	b := &Bet{ID: BetID(s.next.Add(1)), Player: player, Stake: stake}
	copy(b.Slip[:], fmt.Sprintf("%s/%d/%d", player, b.ID, stake))
	s.open.Put(b.ID, b)
	s.deadline.Watch(b.ID, func(id BetID) { // want: timer-leak
		if late, ok := s.open.Take(id); ok {
			late.State = Void
			log.Printf("bet %d of %s is void", b.ID, b.Player)
		}
	})
	return b.ID
}

func (s *BetService) Settle(id BetID) error {
	b, ok := s.open.Take(id)
	if !ok {
		return fmt.Errorf("%d: %w", id, errClosed)
	}
	b.State = Settled
	s.settled.Add(1)
	return nil
}

// Table takes bets for one round at a time.
type Table struct {
	*BetService
	name string
}

func (t *Table) round(players int) error {
	ids := make([]BetID, 0, players)
	for p := range players {
		ids = append(ids, t.Place(fmt.Sprintf("%s-%d", t.name, p), rand.Int64N(900)+100))
	}
	time.Sleep(10 * time.Millisecond)
	var errs []error
	for _, id := range ids {
		if err := t.Settle(id); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (t *Table) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.round(30); err != nil {
			log.Print(err)
		}
		time.Sleep(time.Duration(30+rand.IntN(20)) * time.Millisecond)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	svc := &BetService{open: &Registry[BetID, *Bet]{open: map[BetID]*Bet{}}, deadline: &afterFunc{limit: 30 * time.Minute}}
	for i := range 10 {
		go (&Table{BetService: svc, name: fmt.Sprintf("t%d", i)}).run(ctx)
	}
	for t := time.NewTicker(10 * time.Second); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			log.Printf("settled=%d open=%d", svc.settled.Load(), svc.open.Len())
		}
	}
}
