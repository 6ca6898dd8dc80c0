// Ok-goroutine-per-request does a little on the side of every request.
package main

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type stats struct{ seen, late atomic.Int64 }

func (s *stats) record(began time.Time) {
	time.Sleep(5 * time.Millisecond)
	s.seen.Add(1)
	if time.Since(began) > 50*time.Millisecond {
		s.late.Add(1)
	}
}

func main() {
	st := stage.Start()
	s := &stats{}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		go s.record(time.Now())
		_, _ = w.Write([]byte(strconv.FormatInt(s.seen.Load(), 10)))
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/", PerSecond: 300})
	st.Wait()
}
