// Command profile-cache serves player profiles out of memory.
package main

import (
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
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Profile struct {
	ID     int
	Nick   string
	Badges []*Badge
}

type Badge struct {
	Name string
	Won  [2]int64
}

// Limits are the memory settings of the process.
type Limits struct {
	SoftMiB int64
	Percent int
}

func (l Limits) apply() {
	debug.SetGCPercent(l.Percent)
	debug.SetMemoryLimit(l.SoftMiB << 20) // want: memory-limit-thrash
}

type Loader[K comparable, V any] func(K) (V, error)

// Cache keeps what was loaded, up to max entries.
type Cache[K comparable, V any] struct {
	mu   sync.RWMutex
	max  int
	rows map[K]V // want: memory-limit-thrash
	load Loader[K, V]
}

func (c *Cache[K, V]) Get(k K) (V, error) {
	c.mu.RLock()
	v, ok := c.rows[k]
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := c.load(k)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) < c.max {
		c.rows[k] = v // want: memory-limit-thrash
	}
	return v, nil
}

func fromStore(id int) (*Profile, error) {
	p := &Profile{ID: id, Nick: fmt.Sprintf("player-%08d", id)}
	for i := range 24 {
		p.Badges = append(p.Badges, &Badge{Name: "badge-" + strconv.Itoa(i), Won: [2]int64{int64(id), int64(i)}})
	}
	return p, nil
}

func main() {
	ctx, _, done := boot()
	defer done()
	Limits{SoftMiB: 96, Percent: -1}.apply() // want: memory-limit-thrash
	c := &Cache[int, *Profile]{max: 80000, rows: map[int]*Profile{}, load: fromStore}
	for i := range c.max {
		if _, err := c.Get(i); err != nil {
			log.Fatal(err)
		}
	}
	url := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := c.Get(rand.IntN(c.max))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(p)
	}))
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 16, 10*time.Millisecond, func(int) error { return call(hc, url) })
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
