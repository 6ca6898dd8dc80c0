// Ok-actor owns a table.
package main

import (
	"net/http"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type ask struct {
	chips int
	reply chan int
}

type table struct {
	in  chan ask
	pot int
}

func (t *table) run() {
	for a := range t.in {
		t.pot += a.chips
		a.reply <- t.pot
	}
}

func (t *table) bet(chips int) int {
	a := ask{chips, make(chan int, 1)}
	t.in <- a
	return <-a.reply
}

func main() {
	s := stage.Start()
	t := &table{in: make(chan ask)}
	go t.run()
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(http.ResponseWriter, *http.Request) { t.bet(5) })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/bet", PerSecond: 500})
	s.Wait()
}
