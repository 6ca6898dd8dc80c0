package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type bucket struct {
	mu    sync.Mutex
	rate  float64
	burst float64
	level float64
	at    time.Time
}

func newBucket(rate, burst float64) *bucket {
	return &bucket{rate: rate, burst: burst, level: burst, at: time.Now()}
}

func (b *bucket) reserve(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level = min(b.burst, b.level+now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	b.level--
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate * float64(time.Second))
}

func (b *bucket) wait(ctx context.Context) error {
	d := b.reserve(time.Now())
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type doer interface {
	Do(*http.Request) (*http.Response, error)
}

type paced struct {
	next  doer
	quota *bucket
}

func (p paced) Do(r *http.Request) (*http.Response, error) {
	if err := p.quota.wait(r.Context()); err != nil {
		return nil, err
	}
	return p.next.Do(r)
}

type letter struct{ to, text string }

type source interface {
	Next(context.Context) (letter, bool)
}

type campaign struct {
	n    atomic.Int64
	name string
}

func (c *campaign) Next(ctx context.Context) (letter, bool) {
	i := c.n.Add(1)
	return letter{fmt.Sprintf("player-%d", i%2_000_000), c.name}, ctx.Err() == nil
}

type courier struct {
	client doer
	push   string
	sent   atomic.Int64
	failed atomic.Int64
}

func (c *courier) deliver(ctx context.Context, l letter) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.push+"/push/"+l.to, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Campaign", l.text)
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (c *courier) work(ctx context.Context, src source) {
	for {
		l, ok := src.Next(ctx)
		if !ok {
			return
		}
		if err := c.deliver(ctx, l); err != nil {
			c.failed.Add(1)
			continue
		}
		c.sent.Add(1)
	}
}

func provider() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		log.Fatal(http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
		})))
	}()
	return "http://" + ln.Addr().String()
}

func main() {
	c := &courier{
		client: paced{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}, newBucket(400, 20)},
		push:   provider(),
	}
	src := &campaign{name: "autumn-cup"}
	for range 8 {
		go c.work(context.Background(), src)
	}
	http.HandleFunc("/progress", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "sent=%d failed=%d\n", c.sent.Load(), c.failed.Load())
	})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
