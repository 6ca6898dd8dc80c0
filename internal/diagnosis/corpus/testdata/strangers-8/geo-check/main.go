// Command geo-check lets players in whose region is open.
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
	"net/http/pprof"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Region struct {
	Code string `json:"code"`
	Open bool   `json:"open"`
}

// Locator finds the region of an address.
type Locator interface {
	Locate(ctx context.Context, ip string) (Region, error)
}

// ---- remote ----

type Caller struct {
	base string
	hc   *http.Client
}

func (c *Caller) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	return c.hc.Do(req) // want: response-body-leak
}

type statusError int

func (e statusError) Error() string { return "region service: " + http.StatusText(int(e)) }

func decodeAs[T any](resp *http.Response) (v T, err error) {
	if resp.StatusCode != http.StatusOK { // want: response-body-leak
		return v, statusError(resp.StatusCode) // want: response-body-leak
	}
	defer resp.Body.Close() // want: response-body-leak
	err = json.NewDecoder(resp.Body).Decode(&v)
	return v, err
}

type remote struct{ c *Caller }

func (r remote) Locate(ctx context.Context, ip string) (Region, error) {
	resp, err := r.c.get(ctx, "/v1/"+ip) // want: response-body-leak
	if err != nil {
		return Region{}, err
	}
	return decodeAs[Region](resp)
}

// ---- fallback ----

type fallback struct {
	next Locator
	mu   sync.Mutex
	nets map[string]Region
}

func (f *fallback) Locate(ctx context.Context, ip string) (Region, error) {
	reg, err := f.next.Locate(ctx, ip)
	key, _, _ := strings.Cut(ip, ".")
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if reg, ok := f.nets[key]; ok {
			return reg, nil
		}
		return reg, err
	}
	f.nets[key] = reg
	return reg, nil
}

func gate(l Locator, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg, err := l.Locate(r.Context(), r.FormValue("ip"))
		if err != nil || !reg.Open {
			http.Error(w, "not open in your region", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
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

	regions := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * time.Millisecond)
		if rand.IntN(10) == 0 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, `{"error":"over the limit of this key, ask for more"}`, http.StatusTooManyRequests)
			return
		}
		fmt.Fprint(w, `{"code":"tw","open":true}`)
	}))
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	url := serve(gate(&fallback{next: remote{&Caller{regions, hc}}, nets: map[string]Region{}},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "welcome") })))
	drive(ctx, 10, 50*time.Millisecond, func() string {
		return fmt.Sprintf("%s/enter?ip=%d.%d.1.1", url, 1+rand.IntN(200), rand.IntN(255))
	})
	<-ctx.Done()
}
