// Spin-churn adds up the reels of slot machines.
package main

import (
	"sync"
	"sync/atomic"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type machine struct{ reels [5]int }

func (m *machine) sum() int64 {
	var total atomic.Int64
	var wg sync.WaitGroup
	for _, r := range m.reels {
		wg.Add(1)
		go func() { // want: goroutine-churn
			defer wg.Done()
			total.Add(int64(r))
		}()
	}
	wg.Wait()
	return total.Load()
}

func main() {
	s := stage.Start()
	machines := make([]machine, 64)
	go func() {
		for s.Context().Err() == nil {
			for i := range machines {
				machines[i].sum()
			}
		}
	}()
	s.Wait()
}
