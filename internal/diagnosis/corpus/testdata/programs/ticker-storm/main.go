// Ticker-storm animates every table on its own clock.
package main

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type animation struct{ frame int }

func (a *animation) run(stop <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond) // want: timer-storm
	defer tick.Stop()
	for {
		select { // want: timer-storm
		case <-stop:
			return
		case <-tick.C:
			a.frame++
		}
	}
}

func main() {
	s := stage.Start()
	for range 1200 {
		go new(animation).run(s.Context().Done())
	}
	s.Wait()
}
