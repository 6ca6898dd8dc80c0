// Command guild-hall keeps guilds, their members and ranks.
package main

import (
	"context"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Guild struct {
	mu      sync.RWMutex
	name    string
	members map[int]*member
	order   []int
}

type member struct {
	id     int
	points int
	joined time.Time
}

type Line struct {
	Player int
	Points int
	Rank   string
}

func newGuild(name string, n int) *Guild {
	g := &Guild{name: name, members: map[int]*member{}}
	for i := range n {
		g.members[i] = &member{id: i, points: rand.IntN(9000), joined: time.Now()}
		g.order = append(g.order, i)
	}
	return g
}

// RankOf is the title of a member.
func (g *Guild) RankOf(id int) string {
	g.mu.RLock() // want: deadlock
	defer g.mu.RUnlock()
	m := g.members[id]
	switch {
	case m == nil:
		return ""
	case m.points > 8000:
		return "officer"
	case m.points > 3000:
		return "veteran"
	}
	return "recruit"
}

// Each calls f for every member, in the order of the hall.
func (g *Guild) Each(f func(m member) bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, id := range g.order {
		if !f(*g.members[id]) {
			return
		}
	}
}

func (g *Guild) Roster(limit int) []Line {
	out := make([]Line, 0, limit)
	g.Each(func(m member) bool {
		out = append(out, Line{Player: m.id, Points: m.points, Rank: g.RankOf(m.id)}) // want: deadlock
		return len(out) < limit
	})
	return out
}

func (g *Guild) Donate(id, points int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members[id].points += points
	slices.SortStableFunc(g.order, func(a, b int) int { return g.members[b].points - g.members[a].points })
}

type Hall struct {
	guilds []*Guild
	views  atomic.Int64
}

func (h *Hall) view(ctx context.Context, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	for ctx.Err() == nil {
		g := h.guilds[rnd.IntN(len(h.guilds))]
		if len(g.Roster(50)) > 0 {
			h.views.Add(1)
		}
		time.Sleep(time.Duration(1+rnd.IntN(4)) * time.Millisecond)
	}
}

func (h *Hall) donate(ctx context.Context, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 6))
	for ctx.Err() == nil {
		h.guilds[rnd.IntN(len(h.guilds))].Donate(rnd.IntN(120), rnd.IntN(40)-20)
		time.Sleep(4 * time.Millisecond)
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	h := &Hall{}
	for i := range 3 {
		h.guilds = append(h.guilds, newGuild("guild-"+strconv.Itoa(i), 120))
	}
	for i := range 24 {
		go h.view(ctx, uint64(i))
	}
	for i := range 6 {
		go h.donate(ctx, uint64(i))
	}
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			_ = h.views.Load()
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
