// Price feed: quotes auction prices from the market service.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type quote struct {
	Item  string `json:"item"`
	Price int    `json:"price"`
}

func market() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce("http://" + ln.Addr().String())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(15 * time.Millisecond)
		json.NewEncoder(w).Encode(quote{r.URL.Query().Get("item"), 100})
	}))
}

type marketClient struct {
	base string
	http *http.Client
}

func newMarketClient(base string) *marketClient {
	return &marketClient{base: base, http: &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			MaxIdleConns:    16,
			MaxConnsPerHost: 2, // want: pool-exhausted
			IdleConnTimeout: time.Minute,
		},
	}}
}

func (m *marketClient) quote(ctx context.Context, item string) (q quote, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", m.base+"/quote?item="+item, nil)
	if err != nil {
		return q, err
	}
	resp, err := m.http.Do(req) // want: pool-exhausted
	if err != nil {
		return q, err
	}
	defer resp.Body.Close()
	return q, json.NewDecoder(resp.Body).Decode(&q)
}

type auction struct {
	market *marketClient
	sold   atomic.Int64
}

func (a *auction) bidder(ctx context.Context, id int) {
	for n := 0; ctx.Err() == nil; n++ {
		if _, err := a.market.quote(ctx, fmt.Sprintf("sword-%d", (id+n)%40)); err == nil {
			a.sold.Add(1)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "market" {
		market()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	base, err := spawn("market")
	if err != nil {
		log.Fatal(err)
	}
	a := &auction{market: newMarketClient(base)}
	for i := range 80 {
		go a.bidder(ctx, i)
	}
	<-ctx.Done()
}
