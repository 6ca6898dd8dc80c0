// Command ok-export-pipeline packs the day's replays for the archive, at a fixed pace.
package main

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
	"golang.org/x/time/rate"
)

type Replay struct {
	ID   int
	Body []byte
}

type Packed struct {
	ID   int
	Size int
}

// Stage turns what comes in into what goes out, with n workers.
func Stage[A, B any](ctx context.Context, n int, in <-chan A, f func(context.Context, A) (B, error)) <-chan B {
	out := make(chan B)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for a := range in {
				b, err := f(ctx, a)
				if err != nil {
					if ctx.Err() == nil {
						log.Print(err)
					}
					continue
				}
				select {
				case out <- b:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(out)
	}()
	return out
}

// list gives one replay after the other, as the pipeline takes them.
func list(ctx context.Context) <-chan Replay {
	out := make(chan Replay)
	go func() {
		defer close(out)
		for id := 0; ; id++ {
			r := Replay{ID: id, Body: bytes.Repeat([]byte(fmt.Sprintf("move %d;", rand.IntN(64))), 800)}
			select {
			case out <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

var writers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(io.Discard, flate.BestSpeed)
	return w
}}

func pack(_ context.Context, r Replay) (Packed, error) {
	w := writers.Get().(*flate.Writer)
	defer writers.Put(w)
	var b bytes.Buffer
	w.Reset(&b)
	if _, err := w.Write(r.Body); err != nil {
		return Packed{}, err
	}
	if err := w.Close(); err != nil {
		return Packed{}, err
	}
	return Packed{r.ID, b.Len()}, nil
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	// The archive is shared; the export may send 60 replays a second.
	pace := rate.NewLimiter(60, 5)
	packed := Stage(ctx, 3, list(ctx), pack)
	sent := Stage(ctx, 1, packed, func(ctx context.Context, p Packed) (Packed, error) {
		return p, pace.Wait(ctx)
	})
	total, begun := 0, time.Now()
	for p := range sent {
		if total += p.Size; p.ID%10000 == 9999 {
			log.Printf("%d bytes in %v", total, time.Since(begun))
		}
	}
}
