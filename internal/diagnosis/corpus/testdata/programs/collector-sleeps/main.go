// Collector-sleeps gathers replays.
package main

import (
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type replay struct {
	id   int
	data [64]byte
}

type gatherer[T any] struct {
	out  chan T
	kept []T
}

func (g *gatherer[T]) add(v T) { g.out <- v } // want: channel-backpressure

func (g *gatherer[T]) collect() {
	for v := range g.out {
		if len(g.kept) > 100 {
			g.kept = g.kept[:0]
		}
		g.kept = append(g.kept, v)
		time.Sleep(10 * time.Millisecond)
	}
}

func main() {
	s := stage.Start()
	g := &gatherer[replay]{out: make(chan replay)}
	go g.collect()
	var all errgroup.Group
	for i := range 30 {
		all.Go(func() error {
			for n := 0; ; n++ {
				g.add(replay{id: i*1000 + n}) // want: channel-backpressure
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	s.Wait()
}
