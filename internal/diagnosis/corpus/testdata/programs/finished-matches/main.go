// Finished-matches keeps score.
package main

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type replay struct {
	moves [][]byte
}

type match struct {
	id       int
	finished bool
	replay   replay
}

type registry[T any] struct {
	mu  sync.Mutex
	all map[int]T
}

func (r *registry[T]) put(id int, v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[id] = v
}

func play(id int) *match {
	m := &match{id: id}
	for range 20 {
		m.replay.moves = append(m.replay.moves, make([]byte, 1<<10)) // want: retained-objects
	}
	m.finished = true
	return m
}

func main() {
	s := stage.Start()
	r := &registry[*match]{all: map[int]*match{}}
	for id := range 12_000 {
		r.put(id, play(id))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/match", func(w http.ResponseWriter, _ *http.Request) {
		m := play(0)
		r.put(m.id, m)
		fmt.Fprintln(w, m.finished)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/match", PerSecond: 20})
	s.Wait()
}
