package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type session struct {
	player int
	since  time.Time
	idle   *time.Timer
}

// keeper ends the sessions of players that were not heard of for a while.
type keeper struct {
	limit time.Duration

	mu   sync.RWMutex
	live map[int]*session
}

func newKeeper(limit time.Duration) *keeper {
	return &keeper{limit: limit, live: make(map[int]*session)}
}

func (k *keeper) join(player int) {
	s := &session{player: player, since: time.Now()}
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, ok := k.live[player]; ok {
		old.idle.Reset(k.limit)
		return
	}
	s.idle = time.AfterFunc(k.limit, func() { k.drop(s) })
	k.live[player] = s
}

func (k *keeper) drop(s *session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live[s.player] == s {
		delete(k.live, s.player)
	}
}

func (k *keeper) beat(player int) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s, ok := k.live[player]
	return ok && s.idle.Reset(k.limit)
}

func (k *keeper) leave(player int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.live[player]; ok {
		s.idle.Stop()
		delete(k.live, player)
	}
}

type api struct {
	sessions *keeper
}

func (a *api) handle(fn func(player int) int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var player int
		if _, err := fmt.Sscan(r.URL.Query().Get("player"), &player); err != nil {
			http.Error(w, "bad player", http.StatusBadRequest)
			return
		}
		w.WriteHeader(fn(player))
	}
}

func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/join", a.handle(func(p int) int {
		a.sessions.join(p)
		return http.StatusCreated
	}))
	mux.HandleFunc("/beat", a.handle(func(p int) int {
		if !a.sessions.beat(p) {
			return http.StatusNotFound
		}
		return http.StatusNoContent
	}))
	mux.HandleFunc("/leave", a.handle(func(p int) int {
		a.sessions.leave(p)
		return http.StatusNoContent
	}))
	return mux
}

func roam(base string, client *http.Client, players int) {
	call := func(path string, player int) {
		resp, err := client.Get(fmt.Sprintf("%s/%s?player=%d", base, path, player))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	for {
		p := rand.IntN(players)
		switch rand.IntN(10) {
		case 0:
			call("leave", p)
			call("join", p)
		default:
			call("beat", p)
		}
		time.Sleep(time.Duration(30+rand.IntN(30)) * time.Millisecond)
	}
}

func main() {
	const players = 30_000
	k := newKeeper(25 * time.Minute)
	for p := range players {
		k.join(p)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, (&api{sessions: k}).routes())) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 24}}
	for range 24 {
		go roam("http://"+ln.Addr().String(), client, players)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
