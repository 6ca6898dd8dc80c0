package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type reply[T any] struct {
	val T
	err error
}

func fastest[T any](ctx context.Context, calls ...func(context.Context) (T, error)) (T, error) {
	ch := make(chan reply[T]) // want: goroutine-leak
	for _, call := range calls {
		go func() {
			v, err := call(ctx)
			ch <- reply[T]{v, err} // want: goroutine-leak
		}()
	}
	select {
	case r := <-ch:
		return r.val, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

type region struct {
	name string
	base time.Duration
}

type session struct {
	Host   string
	Region string
	Seed   [128]byte
}

func (g region) probe(player int) func(context.Context) (*session, error) {
	return func(ctx context.Context) (*session, error) {
		t := time.NewTimer(g.base + time.Duration(rand.Intn(8))*time.Millisecond)
		defer t.Stop()
		select {
		case <-t.C:
			return &session{Host: fmt.Sprintf("%s-%d", g.name, player%16), Region: g.name}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type allocator struct {
	regions []region
	placed  map[string]int
}

func (a *allocator) place(parent context.Context, player int) error {
	ctx, cancel := context.WithTimeout(parent, 200*time.Millisecond)
	defer cancel()
	calls := make([]func(context.Context) (*session, error), 0, len(a.regions))
	for _, g := range a.regions {
		calls = append(calls, g.probe(player))
	}
	s, err := fastest(ctx, calls...)
	if err != nil {
		return err
	}
	a.placed[s.Region]++
	return nil
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := &allocator{placed: map[string]int{}, regions: []region{{"eu-west", 6 * time.Millisecond}, {"us-east", 8 * time.Millisecond}, {"ap-south", 10 * time.Millisecond}}}
	t := time.NewTicker(30 * time.Millisecond)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
			_ = a.place(ctx, n)
		case <-ctx.Done():
			return
		}
	}
}
