// Yaml-each-time prices items.
package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type rules struct {
	Items map[string]struct {
		Price int
		Tags  []string
	}
}

type shop struct{ text string }

func (s *shop) rules() (r rules, err error) {
	return r, yaml.Unmarshal([]byte(s.text), &r) // want: cpu-hot-path
}

func (s *shop) price(item string) (int, error) {
	r, err := s.rules() // want: cpu-hot-path
	return r.Items[item].Price, err
}

func main() {
	st := stage.Start()
	var b strings.Builder
	b.WriteString("items:\n")
	for i := range 60 {
		fmt.Fprintf(&b, "  sword%d:\n    price: %d\n    tags: [sharp, old]\n", i, i)
	}
	s := &shop{b.String()}
	mux := http.NewServeMux()
	mux.HandleFunc("/price", func(w http.ResponseWriter, _ *http.Request) {
		p, err := s.price("sword7")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, p)
	})
	st.Crowd(stage.Traffic{URL: st.Serve(mux) + "/price", Users: 12, Pause: 2 * time.Millisecond})
	st.Wait()
}
