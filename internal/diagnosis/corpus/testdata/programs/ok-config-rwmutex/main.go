// Ok-config-rwmutex reads limits that are replaced once a second.
package main

import (
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
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.byUser[user]
}

func (l *limits) replace(fresh map[int]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byUser = fresh
}

func main() {
	s := stage.Start()
	l := &limits{byUser: map[int]int{}}
	go func() {
		for n := 0; ; n++ {
			fresh := make(map[int]int, 10_000)
			for i := range 10_000 {
				fresh[i] = i + n
			}
			l.replace(fresh)
			time.Sleep(time.Second)
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/limit", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("user"))
		_, _ = w.Write([]byte(strconv.Itoa(l.of(n))))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/limit?user=77", Users: 30, Pause: 10 * time.Millisecond})
	s.Wait()
}
