// Ok-heap-sawtooth collects events and writes them away every four seconds.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type event struct {
	id   int
	body [1000]byte
}

type buffer struct {
	mu     sync.Mutex
	events []*event
}

func (b *buffer) add(id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, &event{id: id})
}

func (b *buffer) flush() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.events)
	b.events = nil
	return n
}

func main() {
	s := stage.Start()
	b := &buffer{}
	go func() {
		for {
			time.Sleep(4 * time.Second)
			b.flush()
		}
	}()
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			<-tick.C
			for range 4 {
				b.add(n)
			}
		}
	}()
	s.Wait()
}
