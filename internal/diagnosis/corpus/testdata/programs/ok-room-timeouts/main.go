// Ok-room-timeouts waits for moves.
package main

import (
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type room struct {
	moves  chan int
	missed atomic.Int64
}

func (r *room) turn() {
	select {
	case <-r.moves:
	case <-time.After(2 * time.Second):
		r.missed.Add(1)
	}
}

func main() {
	s := stage.Start()
	r := &room{moves: make(chan int)}
	go func() {
		for range time.Tick(25 * time.Millisecond) {
			go r.turn()
		}
	}()
	s.Wait()
}
