// Pipe-logger ships its log by a pipe.
package main

import (
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func ship(r *os.File) {
	buf := make([]byte, 1<<10)
	for {
		if _, err := r.Read(buf); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

type audit struct{ *log.Logger }

func (a audit) bet(player string, chips int) {
	a.Printf("bet player=%s chips=%d %s", player, chips, strings.Repeat("x", 600)) // want: log-contention
}

func main() {
	s := stage.Start()
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	go ship(r)
	a := audit{log.New(w, "audit ", log.LstdFlags)}
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(http.ResponseWriter, *http.Request) { a.bet("ada", 5) })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", Users: 30, Pause: 20 * time.Millisecond})
	s.Wait()
}
