// Command room-pulse drives the rooms of a region.
package main

import (
	"context"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Action struct {
	Seat int
	Kind uint8
}

type Room struct {
	id      int
	mu      sync.Mutex
	pending []Action
	applied int
}

func (r *Room) Push(a Action) {
	r.mu.Lock()
	r.pending = append(r.pending, a)
	r.mu.Unlock()
}

func (r *Room) take() []Action {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pending
	r.pending = nil
	return p
}

func (r *Room) apply(as []Action) {
	for _, a := range as {
		if a.Kind != 0 {
			r.applied += a.Seat
		}
	}
}

type options struct {
	pulse time.Duration
	rooms int
}

type Region struct {
	opt   options
	rooms []*Room
	wg    sync.WaitGroup
}

func (g *Region) drive(ctx context.Context, r *Room) {
	defer g.wg.Done()
	t := time.NewTicker(g.opt.pulse) // want: timer-storm
	defer t.Stop()
	for {
		select {
		case <-t.C: // want: timer-storm
			if as := r.take(); len(as) > 0 {
				r.apply(as)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (g *Region) Run(ctx context.Context) {
	for i := range g.opt.rooms {
		r := &Room{id: i}
		g.rooms = append(g.rooms, r)
		g.wg.Add(1)
		go g.drive(ctx, r)
	}
}

func main() {
	ctx, _, done := start()
	defer done()
	g := &Region{opt: options{pulse: time.Millisecond, rooms: 1200}}
	g.Run(ctx)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			g.wg.Wait()
			return
		case <-tick.C:
			g.rooms[i%len(g.rooms)].Push(Action{Seat: i % 6, Kind: uint8(i)})
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
