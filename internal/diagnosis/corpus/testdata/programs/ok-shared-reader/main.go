// Ok-shared-reader shows standings.
package main

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type standings struct {
	mu     sync.RWMutex
	points []int
}

func (s *standings) top() (best int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, p := range s.points {
		if p > s.points[best] {
			best = i
		}
	}
	return best
}

func (s *standings) add(i, n int) {
	s.mu.Lock()
	s.points[i%len(s.points)] += n
	s.mu.Unlock()
}

func main() {
	st := stage.Start()
	s := &standings{points: make([]int, 30_000)}
	go func() {
		n := 0
		for range time.Tick(200 * time.Millisecond) {
			n++
			s.add(n*7919, n%13)
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/top", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strconv.Itoa(s.top())))
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/top", PerSecond: 500})
	st.Wait()
}
