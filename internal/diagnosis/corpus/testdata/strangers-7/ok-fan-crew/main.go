// Command ok-fan-crew resizes avatars with a crew of workers that mostly wait for work.
package main

import (
	"context"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Job struct {
	id   int
	pix  []uint32
	done func(Result)
}

type Result struct {
	id  int
	sum uint32
}

type Crew struct {
	jobs chan Job
	bufs sync.Pool
	wg   sync.WaitGroup
}

func NewCrew(n int) *Crew {
	c := &Crew{jobs: make(chan Job)}
	c.bufs.New = func() any { s := make([]uint32, 64*64); return &s }
	for range n {
		c.wg.Go(c.work)
	}
	return c
}

func (c *Crew) work() {
	for j := range c.jobs {
		buf := c.bufs.Get().(*[]uint32)
		j.done(Result{j.id, shrink(*buf, j.pix)})
		c.bufs.Put(buf)
	}
}

func shrink(dst, src []uint32) (sum uint32) {
	for i := range dst {
		dst[i] = (src[i*4%len(src)] + src[(i*4+1)%len(src)]) / 2
		sum += dst[i]
	}
	return sum
}

// All runs the jobs and waits for all of them.
func (c *Crew) All(pics [][]uint32) []Result {
	out := make(chan Result)
	go func() {
		for i, p := range pics {
			c.jobs <- Job{i, p, func(r Result) { out <- r }}
		}
	}()
	rs := make([]Result, 0, len(pics))
	for range pics {
		rs = append(rs, <-out)
	}
	return rs
}

func main() {
	ctx, _, done := start()
	defer done()
	c := NewCrew(200)
	defer func() { close(c.jobs); c.wg.Wait() }()
	pics := make([][]uint32, 300)
	for i := range pics {
		pics[i] = make([]uint32, 128*128)
		for j := range pics[i] {
			pics[i][j] = uint32(i * j)
		}
	}
	t := time.NewTicker(400 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.All(pics)
		}
	}
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}
