// match-regions looks for a seat in all regions at once and takes the first
// region that has one.
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
	_ "net/http/pprof"
	"os"
	"time"
)

type seat struct {
	Region string `json:"region"`
	Table  int    `json:"table"`
	Ping   int    `json:"ping"`
}

type regionClient struct {
	name string
	base string
	hc   *http.Client
}

func (r regionClient) Reserve(ctx context.Context, game string) (seat, error) {
	var s seat
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/reserve?game="+game+"&region="+r.name, nil)
	if err != nil {
		return s, err
	}
	resp, err := r.hc.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

type result[T any] struct {
	val T
	err error
}

// firstOf runs all calls and returns the first good answer.
func firstOf[T any](ctx context.Context, calls ...func(context.Context) (T, error)) (T, error) {
	results := make(chan result[T]) // want: goroutine-leak
	for _, call := range calls {
		go func() {
			v, err := call(ctx)
			results <- result[T]{v, err} // want: goroutine-leak
		}()
	}
	var zero T
	err := errors.New("no calls")
	for range calls {
		select {
		case r := <-results:
			if r.err == nil {
				return r.val, nil
			}
			err = r.err
		case <-ctx.Done():
			return zero, ctx.Err()
		}
	}
	return zero, err
}

type matcher struct{ regions []regionClient }

func (m *matcher) Find(ctx context.Context, game string) (seat, error) {
	calls := make([]func(context.Context) (seat, error), 0, len(m.regions))
	for _, r := range m.regions {
		calls = append(calls, func(ctx context.Context) (seat, error) { return r.Reserve(ctx, game) })
	}
	return firstOf(ctx, calls...)
}

func (m *matcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := m.Find(context.WithoutCancel(r.Context()), r.URL.Query().Get("game"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(s)
}

func regionServer(w http.ResponseWriter, r *http.Request) {
	d := 3 + rand.IntN(12)
	time.Sleep(time.Duration(d) * time.Millisecond)
	_ = json.NewEncoder(w).Encode(seat{Region: r.URL.Query().Get("region"), Table: rand.IntN(1000), Ping: d})
}

func start(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	base := start(http.HandlerFunc(regionServer))
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 2 * time.Second}
	m := &matcher{}
	for _, name := range []string{"tpe", "sin", "fra", "iad"} {
		m.regions = append(m.regions, regionClient{name: name, base: base, hc: hc})
	}
	front := start(m)

	queue := make(chan string)
	for range 12 {
		go func() {
			for game := range queue {
				if resp, err := hc.Get(front + "/?game=" + game); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		}()
	}
	go func() {
		for range time.Tick(12 * time.Millisecond) {
			queue <- fmt.Sprintf("g%d", rand.IntN(40))
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
