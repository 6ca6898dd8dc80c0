// Command ok-guest-turnover keeps the sessions of guests, who come and go.
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

// Guest is a visitor with what was seen last.
type Guest struct {
	id    uint64
	state [2048]byte
	idle  *time.Timer
}

// Hotel has a room for every guest who is here.
type Hotel struct {
	mu     sync.Mutex
	guests map[uint64]*Guest
	wg     sync.WaitGroup
	life   func() time.Duration
}

func (h *Hotel) enter(g *Guest) {
	h.mu.Lock()
	h.guests[g.id] = g
	h.mu.Unlock()
}

func (h *Hotel) leave(g *Guest) {
	h.mu.Lock()
	delete(h.guests, g.id)
	h.mu.Unlock()
	g.idle.Stop()
}

func (h *Hotel) Check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, h.life())
	g := &Guest{id: rand.Uint64()}
	g.idle = time.AfterFunc(time.Minute, cancel)
	h.enter(g)
	h.wg.Go(func() {
		defer cancel()
		defer h.leave(g)
		h.stay(ctx, g)
	})
}

// stay plays small rounds until the guest goes.
func (h *Hotel) stay(ctx context.Context, g *Guest) {
	beat := time.NewTicker(250 * time.Millisecond)
	defer beat.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			g.state[i%len(g.state)]++
			g.idle.Reset(time.Minute)
		}
	}
}

func (h *Hotel) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.guests)
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

	h := &Hotel{guests: map[uint64]*Guest{}, life: func() time.Duration {
		return 500*time.Millisecond + time.Duration(rand.IntN(2500))*time.Millisecond
	}}
	door := time.NewTicker(10 * time.Millisecond)
	defer door.Stop()
	for open := true; open; {
		select {
		case <-ctx.Done():
			open = false
		case <-door.C:
			for range 1 + rand.IntN(7) {
				h.Check(ctx)
			}
		}
	}
	h.wg.Wait()
	if n := h.Count(); n > 0 {
		log.Printf("%d guests left behind", n)
	}
}
