// Command avatar-cache serves resized avatars from a bounded in-memory cache.
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
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

type entry[K comparable] struct {
	key  K
	data []byte
}

// LRU keeps at most limit bytes.
type LRU[K comparable] struct {
	mu    sync.Mutex
	limit int
	used  int
	order *list.List
	items map[K]*list.Element
}

func NewLRU[K comparable](limit int) *LRU[K] {
	return &LRU[K]{limit: limit, order: list.New(), items: make(map[K]*list.Element)}
}

func (c *LRU[K]) Get(k K) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.items[k]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*entry[K]).data, true
}

func (c *LRU[K]) Put(k K, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.items[k]; ok {
		e := el.Value.(*entry[K])
		c.used += len(data) - len(e.data)
		e.data = data
		c.order.MoveToFront(el)
	} else {
		c.items[k] = c.order.PushFront(&entry[K]{key: k, data: data})
		c.used += len(data)
	}
	for c.used > c.limit {
		c.evict()
	}
}

func (c *LRU[K]) evict() {
	el := c.order.Back()
	if el == nil {
		return
	}
	e := c.order.Remove(el).(*entry[K])
	delete(c.items, e.key)
	c.used -= len(e.data)
}

type Avatars struct {
	cache *LRU[int]
}

// render stands for the resize of a stored picture.
func render(id int) []byte {
	img := make([]byte, 24<<10+id%4096)
	x := uint32(id)
	for i := range img {
		x = x*1664525 + 1013904223
		img[i] = byte(x >> 24)
	}
	return img
}

func (a *Avatars) load(id int) []byte {
	if img, ok := a.cache.Get(id); ok {
		return img
	}
	img := render(id)
	a.cache.Put(id, img)
	return img
}

func (a *Avatars) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		http.Error(w, "id", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "image/webp")
	_, _ = w.Write(a.load(id))
}

func viewer(base string, ids *rand.Zipf) {
	for {
		resp, err := http.Get(fmt.Sprintf("%s/avatar/%d", base, ids.Uint64()))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(12 * time.Millisecond)
	}
}

func main() {
	a := &Avatars{cache: NewLRU[int](72 << 20)}
	for id := 3000; id >= 0; id-- { // warm up, the most popular ones last
		a.load(id)
	}
	debug.FreeOSMemory()
	mux := http.NewServeMux()
	mux.Handle("GET /avatar/{id}", a)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	for i := range 2 {
		src := rand.New(rand.NewPCG(uint64(i), 42))
		go viewer("http://"+ln.Addr().String(), rand.NewZipf(src, 1.5, 20, 60_000))
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
