// Command ladder-standing serves the season ladder: players report match
// results, and every client polls its own standing.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
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

// Rating is what a season compares by.
type Rating struct {
	Points int
	Wins   int
	Tag    string
}

func (r Rating) Compare(o Rating) int {
	return cmp.Or(cmp.Compare(o.Points, r.Points), cmp.Compare(o.Wins, r.Wins), cmp.Compare(r.Tag, o.Tag))
}

// Comparable orders entries of a board.
type Comparable[T any] interface{ Compare(T) int }

// Board keeps one entry per player. Readers work on an immutable generation.
type Board[K comparable, T Comparable[T]] struct {
	gen atomic.Pointer[generation[K, T]]
	mu  sync.Mutex
}

type generation[K comparable, T Comparable[T]] struct {
	entries []T
	index   map[K]int
}

func NewBoard[K comparable, T Comparable[T]](keys []K, entries []T) *Board[K, T] {
	g := &generation[K, T]{entries: entries, index: make(map[K]int, len(keys))}
	for i, k := range keys {
		g.index[k] = i
	}
	b := &Board[K, T]{}
	b.gen.Store(g)
	return b
}

// Position says how many entries come before the key's own.
func (b *Board[K, T]) Position(k K) (int, bool) {
	g := b.gen.Load()
	i, ok := g.index[k]
	if !ok {
		return 0, false
	}
	me, ahead := g.entries[i], 0
	for _, e := range g.entries { // want: cpu-hot-path
		if e.Compare(me) < 0 { // want: cpu-hot-path
			ahead++
		}
	}
	return ahead + 1, true
}

// Update replaces entries in a new generation.
func (b *Board[K, T]) Update(changes map[K]T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.gen.Load()
	next := &generation[K, T]{entries: append([]T(nil), old.entries...), index: old.index}
	for k, v := range changes {
		if i, ok := next.index[k]; ok {
			next.entries[i] = v
		}
	}
	b.gen.Store(next)
}

type Standings interface {
	Position(id int) (int, bool)
}

type StandingService struct {
	board Standings
	total int
}

type StandingView struct {
	Player     int     `json:"player"`
	Position   int     `json:"position"`
	Percentile float64 `json:"percentile"`
	Rivals     []int   `json:"rivals"`
}

func (s *StandingService) View(ctx context.Context, id int) (StandingView, error) {
	pos, ok := s.board.Position(id) // want: cpu-hot-path
	if !ok {
		return StandingView{}, fmt.Errorf("player %d: not placed", id)
	}
	v := StandingView{Player: id, Position: pos, Percentile: 100 * float64(pos) / float64(s.total)}
	for _, friend := range []int{id ^ 1, id ^ 2, id ^ 4} {
		if p, ok := s.board.Position(friend); ok { // want: cpu-hot-path
			v.Rivals = append(v.Rivals, p)
		}
	}
	return v, ctx.Err()
}

type API struct{ svc *StandingService }

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		http.Error(w, "bad player", http.StatusBadRequest)
		return
	}
	v, err := a.svc.View(r.Context(), id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func servePprof() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	go func() { log.Print(http.ListenAndServe(addr, m)) }()
}

func poll(ctx context.Context, base string, players int) {
	client := &http.Client{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/standing/"+strconv.Itoa(rand.IntN(players)), nil)
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		var v StandingView
		_ = json.NewDecoder(resp.Body).Decode(&v)
		resp.Body.Close()
		time.Sleep(time.Duration(2+rand.IntN(6)) * time.Millisecond)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	servePprof()
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	const players = 60000
	keys, entries := make([]int, players), make([]Rating, players)
	for i := range keys {
		keys[i] = i
		entries[i] = Rating{Points: rand.IntN(3000), Wins: rand.IntN(200), Tag: "p" + strconv.Itoa(i)}
	}
	board := NewBoard(keys, entries)
	go func() {
		for t := time.NewTicker(500 * time.Millisecond); ; <-t.C {
			ch := map[int]Rating{}
			for range 50 {
				i := rand.IntN(players)
				ch[i] = Rating{Points: rand.IntN(3000), Wins: rand.IntN(200), Tag: "p" + strconv.Itoa(i)}
			}
			board.Update(ch)
		}
	}()

	mux := http.NewServeMux()
	mux.Handle("GET /v1/standing/{id}", &API{svc: &StandingService{board: board, total: players}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()
	for range 6 {
		go poll(ctx, "http://"+ln.Addr().String(), players)
	}
	<-ctx.Done()
	_ = srv.Close()
}
