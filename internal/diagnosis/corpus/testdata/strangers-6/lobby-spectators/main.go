// Command lobby-spectators lets people watch tables over WebSocket.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/opscenter/opscenter/agent"
)

type Event struct {
	Table string `json:"table"`
	Kind  string `json:"kind"`
	Seq   int    `json:"seq"`
}

// Spectator is one viewer with what it has not read yet.
type Spectator struct {
	ID      string
	Filter  map[string]bool
	History []Event
	outbox  chan Event
	scratch []byte
}

func (s *Spectator) offer(e Event) {
	if !s.Filter[e.Kind] {
		return
	}
	select {
	case s.outbox <- e:
	default: // the viewer is slow; it will see the next one
	}
}

// topic is a table's list of viewers.
type topic struct {
	mu      sync.Mutex
	viewers map[*Spectator]func(Event)
}

// Hub has the topics.
type Hub struct {
	mu     sync.RWMutex
	topics map[string]*topic
}

func (h *Hub) topic(name string) *topic {
	h.mu.RLock()
	t := h.topics[name]
	h.mu.RUnlock()
	if t != nil {
		return t
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t = h.topics[name]; t == nil {
		t = &topic{viewers: map[*Spectator]func(Event){}}
		h.topics[name] = t
	}
	return t
}

func (h *Hub) Subscribe(table string, s *Spectator) (cancel func()) {
	t := h.topic(table)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.viewers[s] = s.offer // want: retained-objects
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.viewers, s)
	}
}

func (h *Hub) Publish(e Event) {
	t := h.topic(e.Table)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.viewers {
		f(e)
	}
}

type WatchHandler struct{ hub *Hub }

func newSpectator(id string) *Spectator {
	return &Spectator{
		ID:      id,
		Filter:  map[string]bool{"deal": true, "win": true},
		History: make([]Event, 0, 32),
		outbox:  make(chan Event, 64),   // want: retained-objects
		scratch: make([]byte, 0, 4<<10), // want: retained-objects
	}
}

func (h *WatchHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	s := newSpectator(r.URL.Query().Get("viewer")) // want: retained-objects
	for _, table := range r.URL.Query()["table"] {
		_ = h.hub.Subscribe(table, s) // want: retained-objects
	}
	if err := h.stream(c.CloseRead(r.Context()), c, s); err != nil && r.Context().Err() == nil {
		return
	}
}

func (h *WatchHandler) stream(ctx context.Context, c *websocket.Conn, s *Spectator) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-s.outbox:
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			s.scratch = append(s.scratch[:0], b...)
			if err := c.Write(ctx, websocket.MessageText, s.scratch); err != nil {
				return err
			}
		}
	}
}

func viewer(ctx context.Context, addr string, n int) error {
	url := fmt.Sprintf("ws://%s/watch?viewer=v%d&table=t%d&table=t%d", addr, n, rand.IntN(20), rand.IntN(20))
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	for range 2 {
		if _, _, err := c.Read(ctx); err != nil {
			return err
		}
	}
	return c.Close(websocket.StatusNormalClosure, "seen enough")
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

	hub := &Hub{topics: map[string]*topic{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/watch", &WatchHandler{hub})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()
	go func() {
		seq := 0
		for range time.Tick(25 * time.Millisecond) {
			for t := range 20 {
				seq++
				hub.Publish(Event{Table: fmt.Sprintf("t%d", t), Kind: []string{"deal", "win", "chat"}[seq%3], Seq: seq})
			}
		}
	}()
	for i := range 12 {
		go func() {
			for n := i; ctx.Err() == nil; n += 12 {
				if err := viewer(ctx, ln.Addr().String(), n); err != nil && ctx.Err() == nil {
					log.Print(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
