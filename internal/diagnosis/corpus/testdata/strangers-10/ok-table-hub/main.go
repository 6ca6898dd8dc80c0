package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

type event struct {
	Table int      `json:"table"`
	Seq   int64    `json:"seq"`
	Cards []string `json:"cards"`
}

type seat struct {
	out  chan []byte
	gone context.CancelFunc
}

type hub struct {
	mu      sync.RWMutex
	seats   map[int]map[*seat]struct{}
	dropped atomic.Int64
}

func (h *hub) join(table int, s *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.seats[table]
	if m == nil {
		m = map[*seat]struct{}{}
		h.seats[table] = m
	}
	m[s] = struct{}{}
}

func (h *hub) leave(table int, s *seat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.seats[table], s)
}

func (h *hub) publish(e event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for s := range h.seats[e.Table] {
		select {
		case s.out <- b:
		default:
			h.dropped.Add(1)
			s.gone()
		}
	}
	return nil
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var table int
	if _, err := fmt.Sscan(r.PathValue("table"), &table); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx, cancel := context.WithCancel(c.CloseRead(r.Context()))
	defer cancel()
	s := &seat{out: make(chan []byte, 32), gone: cancel}
	h.join(table, s)
	defer h.leave(table, s)
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-s.out:
			wctx, done := context.WithTimeout(ctx, 2*time.Second)
			err := c.Write(wctx, websocket.MessageText, b)
			done()
			if err != nil {
				return
			}
		}
	}
}

func (h *hub) deal(table int, every time.Duration) {
	suits := []string{"S", "H", "D", "C"}
	var seq int64
	for range time.Tick(every) {
		seq++
		e := event{Table: table, Seq: seq}
		for range 3 {
			e.Cards = append(e.Cards, fmt.Sprintf("%s%d", suits[rand.IntN(4)], 1+rand.IntN(13)))
		}
		if err := h.publish(e); err != nil {
			log.Print(err)
		}
	}
}

func watch(ctx context.Context, url string, stay time.Duration) error {
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(ctx, stay)
	defer cancel()
	var last int64
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(b, &e); err != nil {
			return err
		}
		if last != 0 && e.Seq != last+1 {
			return fmt.Errorf("gap at %d", e.Seq)
		}
		last = e.Seq
	}
}

func main() {
	h := &hub{seats: map[int]map[*seat]struct{}{}}
	mux := http.NewServeMux()
	mux.Handle("GET /tables/{table}", h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)
	const tables = 12
	for t := range tables {
		go h.deal(t, 250*time.Millisecond)
	}
	for i := range 360 {
		go func() {
			url := fmt.Sprintf("ws://%s/tables/%d", l.Addr(), i%tables)
			for {
				err := watch(context.Background(), url, time.Duration(20+rand.IntN(40))*time.Second)
				if !errors.Is(err, context.DeadlineExceeded) {
					log.Print(err)
				}
				time.Sleep(200 * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
