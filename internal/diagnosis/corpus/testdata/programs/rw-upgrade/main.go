// Rw-upgrade makes rooms when they are first asked for.
package main

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type rooms struct {
	mu sync.RWMutex
	by map[string]int
}

func (r *rooms) get(name string) int {
	r.mu.RLock() // want: deadlock
	defer r.mu.RUnlock()
	if n, ok := r.by[name]; ok {
		return n
	}
	return r.create(name) // want: deadlock
}

func (r *rooms) create(name string) int {
	r.mu.Lock() // want: deadlock
	defer r.mu.Unlock()
	r.by[name] = len(r.by)
	return r.by[name]
}

func main() {
	s := stage.Start()
	r := &rooms{by: map[string]int{"0": 0, "1": 1, "2": 2}}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/room", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strconv.Itoa(r.get(strconv.FormatInt(n.Add(1)/500, 10)))))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/room", Users: 60, Pause: 20 * time.Millisecond})
	s.Wait()
}
