// Ok-big-table answers from a table in memory that it loaded once.
package main

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type card struct {
	id    int
	name  string
	stats [40]int32
}

func load(n int) map[int]*card {
	all := make(map[int]*card, n)
	for i := range n {
		all[i] = &card{id: i, name: "card " + strconv.Itoa(i)}
	}
	return all
}

func main() {
	s := stage.Start()
	cards := load(400_000)
	mux := http.NewServeMux()
	mux.HandleFunc("/card", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.FormValue("id"))
		c, ok := cards[id]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintln(w, c.name, c.stats[0])
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/card?id=77", PerSecond: 200})
	s.Wait()
}
