// Debounce-rearm saves drafts when nobody has typed for a while.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type debouncer[K comparable, V any] struct {
	mu   sync.Mutex
	last map[K]*time.Timer
	wait time.Duration
	save func(K, V)
}

func (d *debouncer[K, V]) touch(k K, v V) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[k] = time.AfterFunc(d.wait, func() { d.save(k, v) }) // want: timer-leak
}

type draft struct{ text [12]int64 }

func main() {
	s := stage.Start()
	d := &debouncer[int, draft]{last: map[int]*time.Timer{}, wait: 20 * time.Minute, save: func(int, draft) {}}
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			for i := range 40 {
				d.touch(i, draft{}) // want: timer-leak
			}
		}
	}()
	s.Wait()
}
