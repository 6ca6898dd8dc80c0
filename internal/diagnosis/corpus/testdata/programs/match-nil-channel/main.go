// Match-nil-channel starts a referee for every match.
package main

import (
	"context"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type match struct {
	id     int
	events chan string
	abort  <-chan struct{}
	log    []string
}

type organiser struct{ matches int }

func (o *organiser) start(ctx context.Context, ranked bool) *match {
	m := &match{id: o.matches, abort: ctx.Done()}
	if ranked {
		m.events = make(chan string, 4)
	}
	o.matches++
	go m.referee()
	return m
}

func (m *match) referee() {
	for {
		select { // want: goroutine-leak
		case ev, ok := <-m.events:
			if !ok {
				return
			}
			m.log = append(m.log, ev)
		case <-m.abort:
			return
		}
	}
}

func main() {
	s := stage.Start()
	o := &organiser{}
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			<-tick.C
			m := o.start(context.Background(), n%2 == 0)
			if m.events != nil {
				m.events <- "begin"
				close(m.events)
			}
		}
	}()
	s.Wait()
}
