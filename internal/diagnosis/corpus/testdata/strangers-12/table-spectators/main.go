// Command table-spectators pushes the state of a table to its spectators over
// WebSocket.
package main

import (
	"context"
	"encoding/json"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

type spectator struct {
	out     chan []byte
	slow    context.CancelFunc
	dropped int
}

type Table struct {
	mu   sync.Mutex
	subs map[*spectator]struct{}
}

func (t *Table) join(s *spectator) (leave func()) {
	t.mu.Lock()
	t.subs[s] = struct{}{}
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		delete(t.subs, s)
		t.mu.Unlock()
	}
}

// Broadcast never waits: who does not keep up is disconnected.
func (t *Table) Broadcast(msg []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.subs {
		select {
		case s.out <- msg:
		default:
			if s.dropped++; s.dropped > 32 {
				s.slow()
			}
		}
	}
}

func (t *Table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx, cancel := context.WithCancel(c.CloseRead(r.Context()))
	defer cancel()
	s := &spectator{out: make(chan []byte, 16), slow: cancel}
	defer t.join(s)()
	for {
		select {
		case msg := <-s.out:
			if err := s.write(ctx, c, msg); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *spectator) write(ctx context.Context, c *websocket.Conn, msg []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Write(ctx, websocket.MessageText, msg)
}

type state struct {
	Hand int      `json:"hand"`
	Pot  int      `json:"pot"`
	Odds [3]int   `json:"odds"`
	Seat []string `json:"seat"`
}

func (t *Table) deal(every time.Duration) {
	st := state{Seat: []string{"ann", "bo", "cy", "di"}}
	for range time.Tick(every) {
		st.Hand++
		st.Pot += rand.IntN(200)
		st.Odds[st.Hand%3] = rand.IntN(100)
		msg, err := json.Marshal(st)
		if err != nil {
			log.Print(err)
			continue
		}
		t.Broadcast(msg)
	}
}

func watch(ctx context.Context, url string) error {
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return err
		}
	}
}

func main() {
	t := &Table{subs: map[*spectator]struct{}{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, t)) }()
	go t.deal(400 * time.Millisecond)
	go func() {
		for range 260 {
			go func() {
				for {
					if err := watch(context.Background(), "ws://"+ln.Addr().String()+"/table"); err != nil {
						log.Print(err)
					}
					time.Sleep(time.Second)
				}
			}()
			time.Sleep(6 * time.Millisecond)
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
