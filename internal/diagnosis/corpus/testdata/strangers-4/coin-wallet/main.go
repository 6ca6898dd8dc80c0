// Coin wallet: books purchases with the payment provider.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type charge struct {
	Player string `json:"player"`
	Cents  int    `json:"cents"`
}

type gateway interface {
	Settle(ctx context.Context, c charge) error
}

type provider struct{ url string }

func (p *provider) post(ctx context.Context, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", p.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

func (p *provider) Settle(ctx context.Context, c charge) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	resp, err := p.post(ctx, "/settle", b)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type book struct {
	mu    sync.Mutex
	coins map[string]int
	gw    gateway
}

func (b *book) update(player string, fn func(have int) (int, error)) error {
	b.mu.Lock() // want: lock-held-across-io
	defer b.mu.Unlock()
	next, err := fn(b.coins[player])
	if err == nil {
		b.coins[player] = next
	}
	return err
}

func (b *book) buy(ctx context.Context, player string, cents int) error {
	return b.update(player, func(have int) (int, error) {
		if err := b.gw.Settle(ctx, charge{player, cents}); err != nil { // want: lock-held-across-io
			return 0, err
		}
		return have + cents*10, nil
	})
}

func payments() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	announce("http://" + ln.Addr().String())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(45 * time.Millisecond)
		io.WriteString(w, "ok")
	}))
}

func shoppers(base string) {
	announce("ready")
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	c := &http.Client{Transport: tr}
	for i := range 40 {
		go func() {
			for {
				resp, err := c.Post(fmt.Sprintf("%s/buy?player=p%d", base, i), "", nil)
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(30 * time.Millisecond)
			}
		}()
	}
	select {}
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "payments":
			payments()
		case "shoppers":
			shoppers(os.Args[2])
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	url, err := spawn("payments")
	if err != nil {
		log.Fatal(err)
	}
	b := &book{coins: map[string]int{}, gw: &provider{url}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /buy", func(w http.ResponseWriter, r *http.Request) {
		if err := b.buy(r.Context(), r.URL.Query().Get("player"), 499); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, mux)
	if _, err := spawn("shoppers", "http://"+ln.Addr().String()); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
}
