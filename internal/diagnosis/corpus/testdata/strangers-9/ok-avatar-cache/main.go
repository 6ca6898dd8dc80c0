// Command ok-avatar-cache serves avatars out of a bounded cache.
package main

import (
	"bytes"
	"container/list"
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// LRU keeps the n most recently used values.
type LRU[K comparable, V any] struct {
	mu    sync.Mutex
	n     int
	order *list.List
	rows  map[K]*list.Element
}

type pair[K comparable, V any] struct {
	k K
	v V
}

func NewLRU[K comparable, V any](n int) *LRU[K, V] {
	return &LRU[K, V]{n: n, order: list.New(), rows: make(map[K]*list.Element, n)}
}

func (l *LRU[K, V]) Get(k K) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.rows[k]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(pair[K, V]).v, true
}

func (l *LRU[K, V]) Put(k K, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.rows[k]; ok {
		e.Value = pair[K, V]{k, v}
		return
	}
	if l.order.Len() >= l.n {
		last := l.order.Back()
		delete(l.rows, last.Value.(pair[K, V]).k)
		l.order.Remove(last)
	}
	l.rows[k] = l.order.PushFront(pair[K, V]{k, v})
}

type Avatars struct{ cache *LRU[int, []byte] }

func paint(id int) []byte { return bytes.Repeat([]byte{byte(id)}, 8<<10) }

func (a *Avatars) of(id int) []byte {
	if b, ok := a.cache.Get(id); ok {
		return b
	}
	b := paint(id)
	a.cache.Put(id, b)
	return b
}

func (a *Avatars) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := rand.IntN(1500)
	if rand.IntN(2) == 0 {
		id = rand.IntN(1e6)
	}
	_, _ = w.Write(a.of(id))
}

func main() {
	ctx, _, done := boot()
	defer done()
	a := &Avatars{NewLRU[int, []byte](3000)}
	for i := range 3000 {
		a.of(i)
	}
	url := serve(a)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 20, 12*time.Millisecond, func(int) error { return call(c, url) })
	<-ctx.Done()
}

func boot() (context.Context, *agent.Agent, func()) {
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

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// players runs n players that each call f and then wait.
func players(ctx context.Context, n int, pause time.Duration, f func(i int) error) {
	for i := range n {
		go func() {
			time.Sleep(time.Duration(rand.Int64N(int64(pause) + 1)))
			for ctx.Err() == nil {
				_ = f(i)
				time.Sleep(pause)
			}
		}()
	}
}

func call(c *http.Client, url string) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
