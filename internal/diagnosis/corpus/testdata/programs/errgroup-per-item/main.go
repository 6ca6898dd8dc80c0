// Errgroup-per-item lights a map.
package main

import (
	"golang.org/x/sync/errgroup"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type tile struct{ light, wall int }

type grid struct{ tiles []tile }

func (t *tile) shine() error {
	t.light = (t.light*31 + t.wall) & 255
	return nil
}

func (g *grid) step() error {
	var all errgroup.Group
	for i := range g.tiles {
		all.Go(g.tiles[i].shine) // want: goroutine-churn
	}
	return all.Wait()
}

func main() {
	s := stage.Start()
	g := &grid{make([]tile, 5000)}
	go func() {
		for s.Context().Err() == nil {
			if err := g.step(); err != nil { // want: goroutine-churn
				panic(err)
			}
		}
	}()
	s.Wait()
}
