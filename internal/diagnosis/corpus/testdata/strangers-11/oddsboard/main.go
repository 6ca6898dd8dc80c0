package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

type market struct {
	ID    int       `json:"id"`
	Odds  []float64 `json:"odds"`
	Stake []float64 `json:"-"`
	Rev   uint64    `json:"rev"`
}

func (m *market) reprice() {
	var total float64
	for _, s := range m.Stake {
		total += s
	}
	for i, s := range m.Stake {
		m.Odds[i] = math.Round(total/max(s, 1)*94) / 100
	}
	m.Rev++
}

type board struct {
	mu      sync.Mutex
	markets map[int]*market
	trades  uint64
}

func (b *board) bet(id, runner int, stake float64) (float64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.markets[id]
	if !ok || runner >= len(m.Odds) {
		return 0, fmt.Errorf("no runner %d/%d", id, runner)
	}
	m.Stake[runner] += stake
	m.reprice()
	b.trades++
	return m.Odds[runner], nil
}

func (b *board) snapshot(id int) (market, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.markets[id]
	if !ok {
		return market{}, false
	}
	return market{ID: m.ID, Odds: append([]float64(nil), m.Odds...), Rev: m.Rev}, true
}

func (b *board) decay(every time.Duration) {
	for range time.Tick(every) {
		b.mu.Lock()
		for _, m := range b.markets {
			for i := range m.Stake {
				m.Stake[i] *= .999
			}
		}
		b.mu.Unlock()
	}
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

type meter struct {
	mu    sync.Mutex
	codes map[int]int
	slow  time.Duration
}

func (m *meter) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{w, 200}
		next.ServeHTTP(sw, r)
		took := time.Since(start)
		m.mu.Lock()
		m.codes[sw.code]++
		m.slow = max(m.slow, took)
		m.mu.Unlock()
	})
}

func (b *board) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /markets/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		if m, ok := b.snapshot(id); ok {
			_ = json.NewEncoder(w).Encode(m)
			return
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("POST /markets/{id}/bets/{runner}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		runner, _ := strconv.Atoi(r.PathValue("runner"))
		price, err := b.bet(id, runner, 5)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "%.2f\n", price)
	})
	return mux
}

func main() {
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	b := &board{markets: map[int]*market{}}
	for id := range 120 {
		m := &market{ID: id, Odds: make([]float64, 10), Stake: make([]float64, 10)}
		for i := range m.Stake {
			m.Stake[i] = 100 + 400*rand.Float64()
		}
		m.reprice()
		b.markets[id] = m
	}
	go b.decay(250 * time.Millisecond)
	mt := &meter{codes: map[int]int{}}
	ts := httptest.NewServer(mt.wrap(b.routes()))
	hc := ts.Client()
	hc.Transport.(*http.Transport).MaxIdleConnsPerHost = 32
	for i := range 24 {
		go func() {
			for {
				url := fmt.Sprintf("%s/markets/%d", ts.URL, rand.IntN(120))
				var resp *http.Response
				var err error
				if i%2 == 0 {
					resp, err = hc.Get(url)
				} else {
					resp, err = hc.Post(fmt.Sprintf("%s/bets/%d", url, rand.IntN(10)), "", nil)
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(10*time.Millisecond + rand.N(10*time.Millisecond))
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
