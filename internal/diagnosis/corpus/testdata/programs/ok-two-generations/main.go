// Ok-two-generations remembers what was asked for lately.
package main

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type entry struct{ text [2048]byte }

type cache struct {
	mu         sync.Mutex
	young, old map[string]*entry
}

func (c *cache) get(key string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.young[key]; e != nil {
		return e
	}
	e := c.old[key]
	if e == nil {
		e = &entry{}
	}
	c.young[key] = e
	return e
}

func (c *cache) turn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old, c.young = c.young, map[string]*entry{}
}

func main() {
	s := stage.Start()
	c := &cache{young: map[string]*entry{}, old: map[string]*entry{}}
	go func() {
		for range time.Tick(3 * time.Second) {
			c.turn()
		}
	}()
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/get", func(w http.ResponseWriter, _ *http.Request) {
		for range 4 {
			c.get(strconv.FormatInt(n.Add(1), 10)).text[0]++
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/get", PerSecond: 400})
	s.Wait()
}
