// Command ok-cron-runner does small things at their time.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

type job struct {
	name  string
	every time.Duration
	run   func(context.Context) error
}

type scheduler struct {
	wg   sync.WaitGroup
	runs atomic.Int64
}

func (s *scheduler) start(ctx context.Context, j job) {
	s.wg.Go(func() {
		time.Sleep(rand.N(j.every))
		t := time.NewTicker(j.every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				c, cancel := context.WithTimeout(ctx, j.every)
				if err := j.run(c); err != nil {
					log.Print(j.name, ": ", err)
				}
				cancel()
				s.runs.Add(1)
			case <-ctx.Done():
				return
			}
		}
	})
}

// idle closes an account's desk unless it is touched in time.
type idle struct {
	mu sync.Mutex
	t  *time.Timer
}

func (i *idle) touch(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.t != nil {
		i.t.Stop()
	}
	i.t = time.AfterFunc(d, func() {})
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	s := &scheduler{}
	ctx := context.Background()
	desks := make([]idle, 64)
	for i := range 250 {
		j := job{name: fmt.Sprint("job-", i), every: time.Duration(1+i%5) * time.Second}
		switch i % 3 {
		case 0:
			j.run = func(context.Context) error { desks[i%64].touch(time.Minute); return nil }
		case 1:
			j.run = func(ctx context.Context) error {
				select {
				case <-time.After(100 * time.Millisecond): // gentle on the database
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		default:
			j.run = func(context.Context) error {
				_, err := json.Marshal(map[string]any{"job": j.name, "at": time.Now()})
				return err
			}
		}
		s.start(ctx, j)
	}
	for range 20 { // pollers that back off
		s.wg.Go(func() {
			for wait := 50 * time.Millisecond; ; wait = min(wait*2, 5*time.Second) {
				time.Sleep(wait)
			}
		})
	}
	log.Fatal(http.ListenAndServe(addr, nil))
}
