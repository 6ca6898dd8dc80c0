package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"time"
)

type quote struct {
	Provider string  `json:"provider"`
	Match    int     `json:"match"`
	Home     float64 `json:"home"`
	Away     float64 `json:"away"`
}

type provider struct {
	name   string
	base   string
	client *http.Client
}

func (p *provider) quote(ctx context.Context, match int) (quote, error) {
	q := quote{Provider: p.name}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/odds?match=%d", p.base, match), nil)
	if err != nil {
		return q, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return q, err
	}
	defer resp.Body.Close()
	return q, json.NewDecoder(resp.Body).Decode(&q)
}

type answer[T any] struct {
	value T
	err   error
}

// firstOf asks all sources and returns the first good answer.
func firstOf[T any](ctx context.Context, sources []func(context.Context) (T, error)) (T, error) {
	answers := make(chan answer[T]) // want: goroutine-leak
	for _, ask := range sources {
		go func() {
			v, err := ask(ctx)
			answers <- answer[T]{v, err} // want: goroutine-leak
		}()
	}
	var last error
	for range sources {
		select {
		case a := <-answers:
			if a.err == nil {
				return a.value, nil
			}
			last = a.err
		case <-ctx.Done():
			var zero T
			return zero, ctx.Err()
		}
	}
	var zero T
	return zero, last
}

type desk struct {
	providers []*provider
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var match int
	if _, err := fmt.Sscan(r.URL.Query().Get("match"), &match); err != nil {
		http.Error(w, "bad match", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	sources := make([]func(context.Context) (quote, error), 0, len(d.providers))
	for _, p := range d.providers {
		sources = append(sources, func(ctx context.Context) (quote, error) { return p.quote(ctx, match) })
	}
	q, err := firstOf(ctx, sources)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(q)
}

func start(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func exchange(base time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(base + time.Duration(rand.IntN(4))*time.Millisecond)
		_ = json.NewEncoder(w).Encode(quote{Provider: r.Host, Home: 1 + rand.Float64(), Away: 1 + rand.Float64()})
	})
}

func bettors(url string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/?match=%d", url, rand.IntN(500)))
				if err == nil {
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(150+rand.IntN(100)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	shared := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	d := &desk{}
	for i, wait := range []time.Duration{2, 3, 5} {
		d.providers = append(d.providers, &provider{
			name:   fmt.Sprintf("exchange-%d", i),
			base:   start(exchange(wait * time.Millisecond)),
			client: shared,
		})
	}
	bettors(start(d), 20)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
