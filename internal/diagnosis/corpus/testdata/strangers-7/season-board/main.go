// Command season-board keeps the standings of the season.
package main

import (
	"cmp"
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
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Entry[K cmp.Ordered] struct {
	Key   K
	Score int64
	At    int64
}

// Board is a leaderboard of whatever has a key.
type Board[K cmp.Ordered] struct {
	mu   sync.Mutex
	rows []Entry[K]
	pos  map[K]int
	seq  int64
}

func NewBoard[K cmp.Ordered]() *Board[K] { return &Board[K]{pos: map[K]int{}} }

func (b *Board[K]) Add(k K, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	i, ok := b.pos[k]
	if !ok {
		i = len(b.rows)
		b.pos[k] = i
		b.rows = append(b.rows, Entry[K]{Key: k})
	}
	b.rows[i].Score += n
	b.rows[i].At = b.seq
}

// Top is a copy of the n best, ties in favour of the earlier.
func (b *Board[K]) Top(n int) []Entry[K] {
	b.mu.Lock() // want: lock-contention
	defer b.mu.Unlock()
	all := slices.Clone(b.rows)
	slices.SortFunc(all, func(x, y Entry[K]) int { // want: cpu-hot-path
		return cmp.Or(cmp.Compare(y.Score, x.Score), cmp.Compare(x.At, y.At), cmp.Compare(x.Key, y.Key))
	})
	return all[:min(n, len(all))]
}

type api struct{ board *Board[string] }

func (s api) top(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(s.board.Top(10))
}

func (s api) score(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
	s.board.Add(r.PathValue("player"), n)
	w.WriteHeader(http.StatusNoContent)
}

func main() {
	ctx, _, done := start()
	defer done()
	s := api{NewBoard[string]()}
	for i := range 6000 {
		s.board.Add("p"+strconv.Itoa(i), int64(rand.IntN(100000)))
	}
	m := http.NewServeMux()
	m.HandleFunc("GET /top", s.top)
	m.HandleFunc("POST /score/{player}/{n}", s.score)
	url := serve(m)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	do := func(method, path string) {
		req, _ := http.NewRequestWithContext(ctx, method, url+path, nil)
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	for range 12 {
		go func() {
			for ctx.Err() == nil {
				do(http.MethodGet, "top")
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	for i := range 12 {
		go func() {
			for n := i; ctx.Err() == nil; n += 7 {
				do(http.MethodPost, fmt.Sprintf("score/p%d/%d", n%6000, n%50))
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String() + "/"
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
