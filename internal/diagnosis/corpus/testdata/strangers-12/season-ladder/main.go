// Command season-ladder answers leader board pages and takes rating updates.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

type Entry struct {
	Player string `json:"player"`
	Rating int    `json:"rating"`
}

type store[K comparable, V any] struct {
	mu sync.RWMutex
	m  map[K]V
}

func (s *store[K, V]) Lookup(k K) (V, bool) {
	s.mu.RLock() // want: deadlock
	defer s.mu.RUnlock()
	v, ok := s.m[k]
	return v, ok
}

func (s *store[K, V]) Update(k K, fn func(V) V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[k] = fn(s.m[k])
}

// View runs fn on the keys while the store does not change.
func (s *store[K, V]) View(fn func(keys []K)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]K, 0, len(s.m))
	for k := range s.m {
		keys = append(keys, k)
	}
	fn(keys)
}

type Ladder struct {
	ratings *store[string, int]
}

func (l *Ladder) rating(player string) int {
	r, _ := l.ratings.Lookup(player) // want: deadlock
	return r
}

func (l *Ladder) Page(from, n int) (page []Entry) {
	l.ratings.View(func(players []string) {
		slices.SortFunc(players, func(a, b string) int {
			return cmp.Or(cmp.Compare(l.rating(b), l.rating(a)), cmp.Compare(a, b)) // want: deadlock
		})
		for _, p := range players[min(from, len(players)):min(from+n, len(players))] {
			page = append(page, Entry{Player: p, Rating: l.rating(p)}) // want: deadlock
		}
	})
	return page
}

func (l *Ladder) Award(player string, points int) {
	l.ratings.Update(player, func(old int) int { return max(0, old+points) })
}

func (l *Ladder) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ladder", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.URL.Query().Get("from"))
		_ = json.NewEncoder(w).Encode(l.Page(from, 20))
	})
	mux.HandleFunc("POST /ladder/{player}/award", func(w http.ResponseWriter, r *http.Request) {
		pts, _ := strconv.Atoi(r.FormValue("points"))
		l.Award(r.PathValue("player"), pts)
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

type traffic struct {
	base string
	cl   http.Client
}

func (t *traffic) do(method, path string) {
	req, err := http.NewRequest(method, t.base+path, nil)
	if err != nil {
		return
	}
	resp, err := t.cl.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func (t *traffic) viewers(n int) {
	for range n {
		go func() {
			for {
				t.do(http.MethodGet, fmt.Sprintf("/ladder?from=%d", rand.IntN(300)))
				time.Sleep(60 * time.Millisecond)
			}
		}()
	}
}

func (t *traffic) matches(n int) {
	for range n {
		go func() {
			for {
				t.do(http.MethodPost, fmt.Sprintf("/ladder/p%03d/award?points=%d", rand.IntN(400), rand.IntN(31)-12))
				time.Sleep(25 * time.Millisecond)
			}
		}()
	}
}

func main() {
	l := &Ladder{ratings: &store[string, int]{m: map[string]int{}}}
	for i := range 400 {
		l.Award(fmt.Sprintf("p%03d", i), rand.IntN(2400))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, l.routes())) }()
	t := &traffic{base: "http://" + ln.Addr().String(), cl: http.Client{Timeout: 3 * time.Second}}
	t.viewers(8)
	t.matches(4)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
