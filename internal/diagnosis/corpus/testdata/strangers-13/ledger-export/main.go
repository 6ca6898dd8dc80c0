// ledger-export books bets and sends the day's totals to the regulator's
// reporting endpoint.
package main

import (
	"bytes"
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
)

type totals struct {
	Bets  int64 `json:"bets"`
	Stake int64 `json:"stake"`
}

// ledger counts per game; its lock is held for an addition only.
type ledger struct {
	mu     sync.Mutex
	byGame map[string]totals
}

func (l *ledger) add(game string, stake int64) totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.byGame[game]
	t.Bets++
	t.Stake += stake
	l.byGame[game] = t
	return t
}

func (l *ledger) copy() map[string]totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(map[string]totals, len(l.byGame))
	for k, v := range l.byGame {
		c[k] = v
	}
	return c
}

// exporter sends the totals; there is one run at a time.
type exporter struct {
	running sync.Mutex
	ledger  *ledger
	url     string
	hc      *http.Client
	runs    atomic.Int64
	skipped atomic.Int64
}

func (e *exporter) run(ctx context.Context, reason string) error {
	if !e.running.TryLock() {
		e.skipped.Add(1)
		return nil
	}
	defer e.running.Unlock()
	b, err := json.Marshal(map[string]any{"reason": reason, "totals": e.ledger.copy()})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, e.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := e.hc.Do(req)
	if err != nil {
		return fmt.Errorf("export (%s): %w", reason, err)
	}
	defer resp.Body.Close()
	e.runs.Add(1)
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (e *exporter) every(d time.Duration, reason string) {
	for range time.Tick(d) {
		if err := e.run(context.Background(), reason); err != nil {
			log.Print(err)
		}
	}
}

func open(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, h)) }()
	return "http://" + ln.Addr().String()
}

func main() {
	regulator := open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(1200 * time.Millisecond)
		w.WriteHeader(http.StatusAccepted)
	}))
	l := &ledger{byGame: make(map[string]totals)}
	e := &exporter{ledger: l, url: regulator, hc: &http.Client{Timeout: 10 * time.Second}}
	go e.every(time.Second, "schedule")
	go e.every(700*time.Millisecond, "round end")

	mux := http.NewServeMux()
	mux.HandleFunc("POST /bets", func(w http.ResponseWriter, r *http.Request) {
		t := l.add(r.FormValue("game"), 100)
		_ = json.NewEncoder(w).Encode(t)
	})
	mux.HandleFunc("GET /export", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"runs":%d,"skipped":%d}`, e.runs.Load(), e.skipped.Load())
	})
	front := open(mux)

	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 2 * time.Second}
	for range 16 {
		go func() {
			for {
				resp, err := hc.Post(fmt.Sprintf("%s/bets?game=g%02d", front, rand.IntN(40)), "", nil)
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
