// Command push-fanout sends tournament reminders to the push provider, a batch
// at a time, and answers subscription requests.
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
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

type Reminder struct {
	Player int
	Text   string
}

type Provider struct {
	url string
	cl  *http.Client
}

func (p *Provider) Send(ctx context.Context, r Reminder) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/push/"+strconv.Itoa(r.Player), nil)
	if err != nil {
		return err
	}
	resp, err := p.cl.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type Subscribers struct {
	mu  sync.RWMutex
	set map[int]bool
}

func (s *Subscribers) Toggle(player int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set[player] = !s.set[player]
	return s.set[player]
}

func (s *Subscribers) Batch(n int) []int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]int, 0, n)
	for p, on := range s.set {
		if len(out) == n {
			break
		}
		if on {
			out = append(out, p)
		}
	}
	return out
}

type Fanout struct {
	provider *Provider
	subs     *Subscribers
	limit    int
	sent     atomic.Int64
}

func (f *Fanout) Remind(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.limit)
	for _, p := range f.subs.Batch(240) {
		g.Go(func() error {
			if err := f.provider.Send(ctx, Reminder{Player: p, Text: text}); err != nil {
				return err
			}
			f.sent.Add(1)
			return nil
		})
	}
	return g.Wait()
}

func (f *Fanout) run(every time.Duration) {
	for t := range time.Tick(every) {
		if err := f.Remind(context.Background(), "starts at "+t.Format(time.TimeOnly)); err != nil {
			log.Printf("remind: %v", err)
		}
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

func main() {
	push := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(6 * time.Millisecond) }))
	const limit = 16
	f := &Fanout{
		provider: &Provider{url: push, cl: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: limit}}},
		subs:     &Subscribers{set: map[int]bool{}},
		limit:    limit,
	}
	for p := range 2000 {
		f.subs.Toggle(p)
	}
	go f.run(700 * time.Millisecond)

	mux := http.NewServeMux()
	mux.HandleFunc("POST /subscriptions/{player}", func(w http.ResponseWriter, r *http.Request) {
		p, err := strconv.Atoi(r.PathValue("player"))
		if err != nil {
			http.Error(w, "player", http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, f.subs.Toggle(p))
	})
	base := serve(mux)
	go func() {
		n := 0
		for range time.Tick(10 * time.Millisecond) {
			n++
			resp, err := http.Post(fmt.Sprintf("%s/subscriptions/%d", base, n%3000), "", nil)
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
