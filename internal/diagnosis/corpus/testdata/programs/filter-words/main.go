// Filter-words keeps a chat clean.
package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type handler func(text string) bool

func chain(all ...handler) handler {
	return func(text string) bool {
		for _, h := range all {
			if !h(text) {
				return false
			}
		}
		return true
	}
}

func without(words []string) handler {
	return func(text string) bool {
		for _, w := range words {
			if strings.Contains(strings.ToLower(text), strings.ToLower(w)) { // want: cpu-hot-path
				return false
			}
		}
		return true
	}
}

func main() {
	s := stage.Start()
	words := make([]string, 3000)
	for i := range words {
		words[i] = fmt.Sprint("Word", i*7919)
	}
	check := chain(func(t string) bool { return len(t) < 4096 }, without(words))
	text := strings.Repeat("good Game, well Played ", 12)
	s.Crowd(stage.Traffic{URL: s.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !check(text) {
			w.WriteHeader(http.StatusBadRequest)
		}
	})) + "/", Users: 12, Pause: 4 * time.Millisecond})
	s.Wait()
}
