package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

type decorator func(http.RoundTripper) http.RoundTripper

func stack(base http.RoundTripper, ds ...decorator) http.RoundTripper {
	for i := len(ds) - 1; i >= 0; i-- {
		base = ds[i](base)
	}
	return base
}

func signed(key string) decorator {
	return func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("X-Relay-Key", key)
			return next.RoundTrip(r)
		})
	}
}

func paced(l *rate.Limiter) decorator {
	return func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			if err := l.Wait(r.Context()); err != nil {
				return nil, err
			}
			return next.RoundTrip(r)
		})
	}
}

func persistent(attempts int, pause time.Duration) decorator {
	return func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			var (
				res *http.Response
				err error
			)
			for n := range attempts {
				try := r.Clone(r.Context())
				if r.GetBody != nil {
					if try.Body, err = r.GetBody(); err != nil {
						return nil, err
					}
				}
				res, err = next.RoundTrip(try) // want: response-body-leak
				if err == nil && res.StatusCode < http.StatusInternalServerError {
					return res, nil
				}
				if n == attempts-1 { // want: response-body-leak
					break
				}
				select {
				case <-time.After(pause << n):
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			return res, err
		})
	}
}

type Hook struct {
	Event  string `json:"event"`
	Round  int64  `json:"round"`
	Amount int    `json:"amount"`
}

type Relay struct {
	url    string
	client *http.Client
	failed atomic.Int64
}

func (s *Relay) Deliver(ctx context.Context, h Hook) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("partner said %s", res.Status)
	}
	return nil
}

func (s *Relay) pump(ctx context.Context, hooks <-chan Hook) {
	for h := range hooks {
		if err := s.Deliver(ctx, h); err != nil {
			s.failed.Add(1)
		}
	}
}

func partner(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	if rand.IntN(100) < 30 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, `{"error":"maintenance","ref":"%016x"}`, rand.Uint64())
		return
	}
	io.WriteString(w, `{"ack":true}`)
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(partner))

	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 16
	relay := &Relay{
		url: "http://" + l.Addr().String() + "/v1/events",
		client: &http.Client{
			Transport: stack(base,
				signed("k-7f21"),
				persistent(4, 5*time.Millisecond),
				paced(rate.NewLimiter(120, 20)),
			),
		},
	}

	hooks := make(chan Hook)
	for range 12 {
		go relay.pump(context.Background(), hooks)
	}
	go func() {
		t := time.NewTicker(14 * time.Millisecond)
		for n := int64(0); ; n++ {
			<-t.C
			hooks <- Hook{Event: "round.settled", Round: n, Amount: rand.IntN(900)}
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
