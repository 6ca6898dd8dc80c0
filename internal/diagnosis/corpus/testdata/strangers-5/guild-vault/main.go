package main

import (
	"context"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type vault struct {
	mu   sync.Mutex
	gold int64
}

type roster struct {
	mu      sync.Mutex
	members map[int]int64
}

type guild struct {
	*vault
	*roster
}

type audit struct{ entries atomic.Int64 }

func (a *audit) note(kind string, amount int64) {
	a.entries.Add(1)
	runtime.Gosched()
}

type service struct {
	guild
	audit audit
	alive atomic.Int64
}

func (s *service) donate(player int, amount int64) {
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	s.gold += amount
	s.audit.note("donate", amount)
	s.credit(player, amount)
}

func (s *service) credit(player int, amount int64) {
	s.roster.mu.Lock() // want: deadlock
	defer s.roster.mu.Unlock()
	s.members[player] += amount
}

func (s *service) payout(player int) {
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	share := s.members[player] / 2
	s.members[player] -= share
	s.audit.note("payout", share)
	s.withdraw(share)
}

func (s *service) withdraw(amount int64) {
	s.vault.mu.Lock() // want: deadlock
	defer s.vault.mu.Unlock()
	s.gold -= amount
}

func every(ctx context.Context, d time.Duration, fn func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			fn()
		case <-ctx.Done():
			return
		}
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	s := &service{guild: guild{&vault{}, &roster{members: map[int]int64{}}}}
	for i := 0; i < 16; i++ {
		go every(ctx, time.Millisecond, func() { s.donate(rand.Intn(50), 10) })
		go every(ctx, time.Millisecond, func() { s.payout(rand.Intn(50)) })
	}
	go every(ctx, 50*time.Millisecond, func() { s.alive.Add(1) })
	<-ctx.Done()
}
