// Command lobby-waits lets clients wait until their lobby is full.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var errNotFilled = errors.New("lobby not filled in time")

type Lobby struct {
	id      int64
	size    int
	mu      sync.Mutex
	changed *sync.Cond
	members []string
}

func newLobby(id int64, size int) *Lobby {
	l := &Lobby{id: id, size: size}
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *Lobby) Join(player string) {
	l.mu.Lock()
	l.members = append(l.members, player)
	l.mu.Unlock()
	l.changed.Broadcast()
}

func (l *Lobby) ready() bool { return len(l.members) >= l.size }

// AwaitReady returns the members as soon as the lobby is complete.
func (l *Lobby) AwaitReady(ctx context.Context) ([]string, error) {
	full := make(chan []string, 1)
	go func() { // want: goroutine-leak
		l.mu.Lock()
		defer l.mu.Unlock()
		for !l.ready() {
			l.changed.Wait() // want: goroutine-leak
		}
		full <- l.members
	}()
	select {
	case m := <-full:
		return m, nil
	case <-ctx.Done():
		return nil, errNotFilled
	}
}

type Registry struct {
	mu      sync.Mutex
	lobbies map[int64]*Lobby
}

func (r *Registry) Get(id int64) *Lobby {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.lobbies[id]
	if !ok {
		l = newLobby(id, 3)
		r.lobbies[id] = l
	}
	return l
}

func (r *Registry) Close(id int64) {
	r.mu.Lock()
	delete(r.lobbies, id)
	r.mu.Unlock()
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	id, _ := strconv.ParseInt(req.PathValue("id"), 10, 64)
	l := r.Get(id)
	l.Join(req.URL.Query().Get("player"))
	ctx, cancel := context.WithTimeout(req.Context(), 600*time.Millisecond)
	defer cancel()
	defer r.Close(id)
	members, err := l.AwaitReady(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestTimeout)
		return
	}
	fmt.Fprintln(w, len(members))
}

type swarm struct {
	base string
	seq  atomic.Int64
	cl   *http.Client
}

func (s *swarm) join(lobby int64, player int) {
	resp, err := s.cl.Post(fmt.Sprintf("%s/lobby/%d/join?player=p%d", s.base, lobby, player), "", nil)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func (s *swarm) run(every time.Duration) {
	for range time.Tick(every) {
		lobby := s.seq.Add(1)
		players := 3
		if lobby%2 == 0 {
			players = 2 // somebody closed the app
		}
		for p := range players {
			go s.join(lobby, p)
		}
	}
}

func main() {
	reg := &Registry{lobbies: make(map[int64]*Lobby)}
	mux := http.NewServeMux()
	mux.Handle("POST /lobby/{id}/join", reg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()

	tr := &http.Transport{MaxIdleConnsPerHost: 128}
	sw := &swarm{base: "http://" + ln.Addr().String(), cl: &http.Client{Transport: tr, Timeout: 5 * time.Second}}
	go sw.run(20 * time.Millisecond)

	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
