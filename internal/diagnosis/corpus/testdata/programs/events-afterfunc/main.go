// Events-afterfunc hands out events.
package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type bus struct {
	all  sync.WaitGroup
	seen atomic.Int64
}

func (b *bus) publish(n int64) {
	b.all.Add(1)
	time.AfterFunc(0, func() { // want: goroutine-churn
		b.seen.Add(n)
		b.all.Done()
	})
}

func main() {
	s := stage.Start()
	b := &bus{}
	go func() {
		for s.Context().Err() == nil {
			for n := range int64(1000) {
				b.publish(n) // want: goroutine-churn
			}
			b.all.Wait()
		}
	}()
	s.Wait()
}
