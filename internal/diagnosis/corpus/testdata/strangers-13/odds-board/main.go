// odds-board shows the odds of all open markets. The feed behind it is slow.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

type odds struct {
	Market string    `json:"market"`
	Prices []float64 `json:"prices"`
}

type cell struct {
	val   odds
	fresh time.Time
}

type feed struct {
	base string
	hc   *http.Client
}

func (f *feed) market(ctx context.Context, id string) (odds, error) {
	var o odds
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"/odds?market="+id, nil)
	if err != nil {
		return o, err
	}
	resp, err := f.hc.Do(req)
	if err != nil {
		return o, err
	}
	defer resp.Body.Close()
	return o, json.NewDecoder(resp.Body).Decode(&o)
}

// board answers with what it has and renews what is old in the background.
type board struct {
	mu    sync.RWMutex
	cells map[string]cell
	group singleflight.Group
	feed  *feed
	ttl   time.Duration
	busy  atomic.Int32
	age   atomic.Int64
}

const maxRefresh = 8

func (b *board) get(id string) (odds, bool) {
	b.mu.RLock()
	c, ok := b.cells[id]
	b.mu.RUnlock()
	if !ok {
		return odds{}, false
	}
	if age := time.Since(c.fresh); age > b.ttl {
		b.age.Store(int64(age))
		b.refresh(id)
	}
	return c.val, true
}

func (b *board) refresh(id string) {
	if b.busy.Add(1) > maxRefresh {
		b.busy.Add(-1)
		return
	}
	ch := b.group.DoChan(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		o, err := b.feed.market(ctx, id)
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		b.cells[id] = cell{val: o, fresh: time.Now()}
		b.mu.Unlock()
		return o, nil
	})
	go func() {
		defer b.busy.Add(-1)
		if r := <-ch; r.Err != nil {
			log.Printf("refresh %s: %v", id, r.Err)
		}
	}()
}

func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o, ok := b.get(r.URL.Query().Get("market"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(o)
}

func start(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func newOdds(id string) odds {
	return odds{Market: id, Prices: []float64{1 + rand.Float64(), 2 + rand.Float64(), 3 + rand.Float64()}}
}

func main() {
	source := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(300+rand.IntN(200)) * time.Millisecond)
		_ = json.NewEncoder(w).Encode(newOdds(r.URL.Query().Get("market")))
	}))
	b := &board{
		cells: make(map[string]cell),
		feed:  &feed{base: source, hc: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxRefresh}}},
		ttl:   10 * time.Second,
	}
	const markets = 80
	for i := range markets {
		id := fmt.Sprintf("m%02d", i)
		// spread, so that they do not all get old together
		b.cells[id] = cell{val: newOdds(id), fresh: time.Now().Add(-time.Duration(i) * b.ttl / markets)}
	}
	front := start(b)
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}, Timeout: 2 * time.Second}
	for range 20 {
		go func() {
			for {
				resp, err := hc.Get(fmt.Sprintf("%s/?market=m%02d", front, rand.IntN(markets)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
