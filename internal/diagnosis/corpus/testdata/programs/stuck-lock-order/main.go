// Stuck-lock-order moves chips between players.
package main

import (
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type purse struct {
	mu    sync.Mutex
	chips int
}

type casino struct{ purses [2]purse }

func (c *casino) transfer(from, to *purse, n int) {
	from.mu.Lock()
	defer from.mu.Unlock()
	from.chips -= n
	runtime.Gosched()
	to.mu.Lock() // want: deadlock
	defer to.mu.Unlock()
	to.chips += n
}

func main() {
	s := stage.Start()
	c := &casino{}
	mux := http.NewServeMux()
	mux.HandleFunc("/move", func(_ http.ResponseWriter, _ *http.Request) {
		a := rand.IntN(2)
		c.transfer(&c.purses[a], &c.purses[1-a], 5)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/move", Users: 30})
	s.Wait()
}
