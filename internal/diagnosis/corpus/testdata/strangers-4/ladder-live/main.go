// Ladder live: shows the top of the ladder while matches are scored.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type registry[K comparable, V any] struct {
	mu   sync.RWMutex
	rows map[K]V
}

func (r *registry[K, V]) get(k K) (V, bool) {
	r.mu.RLock() // want: deadlock
	defer r.mu.RUnlock()
	v, ok := r.rows[k]
	return v, ok
}

func (r *registry[K, V]) put(k K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[k] = v
}

func (r *registry[K, V]) each(fn func(K)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for k := range r.rows {
		fn(k)
	}
}

type rank struct {
	Player int `json:"player"`
	Points int `json:"points"`
}

type ladder struct{ registry[int, int] }

func (l *ladder) top(n int) []rank {
	var all []rank
	l.each(func(player int) {
		if points, ok := l.get(player); ok { // want: deadlock
			all = append(all, rank{player, points})
		}
	})
	slices.SortFunc(all, func(a, b rank) int { return cmp.Compare(b.Points, a.Points) })
	return all[:min(n, len(all))]
}

func (l *ladder) score(w http.ResponseWriter, r *http.Request) {
	player, _ := strconv.Atoi(r.FormValue("player"))
	l.put(player, rand.IntN(3000))
}

func viewers(base string) {
	announce("ready")
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i := range 24 {
		go func() {
			for {
				path := "/top"
				if i%3 == 0 {
					path = "/score?player=" + strconv.Itoa(rand.IntN(500))
				}
				resp, err := c.Get(base + path)
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	select {}
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "viewers" {
		viewers(os.Args[2])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	l := &ladder{registry[int, int]{rows: map[int]int{}}}
	for i := range 500 {
		l.put(i, rand.IntN(3000))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/top", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(l.top(20))
	})
	mux.HandleFunc("/score", l.score)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := spawn("viewers", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
