// Stuck-recursive-read totals the tables of a floor.
package main

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type floor struct {
	mu     sync.RWMutex
	tables map[int]int
}

func (f *floor) total() (sum int) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for id := range f.tables {
		sum += f.table(id) // want: deadlock
	}
	return sum
}

func (f *floor) table(id int) int {
	f.mu.RLock() // want: deadlock
	defer f.mu.RUnlock()
	time.Sleep(100 * time.Microsecond) // the croupier counts
	return f.tables[id]
}

func (f *floor) set(id, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tables[id] = n
}

func main() {
	s := stage.Start()
	f := &floor{tables: map[int]int{}}
	for i := range 20 {
		f.set(i, i)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/total", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strconv.Itoa(f.total()))) })
	mux.HandleFunc("/set", func(_ http.ResponseWriter, _ *http.Request) { f.set(3, 4) })
	url := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: url + "/total", Users: 10, Pause: time.Millisecond})
	s.Crowd(stage.Traffic{URL: url + "/set", Users: 5, Pause: 5 * time.Millisecond})
	s.Wait()
}
