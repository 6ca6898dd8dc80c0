// Command ok-idle-sockets holds the push connections of players that are
// mostly idle: a ping now and then, an announcement at times.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/opscenter/opscenter/agent"
)

type session struct {
	player string
	conn   *websocket.Conn
	outbox chan []byte
}

// deliver writes what is in the outbox until the session ends.
func (s *session) deliver(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg := <-s.outbox:
			wctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			err := s.conn.Write(wctx, websocket.MessageText, msg)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

type Hub struct {
	mu       sync.RWMutex
	sessions map[*session]struct{}
	dropped  atomic.Int64
}

func (h *Hub) join(s *session) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions[s] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.sessions, s)
	}
}

// Announce offers a message to each session and does not wait for anyone.
func (h *Hub) Announce(msg []byte) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := range h.sessions {
		select {
		case s.outbox <- msg:
		default:
			h.dropped.Add(1)
		}
	}
}

func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	s := &session{player: r.URL.Query().Get("p"), conn: c, outbox: make(chan []byte, 8)}
	defer h.join(s)()
	if err := s.deliver(c.CloseRead(r.Context())); err != nil && !errors.Is(err, context.Canceled) {
		log.Printf("%s: %v", s.player, err)
	}
}

func player(ctx context.Context, url string, got *atomic.Int64) error {
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return err
		}
		got.Add(1)
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

	hub := &Hub{sessions: map[*session]struct{}{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: hub}
	go func() { _ = srv.Serve(ln) }()

	var got atomic.Int64
	slots := make(chan struct{}, 16)
	go func() {
		for i := range 800 {
			slots <- struct{}{}
			go func() {
				time.AfterFunc(20*time.Millisecond, func() { <-slots })
				url := fmt.Sprintf("ws://%s/push?p=p%d", ln.Addr(), i)
				if err := player(ctx, url, &got); err != nil && ctx.Err() == nil {
					log.Print(err)
				}
			}()
		}
	}()
	t := time.NewTicker(1500 * time.Millisecond)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			_ = srv.Close()
			return
		case <-t.C:
			hub.Announce(fmt.Appendf(nil, "jackpot #%d at %d", n, rand.IntN(1e6)))
		}
	}
}
