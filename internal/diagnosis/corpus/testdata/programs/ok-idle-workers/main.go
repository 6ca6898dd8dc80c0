// Ok-idle-workers keeps workers ready for jobs that seldom come.
package main

import (
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type job struct{ n int }

type pool struct {
	jobs chan job
	mu   sync.Mutex
	done int
}

func (p *pool) worker() {
	for range p.jobs {
		p.mu.Lock()
		p.done++
		p.mu.Unlock()
	}
}

func main() {
	s := stage.Start()
	p := &pool{jobs: make(chan job)}
	for range 300 {
		go p.worker()
	}
	go func() {
		for n := 0; ; n++ {
			p.jobs <- job{n}
			time.Sleep(250 * time.Millisecond)
		}
	}()
	s.Wait()
}
