// Command ok-mail-pacer sends mail no faster than the partner allows.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

type Mail struct {
	To, Subject string
	Try         int
}

type Sender interface {
	Send(context.Context, Mail) error
}

type paced struct {
	next Sender
	lim  *rate.Limiter
}

func (p paced) Send(ctx context.Context, m Mail) error {
	if err := p.lim.Wait(ctx); err != nil {
		return err
	}
	return p.next.Send(ctx, m)
}

type retrying struct {
	next  Sender
	tries int
}

func (r retrying) Send(ctx context.Context, m Mail) (err error) {
	wait := 200 * time.Millisecond
	for m.Try = range r.tries {
		if err = r.next.Send(ctx, m); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
	return err
}

type relay struct{ sent atomic.Int64 }

var errBusy = errors.New("421 busy")

func (r *relay) Send(_ context.Context, m Mail) error {
	if r.sent.Add(1)%23 == 0 && m.Try == 0 {
		return errBusy
	}
	return nil
}

func main() {
	ctx, _, done := start()
	defer done()
	s := retrying{next: paced{next: &relay{}, lim: rate.NewLimiter(40, 5)}, tries: 3}
	g, ctx := errgroup.WithContext(ctx)
	for w := range 30 {
		g.Go(func() error {
			for i := 0; ctx.Err() == nil; i++ {
				_ = s.Send(ctx, Mail{To: fmt.Sprintf("p%d-%d@example.com", w, i), Subject: "weekly digest"})
			}
			return nil
		})
	}
	_ = g.Wait()
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
