// Gateway-websocket pushes the lobby's news to its players.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type player struct {
	ws  *websocket.Conn
	out chan []byte
}

type hub struct {
	mu      sync.Mutex
	players map[*player]struct{}
	news    chan []byte
}

func (h *hub) accept(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	p := &player{ws: ws, out: make(chan []byte, 8)}
	h.mu.Lock()
	h.players[p] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.players, p)
		h.mu.Unlock()
	}()
	for msg := range p.out {
		if err := ws.Write(r.Context(), websocket.MessageBinary, msg); err != nil {
			return
		}
	}
}

func (h *hub) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-h.news:
			h.each(func(p *player) { h.deliver(ctx, p, msg) })
		}
	}
}

func (h *hub) each(do func(*player)) {
	h.mu.Lock()
	all := make([]*player, 0, len(h.players))
	for p := range h.players {
		all = append(all, p)
	}
	h.mu.Unlock()
	for _, p := range all {
		do(p)
	}
}

func (h *hub) deliver(ctx context.Context, p *player, msg []byte) {
	select { // want: channel-backpressure
	case p.out <- msg: // want: channel-backpressure
	case <-ctx.Done():
	}
}

// audience connects: most read, every tenth hardly does.
func audience(ctx context.Context, l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	url := strings.TrimSpace(string(buf[:n]))
	for i := range 30 {
		ws, _, err := websocket.Dial(ctx, url, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		ws.SetReadLimit(-1)
		go func() {
			for ctx.Err() == nil {
				if _, _, err := ws.Read(ctx); err != nil {
					return
				}
				if i%10 == 0 {
					time.Sleep(150 * time.Millisecond)
				}
			}
		}()
	}
	<-ctx.Done()
	return nil
}

func main() {
	stage.Child("audience", audience)
	s := stage.Start()
	h := &hub{players: map[*player]struct{}{}, news: make(chan []byte, 64)}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", h.accept)
	url := s.Serve(mux)
	conn, err := net.Dial("tcp", s.Spawn("audience"))
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(conn, "ws%s/ws\n", strings.TrimPrefix(url, "http"))
	go h.run(s.Context())
	go func() {
		for n := 0; ; n++ {
			h.news <- make([]byte, 256<<10)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	s.Wait()
}
