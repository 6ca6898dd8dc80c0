// Bag counter: counts what players pick up.
package main

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type counter[K comparable] struct {
	mu sync.Mutex
	n  map[K]int
}

func (c *counter[K]) add(k K, by int) {
	c.mu.Lock()
	c.n[k] += by
	c.mu.Unlock()
}

func (c *counter[K]) take() map[K]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.n
	c.n = make(map[K]int, len(out))
	return out
}

type loot struct {
	seed  maphash.Seed
	drops counter[int]
	zones counter[string]
}

var zoneNames = []string{"harbour", "mines", "forest", "ruins", "keep"}

func (l *loot) roll(player int) (int, string) {
	var h maphash.Hash
	h.SetSeed(l.seed)
	for i := range 120 {
		h.WriteByte(byte(player >> (i % 8)))
		h.WriteByte(byte(i))
	}
	s := h.Sum64()
	return int(s % 4000), zoneNames[s%5]
}

func (l *loot) grind(ctx context.Context) {
	for ctx.Err() == nil {
		for range 300 {
			item, zone := l.roll(rand.IntN(1 << 20))
			l.drops.add(item, 1)
			l.zones.add(zone, 1)
		}
		time.Sleep(4 * time.Millisecond)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	runtime.SetMutexProfileFraction(20)
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	l := &loot{seed: maphash.MakeSeed()}
	l.drops.n, l.zones.n = map[int]int{}, map[string]int{}
	for range 24 {
		go l.grind(ctx)
	}
	go func() {
		for range time.Tick(2 * time.Second) {
			l.drops.take()
			l.zones.take()
		}
	}()
	<-ctx.Done()
}
