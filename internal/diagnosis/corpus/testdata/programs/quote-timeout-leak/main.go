// Quote-timeout-leak gives up on slow quotes.
package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

var errLate = errors.New("no quote in time")

type quote struct {
	price int
	notes [512]byte
}

type source interface {
	ask(item string) quote
}

type slow struct{ takes time.Duration }

func (s slow) ask(string) quote {
	time.Sleep(s.takes)
	return quote{price: 7}
}

// first returns f's answer, or gives up when ctx ends.
func first[T any](ctx context.Context, f func() T) (v T, err error) {
	answer := make(chan T)
	go func() {
		answer <- f() // want: goroutine-leak
	}()
	select {
	case v = <-answer:
		return v, nil
	case <-ctx.Done():
		return v, errLate
	}
}

func main() {
	s := stage.Start()
	src := source(slow{80 * time.Millisecond})
	mux := http.NewServeMux()
	mux.HandleFunc("/quote", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 30*time.Millisecond)
		defer cancel()
		if _, err := first(ctx, func() quote { return src.ask(r.FormValue("item")) }); err != nil {
			http.Error(w, err.Error(), http.StatusGatewayTimeout)
		}
	})
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/quote?item=7", PerSecond: 80})
	s.Wait()
}
