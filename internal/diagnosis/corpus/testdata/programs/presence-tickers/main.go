// Presence-tickers tracks who is online.
package main

import (
	"net/http"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type presence struct {
	player string
	beat   *time.Ticker
	seen   time.Time
}

type tracker struct {
	mu  sync.Mutex
	all []*presence
}

func (t *tracker) track(player string) {
	p := &presence{player: player, beat: time.NewTicker(time.Second), seen: time.Now()} // want: timer-leak
	go t.watch(p)
	t.mu.Lock()
	t.all = append(t.all, p)
	t.mu.Unlock()
}

func (t *tracker) watch(p *presence) {
	for range p.beat.C { // want: timer-leak
		t.mu.Lock()
		p.seen = time.Now()
		t.mu.Unlock()
	}
}

func main() {
	s := stage.Start()
	t := &tracker{}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { t.track(r.RemoteAddr) })
	s.Crowd(stage.Traffic{URL: s.Serve(mux) + "/hello", PerSecond: 100})
	s.Wait()
}
