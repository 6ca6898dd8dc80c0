// Regexp-and-leak routes commands, and watches every player who sends one.
package main

import (
	"net/http"
	"regexp"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var patterns = []string{`^/bet\s+(\d+)\s+on\s+(\w+)$`, `^/fold(\s+now)?$`, `^/say\s+(.{1,200})$`, `^/(raise|call|check)\s*(\d*)$`}

type watcher struct {
	left  chan struct{}
	idle  chan time.Duration
	notes []string
}

func match(line string) int {
	for i, p := range patterns {
		if regexp.MustCompile(p).MatchString(line) { // want: cpu-hot-path
			return i
		}
	}
	return -1
}

func watch(player string) {
	w := &watcher{left: make(chan struct{}), idle: make(chan time.Duration)}
	go func() {
		for {
			select { // want: goroutine-leak
			case <-w.left:
				return
			case <-w.idle:
				w.notes = append(w.notes, player)
			}
		}
	}()
}

func main() {
	s := stage.Start()
	mux := http.NewServeMux()
	mux.HandleFunc("/command", func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for range 60 {
			n += match("/call 50")
		}
		watch(r.RemoteAddr)
		w.WriteHeader(http.StatusAccepted)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/command", Users: 24, Pause: 150 * time.Millisecond})
	s.Wait()
}
