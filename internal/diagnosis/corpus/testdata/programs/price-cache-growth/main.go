// Price-cache-growth remembers what it has computed.
package main

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type priced struct {
	key    string
	detail []float64
}

type memo struct {
	mu   sync.RWMutex
	seen map[string]*priced
	next int
}

func (m *memo) price(key string) *priced {
	m.mu.RLock()
	p := m.seen[key]
	m.mu.RUnlock()
	if p != nil {
		return p
	}
	p = &priced{key: key, detail: make([]float64, 1024)} // want: heap-growth
	m.mu.Lock()
	m.seen[key] = p // want: heap-growth
	m.mu.Unlock()
	return p
}

func (m *memo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.next++
	key := fmt.Sprintf("%s?request=%d", r.URL.Path, m.next)
	m.mu.Unlock()
	fmt.Fprintln(w, len(m.price(key).detail))
}

func main() {
	s := stage.Start()
	s.Crowd(stage.Traffic{URL: s.Serve(&memo{seen: map[string]*priced{}}) + "/price", PerSecond: 500})
	s.Wait()
}
