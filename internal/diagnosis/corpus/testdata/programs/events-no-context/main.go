// Events-no-context streams the score to browsers.
package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type scoreboard struct{ score int }

func (s *scoreboard) stream(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flusher, _ := w.(http.Flusher)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		<-tick.C // want: goroutine-leak
		fmt.Fprintf(w, "data: %d\n\n", s.score)
		flusher.Flush()
	}
}

func main() {
	st := stage.Start()
	s := &scoreboard{}
	mux := http.NewServeMux()
	mux.HandleFunc("/events", s.stream)
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/events", PerSecond: 60, Patience: 1500 * time.Millisecond, Reconnect: true})
	st.Wait()
}
