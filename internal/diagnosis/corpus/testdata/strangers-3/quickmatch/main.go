// Command quickmatch finds an open room in whichever region answers first.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"time"
)

type room struct {
	Region string
	ID     int
	seats  [64]int32
}

type region struct {
	name string
	lag  time.Duration
}

func (g region) find(ctx context.Context, skill int) (*room, error) {
	select {
	case <-time.After(g.lag + rand.N(g.lag)):
		return &room{Region: g.name, ID: skill*1000 + rand.IntN(1000)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// first asks all of them and returns the answer that comes first.
func first[S any, T any](ctx context.Context, from []S, ask func(context.Context, S) (T, error)) (T, error) {
	type answer struct {
		val T
		err error
	}
	answers := make(chan answer)
	for _, s := range from {
		go func() {
			v, err := ask(ctx, s)
			answers <- answer{v, err} // want: goroutine-leak
		}()
	}
	var zero T
	var errs []error
	for range from {
		select {
		case a := <-answers:
			if a.err == nil {
				return a.val, nil
			}
			errs = append(errs, a.err)
		case <-ctx.Done():
			return zero, ctx.Err()
		}
	}
	return zero, errors.Join(errs...)
}

type matcher struct{ regions []region }

func (m *matcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	skill := rand.IntN(40)
	got, err := first(ctx, m.regions, func(ctx context.Context, g region) (*room, error) {
		return g.find(ctx, skill)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "%s/%d\n", got.Region, got.ID)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	m := &matcher{[]region{{"tpe", 4 * time.Millisecond}, {"nrt", 9 * time.Millisecond}, {"sin", 14 * time.Millisecond}, {"fra", 40 * time.Millisecond}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, m)

	for range 8 {
		go func() {
			for {
				res, err := http.Get("http://" + l.Addr().String())
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(150*time.Millisecond + rand.N(50*time.Millisecond))
			}
		}()
	}
	select {}
}
