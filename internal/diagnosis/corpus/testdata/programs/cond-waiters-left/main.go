// Cond-waiters-left plays rounds.
package main

import (
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type round struct {
	mu    sync.Mutex
	ready *sync.Cond
	seats int
}

func (r *round) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.seats < 4 {
		r.ready.Wait() // want: goroutine-leak
	}
}

func open() *round {
	r := &round{}
	r.ready = sync.NewCond(&r.mu)
	go r.start()
	return r
}

func (r *round) join() {
	r.mu.Lock()
	r.seats++
	r.mu.Unlock()
	r.ready.Signal()
}

func main() {
	s := stage.Start()
	mux := http.NewServeMux()
	mux.HandleFunc("/open", func(w http.ResponseWriter, _ *http.Request) {
		r := open()
		r.join()
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/open", PerSecond: 60})
	s.Wait()
}
