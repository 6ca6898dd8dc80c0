// Ok-admission serves requests that take a while, with a limit.
package main

import (
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type gate struct{ slots chan struct{} }

func (g gate) enter(r *http.Request) bool {
	select {
	case g.slots <- struct{}{}:
		return true
	case <-r.Context().Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

func (g gate) leave() { <-g.slots }

func main() {
	s := stage.Start()
	g := gate{make(chan struct{}, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("/play", func(w http.ResponseWriter, r *http.Request) {
		if !g.enter(r) {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		defer g.leave()
		time.Sleep(30 * time.Millisecond)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/play", Users: 60, Pause: 10 * time.Millisecond})
	s.Wait()
}
