// Command ok-sock-hall holds the sessions of a gateway; they come and go.
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

type Session struct {
	id     int
	send   chan []byte
	closed chan struct{}
	once   sync.Once
	out    []byte
}

func (s *Session) Close() { s.once.Do(func() { close(s.closed) }) }

func (s *Session) Offer(msg []byte) bool {
	select {
	case s.send <- msg:
		return true
	default:
		s.Close()
		return false
	}
}

func (s *Session) writer() {
	ping := time.NewTicker(10 * time.Second)
	defer ping.Stop()
	for {
		select {
		case m := <-s.send:
			s.out = append(s.out[:0], m...)
		case <-ping.C:
			s.out = append(s.out[:0], 0x89, 0)
		case <-s.closed:
			return
		}
	}
}

type Hall struct {
	mu   sync.RWMutex
	live map[int]*Session
}

func (h *Hall) Enter(id int) *Session {
	s := &Session{id: id, send: make(chan []byte, 16), closed: make(chan struct{}), out: make([]byte, 0, 1024)}
	h.mu.Lock()
	h.live[id] = s
	h.mu.Unlock()
	go s.writer()
	return s
}

func (h *Hall) Leave(id int) {
	h.mu.Lock()
	s := h.live[id]
	delete(h.live, id)
	h.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

func (h *Hall) Broadcast(msg []byte) (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, s := range h.live {
		if s.Offer(msg) {
			n++
		}
	}
	return n
}

func main() {
	ctx, _, done := start()
	defer done()
	h := &Hall{live: map[int]*Session{}}
	const size = 4000
	for i := range size {
		h.Enter(i)
	}
	turn := time.NewTicker(20 * time.Millisecond)
	defer turn.Stop()
	news := time.NewTicker(700 * time.Millisecond)
	defer news.Stop()
	for next := size; ; {
		select {
		case <-ctx.Done():
			return
		case <-turn.C:
			h.Leave(next - size)
			h.Enter(next)
			next++
		case <-news.C:
			h.Broadcast([]byte(`{"type":"notice","text":"the fair opens at eight"}`))
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
