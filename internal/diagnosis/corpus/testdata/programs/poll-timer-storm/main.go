// Poll-timer-storm lets every player's agent look for work.
package main

import (
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type seat struct {
	turn atomic.Bool
	hand int
}

func (s *seat) poll() {
	for {
		if s.turn.CompareAndSwap(true, false) {
			s.hand++
		}
		time.Sleep(time.Millisecond) // want: timer-storm
	}
}

func main() {
	s := stage.Start()
	seats := make([]seat, 1800)
	for i := range seats {
		go seats[i].poll()
	}
	s.Wait()
}
