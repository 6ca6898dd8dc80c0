// Desks-send-each-other plays spins and keeps purses, each in a goroutine of its own.
package main

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type order struct {
	kind string
	n    int64
}

type purses struct {
	in   chan order
	game *game
}

type game struct {
	in     chan order
	purses *purses
}

func (p *purses) run() {
	for o := range p.in {
		if o.n%3 == 0 {
			p.game.in <- order{"low", o.n} // want: deadlock
		}
	}
}

func (g *game) run() {
	for o := range g.in {
		if o.kind == "spin" {
			g.purses.in <- order{"debit", o.n} // want: deadlock
		}
	}
}

func main() {
	s := stage.Start()
	p := &purses{in: make(chan order, 2)}
	g := &game{in: make(chan order, 2), purses: p}
	p.game = g
	go p.run()
	go g.run()
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/spin", func(http.ResponseWriter, *http.Request) { g.in <- order{"spin", n.Add(1)} })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/spin", Users: 20, Pause: time.Millisecond})
	s.Wait()
}
