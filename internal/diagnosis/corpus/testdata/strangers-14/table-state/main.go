package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"sync"
	"time"
)

type seat struct {
	Player int   `json:"player"`
	Chips  int64 `json:"chips"`
}

type view struct {
	Table int    `json:"table"`
	Hand  int    `json:"hand"`
	Pot   int64  `json:"pot"`
	Seats []seat `json:"seats"`
	Lead  seat   `json:"lead"`
}

type table struct {
	id int

	mu    sync.RWMutex
	hand  int
	seats []seat
	bets  []int64
}

func newTable(id, seats int) *table {
	t := &table{id: id, bets: make([]int64, seats)}
	for i := range seats {
		t.seats = append(t.seats, seat{Player: id*1000 + i, Chips: 5000 + rand.Int64N(5000)})
	}
	return t
}

func (t *table) bet(n int, chips int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seats[n].Chips -= chips
	t.bets[n] += chips
	if t.seats[n].Chips <= 0 {
		t.seats[n].Chips = 5000
		t.hand++
		clear(t.bets)
	}
}

func (t *table) pot() int64 {
	t.mu.RLock() // want: deadlock
	defer t.mu.RUnlock()
	var sum int64
	for _, b := range t.bets {
		sum += b
	}
	return sum
}

func (t *table) view() view {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v := view{Table: t.id, Hand: t.hand, Seats: slices.Clone(t.seats)}
	slices.SortFunc(v.Seats, func(a, b seat) int { return int(b.Chips - a.Chips) })
	v.Lead = v.Seats[0]
	v.Pot = t.pot() // want: deadlock
	return v
}

type floor struct {
	tables []*table
}

func (f *floor) table(r *http.Request) *table {
	var id int
	_, _ = fmt.Sscan(r.URL.Query().Get("table"), &id)
	return f.tables[id%len(f.tables)]
}

func (f *floor) watch(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(f.table(r).view())
}

func (f *floor) bet(w http.ResponseWriter, r *http.Request) {
	t := f.table(r)
	t.bet(rand.IntN(len(t.seats)), 25)
	w.WriteHeader(http.StatusNoContent)
}

func guests(base, path string, n, tables int, every time.Duration) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}, Timeout: 2 * time.Second}
	for range n {
		go func() {
			for {
				resp, err := client.Get(fmt.Sprintf("%s/%s?table=%d", base, path, rand.IntN(tables)))
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				time.Sleep(every)
			}
		}()
	}
}

func main() {
	const tables = 3
	f := &floor{}
	for id := range tables {
		f.tables = append(f.tables, newTable(id, 400))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/watch", f.watch)
	mux.HandleFunc("/bet", f.bet)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	base := "http://" + ln.Addr().String()
	guests(base, "watch", 30, tables, 20*time.Millisecond)
	guests(base, "bet", 20, tables, 10*time.Millisecond)
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
