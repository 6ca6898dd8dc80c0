// Ok-short-timers lets cards fall with a delay.
package main

import (
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type card struct {
	id   int
	face [20]int64
}

type felt struct{ down atomic.Int64 }

func (f *felt) drop(c *card) {
	time.AfterFunc(3*time.Second, func() { f.down.Add(c.face[0] + 1) })
}

func main() {
	s := stage.Start()
	f := &felt{}
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			for i := range 30 {
				f.drop(&card{id: i})
			}
		}
	}()
	s.Wait()
}
