// Config-rwmutex reads limits while something keeps refreshing them.
package main

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type limits struct {
	mu     sync.RWMutex
	byUser map[int]int
}

func (l *limits) of(user int) int {
	l.mu.RLock() // want: lock-contention
	defer l.mu.RUnlock()
	return l.byUser[user]
}

func (l *limits) refresh(changed int) {
	l.mu.Lock()                   // want: lock-contention
	fresh := maps.Clone(l.byUser) // want: lock-contention
	for k := range fresh {        // want: lock-contention
		if fresh[k] < changed {
			fresh[k]++
		}
	}
	l.byUser = fresh
	l.mu.Unlock() // want: lock-contention
}

func main() {
	s := stage.Start()
	l := &limits{byUser: map[int]int{}}
	for i := range 150_000 {
		l.byUser[i] = i
	}
	go func() {
		for n := 0; ; n++ {
			l.refresh(n)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/limit", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("user"))
		_, _ = w.Write([]byte(strconv.Itoa(l.of(n))))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/limit?user=77", Users: 50, Pause: 5 * time.Millisecond})
	s.Wait()
}
