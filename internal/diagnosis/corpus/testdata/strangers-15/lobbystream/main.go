// lobbystream keeps one WebSocket per player in the lobby and pushes the lobby's state to all of them.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

type session struct {
	conn  *websocket.Conn
	send  chan []byte
	drops atomic.Int32
}

type Lobby struct {
	mu       sync.RWMutex
	sessions map[*session]struct{}
	pushed   atomic.Int64
}

func (l *Lobby) add(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions[s] = struct{}{}
}

func (l *Lobby) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s)
}

func (l *Lobby) Publish(msg []byte) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for s := range l.sessions {
		select {
		case s.send <- msg:
			l.pushed.Add(1)
		default:
			if s.drops.Add(1) == 20 {
				go s.conn.Close(websocket.StatusPolicyViolation, "too slow")
			}
		}
	}
}

func (l *Lobby) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	s := &session{conn: conn, send: make(chan []byte, 4)}
	l.add(s)
	defer l.remove(s)
	ctx := conn.CloseRead(r.Context())
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-s.send:
			wctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := conn.Write(wctx, websocket.MessageText, msg)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

func player(ctx context.Context, url string) error {
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			return err
		}
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	lobby := &Lobby{sessions: map[*session]struct{}{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, lobby)) }()

	const online = 1500
	sem := make(chan struct{}, 32)
	for range online {
		sem <- struct{}{}
		go func() {
			time.AfterFunc(5*time.Millisecond, func() { <-sem })
			if err := player(context.Background(), "ws://"+ln.Addr().String()); err != nil {
				log.Print(err)
			}
		}()
	}
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for n := 0; ; n++ {
		<-t.C
		lobby.Publish(fmt.Appendf(nil, `{"seq":%d,"online":%d,"jackpot":%d}`, n, online, 5000+n*7))
	}
}
