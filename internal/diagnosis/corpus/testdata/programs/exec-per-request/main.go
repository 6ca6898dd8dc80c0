// Exec-per-request makes thumbnails.
package main

import (
	"net/http"
	"os/exec"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type thumbnails struct{ tool string }

func (t *thumbnails) make(name string) error {
	return exec.Command(t.tool, "1").Run() // want: thread-explosion
}

func main() {
	s := stage.Start()
	t := &thumbnails{"sleep"}
	mux := http.NewServeMux()
	mux.HandleFunc("/thumbnail", func(w http.ResponseWriter, _ *http.Request) {
		if err := t.make("avatar"); err != nil { // want: thread-explosion
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/thumbnail", Users: 120, Pause: 100 * time.Millisecond})
	s.Wait()
}
