// Spin-gosched hands out seats.
package main

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type queue struct {
	head, tail atomic.Int64
	seated     atomic.Int64
}

func (q *queue) take() int64 {
	for {
		h := q.head.Load()                                      // want: cpu-hot-path
		if h < q.tail.Load() && q.head.CompareAndSwap(h, h+1) { // want: cpu-hot-path
			return h
		}
		runtime.Gosched() // want: cpu-hot-path
	}
}

func (q *queue) work() {
	for {
		q.take() // want: cpu-hot-path
		q.seated.Add(1)
	}
}

func main() {
	s := stage.Start()
	q := &queue{}
	for range 2 {
		go q.work()
	}
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			q.tail.Add(1)
		}
	}()
	s.Wait()
}
