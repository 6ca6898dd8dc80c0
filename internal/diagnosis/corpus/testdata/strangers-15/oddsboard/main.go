// oddsboard serves the odds, which it pulls from the trading partner in the background.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type Odds map[string]float64

type Snapshot struct {
	At   time.Time
	Odds Odds
}

type Source interface {
	Fetch(ctx context.Context) (Odds, error)
}

type tradingDesk struct{ url string }

func (t tradingDesk) Fetch(ctx context.Context) (Odds, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var o Odds
	return o, json.NewDecoder(resp.Body).Decode(&o)
}

// Board is read through an atomic pointer; mu only keeps two refreshes apart.
type Board struct {
	mu      sync.Mutex
	source  Source
	current atomic.Pointer[Snapshot]
}

func (b *Board) Refresh(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	odds, err := b.source.Fetch(ctx)
	if err != nil {
		return err
	}
	b.current.Store(&Snapshot{At: time.Now(), Odds: odds})
	return nil
}

func (b *Board) keepFresh(ctx context.Context, every time.Duration) {
	for {
		if err := b.Refresh(ctx); err != nil {
			log.Print("refresh: ", err)
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
	}
}

func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	snap := b.current.Load()
	if snap == nil {
		http.Error(w, "warming up", http.StatusServiceUnavailable)
		return
	}
	odds, ok := snap.Odds[r.FormValue("match")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintf(w, `{"odds":%.2f,"age_ms":%d}`, odds, time.Since(snap.At).Milliseconds())
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	desk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := Odds{}
		for i := range 200 {
			o[fmt.Sprintf("m%d", i)] = 1 + rand.Float64()*8
		}
		time.Sleep(350 * time.Millisecond)
		_ = json.NewEncoder(w).Encode(o)
	}))
	board := &Board{source: tradingDesk{desk.URL}}
	go board.keepFresh(context.Background(), 150*time.Millisecond)

	api := httptest.NewServer(board)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}, Timeout: time.Second}
	for range 20 {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/?match=m%d", api.URL, rand.IntN(200)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(40+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	select {}
}
