package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type score struct {
	Match int    `json:"match"`
	Home  int    `json:"home"`
	Away  int    `json:"away"`
	At    string `json:"at"`
}

type topic struct {
	mu   sync.Mutex
	subs map[int64]chan score
}

type feed struct {
	topics [16]topic
	ids    atomic.Int64
}

func (f *feed) join(match int) (int64, <-chan score) {
	t := &f.topics[match%len(f.topics)]
	id, ch := f.ids.Add(1), make(chan score, 8)
	t.mu.Lock()
	t.subs[id] = ch
	t.mu.Unlock()
	return id, ch
}

func (f *feed) part(match int, id int64) {
	t := &f.topics[match%len(f.topics)]
	t.mu.Lock()
	delete(t.subs, id) // want: goroutine-leak
	t.mu.Unlock()
}

func (f *feed) publish(s score) {
	t := &f.topics[s.Match%len(f.topics)]
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ch := range t.subs {
		select {
		case ch <- s:
		default:
		}
	}
}

type server struct {
	ctx  context.Context
	feed *feed
	log  *slog.Logger
}

func (s *server) encode(ctx context.Context, in <-chan score) <-chan []byte {
	out := make(chan []byte, 4)
	go func() { // want: goroutine-leak
		defer close(out)
		var prev score
		for {
			select { // want: goroutine-leak
			case <-ctx.Done():
				return
			case sc, ok := <-in: // want: goroutine-leak
				if !ok {
					return
				}
				if sc == prev {
					continue
				}
				prev = sc
				raw, err := json.Marshal(sc)
				if err != nil {
					s.log.Error("encode", "err", err)
					continue
				}
				select {
				case out <- raw:
				default:
				}
			}
		}
	}()
	return out
}

func (s *server) watch(w http.ResponseWriter, r *http.Request) {
	var match int
	if _, err := fmt.Sscan(r.PathValue("match"), &match); err != nil {
		http.Error(w, "match", http.StatusBadRequest)
		return
	}
	id, ch := s.feed.join(match)
	defer s.feed.part(match, id)
	lines := s.encode(s.ctx, ch) // want: goroutine-leak
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	_ = rc.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case b := <-lines:
			if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
				return
			}
			_ = rc.Flush()
		}
	}
}

func spectator(ctx context.Context, hc *http.Client, base string) {
	for ctx.Err() == nil {
		stay, cancel := context.WithTimeout(ctx, 150*time.Millisecond+rand.N(200*time.Millisecond))
		req, _ := http.NewRequestWithContext(stay, "GET", fmt.Sprintf("%s/matches/%d/events", base, rand.IntN(64)), nil)
		if resp, err := hc.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		cancel()
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	f := &feed{}
	for i := range f.topics {
		f.topics[i].subs = map[int64]chan score{}
	}
	s := &server{ctx: ctx, feed: f, log: slog.Default()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /matches/{match}/events", s.watch)
	ts := httptest.NewServer(mux)
	go func() {
		for now := range time.Tick(5 * time.Millisecond) {
			f.publish(score{rand.IntN(64), rand.IntN(9), rand.IntN(9), now.Format(time.TimeOnly)})
		}
	}()
	for range 10 {
		go spectator(ctx, ts.Client(), ts.URL)
	}
	go func() { s.log.Error("debug", "err", http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	<-ctx.Done()
}
