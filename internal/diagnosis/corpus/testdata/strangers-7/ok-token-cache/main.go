// Command ok-token-cache remembers the tokens it has seen, at most so many.
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
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Token struct {
	Player  int
	Scopes  []string
	Expires time.Time
	Raw     [256]byte
}

// LRU is a cache of bounded size.
type LRU[K comparable, V any] struct {
	mu    sync.Mutex
	max   int
	items map[K]*list.Element
	order *list.List
	hits  int64
	miss  int64
}

type pair[K comparable, V any] struct {
	k K
	v V
}

func NewLRU[K comparable, V any](n int) *LRU[K, V] {
	return &LRU[K, V]{max: n, items: make(map[K]*list.Element, n), order: list.New()}
}

func (l *LRU[K, V]) Get(k K) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.items[k]
	if !ok {
		l.miss++
		return v, false
	}
	l.hits++
	l.order.MoveToFront(e)
	return e.Value.(*pair[K, V]).v, true
}

func (l *LRU[K, V]) Put(k K, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.items[k]; ok {
		e.Value.(*pair[K, V]).v = v
		return
	}
	if l.order.Len() >= l.max {
		last := l.order.Back()
		delete(l.items, last.Value.(*pair[K, V]).k)
		l.order.Remove(last)
	}
	l.items[k] = l.order.PushFront(&pair[K, V]{k, v})
}

func main() {
	ctx, _, done := start()
	defer done()
	const size = 60_000
	c := NewLRU[string, *Token](size)
	mint := func(id int) *Token {
		return &Token{Player: id, Scopes: []string{"play", "chat"}, Expires: time.Now().Add(time.Hour)}
	}
	for i := range size {
		c.Put("tok-"+strconv.Itoa(i), mint(i))
	}
	for w := range 4 {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 8))
			t := time.NewTicker(10 * time.Millisecond)
			defer t.Stop()
			for next := size + w; ; {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
					for range 100 {
						id := rnd.IntN(next)
						if rnd.IntN(3) == 0 {
							id, next = next, next+4
						}
						key := "tok-" + strconv.Itoa(id)
						if _, ok := c.Get(key); !ok {
							c.Put(key, mint(id))
						}
					}
				}
			}
		}()
	}
	<-ctx.Done()
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}
