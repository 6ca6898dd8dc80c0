// Command match-pool groups waiting players of every region into matches.
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
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// OrderedSet keeps its keys in the order in which they came.
type OrderedSet[K comparable] struct{ keys []K }

func (s *OrderedSet[K]) Add(k K) bool {
	if slices.Contains(s.keys, k) { // want: cpu-hot-path
		return false
	}
	s.keys = append(s.keys, k)
	return true
}

func (s *OrderedSet[K]) Keys() []K { return s.keys }

// Ticket is one wish to play; a player may wait for several modes.
type Ticket struct {
	Player string
	Mode   string
	Rating int
	Since  time.Time
}

type Match struct {
	Mode    string
	Players []string
}

// Strategy makes matches of tickets.
type Strategy interface {
	Name() string
	Plan(now time.Time, ts []Ticket) []Match
}

type byRating struct{ size int }

func (byRating) Name() string { return "rating" }

func (b byRating) Plan(now time.Time, ts []Ticket) []Match {
	slices.SortFunc(ts, func(x, y Ticket) int { return x.Rating - y.Rating })
	var taken OrderedSet[string]
	var ms []Match
	cur := map[string]*Match{}
	for _, t := range ts {
		if !taken.Add(t.Player) {
			continue
		}
		m := cur[t.Mode]
		if m == nil {
			m = &Match{Mode: t.Mode}
			cur[t.Mode] = m
		}
		if m.Players = append(m.Players, t.Player); len(m.Players) == b.size {
			ms = append(ms, *m)
			delete(cur, t.Mode)
		}
	}
	return ms
}

// Region is a queue with its planner.
type Region struct {
	name  string
	mu    sync.Mutex
	queue []Ticket
	strat Strategy
	made  int
}

func (r *Region) Join(t Ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) < 4800 {
		r.queue = append(r.queue, t)
	}
}

func (r *Region) drain() []Ticket {
	r.mu.Lock()
	defer r.mu.Unlock()
	ts := r.queue
	r.queue = make([]Ticket, 0, cap(ts))
	return ts
}

func (r *Region) Run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r.made += len(r.strat.Plan(now, r.drain()))
		}
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

	players := make([]string, 20000)
	for i := range players {
		players[i] = fmt.Sprintf("player:%012d", rand.IntN(1e9)*1000+i)
	}
	modes := []string{"duel", "squad", "siege"}
	for _, name := range []string{"tw", "jp", "sg", "eu", "us"} {
		r := &Region{name: name, strat: byRating{size: 8}}
		go r.Run(ctx, 100*time.Millisecond)
		go func() {
			for ctx.Err() == nil {
				for range 600 {
					r.Join(Ticket{players[rand.IntN(len(players))], modes[rand.IntN(3)], rand.IntN(3000), time.Now()})
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
