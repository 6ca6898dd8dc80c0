// Hot-gzip serves the catalogue compressed.
package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type compressing struct{ next http.Handler }

type gzipWriter struct {
	http.ResponseWriter
	out io.Writer
}

func (w gzipWriter) Write(b []byte) (int, error) {
	return w.out.Write(b) // want: cpu-hot-path
}

func (c compressing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	zw, err := gzip.NewWriterLevel(w, gzip.BestCompression) // want: cpu-hot-path
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	c.next.ServeHTTP(gzipWriter{w, zw}, r)
	_ = zw.Close() // want: cpu-hot-path
}

func main() {
	s := stage.Start()
	var page strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&page, "<item id=%d price=%d.%02d>colour %x of the catalogue</item>\n", i, i*7%90, i%100, i*i)
	}
	catalogue := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page.String()) })
	s.Crowd(stage.Traffic{URL: s.Serve(compressing{catalogue}) + "/", Users: 12, Pause: 2 * time.Millisecond})
	s.Wait()
}
