package main

import (
	"context"
	"hash/fnv"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type job struct {
	ticket int
	done   func(uint32)
}

type pool[J any] struct {
	jobs chan J
}

func newPool[J any](ctx context.Context, n, depth int, run func(J)) *pool[J] {
	p := &pool[J]{jobs: make(chan J, depth)}
	for i := 0; i < n; i++ {
		go func() {
			for {
				select {
				case j := <-p.jobs:
					run(j)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return p
}

func (p *pool[J]) submit(j J) { p.jobs <- j }

func assign(j job) {
	h := fnv.New32a()
	for i := 0; i < 50; i++ {
		_, _ = h.Write([]byte(strconv.Itoa(j.ticket + i)))
	}
	j.done(h.Sum32())
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var matched atomic.Int64
	p := newPool(ctx, 64, 256, assign)
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			for i := 0; i < 200; i++ {
				p.submit(job{ticket: rand.Int(), done: func(uint32) { matched.Add(1) }})
			}
		case <-ctx.Done():
			return
		}
	}
}
