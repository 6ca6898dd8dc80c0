// Command bag-opener shows what a player's bag is worth at today's prices.
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
	"runtime"
	"time"
)

type quote struct {
	Item  int
	Price int64
}

type catalog struct {
	base string
	hc   *http.Client
}

func (c *catalog) quote(ctx context.Context, item int) (q quote, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/quote/%d", c.base, item), nil)
	if err != nil {
		return q, err
	}
	res, err := c.hc.Do(req) // want: downstream-wait
	if err != nil {
		return q, err
	}
	defer res.Body.Close()
	err = json.NewDecoder(res.Body).Decode(&q)
	return q, err
}

type bags struct{ prices *catalog }

func (b *bags) worth(ctx context.Context, items []int) (total int64, err error) {
	for _, it := range items {
		q, err := b.prices.quote(ctx, it) // want: downstream-wait
		if err != nil {
			return 0, fmt.Errorf("item %d: %w", it, err)
		}
		total += q.Price
	}
	return total, nil
}

func (b *bags) open(w http.ResponseWriter, r *http.Request) {
	items := make([]int, 24)
	for i := range items {
		items[i] = rand.IntN(5000)
	}
	total, err := b.worth(r.Context(), items)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, total)
}

func serve(h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, h)
	return "http://" + l.Addr().String()
}

func market() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /quote/{item}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(45*time.Millisecond + rand.N(30*time.Millisecond))
		fmt.Fprintf(w, `{"Item":%s,"Price":%d}`, r.PathValue("item"), rand.IntN(900))
	})
	return mux
}

func admin() {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	log.Fatal(http.ListenAndServe(addr, mux))
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(5)
	go admin()

	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 128
	b := &bags{&catalog{serve(market()), &http.Client{Transport: tr, Timeout: 2 * time.Second}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bag", b.open)
	url := serve(mux)

	players := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for range 40 {
		go func() {
			for {
				res, err := players.Get(url + "/bag")
				if err != nil {
					log.Print(err)
					time.Sleep(time.Second)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				time.Sleep(rand.N(400 * time.Millisecond))
			}
		}()
	}
	select {}
}
