// Craft queue: workers wait for crafting orders of all realms.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type order struct{ recipe, player int }

type bench struct {
	orders chan order
	done   atomic.Int64
}

func (b *bench) worker(ctx context.Context) {
	for {
		select {
		case o := <-b.orders:
			b.done.Add(int64(o.recipe%3 + 1))
		case <-ctx.Done():
			return
		}
	}
}

type shift struct {
	mu   sync.Mutex
	cond *sync.Cond
	jobs []order
}

func (s *shift) next() order {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.jobs) == 0 {
		s.cond.Wait()
	}
	o := s.jobs[0]
	s.jobs = s.jobs[1:]
	return o
}

func (s *shift) add(o order) {
	s.mu.Lock()
	s.jobs = append(s.jobs, o)
	s.mu.Unlock()
	s.cond.Signal()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	benches := make([]*bench, 30)
	for i := range benches {
		benches[i] = &bench{orders: make(chan order)}
		for range 50 {
			go benches[i].worker(ctx)
		}
	}
	s := &shift{}
	s.cond = sync.NewCond(&s.mu)
	var enchanted atomic.Int64
	for range 200 {
		go func() {
			for {
				enchanted.Add(int64(s.next().recipe))
			}
		}()
	}
	go func() {
		for range time.Tick(25 * time.Millisecond) {
			benches[rand.IntN(len(benches))].orders <- order{rand.IntN(90), rand.IntN(1000)}
			s.add(order{rand.IntN(9), rand.IntN(1000)})
		}
	}()
	<-ctx.Done()
}
