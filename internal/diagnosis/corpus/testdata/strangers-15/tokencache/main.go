// tokencache keeps the sessions of the players who are logged in, bounded in number.
package main

import (
	"bytes"
	"container/list"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type Session struct {
	Token   string
	Player  int64
	Until   time.Time
	Profile []byte
}

type shard struct {
	mu    sync.Mutex
	items map[string]*list.Element
	order *list.List
	limit int
}

type Cache struct{ shards [32]*shard }

func NewCache(limit int) *Cache {
	c := &Cache{}
	for i := range c.shards {
		c.shards[i] = &shard{items: map[string]*list.Element{}, order: list.New(), limit: limit / len(c.shards)}
	}
	return c
}

func (c *Cache) of(token string) *shard {
	h := uint32(2166136261)
	for i := range len(token) {
		h = (h ^ uint32(token[i])) * 16777619
	}
	return c.shards[h%uint32(len(c.shards))]
}

func (c *Cache) Put(s *Session) {
	sh := c.of(s.Token)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.items[s.Token] = sh.order.PushFront(s)
	for sh.order.Len() > sh.limit {
		last := sh.order.Back()
		sh.order.Remove(last)
		delete(sh.items, last.Value.(*Session).Token)
	}
}

func (c *Cache) Get(token string) (*Session, bool) {
	sh := c.of(token)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	el, ok := sh.items[token]
	if !ok {
		return nil, false
	}
	s := el.Value.(*Session)
	if time.Now().After(s.Until) {
		sh.order.Remove(el)
		delete(sh.items, token)
		return nil, false
	}
	sh.order.MoveToFront(el)
	return s, true
}

func newSession(player int64) *Session {
	var raw [12]byte
	_, _ = rand.Read(raw[:])
	return &Session{
		Token: hex.EncodeToString(raw[:]), Player: player,
		Until: time.Now().Add(time.Hour), Profile: bytes.Repeat(raw[:8], 256),
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	const limit = 40_000
	cache := NewCache(limit)
	for p := range int64(limit + 4000) {
		cache.Put(newSession(p))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s := newSession(mrand.Int64N(1 << 40))
		cache.Put(s)
		fmt.Fprint(w, s.Token)
	})
	mux.HandleFunc("GET /whoami", func(w http.ResponseWriter, r *http.Request) {
		s, ok := cache.Get(r.Header.Get("X-Token"))
		if !ok {
			http.Error(w, "no session", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, s.Player)
	})
	for range 12 {
		go func() {
			for {
				rec := httptest.NewRecorder()
				mux.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/login", nil))
				for range 3 {
					req := httptest.NewRequest(http.MethodGet, "/whoami", nil)
					req.Header.Set("X-Token", rec.Body.String())
					mux.ServeHTTP(httptest.NewRecorder(), req)
					time.Sleep(8 * time.Millisecond)
				}
			}
		}()
	}
	select {}
}
