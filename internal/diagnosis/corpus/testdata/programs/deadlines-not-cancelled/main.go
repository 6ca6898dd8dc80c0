// Deadlines-not-cancelled gives jobs a time to be done by.
package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type job func(context.Context) int

func limited(d time.Duration, next job) job {
	return func(ctx context.Context) int {
		ctx, stop := context.WithTimeout(ctx, d) // want: timer-leak
		_ = stop
		return next(ctx)
	}
}

func main() {
	s := stage.Start()
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	var sum atomic.Int64
	run := limited(30*time.Minute, func(ctx context.Context) int {
		_, ok := ctx.Deadline()
		if ok {
			return 1
		}
		return 0
	})
	for range 3 {
		go func() {
			for range time.Tick(10 * time.Millisecond) {
				for range 10 {
					sum.Add(int64(run(base))) // want: timer-leak
				}
			}
		}()
	}
	s.Wait()
}
