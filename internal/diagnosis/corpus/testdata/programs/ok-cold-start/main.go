// Ok-cold-start loads its tables when it starts, and serves them.
package main

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type rule struct {
	id     int
	name   string
	weight []float64
}

type rules struct{ byName map[string]*rule }

func load(n int) *rules {
	r := &rules{byName: make(map[string]*rule, n)}
	for i := range n {
		if i%2000 == 0 {
			time.Sleep(20 * time.Millisecond) // where they come from takes its time
		}
		name := "rule " + strconv.Itoa(i)
		scratch := make([]float64, 256+i%2) // as it comes
		r.byName[name] = &rule{i, name, append([]float64(nil), scratch[:32]...)}
	}
	return r
}

func main() {
	s := stage.Start()
	time.Sleep(2500 * time.Millisecond)
	r := load(150_000)
	mux := http.NewServeMux()
	mux.HandleFunc("/rule", func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintln(w, r.byName[req.FormValue("name")].id)
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/rule?name=rule+7", PerSecond: 200})
	s.Wait()
}
