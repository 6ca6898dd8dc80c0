// Command lobby-match seats players at tables and tells them when the game begins.
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

type Table struct {
	mu      sync.Mutex
	begun   *sync.Cond
	id      int
	seats   []Player
	started bool
}

type Player struct {
	ID     int
	Rating int
	Inbox  []byte
}

func newTable(id int) *Table {
	t := &Table{id: id}
	t.begun = sync.NewCond(&t.mu)
	return t
}

// Wait returns as soon as the table has begun.
func (t *Table) Wait(p *Player) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.started {
		t.begun.Wait() // want: goroutine-leak
	}
	return fmt.Sprintf("table %d: %d players, you are %d", t.id, len(t.seats), p.ID)
}

func (t *Table) begin() {
	t.mu.Lock()
	t.started = true
	t.mu.Unlock()
	t.begun.Signal() // want: goroutine-leak
}

type Lobby struct {
	mu    sync.Mutex
	next  int
	open  map[int]*Table
	games atomic.Int64
	told  atomic.Int64
}

func (l *Lobby) seat(p *Player) *Table {
	l.mu.Lock()
	defer l.mu.Unlock()
	band := p.Rating / 500
	t := l.open[band]
	if t == nil {
		l.next++
		t = newTable(l.next)
		l.open[band] = t
	}
	t.mu.Lock()
	t.seats = append(t.seats, *p)
	full := len(t.seats) == 4
	t.mu.Unlock()
	if full {
		delete(l.open, band)
		l.games.Add(1)
		time.AfterFunc(30*time.Millisecond, t.begin)
	}
	return t
}

// Join seats the player; the answer goes to its session when there is one.
func (l *Lobby) Join(id, rating int, tell func(string)) {
	p := &Player{ID: id, Rating: rating, Inbox: make([]byte, 0, 512)}
	t := l.seat(p)
	go func() {
		tell(t.Wait(p))
	}()
}

func main() {
	ctx, _, done := start()
	defer done()
	l := &Lobby{open: map[int]*Table{}}
	tick := time.NewTicker(8 * time.Millisecond)
	defer tick.Stop()
	for id := 0; ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.Join(id, rand.IntN(2500), func(string) { l.told.Add(1) })
		}
	}
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}
