// Child-contexts follows bets.
package main

import (
	"context"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type bet struct {
	ctx   context.Context
	stake [20]int64
}

type desk struct{ ctx context.Context }

func (d *desk) place(n int64) *bet {
	ctx, stop := context.WithCancel(d.ctx) // want: heap-growth
	_ = stop
	b := &bet{ctx: context.WithValue(ctx, n, n)}
	b.stake[0] = n
	return b
}

func main() {
	s := stage.Start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d := &desk{ctx}
	go func() {
		var n int64
		for range time.Tick(5 * time.Millisecond) {
			for range 30 {
				n++
				_ = d.place(n).ctx.Err() // want: heap-growth
			}
		}
	}()
	s.Wait()
}
