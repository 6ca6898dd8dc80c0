// Command idle-kicker removes players who do not act for a while; every
// session has a timer that each action pushes back.
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
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type Session struct {
	ID    int
	Since time.Time
	kick  *time.Timer
	acts  atomic.Int64
}

type Room struct {
	idle time.Duration

	mu       sync.RWMutex
	sessions map[int]*Session
	kicked   atomic.Int64
}

func NewRoom(idle time.Duration) *Room {
	return &Room{idle: idle, sessions: map[int]*Session{}}
}

func (r *Room) Enter(id int) *Session {
	s := &Session{ID: id, Since: time.Now()}
	s.kick = time.AfterFunc(r.idle, func() {
		r.kicked.Add(1)
		r.remove(s)
	})
	r.mu.Lock()
	old := r.sessions[id]
	r.sessions[id] = s
	r.mu.Unlock()
	if old != nil {
		old.kick.Stop()
	}
	return s
}

func (r *Room) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[s.ID] == s {
		delete(r.sessions, s.ID)
	}
}

func (r *Room) Leave(id int) bool {
	r.mu.RLock()
	s, ok := r.sessions[id]
	r.mu.RUnlock()
	if !ok {
		return false
	}
	s.kick.Stop()
	r.remove(s)
	return true
}

func (r *Room) Act(id int) (int64, bool) {
	r.mu.RLock()
	s, ok := r.sessions[id]
	r.mu.RUnlock()
	if !ok {
		return 0, false
	}
	s.kick.Reset(r.idle)
	return s.acts.Add(1), true
}

func (r *Room) handle(fn func(id int) (any, bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		id, err := strconv.Atoi(req.PathValue("id"))
		if err != nil {
			http.Error(w, "id", http.StatusBadRequest)
			return
		}
		out, ok := fn(id)
		if !ok {
			http.NotFound(w, req)
			return
		}
		fmt.Fprint(w, out)
	}
}

func (r *Room) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /s/{id}/enter", r.handle(func(id int) (any, bool) { return r.Enter(id).Since.Unix(), true }))
	mux.HandleFunc("POST /s/{id}/act", r.handle(func(id int) (any, bool) { return r.Act(id) }))
	mux.HandleFunc("POST /s/{id}/leave", r.handle(func(id int) (any, bool) { return "bye", r.Leave(id) }))
	return mux
}

type crowd struct {
	base string
	cl   *http.Client
}

func (c *crowd) post(id int, what string) {
	resp, err := c.cl.Post(fmt.Sprintf("%s/s/%d/%s", c.base, id, what), "", nil)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func main() {
	room := NewRoom(10 * time.Minute)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, room.routes())) }()

	const players = 6000
	for id := range players {
		room.Enter(id)
	}
	c := &crowd{base: "http://" + ln.Addr().String(), cl: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 6}}}
	for range 4 {
		go func() {
			for range time.Tick(14 * time.Millisecond) {
				c.post(rand.IntN(players), "act")
			}
		}()
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			id := rand.IntN(players)
			c.post(id, "leave")
			c.post(id, "enter")
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
