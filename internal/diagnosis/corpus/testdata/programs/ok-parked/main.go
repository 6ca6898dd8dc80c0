// Ok-parked waits for what may never come.
package main

import (
	"context"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type election struct {
	mu     sync.Mutex
	news   *sync.Cond
	leader string
}

func (e *election) await(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.leader != name {
		e.news.Wait()
	}
}

func watch(ctx context.Context, config <-chan string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-config:
		}
	}
}

func main() {
	s := stage.Start()
	e := &election{}
	e.news = sync.NewCond(&e.mu)
	config := make(chan string)
	for range 6 {
		go e.await("me")
		go watch(s.Context(), config)
	}
	for range 4 {
		go func() { select {} }()
		go func() { <-s.Context().Done() }()
	}
	go func() {
		for range time.Tick(time.Second) {
			e.mu.Lock()
			e.leader = "somebody"
			e.mu.Unlock()
			e.news.Broadcast()
		}
	}()
	s.Wait()
}
