package main

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type frames struct {
	hand int
	data []byte
}

// recent keeps the last used replays up to a number of bytes.
type recent struct {
	budget int

	mu    sync.Mutex
	size  int
	order *list.List
	items map[int]*list.Element

	hits, misses atomic.Int64
}

func newRecent(budget int) *recent {
	return &recent{budget: budget, order: list.New(), items: make(map[int]*list.Element)}
}

func (c *recent) get(hand int) (*frames, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.items[hand]
	if !ok {
		c.misses.Add(1)
		return nil, false
	}
	c.hits.Add(1)
	c.order.MoveToFront(el)
	return el.Value.(*frames), true
}

func (c *recent) put(f *frames) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[f.hand]; ok {
		return
	}
	c.items[f.hand] = c.order.PushFront(f)
	c.size += len(f.data)
	for c.size > c.budget {
		last := c.order.Back()
		old := c.order.Remove(last).(*frames)
		delete(c.items, old.hand)
		c.size -= len(old.data)
	}
}

// render makes the frames of a hand out of its seed.
func render(hand int) *frames {
	const size = 96 << 10
	f := &frames{hand: hand, data: make([]byte, 0, size)}
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], uint64(hand))
	sum := sha256.Sum256(seed[:])
	for len(f.data) < size {
		f.data = append(f.data, sum[:]...)
		if len(f.data)%4096 == 0 {
			sum = sha256.Sum256(sum[:])
		}
	}
	return f
}

type replays struct {
	cache *recent
}

func (s *replays) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var hand int
	if _, err := fmt.Sscan(r.URL.Query().Get("hand"), &hand); err != nil {
		http.Error(w, "bad hand", http.StatusBadRequest)
		return
	}
	f, ok := s.cache.get(hand)
	if !ok {
		f = render(hand)
		s.cache.put(f)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(f.data)
}

func main() {
	s := &replays{cache: newRecent(160 << 20)}
	for hand := range 2000 {
		s.cache.put(render(hand))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, s)) }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 12}}
	for range 12 {
		go func() {
			for {
				hand := rand.IntN(1600) + 400
				if rand.IntN(25) == 0 {
					hand = rand.IntN(4000)
				}
				resp, err := client.Get(fmt.Sprintf("http://%s/?hand=%d", ln.Addr(), hand))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(60+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
	go func() {
		for range time.Tick(30 * time.Second) {
			log.Printf("replay cache: %d hits, %d misses", s.cache.hits.Load(), s.cache.misses.Load())
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
