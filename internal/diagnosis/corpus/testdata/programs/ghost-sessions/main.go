// Ghost-sessions keeps the sessions of a long day.
package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type session struct {
	id       int
	name     string
	lastSeen time.Time
	closed   bool
	scratch  [1024]byte
}

type store struct {
	mu   sync.Mutex
	byID map[int]*session
}

func (s *store) open(name string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := &session{id: len(s.byID), name: name, lastSeen: time.Now()} // want: retained-objects
	s.byID[ses.id] = ses
	return ses
}

func (s *store) close(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.closed = true
}

func main() {
	st := stage.Start()
	s := &store{byID: map[int]*session{}}
	for i := range 220_000 {
		s.close(s.open(fmt.Sprint("player ", i)))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/visit", func(w http.ResponseWriter, r *http.Request) {
		ses := s.open(r.RemoteAddr)
		s.close(ses)
		fmt.Fprintln(w, ses.id)
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/visit", PerSecond: 20})
	st.Wait()
}
