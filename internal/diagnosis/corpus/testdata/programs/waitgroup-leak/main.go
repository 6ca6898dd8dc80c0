// Waitgroup-leak fans requests out to shards and waits for all of them.
package main

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type shard struct{ down bool }

type router struct {
	shards []*shard
	sent   atomic.Int64
}

func (r *router) ask(sh *shard, wg *sync.WaitGroup) {
	if sh.down && r.sent.Add(1)%4 == 0 {
		return
	}
	defer wg.Done()
	time.Sleep(2 * time.Millisecond)
}

func (r *router) all() {
	var wg sync.WaitGroup
	for _, sh := range r.shards {
		wg.Add(1)
		go r.ask(sh, &wg)
	}
	wg.Wait() // want: goroutine-leak
}

func main() {
	s := stage.Start()
	r := &router{shards: []*shard{{}, {}, {down: true}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/all", func(w http.ResponseWriter, _ *http.Request) {
		go r.all() // nobody needs the answer
		w.WriteHeader(http.StatusAccepted)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/all", PerSecond: 120})
	s.Wait()
}
