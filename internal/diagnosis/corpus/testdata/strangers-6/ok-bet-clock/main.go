// Command ok-bet-clock runs betting rounds by the clock: each bet has its own
// expiry, each table its countdown, each player an idle limit.
package main

import (
	"context"
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

type Bet struct {
	ID    uint64
	Stake int64
	late  *time.Timer
}

// Book has the open bets of a table.
type Book struct {
	mu    sync.Mutex
	open  map[uint64]*Bet
	voids atomic.Int64
}

func (b *Book) Place(id uint64, stake int64) {
	bet := &Bet{ID: id, Stake: stake}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[id] = bet
	bet.late = time.AfterFunc(5*time.Minute, func() { b.void(id) })
}

func (b *Book) void(id uint64) {
	if b.take(id) != nil {
		b.voids.Add(1)
	}
}

func (b *Book) take(id uint64) *Bet {
	b.mu.Lock()
	defer b.mu.Unlock()
	bet := b.open[id]
	delete(b.open, id)
	return bet
}

func (b *Book) Settle(id uint64) int64 {
	bet := b.take(id)
	if bet == nil {
		return 0
	}
	bet.late.Stop()
	return bet.Stake * rand.Int64N(3)
}

// Idle ends something that has not been touched for a while.
type Idle struct {
	t     *time.Timer
	after time.Duration
}

func NewIdle(after time.Duration, end func()) *Idle {
	return &Idle{t: time.AfterFunc(after, end), after: after}
}

func (i *Idle) Touch() { i.t.Reset(i.after) }
func (i *Idle) Close() { i.t.Stop() }

type Player struct {
	name string
	idle *Idle
	paid int64
}

func (p *Player) String() string { return fmt.Sprintf("%s (%d)", p.name, p.paid) }

type Table struct {
	name    string
	book    *Book
	players []*Player
	seq     uint64
}

func NewTable(name string, seats int) *Table {
	t := &Table{name: name, book: &Book{open: map[uint64]*Bet{}}}
	for i := range seats {
		p := &Player{name: fmt.Sprintf("%s-%d", name, i)}
		p.idle = NewIdle(time.Minute, func() { log.Printf("%s went away", p.name) })
		t.players = append(t.players, p)
	}
	return t
}

func (t *Table) countdown(ctx context.Context, n int) error {
	tick := time.NewTicker(12 * time.Millisecond)
	defer tick.Stop()
	for range n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (t *Table) round(ctx context.Context) error {
	ids := make(map[*Player]uint64, len(t.players))
	for _, p := range t.players {
		t.seq++
		t.book.Place(t.seq, 10+rand.Int64N(90))
		p.idle.Touch()
		ids[p] = t.seq
	}
	defer func() {
		for p, id := range ids {
			p.paid += t.book.Settle(id)
		}
	}()
	return t.countdown(ctx, 4)
}

func (t *Table) Run(ctx context.Context) {
	defer func() {
		for _, p := range t.players {
			p.idle.Close()
		}
	}()
	for t.round(ctx) == nil {
		select {
		case <-time.After(time.Duration(5+rand.IntN(20)) * time.Millisecond):
		case <-ctx.Done():
			return
		}
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

	var wg sync.WaitGroup
	for i := range 40 {
		t := NewTable(fmt.Sprintf("t%02d", i), 9)
		wg.Add(1)
		go func() {
			defer wg.Done()
			t.Run(ctx)
		}()
	}
	wg.Wait()
}
