// Ok-lazy-collector trades memory for time: it collects seldom.
package main

import (
	"net/http"
	"strconv"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type page struct {
	rows [][]byte
}

func render(n int) *page {
	p := &page{}
	for i := range n {
		p.rows = append(p.rows, strconv.AppendInt(make([]byte, 0, 500+i%7), int64(i), 10))
	}
	return p
}

func main() {
	s := stage.Start()
	keep := make([]*page, 200)
	for i := range keep {
		keep[i] = render(200)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(render(60).rows[7])
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/page", PerSecond: 300})
	s.Wait()
}
