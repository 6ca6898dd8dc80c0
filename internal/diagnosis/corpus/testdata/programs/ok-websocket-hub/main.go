// Ok-websocket-hub has a few hundred players connected and little to tell them.
package main

import (
	"bufio"
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

type client struct{ send chan []byte }

type hub struct {
	mu      sync.Mutex
	clients map[*client]struct{}
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	c := &client{make(chan []byte, 16)}
	h.mu.Lock()
	h.clients[c] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.clients, c)
		h.mu.Unlock()
	}()
	ctx := ws.CloseRead(r.Context())
	for {
		select {
		case msg := <-c.send:
			if err := ws.Write(ctx, websocket.MessageText, msg); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (h *hub) broadcast(msg []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		select {
		case c.send <- msg:
		default: // too slow
		}
	}
}

func audience(ctx context.Context, l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	url, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	for range 400 {
		ws, _, err := websocket.Dial(ctx, strings.TrimSpace(url), nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		go func() {
			for {
				if _, _, err := ws.Read(ctx); err != nil {
					return
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
	h := &hub{clients: map[*client]struct{}{}}
	url := s.Serve(http.HandlerFunc(h.serve))
	conn, err := net.Dial("tcp", s.Spawn("audience"))
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(conn, "ws%s/\n", strings.TrimPrefix(url, "http"))
	go func() {
		for {
			h.broadcast([]byte("tick"))
			time.Sleep(2 * time.Second)
		}
	}()
	s.Wait()
}
