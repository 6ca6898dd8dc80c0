// Command ok-lobby-parked holds the connections of the players in the lobby.
package main

import (
	"context"
	"encoding/json"
	"fmt"
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

type Message struct {
	Kind string `json:"kind"`
	Body string `json:"body"`
}

// Session is one player's connection; its loop lives as long as the player stays.
type Session struct {
	id   int
	in   chan Message
	done chan struct{}
	seen time.Time
}

type handler func(s *Session, m Message) error

func (s *Session) loop(h handler) {
	for {
		select {
		case m := <-s.in:
			if err := h(s, m); err != nil {
				log.Printf("session %d: %v", s.id, err)
			}
		case <-s.done:
			return
		}
	}
}

// ---- lobby ----

type Lobby struct {
	mu   sync.RWMutex
	by   map[int]*Session
	chat chan []byte
}

func (l *Lobby) admit(id int) {
	s := &Session{id: id, in: make(chan Message, 4), done: make(chan struct{}), seen: time.Now()}
	l.mu.Lock()
	l.by[id] = s
	l.mu.Unlock()
	go s.loop(l.handle)
}

func (l *Lobby) handle(s *Session, m Message) error {
	s.seen = time.Now()
	if m.Kind != "say" {
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	select {
	case l.chat <- b:
	default:
	}
	return nil
}

func (l *Lobby) to(id int, m Message) {
	l.mu.RLock()
	s := l.by[id]
	l.mu.RUnlock()
	if s == nil {
		return
	}
	select {
	case s.in <- m:
	default: // a player who does not keep up misses it
	}
}

func (l *Lobby) archive(ctx context.Context) {
	var lines int
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.chat:
			lines++
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

	const players = 4000
	l := &Lobby{by: map[int]*Session{}, chat: make(chan []byte, 64)}
	for id := range players {
		l.admit(id)
	}
	go l.archive(ctx)
	go func() {
		for ctx.Err() == nil {
			for range 20 {
				l.to(rand.IntN(players), Message{"say", fmt.Sprintf("anyone for room %d?", rand.IntN(99))})
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	<-ctx.Done()
}
