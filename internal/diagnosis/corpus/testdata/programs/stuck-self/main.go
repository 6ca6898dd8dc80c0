// Stuck-self keeps inventories.
package main

import (
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type inventory struct {
	mu    sync.Mutex
	items map[string]int
}

func (i *inventory) count(item string) int {
	i.mu.Lock() // want: deadlock
	defer i.mu.Unlock()
	return i.items[item]
}

func (i *inventory) take(item string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.count(item) == 0 { // want: deadlock
		return false
	}
	i.items[item]--
	return true
}

func main() {
	s := stage.Start()
	inv := &inventory{items: map[string]int{"sword": 3}}
	mux := http.NewServeMux()
	mux.HandleFunc("/take", func(w http.ResponseWriter, r *http.Request) {
		if !inv.take(r.FormValue("item")) {
			http.Error(w, "none left", http.StatusConflict)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/take?item=sword", Users: 20})
	s.Wait()
}
