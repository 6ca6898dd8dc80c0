// Ok-busy-mutex counts what happens, with a mutex that is asked for often and held briefly.
package main

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type counters struct {
	mu sync.Mutex
	by map[uint64]int
}

func (c *counters) add(key uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[key%512]++
}

func main() {
	s := stage.Start()
	c := &counters{by: map[uint64]int{}}
	seed := maphash.MakeSeed()
	for range 8 {
		go func() {
			for s.Context().Err() == nil {
				for range 200 {
					v := maphash.Comparable(seed, rand.Int64())
					c.add(v)
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	s.Wait()
}
