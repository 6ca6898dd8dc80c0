// Ok-sleepers reminds players of their matches.
package main

import (
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type reminder struct {
	at    time.Duration
	fired *atomic.Int64
}

func (r reminder) run() {
	for {
		time.Sleep(r.at)
		r.fired.Add(1)
	}
}

func main() {
	s := stage.Start()
	var fired atomic.Int64
	for i := range 1500 {
		go reminder{time.Minute + time.Duration(i)*20*time.Millisecond, &fired}.run()
	}
	s.Wait()
}
