// Command room-roster keeps the seats of game rooms.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Seat struct {
	Player int
	Chips  int64
}

type Room struct {
	mu    sync.RWMutex
	seats []Seat
	round int
}

// Total is the sum of the chips on the table.
func (r *Room) Total() int64 {
	r.mu.RLock() // want: deadlock
	defer r.mu.RUnlock()
	var n int64
	for _, s := range r.seats {
		n += s.Chips
	}
	return n
}

type Summary struct {
	Round int
	Total int64
	Seats []Seat
}

func (r *Room) Summary() Summary {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := Summary{Round: r.round, Seats: make([]Seat, 0, len(r.seats))}
	for _, seat := range r.seats {
		if seat.Player != 0 {
			s.Seats = append(s.Seats, seat)
		}
	}
	return withTotal(s, r) // want: deadlock
}

type totaler interface{ Total() int64 }

func withTotal(s Summary, t totaler) Summary {
	s.Total = t.Total() // want: deadlock
	return s
}

func (r *Room) Bet(player int, chips int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.seats[player%len(r.seats)]
	s.Player, s.Chips = player, s.Chips+chips
	r.round++
}

type Hall struct{ rooms []*Room }

func (h *Hall) room(r *http.Request) *Room {
	n, _ := strconv.Atoi(r.URL.Query().Get("room"))
	return h.rooms[n%len(h.rooms)]
}

func (h *Hall) summary(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(h.room(r).Summary())
}

func (h *Hall) bet(w http.ResponseWriter, r *http.Request) {
	h.room(r).Bet(1+rand.IntN(500), rand.Int64N(100))
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	ctx, _, done := boot()
	defer done()
	h := &Hall{}
	for range 2 {
		h.rooms = append(h.rooms, &Room{seats: make([]Seat, 600)})
	}
	m := http.NewServeMux()
	m.HandleFunc("GET /summary", h.summary)
	m.HandleFunc("GET /bet", h.bet)
	url := serve(m)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	players(ctx, 24, time.Millisecond, func(i int) error { return call(c, url+"/summary?room="+strconv.Itoa(i)) })
	players(ctx, 24, time.Millisecond, func(i int) error { return call(c, url+"/bet?room="+strconv.Itoa(i)) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
