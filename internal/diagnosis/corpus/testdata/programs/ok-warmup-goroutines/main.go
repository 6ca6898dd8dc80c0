// Ok-warmup-goroutines starts its workers one after the other.
package main

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type region struct {
	id    int
	ticks int
	moves chan int
}

func (r *region) run() {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.ticks++
		case <-r.moves:
		}
	}
}

func main() {
	s := stage.Start()
	go func() {
		for id := range 120 {
			go (&region{id: id, moves: make(chan int)}).run()
			time.Sleep(40 * time.Millisecond)
		}
	}()
	s.Wait()
}
