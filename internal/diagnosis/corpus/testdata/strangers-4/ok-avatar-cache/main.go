// Avatar cache: keeps the most recently used avatars in memory.
package main

import (
	"container/list"
	"context"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type entry struct {
	player int
	image  []byte
}

type cache struct {
	mu   sync.Mutex
	cap  int
	byID map[int]*list.Element
	age  *list.List
	hits atomic.Int64
}

func (c *cache) get(player int, load func(int) []byte) []byte {
	c.mu.Lock()
	if el, ok := c.byID[player]; ok {
		c.age.MoveToFront(el)
		img := el.Value.(*entry).image
		c.mu.Unlock()
		c.hits.Add(1)
		return img
	}
	c.mu.Unlock()
	img := load(player)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[player]; !ok {
		c.byID[player] = c.age.PushFront(&entry{player, img})
		for c.age.Len() > c.cap {
			last := c.age.Back()
			c.age.Remove(last)
			delete(c.byID, last.Value.(*entry).player)
		}
	}
	return img
}

func render(player int) []byte {
	img := make([]byte, 6<<10)
	for i := range img {
		img[i] = byte(i * player)
	}
	return img
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	c := &cache{cap: 12000, byID: map[int]*list.Element{}, age: list.New()}
	for i := range 12000 {
		c.get(i, render)
	}
	for range 8 {
		go func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					for range 6 {
						c.get(int(rand.ExpFloat64()*6000), render)
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	<-ctx.Done()
}
