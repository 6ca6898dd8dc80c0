// Cache-at-limit caches pictures up to what its memory limit allows.
package main

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type picture struct {
	id    int
	tiles []*[512]byte
}

type gallery struct {
	mu   sync.Mutex
	all  map[int]*picture
	most int
	next int
}

func (g *gallery) picture(id int) *picture {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.all[id]; ok {
		return p
	}
	p := &picture{id: id}
	for range 16 {
		p.tiles = append(p.tiles, new([512]byte))
	}
	if len(g.all) >= g.most {
		for old := range g.all {
			delete(g.all, old)
			break
		}
	}
	g.all[id] = p
	return p
}

func (g *gallery) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	g.next++
	id := g.next
	g.mu.Unlock()
	var sum int
	for n := range 6 {
		sum += len(g.picture(id*6 + n).tiles)
	}
	_, _ = w.Write([]byte(strconv.Itoa(sum)))
}

func main() {
	s := stage.Start()
	g := &gallery{all: map[int]*picture{}, most: 13_900}
	for i := range g.most {
		g.picture(-i)
	}
	s.Crowd(stage.Traffic{URL: s.Serve(g) + "/", PerSecond: 300})
	s.Wait()
}
