// Mob AI: every monster of a zone thinks for itself.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type mob struct {
	x, y, dx, dy float32
	thoughts     atomic.Uint32
}

func (m *mob) think() {
	m.x += m.dx
	m.y += m.dy
	if m.x < 0 || m.x > 1000 {
		m.dx = -m.dx
	}
	if m.y < 0 || m.y > 1000 {
		m.dy = -m.dy
	}
	m.thoughts.Add(1)
}

func every(ctx context.Context, d time.Duration, fn func()) {
	t := time.NewTicker(d) // want: timer-storm
	defer t.Stop()
	for {
		select {
		case <-t.C: // want: timer-storm
			fn()
		case <-ctx.Done():
			return
		}
	}
}

type zone struct {
	mobs []*mob
}

func (z *zone) wake(ctx context.Context, pace time.Duration) {
	for _, m := range z.mobs {
		go every(ctx, pace+rand.N(pace/4), m.think) // want: timer-storm
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	var zones []*zone
	for range 8 {
		z := &zone{}
		for range 500 {
			z.mobs = append(z.mobs, &mob{x: rand.Float32() * 1000, y: rand.Float32() * 1000, dx: rand.Float32(), dy: rand.Float32()})
		}
		z.wake(ctx, 4*time.Millisecond)
		zones = append(zones, z)
	}
	<-ctx.Done()
	_ = zones
}
