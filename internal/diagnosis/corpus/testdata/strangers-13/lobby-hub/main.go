// lobby-hub pushes table states and announcements to the players in the lobby
// over WebSocket.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

type session struct {
	id   int
	conn *websocket.Conn
	out  chan []byte
}

func (s *session) pump(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg := <-s.out:
			if err := s.conn.Write(ctx, websocket.MessageText, msg); err != nil {
				return err
			}
		}
	}
}

type hub struct {
	mu       sync.RWMutex
	nextID   int
	sessions map[int]*session
	events   chan []byte
}

func newHub() *hub {
	return &hub{sessions: make(map[int]*session), events: make(chan []byte, 64)}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	h.mu.Lock()
	h.nextID++
	s := &session{id: h.nextID, conn: c, out: make(chan []byte, 16)}
	h.sessions[s.id] = s
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.sessions, s.id)
		h.mu.Unlock()
	}()
	_ = s.pump(c.CloseRead(r.Context()))
}

func (h *hub) members() []*session {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]*session, 0, len(h.sessions))
	for _, s := range h.sessions {
		all = append(all, s)
	}
	return all
}

// run hands every event to every session, in order.
func (h *hub) run() {
	for ev := range h.events {
		for _, s := range h.members() {
			s.out <- ev // want: channel-backpressure
		}
	}
}

// publish is called by the table services.
func (h *hub) publish(kind string, tables []tableState) {
	b, err := json.Marshal(map[string]any{"kind": kind, "tables": tables, "at": time.Now().UnixMilli()})
	if err != nil {
		log.Printf("publish: %v", err)
		return
	}
	h.events <- b
}

type tableState struct {
	Name    string   `json:"name"`
	Players []string `json:"players"`
	Pot     int64    `json:"pot"`
}

func tables(n int) []tableState {
	ts := make([]tableState, n)
	for i := range ts {
		ts[i] = tableState{Name: strings.Repeat("t", 10), Players: []string{"amber", "basalt", "cobalt", "dune"}, Pot: int64(i) * 100}
	}
	return ts
}

type sizedConn struct{ net.Listener }

func (l sizedConn) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tc, ok := c.(*net.TCPConn); ok {
		_ = tc.SetWriteBuffer(32 << 10)
	}
	return c, err
}

// player reads its pushes; pause is how long its device takes for one.
func player(url string, pause time.Duration) {
	ctx := context.Background()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if tc, ok := c.(*net.TCPConn); ok {
			_ = tc.SetReadBuffer(32 << 10)
		}
		return c, err
	}}
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		log.Printf("dial: %v", err)
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

func main() {
	h := newHub()
	go h.run()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(sizedConn{ln}, h)) }()
	url := "ws://" + ln.Addr().String() + "/lobby"
	for i := 0; i < 80; i++ {
		pause := time.Millisecond
		if i%20 == 7 {
			pause = 450 * time.Millisecond
		}
		go player(url, pause)
	}
	state := tables(120)
	for _, kind := range []string{"state", "jackpot", "announcement"} {
		go func() {
			for range time.Tick(40 * time.Millisecond) {
				h.publish(kind, state)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
