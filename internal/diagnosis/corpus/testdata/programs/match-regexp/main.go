// Match-regexp looks for links in messages.
package main

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var links = regexp.MustCompile(`(?i)([a-z0-9-]+\.)+(com|net|org|game)(/[\w./?=&%-]*)*\s*(please|now)?$`)

type filter struct{ seen int }

func (f *filter) clean(text string) bool {
	return !links.MatchString(text) // want: cpu-hot-path
}

func main() {
	s := stage.Start()
	f := &filter{}
	text := strings.Repeat("go to play.example.game/room/77?x=1 or ask.me.now.org ", 40)
	mux := http.NewServeMux()
	mux.HandleFunc("/say", func(w http.ResponseWriter, _ *http.Request) {
		if !f.clean(text) { // want: cpu-hot-path
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/say", Users: 12, Pause: 2 * time.Millisecond})
	s.Wait()
}
