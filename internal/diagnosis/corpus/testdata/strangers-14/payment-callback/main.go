package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

var errNotConfirmed = errors.New("payment not confirmed")

// gateway is the partner that tells us whether a callback is genuine.
type gateway struct {
	base   string
	client *http.Client
}

func (g *gateway) confirm(ctx context.Context, id string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+"/confirm/"+id, nil)
	if err != nil {
		return err
	}
	resp, err := g.client.Do(req) // want: response-body-leak
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errNotConfirmed, resp.Status) // want: response-body-leak
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type notice struct {
	ID     string            `json:"id"`
	Amount int64             `json:"amount"`
	Extra  map[string]string `json:"extra"`
}

type receipt struct {
	raw []byte
	at  time.Time
}

// inbox remembers the callbacks so that a repeated one is not booked twice.
type inbox struct {
	mu   sync.Mutex
	seen map[string]receipt
}

func (b *inbox) first(id string, raw []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, dup := b.seen[id]; dup {
		return false
	}
	b.seen[id] = receipt{raw: raw, at: time.Now()} // want: heap-growth
	return true
}

type callbacks struct {
	inbox   *inbox
	gateway *gateway
}

func (c *callbacks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 256<<10)) // want: heap-growth
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var n notice
	if err := json.Unmarshal(raw, &n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !c.inbox.first(n.ID, raw) {
		w.WriteHeader(http.StatusOK)
		return
	}
	ctx := context.WithoutCancel(r.Context())
	if err := c.gateway.confirm(ctx, n.ID); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusOK)
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
	detail := strings.Repeat("signature does not match; ", 40)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * time.Millisecond)
		if rand.IntN(10) < 2 {
			http.Error(w, detail, http.StatusPaymentRequired)
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
}

func acquirer(url string, n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	extra := map[string]string{"device": strings.Repeat("x", 4000), "trail": strings.Repeat("hop;", 1200)}
	for range n {
		go func() {
			for {
				body, _ := json.Marshal(notice{ID: ulid.Make().String(), Amount: rand.Int64N(9000), Extra: extra})
				resp, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
}

func main() {
	c := &callbacks{
		inbox:   &inbox{seen: make(map[string]receipt)},
		gateway: &gateway{base: serve(partner()), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 10 * time.Minute}},
	}
	acquirer(serve(c), 12)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
