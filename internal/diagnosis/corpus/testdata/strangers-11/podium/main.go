package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

type row struct {
	Player string `json:"player"`
	Points int64  `json:"points"`
	at     int64
}

type ordering[T any] func(a, b T) int

func (o ordering[T]) then(p ordering[T]) ordering[T] {
	return func(a, b T) int {
		if c := o(a, b); c != 0 {
			return c
		}
		return p(a, b)
	}
}

func by[T any, K cmp.Ordered](key func(T) K, desc bool) ordering[T] {
	return func(a, b T) int {
		if desc {
			a, b = b, a
		}
		return cmp.Compare(key(a), key(b))
	}
}

func ranked[K comparable, T any](m map[K]*T, o ordering[*T], scratch []*T) []*T {
	scratch = scratch[:0]
	for _, v := range m {
		scratch = append(scratch, v) // want: cpu-hot-path
	}
	slices.SortFunc(scratch, o) // want: cpu-hot-path
	return scratch
}

type season struct {
	mu      sync.Mutex
	rows    map[string]*row
	order   ordering[*row]
	scratch []*row
}

func newSeason(n int) *season {
	s := &season{rows: make(map[string]*row, n)}
	s.order = by(func(r *row) int64 { return r.Points }, true).
		then(by(func(r *row) int64 { return r.at }, false)).
		then(by(func(r *row) string { return r.Player }, false))
	for i := range n {
		id := fmt.Sprintf("p%06d", i)
		s.rows[id] = &row{id, rand.Int64N(10_000), rand.Int64N(1e6)}
	}
	return s
}

func (s *season) award(player string, pts int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[player]
	if r == nil {
		return 0
	}
	r.Points += pts
	r.at = time.Now().UnixMicro()
	return r.Points
}

func (s *season) top(n int) []row {
	s.mu.Lock()                                    // want: lock-contention
	defer s.mu.Unlock()                            // want: lock-contention
	s.scratch = ranked(s.rows, s.order, s.scratch) // want: cpu-hot-path // want: lock-contention
	out := make([]row, 0, n)
	for _, r := range s.scratch[:min(n, len(s.scratch))] {
		out = append(out, *r)
	}
	return out // want: lock-contention
}

type routes struct{ s *season }

func (rt routes) podium(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(rt.s.top(10)) // want: cpu-hot-path
}

func (rt routes) result(w http.ResponseWriter, r *http.Request) {
	pts, _ := strconv.ParseInt(r.FormValue("pts"), 10, 64)
	fmt.Fprintln(w, rt.s.award(r.PathValue("player"), pts))
}

func every(d time.Duration, do func() (*http.Response, error)) {
	for {
		if resp, err := do(); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(d)
	}
}

func main() {
	runtime.SetMutexProfileFraction(1)
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	rt := routes{newSeason(25_000)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /podium", rt.podium)
	mux.HandleFunc("POST /players/{player}/results", rt.result)
	ts := httptest.NewServer(mux)
	hc := ts.Client()
	for range 6 {
		go every(3*time.Millisecond, func() (*http.Response, error) { return hc.Get(ts.URL + "/podium") })
	}
	for range 10 {
		go every(5*time.Millisecond, func() (*http.Response, error) {
			return hc.Post(fmt.Sprintf("%s/players/p%06d/results?pts=%d", ts.URL, rand.IntN(25_000), rand.IntN(50)), "", nil)
		})
	}
	select {}
}
