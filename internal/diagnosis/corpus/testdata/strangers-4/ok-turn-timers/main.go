// Turn timers: every turn has a deadline and a short-lived goroutine.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type table struct {
	played, late atomic.Int64
}

func (t *table) turn(ctx context.Context, think time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	warn := time.AfterFunc(150*time.Millisecond, func() { t.late.Add(1) })
	defer warn.Stop()
	moved := make(chan int, 1)
	go func() {
		time.Sleep(think)
		moved <- rand.IntN(64)
	}()
	select {
	case <-moved:
		t.played.Add(1)
	case <-ctx.Done():
	}
}

func (t *table) host(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			go t.turn(ctx, rand.N(80*time.Millisecond))
		case <-ctx.Done():
			return
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	for range 10 {
		go new(table).host(ctx)
	}
	<-ctx.Done()
}
