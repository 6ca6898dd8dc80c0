// Command presence-rooms tells who is in a room and what they are doing.
package main

import (
	"context"
	"encoding/json"
	"fmt"
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

type Status struct {
	Player int    `json:"player"`
	Doing  string `json:"doing"`
	Idle   string `json:"idle,omitempty"`
}

type state struct {
	doing string
	since time.Time
}

// Presence knows rooms and players.
type Presence struct {
	mu      sync.RWMutex
	rooms   map[int][]int
	players map[int]state
}

func NewPresence() *Presence {
	return &Presence{rooms: map[int][]int{}, players: map[int]state{}}
}

func (p *Presence) Set(player int, doing string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.players[player] = state{doing, time.Now()}
}

func (p *Presence) Enter(room, player int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rooms[room] = append(p.rooms[room], player)
}

// EachIn calls f for every player of the room.
func (p *Presence) EachIn(room int, f func(player int)) {
	p.mu.RLock() // want: deadlock
	defer p.mu.RUnlock()
	for _, id := range p.rooms[room] {
		f(id) // want: deadlock
	}
}

func (p *Presence) Of(player int) (doing string, since time.Time) {
	p.mu.RLock() // want: deadlock
	defer p.mu.RUnlock()
	s := p.players[player]
	return s.doing, s.since
}

// ---- view ----

type View interface {
	Room(room int) []Status
}

type liveView struct {
	p   *Presence
	now func() time.Time
}

func (v liveView) status(player int) Status {
	doing, since := v.p.Of(player) // want: deadlock
	s := Status{Player: player, Doing: doing}
	if d := v.now().Sub(since); d > time.Minute {
		s.Idle = d.Round(time.Second).String()
	}
	return s
}

func (v liveView) Room(room int) (list []Status) {
	v.p.EachIn(room, func(id int) { // want: deadlock
		list = append(list, v.status(id)) // want: deadlock
	})
	return list
}

func routes(p *Presence, v View) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
		room, err := strconv.Atoi(r.PathValue("room"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(v.Room(room))
	})
	mux.HandleFunc("GET /set/{player}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("player"))
		p.Set(id, r.FormValue("doing"))
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	p := NewPresence()
	for i := range 4000 {
		p.Set(i, "lobby")
		p.Enter(i%40, i)
	}
	url := serve(routes(p, liveView{p, time.Now}))
	doing := []string{"lobby", "playing", "watching"}
	drive(ctx, 20, 5*time.Millisecond, func() string { return fmt.Sprintf("%s/rooms/%d", url, rand.IntN(40)) })
	drive(ctx, 12, 5*time.Millisecond, func() string {
		return fmt.Sprintf("%s/set/%d?doing=%s", url, rand.IntN(4000), doing[rand.IntN(3)])
	})
	<-ctx.Done()
}
