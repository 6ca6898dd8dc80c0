// Substring-bodies remembers names.
package main

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type names struct {
	by   sync.Map
	next atomic.Int64
}

func read(r io.Reader) string {
	b, err := io.ReadAll(r) // want: heap-growth
	if err != nil {
		return ""
	}
	return string(b) // want: heap-growth
}

func (n *names) put(id int64, r io.Reader) {
	text := read(r) // want: heap-growth
	name, _, _ := strings.Cut(text, ",")
	n.by.Store(id, name)
}

func main() {
	s := stage.Start()
	n := &names{}
	doc := bytes.Repeat([]byte("ada,"), 6<<10)
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) {
		id := n.next.Add(1)
		n.put(id, bytes.NewReader(doc))
		_, _ = w.Write([]byte(strconv.FormatInt(id, 10)))
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/hello", PerSecond: 200})
	s.Wait()
}
