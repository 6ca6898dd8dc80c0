// Hot-regexp filters chat messages.
package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var words = []string{"spade", "heart", "diamond", "club", "joker", "dealer", "bluff", "ante"}

func clean(text string) (string, error) {
	for _, word := range words {
		re, err := regexp.Compile(`(?i)\b` + word + `(s|ed|ing)?\b[\s\d]*`) // want: cpu-hot-path
		if err != nil {
			return "", err
		}
		text = re.ReplaceAllString(text, "*")
	}
	return text, nil
}

func main() {
	s := stage.Start()
	mux := http.NewServeMux()
	mux.HandleFunc("/say", func(w http.ResponseWriter, r *http.Request) {
		for line := range strings.SplitSeq(strings.Repeat(r.FormValue("text")+"\n", 10), "\n") {
			out, err := clean(line)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, out)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/say?text=the+dealer+is+bluffing+with+spades", Users: 16, Pause: time.Millisecond})
	s.Wait()
}
