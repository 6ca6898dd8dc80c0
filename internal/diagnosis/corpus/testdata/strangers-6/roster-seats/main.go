// Command roster-seats keeps who sits where and pushes room snapshots.
package main

import (
	"context"
	"encoding/json"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// seats is the shared part of all kinds of rooms.
type seats struct {
	mu   sync.RWMutex
	byID map[string]int
	cap  int
}

func (s *seats) Sit(player string, seat int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) >= s.cap {
		return false
	}
	s.byID[player] = seat
	return true
}

func (s *seats) Leave(player string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, player)
}

// Free says how many seats are left.
func (s *seats) Free() int {
	s.mu.RLock() // want: deadlock
	defer s.mu.RUnlock()
	return s.cap - len(s.byID)
}

// Each calls f for every player in order.
func (s *seats) Each(f func(player string, seat int)) {
	s.mu.RLock() // want: deadlock
	defer s.mu.RUnlock()
	names := make([]string, 0, len(s.byID))
	for n := range s.byID {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		f(n, s.byID[n]) // want: deadlock
	}
}

type Room struct {
	seats
	Name    string
	version atomic.Uint64
}

type SeatView struct {
	Player string `json:"player"`
	Seat   int    `json:"seat"`
	Open   int    `json:"open"`
}

// Snapshot is what watchers of the room get.
func (r *Room) Snapshot() ([]byte, error) {
	var views []SeatView
	r.Each(func(player string, seat int) { // want: deadlock
		views = append(views, SeatView{Player: player, Seat: seat, Open: r.Free()}) // want: deadlock
	})
	return json.Marshal(struct {
		Room    string     `json:"room"`
		Version uint64     `json:"version"`
		Seats   []SeatView `json:"seats"`
	}{r.Name, r.version.Add(1), views})
}

// Pusher sends a room's snapshots to its watchers.
type Pusher struct {
	room *Room
	sent atomic.Int64
}

func (p *Pusher) Run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			b, err := p.room.Snapshot()
			if err != nil {
				log.Print(err)
				continue
			}
			p.sent.Add(int64(len(b)))
		}
	}
}

type Player struct {
	name string
	room *Room
}

func (p *Player) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if p.room.Sit(p.name, rand.IntN(64)) {
			time.Sleep(time.Duration(1+rand.IntN(8)) * time.Millisecond)
			p.room.Leave(p.name)
		}
		time.Sleep(time.Duration(1+rand.IntN(4)) * time.Millisecond)
	}
}

func pprofOn(addr string) {
	if addr == "" {
		return
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	go func() { log.Print(http.ListenAndServe(addr, m)) }()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	pprofOn(os.Getenv("PPROF_ADDR"))
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	for i := range 6 {
		room := &Room{seats: seats{byID: map[string]int{}, cap: 64}, Name: "room-" + strconv.Itoa(i)}
		for j := range 3 {
			go (&Pusher{room: room}).Run(ctx, time.Duration(3+j)*time.Millisecond)
		}
		for j := range 20 {
			go (&Player{name: "p" + strconv.Itoa(j), room: room}).Run(ctx)
		}
	}
	<-ctx.Done()
}
