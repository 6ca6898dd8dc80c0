// Shards-one-hot counts votes by region.
package main

import (
	"hash/fnv"
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type part struct {
	sync.Mutex
	votes map[int]int
}

type counter struct{ parts [32]part }

func (c *counter) of(region string) *part {
	h := fnv.New32a()
	_, _ = h.Write([]byte(region))
	return &c.parts[h.Sum32()%32]
}

func (p *part) winner() (best, most int) {
	for k, n := range p.votes {
		if n > most {
			best, most = k, n
		}
	}
	return best, most
}

func (c *counter) vote(region string, choice int) int {
	p := c.of(region)
	p.Lock() // want: lock-contention
	defer p.Unlock()
	p.votes[choice]++
	best, _ := p.winner() // want: lock-contention
	return best
} // want: lock-contention

func main() {
	s := stage.Start()
	c := &counter{}
	for i := range c.parts {
		c.parts[i].votes = map[int]int{}
		for k := range 20_000 {
			c.parts[i].votes[k] = k % 100
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/vote", func(w http.ResponseWriter, r *http.Request) {
		c.vote(r.FormValue("region"), 7)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/vote?region=asia", Users: 40, Pause: 5 * time.Millisecond})
	s.Wait()
}
