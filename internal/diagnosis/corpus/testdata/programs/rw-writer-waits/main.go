// Rw-writer-waits serves a ranking.
package main

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type entry struct {
	Player int
	Points int
}

type ranking struct {
	mu  sync.RWMutex
	all []entry
}

func (r *ranking) page() ([]byte, error) {
	r.mu.RLock() // want: lock-contention
	defer r.mu.RUnlock()
	return json.Marshal(r.all) // want: lock-contention
} // want: lock-contention

func (r *ranking) score(i, n int) {
	r.mu.Lock() // want: lock-contention
	r.all[i%len(r.all)].Points += n
	r.mu.Unlock() // want: lock-contention
}

func main() {
	s := stage.Start()
	r := &ranking{all: make([]entry, 12_000)}
	for i := range r.all {
		r.all[i] = entry{i, i * 7919}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		b, err := r.page()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(b[:64])
	})
	mux.HandleFunc("/score", func(http.ResponseWriter, *http.Request) { r.score(7, 3) })
	at := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: at + "/page", Users: 4, Pause: 5 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: at + "/score", Users: 24, Pause: 2 * time.Millisecond})
	s.Wait()
}
