package main

import (
	"context"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type Event struct {
	Room   int
	Player int64
	Kind   string
}

type Subscription struct {
	room   int
	events chan Event
	typing chan Event
}

type RoomBus struct {
	mu    sync.Mutex
	rooms map[int]map[*Subscription]struct{}
}

func (b *RoomBus) Subscribe(room int) *Subscription {
	s := &Subscription{room: room, events: make(chan Event, 8), typing: make(chan Event, 8)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rooms[room] == nil {
		b.rooms[room] = map[*Subscription]struct{}{}
	}
	b.rooms[room][s] = struct{}{}
	return s
}

func (b *RoomBus) Unsubscribe(s *Subscription) {
	b.mu.Lock()
	delete(b.rooms[s.room], s)
	b.mu.Unlock()
}

func (b *RoomBus) Publish(ev Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.rooms[ev.Room] {
		select {
		case s.events <- ev:
		default:
		}
	}
}

// Feed is the per-connection view of a room.
type Feed struct {
	sub  *Subscription
	seen map[int64]time.Time
}

func (f *Feed) follow() {
	for {
		select {
		case ev := <-f.sub.events:
			f.seen[ev.Player] = time.Now()
		case ev := <-f.sub.typing:
			delete(f.seen, ev.Player)
		}
	}
}

type PresenceService struct {
	bus    *RoomBus
	online atomic.Int64
}

func (p *PresenceService) Attach(ctx context.Context, room int) *Subscription {
	f := &Feed{sub: p.bus.Subscribe(room), seen: make(map[int64]time.Time, 8)}
	p.online.Add(1)
	go f.follow()
	return f.sub
}

func (p *PresenceService) Detach(s *Subscription) {
	p.bus.Unsubscribe(s)
	p.online.Add(-1)
}

// visit is one player stopping by a room.
func visit(ctx context.Context, p *PresenceService, room int, player int64) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(200+rand.IntN(800))*time.Millisecond)
	defer cancel()
	sub := p.Attach(ctx, room)
	defer p.Detach(sub)
	p.bus.Publish(Event{Room: room, Player: player, Kind: "enter"})
	<-ctx.Done()
	p.bus.Publish(Event{Room: room, Player: player, Kind: "leave"})
}

func main() {
	// agent-hook
	startDiagnostics()
	svc := &PresenceService{bus: &RoomBus{rooms: map[int]map[*Subscription]struct{}{}}}
	ctx := context.Background()
	for door := range 80 {
		go func() {
			for n := int64(0); ; n++ {
				visit(ctx, svc, rand.IntN(50), int64(door)<<32|n)
			}
		}()
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
