// Command bet-expiry accepts bets of a round and settles them.
package main

import (
	"context"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// Slip is what a player has laid.
type Slip struct {
	ID     uint64
	Player uint32
	Stake  int64
	Picks  [160]int64
	guard  *time.Timer
}

// Clock starts what is to happen later.
type Clock interface {
	After(d time.Duration, f func()) *time.Timer
}

type wall struct{}

func (wall) After(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, f) // want: timer-leak
}

// Desk holds the open slips.
type Desk struct {
	clock  Clock
	grace  time.Duration
	mu     sync.Mutex
	open   map[uint64]*Slip
	refund func(*Slip)
	paid   int64
}

func (d *Desk) Lay(player uint32, stake int64, picks func(*Slip)) uint64 {
	s := &Slip{ID: rand.Uint64(), Player: player, Stake: stake}
	picks(s)
	s.guard = d.clock.After(d.grace, func() { d.expire(s) }) // want: timer-leak
	d.mu.Lock()
	d.open[s.ID] = s
	d.mu.Unlock()
	return s.ID
}

func (d *Desk) expire(s *Slip) {
	if d.take(s.ID) != nil {
		d.refund(s)
	}
}

func (d *Desk) take(id uint64) *Slip {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.open[id]
	delete(d.open, id) // want: timer-leak
	return s
}

func (d *Desk) Settle(id uint64, won bool) {
	s := d.take(id) // want: timer-leak
	if s != nil && won {
		d.mu.Lock()
		d.paid += s.Stake * 2
		d.mu.Unlock()
	}
}

// ---- rounds ----

// Table runs one round after the other.
type Table struct {
	desk *Desk
	seat int
	len  time.Duration
}

func (t *Table) round(ctx context.Context) {
	ids := make([]uint64, 0, t.seat)
	for p := range t.seat {
		ids = append(ids, t.desk.Lay(uint32(p), 10+rand.Int64N(90), func(s *Slip) {
			for i := range s.Picks {
				s.Picks[i] = rand.Int64N(49)
			}
		}))
	}
	select {
	case <-ctx.Done():
	case <-time.After(t.len):
	}
	for _, id := range ids {
		t.desk.Settle(id, rand.IntN(3) == 0)
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	desk := &Desk{clock: wall{}, grace: 30 * time.Minute, open: map[uint64]*Slip{}, refund: func(s *Slip) {
		log.Printf("slip %x: %d refunded to %d", s.ID, s.Stake, s.Player)
	}}
	for range 30 {
		t := &Table{desk: desk, seat: 25, len: 400 * time.Millisecond}
		go func() {
			for ctx.Err() == nil {
				t.round(ctx)
			}
		}()
	}
	<-ctx.Done()
}
