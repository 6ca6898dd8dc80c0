// Busy-wait takes orders off two queues.
package main

import (
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type order struct{ id int }

type desk struct {
	normal, urgent chan order
	done           atomic.Int64
}

func (d *desk) work() {
	for { // want: cpu-hot-path
		select { // want: cpu-hot-path
		case o := <-d.urgent: // want: cpu-hot-path
			d.handle(o)
		case o := <-d.normal: // want: cpu-hot-path
			d.handle(o)
		default: // want: cpu-hot-path
		}
	}
}

func (d *desk) handle(order) { d.done.Add(1) }

func main() {
	s := stage.Start()
	d := &desk{normal: make(chan order, 8), urgent: make(chan order, 8)}
	for range 2 {
		go d.work()
	}
	go func() {
		for n := 0; ; n++ {
			d.normal <- order{n}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	s.Wait()
}
