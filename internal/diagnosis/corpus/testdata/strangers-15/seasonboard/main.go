// seasonboard keeps the ranking of the season.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type Standing struct {
	Player int   `json:"player"`
	Score  int64 `json:"score"`
}

type Board[K cmp.Ordered] struct {
	mu     sync.RWMutex
	scores map[K]int64
}

func (b *Board[K]) Add(k K, delta int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scores[k] += delta
	return b.scores[k]
}

// Rank places k: the number of players before it, plus one.
func (b *Board[K]) Rank(k K) int {
	b.mu.Lock() // want: lock-contention
	defer b.mu.Unlock()
	mine := b.scores[k]
	rank := 1
	for other, s := range b.scores { // want: lock-contention
		if s > mine || s == mine && other < k {
			rank++
		}
	}
	return rank
}

func (b *Board[K]) Each(fn func(K, int64)) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for k, s := range b.scores {
		fn(k, s)
	}
}

type Server struct {
	board *Board[int]
	top   atomic.Pointer[[]Standing]
}

func (s *Server) refresh(every time.Duration) {
	for ; ; time.Sleep(every) {
		var all []Standing
		s.board.Each(func(p int, score int64) {
			if score > 9_900 {
				all = append(all, Standing{p, score})
			}
		})
		slices.SortFunc(all, func(a, b Standing) int { return cmp.Compare(b.Score, a.Score) })
		all = all[:min(len(all), 100)]
		s.top.Store(&all)
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	player, _ := strconv.Atoi(r.FormValue("player"))
	switch r.URL.Path {
	case "/report":
		delta, _ := strconv.ParseInt(r.FormValue("delta"), 10, 64)
		fmt.Fprint(w, s.board.Add(player, delta))
	case "/rank":
		fmt.Fprint(w, s.board.Rank(player))
	case "/top":
		_ = json.NewEncoder(w).Encode(s.top.Load())
	default:
		http.NotFound(w, r)
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	const players = 150_000
	s := &Server{board: &Board[int]{scores: make(map[int]int64, players)}}
	for p := range players {
		s.board.Add(p, rand.Int64N(10_000))
	}
	go s.refresh(2 * time.Second)
	time.Sleep(50 * time.Millisecond)

	run := func(n int, pause time.Duration, path func() string) {
		for range n {
			go func() {
				for {
					s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path(), nil))
					time.Sleep(pause)
				}
			}()
		}
	}
	run(50, 20*time.Millisecond, func() string {
		return fmt.Sprintf("/report?player=%d&delta=%d", rand.IntN(players), rand.IntN(5))
	})
	run(60, 20*time.Millisecond, func() string { return fmt.Sprintf("/rank?player=%d", rand.IntN(players)) })
	run(4, 50*time.Millisecond, func() string { return "/top" })
	select {}
}
