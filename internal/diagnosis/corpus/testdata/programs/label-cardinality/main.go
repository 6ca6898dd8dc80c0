// Label-cardinality counts what players do.
package main

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type histogram struct {
	buckets [64]uint64
	sum     float64
}

type metrics struct {
	mu sync.Mutex
	by map[string]map[string]*histogram
}

func (m *metrics) observe(route, labels string, v float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.by[route]
	if of == nil {
		of = map[string]*histogram{}
		m.by[route] = of
	}
	h := of[labels]
	if h == nil {
		h = &histogram{} // want: heap-growth
		of[labels] = h   // want: heap-growth
	}
	h.sum += v
	h.buckets[int(v)%64]++
}

func main() {
	s := stage.Start()
	m := &metrics{by: map[string]map[string]*histogram{}}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/move", func(w http.ResponseWriter, _ *http.Request) {
		for range 5 {
			m.observe("/move", fmt.Sprintf("player=%d,session=%d", n.Add(1), n.Load()*7), 12)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/move", PerSecond: 500})
	s.Wait()
}
