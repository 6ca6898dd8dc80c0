// Command ok-shard-wallet books stakes on wallets that are split over shards.
package main

import (
	"context"
	"errors"
	"hash/maphash"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// Sharded is a map whose keys are split over locks.
type Sharded[K comparable, V any] struct {
	seed   maphash.Seed
	shards [64]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]V
	_  [40]byte
}

func NewSharded[K comparable, V any]() *Sharded[K, V] {
	s := &Sharded[K, V]{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].m = map[K]V{}
	}
	return s
}

func (s *Sharded[K, V]) index(k K) int {
	return int(maphash.Comparable(s.seed, k) % uint64(len(s.shards)))
}

// Two runs f with both keys' shards locked, in the order of the shards.
func (s *Sharded[K, V]) Two(a, b K, f func(ma, mb map[K]V) error) error {
	at := []int{s.index(a), s.index(b)}
	sort.Ints(at)
	s.shards[at[0]].mu.Lock()
	defer s.shards[at[0]].mu.Unlock()
	if at[1] != at[0] {
		s.shards[at[1]].mu.Lock()
		defer s.shards[at[1]].mu.Unlock()
	}
	return f(s.shards[s.index(a)].m, s.shards[s.index(b)].m)
}

func (s *Sharded[K, V]) Each(f func(K, V)) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for k, v := range sh.m {
			f(k, v)
		}
		sh.mu.Unlock()
	}
}

// ---- wallets ----

var errFunds = errors.New("not enough funds")

type Wallets struct {
	w       *Sharded[uint32, int64]
	refused atomic.Int64
}

func (w *Wallets) Transfer(from, to uint32, n int64) error {
	err := w.w.Two(from, to, func(mf, mt map[uint32]int64) error {
		if mf[from] < n {
			return errFunds
		}
		mf[from] -= n
		mt[to] += n
		return nil
	})
	if errors.Is(err, errFunds) {
		w.refused.Add(1)
		return nil
	}
	return err
}

func (w *Wallets) Sum() (sum int64) {
	w.w.Each(func(_ uint32, n int64) { sum += n })
	return sum
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

	const players = 20000
	w := &Wallets{w: NewSharded[uint32, int64]()}
	for p := range uint32(players) {
		_ = w.w.Two(p, p, func(m, _ map[uint32]int64) error { m[p] = 1000; return nil })
	}
	for range 24 {
		go func() {
			for ctx.Err() == nil {
				for range 60 {
					if err := w.Transfer(rand.Uint32N(players), rand.Uint32N(players), rand.Int64N(50)); err != nil {
						log.Print(err)
					}
				}
				time.Sleep(time.Duration(5+rand.IntN(10)) * time.Millisecond)
			}
		}()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if got := w.Sum(); got < 0 {
				log.Print("sum is ", got)
			}
		}
	}
}
