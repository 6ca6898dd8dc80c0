package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

type Locator interface {
	Locate(ctx context.Context, ip string) (Place, error)
}

type Place struct {
	Country string `json:"country"`
	ASN     int    `json:"asn"`
}

type LocatorFunc func(context.Context, string) (Place, error)

func (f LocatorFunc) Locate(ctx context.Context, ip string) (Place, error) { return f(ctx, ip) }

type statusError int

func (s statusError) Error() string { return http.StatusText(int(s)) }

func (s statusError) temporary() bool { return s >= 500 || s == http.StatusTooManyRequests }

func retrying(next Locator, attempts int, pause time.Duration) Locator {
	return LocatorFunc(func(ctx context.Context, ip string) (p Place, err error) {
		for i := range attempts {
			if p, err = next.Locate(ctx, ip); err == nil {
				return p, nil
			}
			var se statusError
			if !errors.As(err, &se) || !se.temporary() {
				return p, err
			}
			time.Sleep(pause << i)
		}
		return p, fmt.Errorf("locate %s: %w", ip, err)
	})
}

type vendor struct {
	base string
	hc   *http.Client
}

func (v vendor) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := v.hc.Do(req) // want: response-body-leak
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode) // want: response-body-leak
	}
	return resp, nil
}

func (v vendor) Locate(ctx context.Context, ip string) (p Place, err error) {
	resp, err := v.get(ctx, "/v2/ip/"+ip) // want: response-body-leak
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&p)
	return p, err
}

type gate struct {
	loc   Locator
	base  context.Context
	allow map[string]bool
	seen  atomic.Int64
}

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.seen.Add(1)
		p, err := g.loc.Locate(g.base, r.Header.Get("X-Real-Ip"))
		if err == nil && !g.allow[p.Country] {
			http.Error(w, "region", http.StatusUnavailableForLegalReasons)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func upstream(calls *atomic.Int64) http.HandlerFunc {
	body := `{"error":"capacity","hint":"` + strings.Repeat("retry later ", 60) + `"}`
	return func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%9 == 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, body)
			return
		}
		h := fnv.New32a()
		_, _ = io.WriteString(h, r.URL.Path)
		_ = json.NewEncoder(w).Encode(Place{[]string{"TW", "JP", "DE"}[h.Sum32()%3], int(h.Sum32() % 60000)})
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatalln(err)
	}
	go http.Serve(ln, h)
	return "http://" + ln.Addr().String()
}

func main() {
	go http.ListenAndServe(os.Getenv("ADDR"), nil)
	var calls atomic.Int64
	v := vendor{serve(upstream(&calls)), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	g := &gate{loc: retrying(v, 3, 2*time.Millisecond), base: context.Background(), allow: map[string]bool{"TW": true, "JP": true}}
	app := serve(g.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "lobby") })))
	for i := range 3 {
		go func() {
			for n := 0; ; n++ {
				req, _ := http.NewRequest(http.MethodGet, app+"/lobby", nil)
				req.Header.Set("X-Real-Ip", fmt.Sprintf("10.%d.%d.%d", i, n>>8&255, n&255))
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(22 * time.Millisecond)
			}
		}()
	}
	select {}
}
