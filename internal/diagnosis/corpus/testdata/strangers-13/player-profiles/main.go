// player-profiles serves the profiles of players; those in use stay in memory.
package main

import (
	"bytes"
	"container/list"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"
)

type profile struct {
	ID     int
	Name   string
	Avatar []byte
	Stats  [128]int32
}

// LRU keeps the values used last, up to a weight in bytes.
type LRU[K comparable, V any] struct {
	mu     sync.Mutex
	items  map[K]*list.Element
	order  *list.List
	weigh  func(V) int
	weight int
	max    int
	hits   int
	misses int
}

type pair[K comparable, V any] struct {
	key K
	val V
}

func NewLRU[K comparable, V any](limit int, weigh func(V) int) *LRU[K, V] {
	return &LRU[K, V]{items: make(map[K]*list.Element), order: list.New(), weigh: weigh, max: limit}
}

func (c *LRU[K, V]) Get(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.items[k]; ok {
		c.hits++
		c.order.MoveToFront(el)
		return el.Value.(*pair[K, V]).val, true
	}
	c.misses++
	var zero V
	return zero, false
}

func (c *LRU[K, V]) Put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.items[k]; ok {
		p := el.Value.(*pair[K, V])
		c.weight += c.weigh(v) - c.weigh(p.val)
		p.val = v
		c.order.MoveToFront(el)
	} else {
		c.items[k] = c.order.PushFront(&pair[K, V]{k, v})
		c.weight += c.weigh(v)
	}
	for c.weight > c.max {
		el := c.order.Back()
		p := el.Value.(*pair[K, V])
		c.order.Remove(el)
		delete(c.items, p.key)
		c.weight -= c.weigh(p.val)
	}
}

func (c *LRU[K, V]) Stats() (n, weight, hits, misses int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items), c.weight, c.hits, c.misses
}

type profiles struct {
	cache *LRU[int, *profile]
	load  func(id int) *profile
}

func (p *profiles) get(id int) *profile {
	if v, ok := p.cache.Get(id); ok {
		return v
	}
	v := p.load(id)
	p.cache.Put(id, v)
	return v
}

var picture = func() []byte {
	b := make([]byte, 8<<10)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}()

func fromDisk(id int) *profile {
	v := &profile{ID: id, Name: "player-" + strconv.Itoa(id), Avatar: bytes.Clone(picture[:6<<10+id%2048])}
	for i := range v.Stats {
		v.Stats[i] = int32(id * i)
	}
	return v
}

func player() int {
	if rand.IntN(20) == 0 {
		return rand.IntN(400_000)
	}
	return rand.IntN(9_000)
}

func main() {
	p := &profiles{
		cache: NewLRU[int](110<<20, func(v *profile) int { return len(v.Avatar) + len(v.Name) + 600 }),
		load:  fromDisk,
	}
	// start with those who played last, the busiest at the end
	for id := 60_000; id >= 0; id-- {
		p.get(id)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /profiles/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			http.Error(w, "id", http.StatusBadRequest)
			return
		}
		v := p.get(id)
		w.Header().Set("X-Name", v.Name)
		_, _ = w.Write(v.Avatar)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		n, weight, hits, misses := p.cache.Stats()
		fmt.Fprintf(w, "entries %d weight %d hits %d misses %d\n", n, weight, hits, misses)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 12}, Timeout: 2 * time.Second}
	for range 12 {
		go func() {
			for {
				resp, err := hc.Get(fmt.Sprintf("http://%s/profiles/%d", ln.Addr(), player()))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(5+rand.IntN(15)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
