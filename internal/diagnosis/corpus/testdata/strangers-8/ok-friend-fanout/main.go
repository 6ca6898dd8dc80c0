// Command ok-friend-fanout collects the friends' states from the presence service.
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
	"golang.org/x/sync/errgroup"
)

var errBusy = errors.New("presence: busy")

// Retry calls f up to n times with growing pauses.
func Retry[T any](ctx context.Context, n int, first time.Duration, f func(context.Context) (T, error)) (v T, err error) {
	for i := range n {
		if v, err = f(ctx); err == nil || !errors.Is(err, errBusy) {
			return v, err
		}
		t := time.NewTimer(first<<i + time.Duration(rand.Int64N(int64(first))))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return v, ctx.Err()
		}
	}
	return v, err
}

// Map runs f over in with at most limit calls at a time.
func Map[A, B any](ctx context.Context, limit int, in []A, f func(context.Context, A) (B, error)) ([]B, error) {
	out := make([]B, len(in))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for i, a := range in {
		g.Go(func() (err error) {
			out[i], err = f(ctx, a)
			return err
		})
	}
	return out, g.Wait()
}

type State struct {
	Player int    `json:"player"`
	Doing  string `json:"doing"`
}

type presence struct {
	url string
	hc  *http.Client
}

func (p presence) of(ctx context.Context, player int) (s State, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/%d", p.url, player), nil)
	if err != nil {
		return s, err
	}
	resp, err := p.hc.Do(req)
	if err != nil {
		return s, err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return s, errBusy
	}
	err = json.NewDecoder(resp.Body).Decode(&s)
	return s, err
}

type friends struct{ p presence }

func (f friends) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	ids := make([]int, 12)
	for i := range ids {
		ids[i] = rand.IntN(1e5)
	}
	states, err := Map(ctx, 6, ids, func(ctx context.Context, id int) (State, error) {
		return Retry(ctx, 4, 4*time.Millisecond, func(ctx context.Context) (State, error) { return f.p.of(ctx, id) })
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(states)
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
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

	pres := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(50) == 0 {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		time.Sleep(time.Millisecond)
		fmt.Fprintf(w, `{"player":%s,"doing":"lobby"}`, r.URL.Path[1:])
	}))
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	url := serve(friends{presence{pres, &http.Client{Transport: tr}}})
	drive(ctx, 4, 50*time.Millisecond, func() string { return url })
	<-ctx.Done()
}
