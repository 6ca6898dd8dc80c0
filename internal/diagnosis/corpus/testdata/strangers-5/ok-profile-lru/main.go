package main

import (
	"container/list"
	"context"
	"fmt"
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

type lru[K comparable, V any] struct {
	mu    sync.Mutex
	max   int
	order *list.List
	index map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key K
	val V
}

func newLRU[K comparable, V any](max int) *lru[K, V] {
	return &lru[K, V]{max: max, order: list.New(), index: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(k K, load func(K) V) V {
	c.mu.Lock()
	if e, ok := c.index[k]; ok {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*entry[K, V]).val
	}
	c.mu.Unlock()
	v := load(k)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.index[k]; ok {
		return e.Value.(*entry[K, V]).val
	}
	c.index[k] = c.order.PushFront(&entry[K, V]{k, v})
	for c.order.Len() > c.max {
		last := c.order.Back()
		delete(c.index, last.Value.(*entry[K, V]).key)
		c.order.Remove(last)
	}
	return v
}

type profile struct {
	Name  string
	Stats []int64
}

func loadProfile(id int) *profile {
	p := &profile{Name: fmt.Sprintf("player-%d", id), Stats: make([]int64, 512)}
	for i := range p.Stats {
		p.Stats[i] = int64(id * i)
	}
	return p
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	profiles := newLRU[int, *profile](3000)
	for id := 0; id < 3000; id++ {
		profiles.get(id, loadProfile)
	}
	for i := 0; i < 4; i++ {
		go func() {
			for ctx.Err() == nil {
				p := profiles.get(rand.Intn(12000), loadProfile)
				if p.Stats[0] != 0 {
					log.Println("corrupt profile", p.Name)
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
