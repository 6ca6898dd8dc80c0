// Command ok-score-fan collects the score of a player from the shards.
package main

import (
	"context"
	"fmt"
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
	"golang.org/x/sync/errgroup"
)

type Shard interface {
	Score(ctx context.Context, player int) (int64, error)
}

type memShard struct {
	mu   sync.RWMutex
	rows map[int]int64
}

func (s *memShard) Score(ctx context.Context, player int) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rows[player], ctx.Err()
}

// gather calls f for all of in, at most n at a time.
func gather[A, B any](ctx context.Context, n int, in []A, f func(context.Context, A) (B, error)) ([]B, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(n)
	out := make([]B, len(in))
	for i, a := range in {
		g.Go(func() (err error) {
			out[i], err = f(ctx, a)
			return err
		})
	}
	return out, g.Wait()
}

type Board struct{ shards []Shard }

func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	player := rand.IntN(1000)
	parts, err := gather(r.Context(), 4, b.shards, func(ctx context.Context, s Shard) (int64, error) {
		return s.Score(ctx, player)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var sum int64
	for _, p := range parts {
		sum += p
	}
	fmt.Fprintln(w, sum)
}

func main() {
	ctx, _, done := boot()
	defer done()
	b := &Board{}
	for i := range 4 {
		s := &memShard{rows: map[int]int64{}}
		for p := range 1000 {
			s.rows[p] = int64(i * p)
		}
		b.shards = append(b.shards, s)
	}
	url := serve(b)
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	players(ctx, 16, 60*time.Millisecond, func(int) error { return call(c, url) })
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
