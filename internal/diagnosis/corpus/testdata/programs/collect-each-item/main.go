// Collect-each-item keeps the catalogue's memory small.
package main

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type item struct {
	name string
	tags []string
	next *item
}

type catalogue struct {
	mu    sync.RWMutex
	items map[int]*item
}

func (c *catalogue) load(n int) {
	items := make(map[int]*item, n)
	var last *item
	for i := range n {
		last = &item{name: fmt.Sprint("item-", i), tags: []string{"a", "b"}, next: last}
		items[i] = last
	}
	c.mu.Lock()
	c.items = items
	c.mu.Unlock()
}

func (c *catalogue) render(w http.ResponseWriter, _ *http.Request) {
	c.mu.RLock()
	it := c.items[17]
	c.mu.RUnlock()
	_, _ = fmt.Fprintln(w, it.name, it.tags)
	debug.FreeOSMemory() // want: cpu-gc-pressure
}

func main() {
	s := stage.Start()
	c := &catalogue{}
	c.load(300_000)
	s.Crowd(stage.Traffic{URL: s.Serve(http.HandlerFunc(c.render)) + "/item", Users: 4, Pause: 20 * time.Millisecond})
	s.Wait()
}
