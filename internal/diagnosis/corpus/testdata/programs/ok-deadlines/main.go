// Ok-deadlines gives each step a time to be done by.
package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func step(ctx context.Context, done *atomic.Int64) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if ctx.Err() == nil {
		done.Add(1)
	}
}

func main() {
	s := stage.Start()
	var done atomic.Int64
	go func() {
		for range time.Tick(10 * time.Millisecond) {
			for range 30 {
				step(s.Context(), &done)
			}
		}
	}()
	s.Wait()
}
