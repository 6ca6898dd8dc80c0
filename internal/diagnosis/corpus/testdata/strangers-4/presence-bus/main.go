// Presence bus: tells friends who is online.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type status struct {
	player int
	online bool
}

type bus struct {
	mu       sync.Mutex
	handlers map[string][]func(status)
}

func (b *bus) listen(room string, fn func(status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handlers[room] = append(b.handlers[room], fn)
}

func (b *bus) tell(room string, s status) int {
	b.mu.Lock()
	hs := b.handlers[room]
	b.mu.Unlock()
	if len(hs) > 64 {
		hs = hs[len(hs)-64:]
	}
	for _, h := range hs {
		h(s)
	}
	return len(hs)
}

type session struct {
	player  int
	name    string
	friends []int
	seen    [24]status
	n       int
}

func (s *session) notice(st status) {
	s.seen[s.n%len(s.seen)] = st
	s.n++
}

type hub struct {
	bus    *bus
	mu     sync.Mutex
	online map[int]*session
}

func (h *hub) login(player int) *session {
	s := &session{player: player, name: fmt.Sprintf("player-%d", player), friends: make([]int, 20)} // want: retained-objects
	h.mu.Lock()
	h.online[player] = s
	h.mu.Unlock()
	h.bus.listen(fmt.Sprintf("room-%d", player%50), s.notice) // want: retained-objects
	return s
}

func (h *hub) logout(s *session) {
	h.mu.Lock()
	delete(h.online, s.player)
	h.mu.Unlock()
}

func (h *hub) churn(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var recent []*session
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range 20 {
			recent = append(recent, h.login(next))
			next++
		}
		if len(recent) > 400 {
			for _, s := range recent[:20] {
				h.logout(s)
			}
			recent = append(recent[:0:0], recent[20:]...)
		}
		h.bus.tell(fmt.Sprintf("room-%d", rand.IntN(50)), status{rand.IntN(next), true})
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	h := &hub{bus: &bus{handlers: map[string][]func(status){}}, online: map[int]*session{}}
	go h.churn(ctx)
	<-ctx.Done()
}
