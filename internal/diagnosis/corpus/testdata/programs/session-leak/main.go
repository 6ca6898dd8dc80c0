// Session-leak keeps a session for every player who connects.
package main

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type event struct {
	kind string
	data []byte
}

type session struct {
	id     int
	inbox  chan event
	done   chan struct{}
	screen [4096]byte
}

func (s *session) pump() {
	for {
		select { // want: goroutine-leak
		case ev := <-s.inbox:
			copy(s.screen[:], ev.data)
		case <-s.done:
			return
		}
	}
}

type registry struct {
	mu       sync.Mutex
	next     int
	sessions map[int]*session
}

func (r *registry) open() *session {
	s := &session{inbox: make(chan event, 8), done: make(chan struct{})}
	r.mu.Lock()
	r.next++
	s.id = r.next
	r.sessions[s.id] = s
	r.mu.Unlock()
	go s.pump()
	return s
}

func (r *registry) play(w http.ResponseWriter, req *http.Request) {
	s := r.open()
	s.inbox <- event{"hello", []byte(req.RemoteAddr)}
	fmt.Fprintln(w, s.id)
}

func main() {
	s := stage.Start()
	r := &registry{sessions: map[int]*session{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/play", r.play)
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/play", PerSecond: 150})
	s.Wait()
}
