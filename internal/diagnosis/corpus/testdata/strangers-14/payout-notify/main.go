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
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

var errBusy = errors.New("partner busy")

type payout struct {
	ID     string `json:"id"`
	Player int    `json:"player"`
	Amount int64  `json:"amount"`
}

type outcome struct {
	target string
	err    error
}

type window struct {
	ttl time.Duration

	mu   sync.Mutex
	seen map[string]time.Time
	fifo []string
}

// first tells whether an id is new within the last ttl.
func (d *window) first(id string) bool {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for n < len(d.fifo) && now.Sub(d.seen[d.fifo[n]]) > d.ttl {
		delete(d.seen, d.fifo[n])
		n++
	}
	d.fifo = append(d.fifo[:0], d.fifo[n:]...)
	if _, ok := d.seen[id]; ok {
		return false
	}
	d.seen[id] = now
	d.fifo = append(d.fifo, id)
	return true
}

type notifier struct {
	targets []string
	client  *http.Client
	window  *window
}

func (n *notifier) post(ctx context.Context, target string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%w: %s", errBusy, resp.Status)
	}
	return nil
}

// firstAnswer is content with the first partner that took the payout.
func (n *notifier) firstAnswer(ctx context.Context, p payout) (string, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	ctx = context.WithoutCancel(ctx) // the other partners get it too
	results := make(chan outcome, len(n.targets))
	for _, t := range n.targets {
		go func() { results <- outcome{t, n.post(ctx, t, body)} }()
	}
	var failed error
	for range n.targets {
		r := <-results
		if r.err == nil {
			return r.target, nil
		}
		failed = errors.Join(failed, r.err)
	}
	return "", failed
}

func (n *notifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var p payout
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !n.window.first(p.ID) {
		return
	}
	if _, err := n.firstAnswer(r.Context(), p); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func partner(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(time.Duration(500+rand.IntN(1500)) * time.Microsecond)
		http.Error(w, http.StatusText(status), status)
	})
}

func main() {
	n := &notifier{
		targets: []string{serve(partner(200)), serve(partner(202)), serve(partner(503))},
		client:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
		window:  &window{ttl: 2 * time.Second, seen: make(map[string]time.Time)},
	}
	url := serve(n)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 16 {
		go func() {
			for {
				body, _ := json.Marshal(payout{ID: ulid.Make().String(), Player: rand.IntN(9999), Amount: rand.Int64N(500)})
				if resp, err := client.Post(url, "application/json", bytes.NewReader(body)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(time.Duration(120+rand.IntN(60)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
