// Command ok-avatar-lru serves avatars from a bounded cache.
package main

import (
	"container/list"
	"context"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// LRU keeps at most max values.
type LRU[K comparable, V any] struct {
	mu    sync.Mutex
	max   int
	order *list.List
	by    map[K]*list.Element
	load  func(K) (V, error)
	hits  int
	miss  int
}

type pair[K comparable, V any] struct {
	k K
	v V
}

func NewLRU[K comparable, V any](max int, load func(K) (V, error)) *LRU[K, V] {
	return &LRU[K, V]{max: max, order: list.New(), by: map[K]*list.Element{}, load: load}
}

func (c *LRU[K, V]) peek(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.by[k]
	if !ok {
		c.miss++
		return v, false
	}
	c.hits++
	c.order.MoveToFront(e)
	return e.Value.(pair[K, V]).v, true
}

func (c *LRU[K, V]) Get(k K) (V, error) {
	if v, ok := c.peek(k); ok {
		return v, nil
	}
	v, err := c.load(k)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.by[k]; ok {
		return v, nil
	}
	c.by[k] = c.order.PushFront(pair[K, V]{k, v})
	for c.order.Len() > c.max {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.by, last.Value.(pair[K, V]).k)
	}
	return v, nil
}

// Avatar is a rendered picture with its sizes.
type Avatar struct {
	Player int
	Pixels []byte
}

func render(player int) (*Avatar, error) {
	p := make([]byte, 16<<10)
	for i := 0; i < len(p); i += 64 {
		p[i] = byte(player + i)
	}
	return &Avatar{player, p}, nil
}

// popular gives few players often and many seldom.
func popular(n int) int {
	x := rand.Float64()
	return int(x * x * x * float64(n))
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

	cache := NewLRU(3000, render)
	for p := range 3000 {
		if _, err := cache.Get(p); err != nil {
			log.Print(err)
		}
	}
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				for range 40 {
					if _, err := cache.Get(popular(20000)); err != nil {
						log.Print(err)
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
