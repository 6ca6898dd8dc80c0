// Select-after-poll watches rooms.
package main

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type room struct {
	moves chan int
	last  int
	turns int
}

func (r *room) watch(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case m := <-r.moves:
			r.last = m
		case <-time.After(time.Millisecond): // want: timer-storm
			r.turns++
		} // want: timer-storm
	}
}

func main() {
	s := stage.Start()
	for range 1200 {
		r := &room{moves: make(chan int)}
		go r.watch(s.Context().Done()) // want: timer-storm
	}
	s.Wait()
}
