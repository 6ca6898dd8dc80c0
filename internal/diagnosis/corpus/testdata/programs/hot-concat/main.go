// Hot-concat writes transcripts of games.
package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type game struct{ moves []int }

func (g *game) transcript() string {
	text := ""
	for i, m := range g.moves {
		text += strconv.Itoa(i) + ". " + strconv.Itoa(m) + "\n" // want: cpu-hot-path
	}
	return text
}

func main() {
	s := stage.Start()
	g := &game{}
	for i := range 1500 {
		g.moves = append(g.moves, i*7919%10_007)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/transcript", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(g.transcript())) })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/transcript", Users: 12, Pause: time.Millisecond})
	s.Wait()
}
