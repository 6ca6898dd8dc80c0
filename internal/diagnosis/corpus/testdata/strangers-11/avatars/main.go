package main

import (
	"container/list"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type cacheEntry[K comparable, V any] struct {
	key   K
	value V
	until time.Time
}

type LRU[K comparable, V any] struct {
	mu    sync.Mutex
	max   int
	ttl   time.Duration
	order *list.List
	index map[K]*list.Element
}

func NewLRU[K comparable, V any](max int, ttl time.Duration) *LRU[K, V] {
	return &LRU[K, V]{max: max, ttl: ttl, order: list.New(), index: make(map[K]*list.Element, max)}
}

func (c *LRU[K, V]) Get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.index[k]
	if !ok {
		return v, false
	}
	e := el.Value.(*cacheEntry[K, V])
	if time.Now().After(e.until) {
		c.drop(el)
		return v, false
	}
	c.order.MoveToFront(el)
	return e.value, true
}

func (c *LRU[K, V]) Put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &cacheEntry[K, V]{k, v, time.Now().Add(c.ttl)}
	if el, ok := c.index[k]; ok {
		el.Value = e
		c.order.MoveToFront(el)
		return
	}
	c.index[k] = c.order.PushFront(e)
	for c.order.Len() > c.max {
		c.drop(c.order.Back())
	}
}

func (c *LRU[K, V]) drop(el *list.Element) {
	c.order.Remove(el)
	delete(c.index, el.Value.(*cacheEntry[K, V]).key)
}

type avatar struct {
	etag string
	body []byte
}

type studio struct {
	cache *LRU[uint64, *avatar]
}

func (s *studio) draw(id uint64) *avatar {
	body := make([]byte, 0, 3<<10)
	block := sha256.Sum256(fmt.Append(nil, id))
	etag := base64.RawURLEncoding.EncodeToString(block[:12])
	for len(body) < 3<<10 {
		body = append(body, block[:]...)
		block = sha256.Sum256(block[:])
	}
	return &avatar{etag, body}
}

func (s *studio) lookup(id uint64) *avatar {
	if a, ok := s.cache.Get(id); ok {
		return a
	}
	a := s.draw(id)
	s.cache.Put(id, a)
	return a
}

func (s *studio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var id uint64
	if _, err := fmt.Sscanf(r.URL.Path, "/avatars/%d", &id); err != nil {
		http.NotFound(w, r)
		return
	}
	a := s.lookup(id)
	w.Header().Set("ETag", a.etag)
	w.Header().Set("Cache-Control", "private, max-age=600")
	_, _ = w.Write(a.body)
}

func main() {
	s := &studio{NewLRU[uint64, *avatar](24_000, 10*time.Minute)}
	for id := range uint64(24_000) {
		s.lookup(id)
	}
	ts := httptest.NewServer(s)
	hc := ts.Client()
	for i := range 4 {
		go func() {
			zipf := rand.NewZipf(rand.New(rand.NewPCG(uint64(i), 99)), 1.15, 40, 400_000)
			t := time.NewTicker(8 * time.Millisecond)
			for range t.C {
				resp, err := hc.Get(fmt.Sprintf("%s/avatars/%d", ts.URL, zipf.Uint64()))
				if err != nil {
					log.Print(err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
