// Actors-ask-each-other moves chips between tables and the bank.
package main

import (
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type request struct {
	chips int
	deep  bool
	reply chan int
}

type actor struct {
	in    chan request
	other *actor
	chips int
}

func (a *actor) ask(chips int, deep bool) int {
	r := request{chips, deep, make(chan int, 1)}
	a.in <- r        // want: deadlock
	return <-r.reply // want: deadlock
}

func (a *actor) serve() {
	for r := range a.in {
		a.chips += r.chips
		if r.deep {
			a.chips += a.other.ask(1, false) // want: deadlock
		}
		r.reply <- a.chips
	}
}

func main() {
	s := stage.Start()
	table, bank := &actor{in: make(chan request)}, &actor{in: make(chan request)}
	table.other, bank.other = bank, table
	go table.serve()
	go bank.serve()
	mux := http.NewServeMux()
	mux.HandleFunc("/bet", func(http.ResponseWriter, *http.Request) { table.ask(5, true) }) // want: deadlock
	mux.HandleFunc("/pay", func(http.ResponseWriter, *http.Request) { bank.ask(5, true) })  // want: deadlock
	at := s.Serve(mux)
	s.Crowd(stage.Traffic{URL: at + "/bet", Users: 15, Pause: 5 * time.Millisecond})
	s.Crowd(stage.Traffic{URL: at + "/pay", Users: 15, Pause: 5 * time.Millisecond})
	s.Wait()
}
