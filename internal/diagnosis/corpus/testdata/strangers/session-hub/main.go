package main

import (
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"time"
)

type Session struct {
	mu       sync.Mutex
	ID       int64
	LastSeen time.Time
	Offline  bool
}

// Beat is what a client sends every few seconds.
type Beat struct {
	Session int64
	At      time.Time
	Payload [256]byte
}

type SessionRegistry struct {
	mu       sync.RWMutex
	sessions map[int64]*Session
	idle     time.Duration
}

func (r *SessionRegistry) find(id int64) *Session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.sessions[id]
}

// Touch notes that the client is alive and plans the idle check.
func (r *SessionRegistry) Touch(b *Beat) {
	s := r.find(b.Session)
	if s == nil {
		return
	}
	s.mu.Lock()
	s.LastSeen = b.At
	s.Offline = false
	s.mu.Unlock()
	time.AfterFunc(r.idle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.LastSeen.After(b.At) {
			s.Offline = true
		}
	})
}

type Standing struct {
	Player int64
	Points int64
}

// Scoreboard ranks the players of the running event.
type Scoreboard struct {
	mu     sync.Mutex
	points map[int64]int64
	top    []Standing
}

func (b *Scoreboard) Credit(player, points int64) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.points[player] += points
	b.top = b.top[:0]
	for id, p := range b.points {
		b.top = append(b.top, Standing{id, p})
	}
	sort.Slice(b.top, func(i, j int) bool { return b.top[i].Points > b.top[j].Points })
	return len(b.top)
}

type Gateway struct {
	registry *SessionRegistry
	board    *Scoreboard
}

func (g *Gateway) heartbeats(ids []int64) {
	for range time.Tick(20 * time.Millisecond) {
		for range 15 {
			g.registry.Touch(&Beat{Session: ids[rand.IntN(len(ids))], At: time.Now()})
		}
	}
}

func (g *Gateway) bets(ids []int64) {
	for {
		g.board.Credit(ids[rand.IntN(len(ids))], 1+rand.Int64N(20))
		time.Sleep(time.Duration(500+rand.IntN(1000)) * time.Microsecond)
	}
}

func main() {
	// agent-hook
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()
	reg := &SessionRegistry{sessions: map[int64]*Session{}, idle: 45 * time.Minute}
	board := &Scoreboard{points: map[int64]int64{}}
	var ids []int64
	for i := range int64(900) {
		reg.sessions[i] = &Session{ID: i, LastSeen: time.Now()}
		board.points[i] = rand.Int64N(1000)
		ids = append(ids, i)
	}
	g := &Gateway{registry: reg, board: board}
	for range 4 {
		go g.heartbeats(ids)
	}
	for range 16 {
		go g.bets(ids)
	}
	awaitShutdown()
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}
