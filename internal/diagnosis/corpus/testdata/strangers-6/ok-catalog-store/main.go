// Command ok-catalog-store keeps the player catalogue in memory and replaces
// what has not been used for longest.
package main

import (
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Player struct {
	ID      int
	Name    string
	Level   int
	Badges  []string
	Avatar  [300]byte
	Friends []int
}

// LRU keeps at most cap entries.
type LRU[K comparable, V any] struct {
	mu    sync.Mutex
	cap   int
	order *list.List
	byKey map[K]*list.Element
}

type pair[K comparable, V any] struct {
	k K
	v V
}

func NewLRU[K comparable, V any](cap int) *LRU[K, V] {
	return &LRU[K, V]{cap: cap, order: list.New(), byKey: make(map[K]*list.Element, cap)}
}

func (l *LRU[K, V]) Get(k K) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byKey[k]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*pair[K, V]).v, true
}

func (l *LRU[K, V]) Put(k K, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byKey[k]; ok {
		e.Value.(*pair[K, V]).v = v
		l.order.MoveToFront(e)
		return
	}
	l.byKey[k] = l.order.PushFront(&pair[K, V]{k, v})
	if l.order.Len() > l.cap {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.byKey, last.Value.(*pair[K, V]).k)
	}
}

type Loader interface{ Load(id int) *Player }

type seeded struct{ loads atomic.Int64 }

func (s *seeded) Load(id int) *Player {
	s.loads.Add(1)
	p := &Player{ID: id, Name: "player-" + strconv.Itoa(id), Level: id % 90, Badges: make([]string, 0, 4)}
	for b := range id % 4 {
		p.Badges = append(p.Badges, "badge-"+strconv.Itoa(b))
	}
	for f := range 6 {
		p.Friends = append(p.Friends, (id*31+f)%1000000)
	}
	return p
}

type Catalogue struct {
	cache *LRU[int, *Player]
	db    Loader
}

func (c *Catalogue) Player(id int) *Player {
	if p, ok := c.cache.Get(id); ok {
		return p
	}
	p := c.db.Load(id)
	c.cache.Put(id, p)
	return p
}

func (c *Catalogue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.URL.Query().Get("id"))
	if err != nil {
		http.Error(w, "bad id", http.StatusBadRequest)
		return
	}
	p := c.Player(id)
	_ = json.NewEncoder(w).Encode(struct {
		Name    string
		Level   int
		Friends []int
	}{p.Name, p.Level, p.Friends})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	const size = 160000
	cat := &Catalogue{cache: NewLRU[int, *Player](size), db: &seeded{}}
	for i := range size {
		cat.Player(i)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: cat}
	go func() { _ = srv.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 8 {
		go func() {
			for ctx.Err() == nil {
				id := rand.IntN(size)
				if rand.IntN(20) == 0 {
					id = rand.IntN(1000000)
				}
				if resp, err := client.Get(fmt.Sprintf("http://%s/?id=%d", ln.Addr(), id)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(8+rand.IntN(10)) * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
