package main

import (
	"context"
	"encoding/binary"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type multimap[K comparable, V any] struct {
	mu    sync.RWMutex
	items map[K][]V
}

func newMultimap[K comparable, V any]() *multimap[K, V] {
	return &multimap[K, V]{items: map[K][]V{}}
}

func (m *multimap[K, V]) add(k K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items[k] = append(m.items[k], v) // want: heap-growth
}

func (m *multimap[K, V]) last(k K) (v V, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.items[k]
	if len(l) == 0 {
		return v, false
	}
	return l[len(l)-1], true
}

type replay struct {
	match  uint64
	frames []byte
}

func encode(match uint64, frames int) *replay {
	b := make([]byte, 0, frames*16) // want: heap-growth
	for i := 0; i < frames; i++ {
		b = binary.LittleEndian.AppendUint64(b, match)
		b = binary.LittleEndian.AppendUint64(b, rand.Uint64())
	}
	return &replay{match: match, frames: b}
}

type spectate struct {
	recent *multimap[int, *replay]
}

func (s *spectate) onMatchEnd(players []int, r *replay) {
	for _, p := range players {
		s.recent.add(p, r) // want: heap-growth
	}
}

func (s *spectate) watch(player int) int {
	r, ok := s.recent.last(player)
	if !ok {
		return 0
	}
	return len(r.frames)
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	s := &spectate{recent: newMultimap[int, *replay]()}
	go func() {
		for ctx.Err() == nil {
			_ = s.watch(rand.Intn(2000))
			time.Sleep(2 * time.Millisecond)
		}
	}()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for match := uint64(1); ; match++ {
		select {
		case <-t.C:
			s.onMatchEnd([]int{rand.Intn(2000), rand.Intn(2000)}, encode(match, 2000))
		case <-ctx.Done():
			return
		}
	}
}
