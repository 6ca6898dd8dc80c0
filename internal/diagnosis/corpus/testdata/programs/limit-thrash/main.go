// Limit-thrash serves out of a table that nearly fills its memory limit.
package main

import (
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type record struct {
	next *record
	data [112]byte
}

type catalogue struct{ heads []*record }

func (c *catalogue) fill(bytes int) {
	c.heads = make([]*record, 64)
	for i := range bytes / 128 {
		h := i % len(c.heads)
		c.heads[h] = &record{next: c.heads[h]}
	}
}

func (c *catalogue) describe(n int) string {
	var parts []string
	for r := c.heads[n%len(c.heads)]; r != nil && len(parts) < 400; r = r.next {
		parts = append(parts, string(r.data[:]))
	}
	return strings.Join(parts, ",")
}

func main() {
	s := stage.Start()
	debug.SetMemoryLimit(150 << 20)
	c := &catalogue{}
	c.fill(138 << 20)
	mux := http.NewServeMux()
	mux.HandleFunc("/describe", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(c.describe(7)[:100]))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/describe", Users: 8, Pause: 5 * time.Millisecond})
	s.Wait()
}
