// Stuck-chan-cycle lets a scheduler and its workers talk over channels.
package main

import (
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type task struct{ depth int }

type scheduler struct {
	tasks chan task
	done  chan task
}

func (s *scheduler) dispatch(incoming <-chan task) {
	for {
		select {
		case t := <-incoming:
			s.tasks <- t // want: deadlock
		case t := <-s.done:
			if t.depth > 0 {
				s.tasks <- task{t.depth - 1} // want: deadlock
			}
		}
	}
}

func (s *scheduler) work() {
	for t := range s.tasks {
		s.done <- t // want: deadlock
	}
}

func main() {
	st := stage.Start()
	s := &scheduler{tasks: make(chan task), done: make(chan task)}
	incoming := make(chan task)
	go s.dispatch(incoming)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(s.work)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/task", func(w http.ResponseWriter, _ *http.Request) {
		incoming <- task{3} // want: deadlock
		w.WriteHeader(http.StatusAccepted)
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/task", Users: 20})
	st.Wait()
}
