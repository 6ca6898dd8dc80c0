// Sync-map-sessions logs players in.
package main

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type registry[K comparable, V any] struct{ m sync.Map }

func (r *registry[K, V]) getOrMake(k K, mk func(K) V) V {
	if v, ok := r.m.Load(k); ok {
		return v.(V)
	}
	v, _ := r.m.LoadOrStore(k, mk(k)) // want: heap-growth
	return v.(V)
}

type session struct {
	token string
	bag   [3000]byte
}

func newSession(token string) *session { return &session{token: token} } // want: heap-growth

func main() {
	s := stage.Start()
	r := &registry[string, *session]{}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, _ *http.Request) {
		token := fmt.Sprintf("token-%d", n.Add(1))
		fmt.Fprint(w, r.getOrMake(token, newSession).token) // want: heap-growth
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/login", PerSecond: 700})
	s.Wait()
}
