// paycallback receives payment notifications and verifies each one with the provider before it credits.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

type Notice struct {
	Order  string
	Amount int64
	Sig    string
}

type Provider struct {
	endpoint string
	hc       *http.Client
}

func NewProvider(endpoint string) *Provider {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.MaxIdleConnsPerHost = 64
	return &Provider{endpoint: endpoint, hc: &http.Client{Transport: tr}}
}

// Verify asks the provider whether the order was really paid.
func (p *Provider) Verify(ctx context.Context, n Notice) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.endpoint+"/orders/"+n.Order, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("X-Signature", n.Sig)
	resp, err := p.hc.Do(req) // want: response-body-leak
	if err != nil {
		return false, fmt.Errorf("verify %s: %w", n.Order, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound, http.StatusGone:
		return false, nil
	}
	return false, fmt.Errorf("verify %s: %s", n.Order, resp.Status)
}

type Credits struct {
	mu    sync.Mutex
	total map[int]int64
}

func (c *Credits) Add(shard int, amount int64) {
	c.mu.Lock()
	c.total[shard%256] += amount
	c.mu.Unlock()
}

type Callback struct {
	provider *Provider
	credits  *Credits
}

func (c *Callback) Process(ctx context.Context, n Notice) error {
	paid, err := c.provider.Verify(ctx, n)
	if err != nil {
		return err
	}
	if paid {
		c.credits.Add(len(n.Order)*31+int(n.Amount), n.Amount)
	}
	return nil
}

func providerAPI() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		w.Header().Set("Content-Type", "application/json")
		if rand.IntN(10) == 0 {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintf(w, `{"order":%q,"state":"paid"}`, r.PathValue("id"))
	})
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()

	cb := &Callback{
		provider: NewProvider(providerAPI()),
		credits:  &Credits{total: map[int]int64{}},
	}
	notices := make(chan Notice, 64)
	for range 8 {
		go func() {
			for n := range notices {
				if err := cb.Process(context.Background(), n); err != nil {
					log.Print(err)
					time.Sleep(time.Second)
				}
			}
		}()
	}
	lim := rate.NewLimiter(45, 5)
	for n := 0; ; n++ {
		_ = lim.Wait(context.Background())
		notices <- Notice{Order: fmt.Sprintf("ord-%08d", n), Amount: 100 + rand.Int64N(900), Sig: "k1"}
	}
}
