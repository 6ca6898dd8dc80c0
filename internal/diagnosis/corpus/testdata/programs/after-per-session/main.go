// After-per-session ends sessions that nobody ends.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type session struct {
	id   int
	done chan struct{}
}

type sessions struct {
	mu   sync.Mutex
	all  map[int]*session
	next int
}

func (s *sessions) open() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	x := &session{s.next, make(chan struct{})}
	s.all[x.id] = x
	go s.expire(x, 30*time.Minute)
	return x
}

func (s *sessions) expire(x *session, after time.Duration) {
	select { // want: goroutine-leak
	case <-x.done:
	case <-time.After(after): // want: goroutine-leak
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, x.id)
}

func main() {
	st := stage.Start()
	s := &sessions{all: map[int]*session{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(http.ResponseWriter, *http.Request) { s.open() })
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/login", PerSecond: 50})
	st.Wait()
}
