// Command ok-seat-counters counts who is at which table; many goroutines use
// the same few mutexes for some nanoseconds.
package main

import (
	"context"
	"encoding/json"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type counter struct {
	mu    sync.Mutex
	in    int
	peak  int
	moves uint64
}

func (c *counter) add(n int) {
	c.mu.Lock()
	c.in += n
	c.peak = max(c.peak, c.in)
	c.moves++
	c.mu.Unlock()
}

func (c *counter) read() (in, peak int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in, c.peak
}

type Floor struct {
	mu     sync.RWMutex
	tables map[string]*counter
}

func (f *Floor) table(name string) *counter {
	f.mu.RLock()
	c := f.tables[name]
	f.mu.RUnlock()
	if c != nil {
		return c
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c = f.tables[name]; c == nil {
		c = &counter{}
		f.tables[name] = c
	}
	return c
}

type Stat struct{ In, Peak int }

func (f *Floor) Stats() map[string]Stat {
	f.mu.RLock()
	names := slices.Collect(maps.Keys(f.tables))
	f.mu.RUnlock()
	out := make(map[string]Stat, len(names))
	for _, n := range names {
		in, peak := f.table(n).read()
		out[n] = Stat{in, peak}
	}
	return out
}

type Wallet struct {
	sync.Mutex
	balance int64
}

func (w *Wallet) Move(n int64) bool {
	w.Lock()
	defer w.Unlock()
	if w.balance+n < 0 {
		return false
	}
	w.balance += n
	return true
}

type Guest struct {
	floor *Floor
	house *Wallet
	names []string
}

func (g *Guest) evening(ctx context.Context) {
	for ctx.Err() == nil {
		t := g.floor.table(g.names[rand.IntN(len(g.names))])
		t.add(1)
		for range 60 {
			g.house.Move(rand.Int64N(41) - 20)
		}
		t.add(-1)
		time.Sleep(time.Duration(1+rand.IntN(4)) * time.Millisecond)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	floor, house := &Floor{tables: map[string]*counter{}}, &Wallet{balance: 1 << 40}
	var names []string
	for i := range 12 {
		names = append(names, "table-"+strconv.Itoa(i))
	}
	for range 50 {
		go (&Guest{floor: floor, house: house, names: names}).evening(ctx)
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if _, err := json.Marshal(floor.Stats()); err != nil {
				log.Print(err)
			}
		}
	}
}
