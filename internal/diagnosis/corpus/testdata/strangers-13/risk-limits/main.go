// risk-limits decides whether a bet fits into the exposure the house accepts
// for a market.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

type bet struct {
	Market  int     `json:"market"`
	Outcome int     `json:"outcome"`
	Stake   float64 `json:"stake"`
	Odds    float64 `json:"odds"`
}

type market struct {
	liability []float64
	accepted  int
}

// worst estimates the loss of the market over its outcomes.
func (m *market) worst() float64 {
	w := 0.0
	for i, l := range m.liability {
		p := 0.0
		for j, o := range m.liability {
			p += math.Exp(-math.Abs(float64(i-j))/8) * math.Sqrt(math.Abs(o)+1)
		}
		w = math.Max(w, l+p)
	}
	return w
}

type book struct {
	mu      sync.Mutex
	markets map[int]*market
	limit   float64
}

func newBook(markets, outcomes int, limit float64) *book {
	b := &book{markets: make(map[int]*market, markets), limit: limit}
	for i := range markets {
		b.markets[i] = &market{liability: make([]float64, outcomes)}
	}
	return b
}

// place accepts a bet when the market stays under the limit with it.
func (b *book) place(t bet) (bool, float64) {
	b.mu.Lock() // want: lock-contention
	defer b.mu.Unlock()
	m, ok := b.markets[t.Market]
	if !ok || t.Outcome >= len(m.liability) {
		return false, 0
	}
	m.liability[t.Outcome] += t.Stake * (t.Odds - 1)
	w := m.worst() // want: lock-contention
	if w > b.limit {
		m.liability[t.Outcome] -= t.Stake * (t.Odds - 1)
		return false, w
	}
	m.accepted++
	return true, w
}

func (b *book) settle(id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.markets[id].liability)
}

type service struct{ book *book }

func (s *service) handle(w http.ResponseWriter, r *http.Request) {
	var t bet
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ok, worst := s.book.place(t)
	_ = json.NewEncoder(w).Encode(map[string]any{"accepted": ok, "worst": math.Round(worst)})
}

// terminal places bets one after the other.
func terminal(hc *http.Client, url string, markets, outcomes int) {
	for {
		pr, pw := io.Pipe()
		go func() {
			pw.CloseWithError(json.NewEncoder(pw).Encode(bet{
				Market: rand.IntN(markets), Outcome: rand.IntN(outcomes), Stake: 1 + rand.Float64()*20, Odds: 1.2 + rand.Float64()*4,
			}))
		}()
		resp, err := hc.Post(url, "application/json", pr)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
	}
}

func main() {
	const markets, outcomes = 300, 320
	s := &service{book: newBook(markets, outcomes, 1e6)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bets", s.handle)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	go func() {
		for range time.Tick(250 * time.Millisecond) {
			s.book.settle(rand.IntN(markets))
		}
	}()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second}
	url := fmt.Sprintf("http://%s/bets", ln.Addr())
	for range 64 {
		go terminal(hc, url, markets, outcomes)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
