// Command ok-avatar-cache serves avatars from a cache of a fixed size.
package main

import (
	"container/list"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// lru forgets what was not asked for longest when it has more than limit bytes.
type lru[K comparable] struct {
	mu    sync.Mutex
	limit int
	size  int
	order *list.List
	index map[K]*list.Element
}

type entry[K comparable] struct {
	key K
	val []byte
}

func newLRU[K comparable](limit int) *lru[K] {
	return &lru[K]{limit: limit, order: list.New(), index: map[K]*list.Element{}}
}

func (c *lru[K]) get(k K) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.index[k]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K]).val, true
}

func (c *lru[K]) put(k K, v []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.index[k]; ok {
		return
	}
	c.index[k] = c.order.PushFront(&entry[K]{k, v})
	c.size += len(v)
	for c.size > c.limit {
		last := c.order.Back()
		old := c.order.Remove(last).(*entry[K])
		delete(c.index, old.key)
		c.size -= len(old.val)
	}
}

type avatars struct {
	cache *lru[int]
	group singleflight.Group
}

func (a *avatars) draw(id int) []byte {
	time.Sleep(2 * time.Millisecond)
	img := make([]byte, 8<<10+id%(8<<10))
	for i := range img {
		img[i] = byte(i * id)
	}
	return img
}

func (a *avatars) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var id int
	if _, err := fmt.Sscanf(r.URL.Path, "/%d", &id); err != nil {
		http.NotFound(w, r)
		return
	}
	img, ok := a.cache.get(id)
	if !ok {
		v, _, _ := a.group.Do(r.URL.Path, func() (any, error) {
			img := a.draw(id)
			a.cache.put(id, img)
			return img, nil
		})
		img = v.([]byte)
	}
	w.Write(img)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	a := &avatars{cache: newLRU[int](72 << 20)}
	for i := range 6500 { // yesterday's favourites
		a.cache.put(i, make([]byte, 8<<10+i%(8<<10)))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, a)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 10 {
		go func() {
			for {
				id := int(rand.ExpFloat64() * 4000)
				res, err := hc.Get(fmt.Sprintf("http://%s/%d", l.Addr(), id))
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(rand.N(20 * time.Millisecond))
			}
		}()
	}
	select {}
}
