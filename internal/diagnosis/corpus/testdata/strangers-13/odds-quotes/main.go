// odds-quotes answers price requests for live matches. Prices come from the
// trading partner and are kept for a short while.
package main

import (
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
	"sync"
	"time"
)

type Quote struct {
	Match string  `json:"match"`
	Home  float64 `json:"home"`
	Away  float64 `json:"away"`
}

type entry[V any] struct {
	val     V
	expires time.Time
}

// TTLMap keeps values for a limited time and fetches what is missing.
type TTLMap[K comparable, V any] struct {
	mu      sync.Mutex
	items   map[K]entry[V]
	ttl     time.Duration
	fetch   func(context.Context, K) (V, error)
	fetched int
}

func NewTTLMap[K comparable, V any](ttl time.Duration, fetch func(context.Context, K) (V, error)) *TTLMap[K, V] {
	return &TTLMap[K, V]{items: make(map[K]entry[V]), ttl: ttl, fetch: fetch}
}

func (m *TTLMap[K, V]) Get(ctx context.Context, k K) (V, error) {
	m.mu.Lock() // want: lock-held-across-io
	defer m.mu.Unlock()
	if e, ok := m.items[k]; ok && time.Now().Before(e.expires) {
		return e.val, nil
	}
	v, err := m.fetch(ctx, k) // want: lock-held-across-io
	if err != nil {
		var zero V
		return zero, err
	}
	m.fetched++
	m.items[k] = entry[V]{val: v, expires: time.Now().Add(m.ttl)}
	return v, nil
}

type tradingClient struct {
	base string
	hc   *http.Client
}

func (c *tradingClient) Quote(ctx context.Context, match string) (Quote, error) {
	var q Quote
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/price?match="+match, nil)
	if err != nil {
		return q, err
	}
	resp, err := c.hc.Do(req) // want: lock-held-across-io
	if err != nil {
		return q, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&q); err != nil {
		return q, err
	}
	return q, nil
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func partner() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/price", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(30+rand.IntN(30)) * time.Millisecond)
		_ = json.NewEncoder(w).Encode(Quote{Match: r.URL.Query().Get("match"), Home: 1 + rand.Float64(), Away: 2 + rand.Float64()})
	})
	return mux
}

func api(quotes *TTLMap[string, Quote]) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/quote", func(w http.ResponseWriter, r *http.Request) {
		q, err := quotes.Get(r.Context(), r.URL.Query().Get("match"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(q)
	})
	return mux
}

func players(base string, n int) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}, Timeout: 10 * time.Second}
	for i := 0; i < n; i++ {
		go func() {
			for {
				resp, err := hc.Get(fmt.Sprintf("%s/quote?match=m%03d", base, rand.IntN(400)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(50+rand.IntN(100)) * time.Millisecond)
			}
		}()
	}
}

func main() {
	tc := &tradingClient{
		base: serve(partner()),
		hc:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 3 * time.Second},
	}
	quotes := NewTTLMap(2*time.Second, tc.Quote)
	players(serve(api(quotes)), 60)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
