// Command first-answer finds a free table by asking several regions at once.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

var errNone = errors.New("no table")

type outcome[T any] struct {
	val T
	err error
}

// First gives the first good answer of the calls.
func First[T any](ctx context.Context, calls ...func(context.Context) (T, error)) (T, error) {
	answers := make(chan outcome[T]) // want: goroutine-leak
	for _, call := range calls {
		go func() { // want: goroutine-leak
			v, err := call(ctx)
			answers <- outcome[T]{v, err} // want: goroutine-leak
		}()
	}
	var errs []error
	for range calls {
		select {
		case o := <-answers:
			if o.err == nil {
				return o.val, nil
			}
			errs = append(errs, o.err)
		case <-ctx.Done():
			var zero T
			return zero, ctx.Err()
		}
	}
	var zero T
	return zero, errors.Join(errs...)
}

type Table struct {
	Region string `json:"region"`
	ID     int    `json:"id"`
	Seats  []int  `json:"seats"`
}

// Region knows the tables of one location.
type Region struct {
	name string
	lag  time.Duration
}

func (r *Region) Reserve(ctx context.Context, player string) (*Table, error) {
	select {
	case <-time.After(r.lag + time.Duration(rand.IntN(8))*time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if rand.IntN(50) == 0 {
		return nil, fmt.Errorf("%s: %w for %s", r.name, errNone, player)
	}
	return &Table{Region: r.name, ID: rand.IntN(500), Seats: make([]int, 9)}, nil
}

type Matcher struct{ regions []*Region }

func (m *Matcher) Find(ctx context.Context, player string) (*Table, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	calls := make([]func(context.Context) (*Table, error), 0, len(m.regions))
	for _, r := range m.regions {
		calls = append(calls, func(ctx context.Context) (*Table, error) { return r.Reserve(ctx, player) })
	}
	return First(ctx, calls...) // want: goroutine-leak
}

type handler struct{ *Matcher }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := h.Find(r.Context(), r.URL.Query().Get("player"))
	switch {
	case errors.Is(err, errNone):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	default:
		_ = json.NewEncoder(w).Encode(t)
	}
}

func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				log.Printf("%s: %v", r.URL.Path, v)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	matcher := &Matcher{regions: []*Region{
		{"taipei", 4 * time.Millisecond}, {"tokyo", 15 * time.Millisecond}, {"singapore", 22 * time.Millisecond}, {"frankfurt", 40 * time.Millisecond},
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: recovered(handler{matcher})}
	go func() { _ = srv.Serve(ln) }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for i := range 8 {
		go func() {
			for ctx.Err() == nil {
				resp, err := client.Get(fmt.Sprintf("http://%s/v1/match?player=p%d", ln.Addr(), i))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(25 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
