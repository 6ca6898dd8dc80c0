// Command geo-enricher adds a country to the sessions that come in.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

type place struct{ Country, City string }

var errUnknown = errors.New("geo: unknown address")

type geo struct {
	url   string
	hc    *http.Client
	mu    sync.Mutex
	tally map[string]int
}

func (g *geo) lookup(ctx context.Context, ip string) (p place, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/"+ip, nil)
	if err != nil {
		return p, err
	}
	res, err := g.hc.Do(req) // want: response-body-leak
	if err != nil {
		return p, err
	}
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return p, errUnknown
	default:
		return p, fmt.Errorf("geo: %s", res.Status)
	}
	defer res.Body.Close()
	err = json.NewDecoder(res.Body).Decode(&p)
	return p, err
}

func (g *geo) enrich(ctx context.Context, ips <-chan string) error {
	for ip := range ips {
		p, err := g.lookup(ctx, ip)
		if errors.Is(err, errUnknown) {
			p.Country = "??"
		} else if err != nil {
			log.Print(err)
			continue
		}
		g.mu.Lock()
		g.tally[p.Country]++
		g.mu.Unlock()
	}
	return nil
}

func provider() string {
	sorry := strings.Repeat("The address is in no range that we know. ", 200)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(3) == 0 {
			http.Error(w, sorry, http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, `{"Country":"%c%c","City":"-"}`, 'A'+rand.IntN(26), 'A'+rand.IntN(26))
	}))
	return "http://" + l.Addr().String()
}

func main() {
	runtime.SetBlockProfileRate(100_000)
	runtime.SetMutexProfileFraction(10)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	g := &geo{url: provider(), hc: &http.Client{}, tally: map[string]int{}}
	ips := make(chan string)
	eg, ctx := errgroup.WithContext(context.Background())
	for range 4 {
		eg.Go(func() error { return g.enrich(ctx, ips) })
	}
	eg.Go(func() error {
		for range time.Tick(16 * time.Millisecond) {
			ips <- fmt.Sprintf("10.%d.%d.%d", rand.IntN(256), rand.IntN(256), rand.IntN(256))
		}
		return nil
	})
	log.Fatal(eg.Wait())
}
