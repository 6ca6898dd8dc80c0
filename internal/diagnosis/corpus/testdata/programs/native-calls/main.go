// Native-calls checks moves with a library outside of Go.
package main

import (
	"net/http"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type engine struct{}

func (engine) analyse(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil) // want: thread-explosion
}

type analyser interface{ analyse(time.Duration) }

func main() {
	s := stage.Start()
	var a analyser = engine{}
	mux := http.NewServeMux()
	mux.HandleFunc("/analyse", func(w http.ResponseWriter, _ *http.Request) {
		a.analyse(500 * time.Millisecond) // want: thread-explosion
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/analyse", Users: 180, Pause: 10 * time.Millisecond})
	s.Wait()
}
