// Command ok-event-stream tells watching players about the leaderboard's changes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
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

type Change struct {
	Player int `json:"player"`
	Rank   int `json:"rank"`
}

// ---- broker ----

type Broker[T any] struct {
	mu   sync.Mutex
	subs map[chan T]struct{}
}

func (b *Broker[T]) Subscribe() (<-chan T, func()) {
	c := make(chan T, 8)
	b.mu.Lock()
	b.subs[c] = struct{}{}
	b.mu.Unlock()
	return c, func() {
		b.mu.Lock()
		delete(b.subs, c)
		b.mu.Unlock()
	}
}

func (b *Broker[T]) Publish(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.subs {
		select {
		case c <- v:
		default:
		}
	}
}

// ---- stream ----

type stream struct {
	b     *Broker[Change]
	beat  time.Duration
	limit time.Duration
}

func (s stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	changes, leave := s.b.Subscribe()
	defer leave()
	beat := time.NewTicker(s.beat)
	defer beat.Stop()
	end := time.NewTimer(s.limit/2 + rand.N(s.limit))
	defer end.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-beat.C:
			fmt.Fprint(w, ": beat\n\n")
		case c := <-changes:
			b, _ := json.Marshal(c)
			fmt.Fprintf(w, "data: %s\n\n", b)
		}
		if err := rc.Flush(); err != nil {
			return
		}
	}
}

// watch is a player's page: it reads events and comes back when a stream ends.
func watch(ctx context.Context, hc *http.Client, url string) {
	once := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := hc.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		best := 0
		for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
			data, ok := strings.CutPrefix(sc.Text(), "data: ")
			var c Change
			if ok && json.Unmarshal([]byte(data), &c) == nil && c.Rank > best {
				best = c.Rank
			}
		}
		return nil
	}
	for ctx.Err() == nil {
		if err := once(); err != nil && ctx.Err() == nil {
			log.Print(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
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

	b := &Broker[Change]{subs: map[chan Change]struct{}{}}
	url := serve(stream{b: b, beat: 5 * time.Second, limit: 30 * time.Second})
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 400}}
	for range 300 {
		go watch(ctx, hc, url)
	}
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.Publish(Change{rand.IntN(1e5), 1 + rand.IntN(100)})
		}
	}
}
