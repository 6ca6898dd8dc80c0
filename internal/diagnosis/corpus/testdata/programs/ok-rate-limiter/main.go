// Ok-rate-limiter sends mails no faster than its provider likes.
package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type limiter struct{ tokens chan struct{} }

func newLimiter(perSecond int) *limiter {
	l := &limiter{make(chan struct{}, 1)}
	go func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for range tick.C {
			select {
			case l.tokens <- struct{}{}:
			default:
			}
		}
	}()
	return l
}

func (l *limiter) wait(ctx context.Context) error {
	select {
	case <-l.tokens:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func main() {
	s := stage.Start()
	l := newLimiter(50)
	var sent atomic.Int64
	for range 20 {
		go func() {
			for l.wait(s.Context()) == nil {
				sent.Add(1)
			}
		}()
	}
	s.Wait()
}
