// Stats-each-bet measures what a bet allocates.
package main

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type measured struct{ next http.Handler }

func (m measured) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	before := allocated()
	m.next.ServeHTTP(w, r)
	w.Header().Set("Server-Timing", "alloc;dur="+strconv.FormatUint(allocated()-before, 10))
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m) // want: scheduler-latency
	return m.TotalAlloc
}

func main() {
	s := stage.Start()
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"accepted": true, "at": time.Now()})
	})
	s.Crowd(stage.Traffic{URL: s.Serve(measured{mux}) + "/bet", Users: 24})
	s.Wait()
}
