// Ok-reload-off serves limits; reading them again is turned off, its channel nil.
package main

import (
	"net/http"
	"runtime"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type limits struct {
	again <-chan time.Time
	table map[string]int
}

func (l *limits) keepFresh() {
	for range l.again {
		l.load()
	}
}

func (l *limits) load() { l.table = map[string]int{"roulette": 500, "baccarat": 2000} }

// figures are read and the heap is collected now and then, which nobody can feel.
func figures() {
	var m runtime.MemStats
	for n := range uint(1 << 31) {
		runtime.ReadMemStats(&m)
		if n%5 == 4 {
			runtime.GC()
		}
		time.Sleep(time.Second)
	}
}

func main() {
	s := stage.Start()
	l := &limits{}
	l.load()
	go l.keepFresh()
	go figures()
	mux := http.NewServeMux()
	mux.HandleFunc("/limit", func(w http.ResponseWriter, r *http.Request) {
		if l.table[r.FormValue("table")] == 0 {
			http.NotFound(w, r)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/limit?table=roulette", Users: 8, Pause: 3 * time.Millisecond})
	s.Wait()
}
