// Gc-pressure-decode reads game states that arrive as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type reader struct {
	doc  []byte
	keep []map[string]any
}

func (r *reader) decode() (map[string]any, error) {
	var v map[string]any
	err := json.Unmarshal(r.doc, &v) // want: cpu-gc-pressure
	return v, err
}

func (r *reader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	v, err := r.decode()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, len(v))
}

func main() {
	s := stage.Start()
	var b strings.Builder
	b.WriteString(`{"seats":[`)
	for i := range 400 {
		fmt.Fprintf(&b, `{"player":"p%d","chips":%d,"cards":["%d","%d"],"tags":{"a":"x","b":"y"}},`, i, i*10, i%13, i%4)
	}
	r := &reader{doc: []byte(strings.TrimSuffix(b.String(), ",") + "]}")}
	for range 300 {
		v, err := r.decode()
		if err != nil {
			panic(err)
		}
		r.keep = append(r.keep, v)
	}
	s.Crowd(stage.Traffic{URL: s.Serve(r) + "/", Users: 10, Pause: time.Millisecond})
	s.Wait()
}
