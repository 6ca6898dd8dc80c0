// Ok-idle-timers-stopped closes rooms that nobody plays in.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type room struct {
	mu   sync.Mutex
	idle *time.Timer
	last [8]int64
}

func (r *room) play(move int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.idle != nil {
		r.idle.Stop()
	}
	r.last[move%8] = move
	r.idle = time.AfterFunc(40*time.Minute, func() { r.close(move) })
}

func (r *room) close(move int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[0] = move
}

func main() {
	s := stage.Start()
	all := make([]room, 300)
	go func() {
		var n int64
		for range time.Tick(10 * time.Millisecond) {
			for range 40 {
				n++
				all[n%300].play(n)
			}
		}
	}()
	s.Wait()
}
