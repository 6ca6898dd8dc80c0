// spectator-feed streams the moves of a match to those who watch it.
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
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

type watcher struct {
	queue  chan []byte
	behind func()
}

type stream struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	dropped  atomic.Int64
	sent     atomic.Int64
}

func (s *stream) join(w *watcher) {
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
}

func (s *stream) leave(w *watcher) {
	s.mu.Lock()
	delete(s.watchers, w)
	s.mu.Unlock()
}

// broadcast queues b for every watcher; one whose queue is full is sent away.
func (s *stream) broadcast(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		select {
		case w.queue <- b:
			s.sent.Add(1)
		default:
			s.dropped.Add(1)
			delete(s.watchers, w)
			go w.behind()
		}
	}
}

func (s *stream) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(rw, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx, cancel := context.WithCancel(c.CloseRead(r.Context()))
	defer cancel()
	w := &watcher{queue: make(chan []byte, 32), behind: cancel}
	s.join(w)
	defer s.leave(w)
	for {
		select {
		case b := <-w.queue:
			wctx, done := context.WithTimeout(ctx, 2*time.Second)
			err := c.Write(wctx, websocket.MessageText, b)
			done()
			if err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

type shrunk struct{ net.Listener }

func (l shrunk) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(16 << 10)
	}
	return c, err
}

// watch reads the stream and comes back after it was sent away.
func watch(url string, pause time.Duration) {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetReadBuffer(16 << 10)
		}
		return c, err
	}}
	hc := &http.Client{Transport: tr}
	for {
		once(url, hc, pause)
		time.Sleep(500 * time.Millisecond)
	}
}

func once(url string, hc *http.Client, pause time.Duration) {
	ctx := context.Background()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: hc})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			return
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

type move struct {
	Seq   int    `json:"seq"`
	Board []int  `json:"board"`
	Clock [2]int `json:"clock"`
}

func main() {
	s := &stream{watchers: make(map[*watcher]struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(shrunk{ln}, s)) }()
	url := "ws://" + ln.Addr().String() + "/match/77"
	for i := range 100 {
		pause := time.Duration(0)
		if i >= 96 {
			pause = 600 * time.Millisecond
		}
		go watch(url, pause)
	}
	go func() {
		seq := 0
		for range time.Tick(50 * time.Millisecond) {
			seq++
			b, err := json.Marshal(move{Seq: seq, Board: rand.Perm(420), Clock: [2]int{seq / 20, seq / 21}})
			if err == nil {
				s.broadcast(b)
			}
		}
	}()
	go func() {
		for range time.Tick(10 * time.Second) {
			log.Printf("sent %d dropped %d", s.sent.Load(), s.dropped.Load())
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
