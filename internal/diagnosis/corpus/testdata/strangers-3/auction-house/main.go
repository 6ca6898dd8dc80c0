// Command auction-house matches bids against the open lots.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

type Bid struct {
	Lot, Amount int
	Bidder      string
}

type House struct {
	sync.RWMutex
	bids []Bid
	best map[int]Bid
}

// Place books a bid and says whether it leads.
func (h *House) Place(b Bid) bool {
	h.Lock() // want: lock-contention
	defer h.Unlock()
	h.bids[rand.IntN(len(h.bids))] = b
	book := slices.Clone(h.bids)
	slices.SortFunc(book, func(x, y Bid) int {
		return cmp.Or(cmp.Compare(x.Lot, y.Lot), cmp.Compare(y.Amount, x.Amount), strings.Compare(x.Bidder, y.Bidder))
	})
	for i, x := range book {
		if i == 0 || book[i-1].Lot != x.Lot {
			h.best[x.Lot] = x
		}
	}
	return h.best[b.Lot] == b
}

func (h *House) Leading(lot int) (Bid, bool) {
	h.RLock()
	defer h.RUnlock()
	b, ok := h.best[lot]
	return b, ok
}

type routes struct{ *House }

func (s routes) bid(w http.ResponseWriter, r *http.Request) {
	var b Bid
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, s.Place(b))
}

func (s routes) lot(w http.ResponseWriter, r *http.Request) {
	var n int
	fmt.Sscan(r.PathValue("n"), &n)
	b, _ := s.Leading(n)
	json.NewEncoder(w).Encode(b)
}

func main() {
	runtime.SetBlockProfileRate(10_000)
	runtime.SetMutexProfileFraction(1)
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	go func() { log.Fatal(http.ListenAndServe(addr, nil)) }()

	h := &House{best: map[int]Bid{}}
	for range 24_000 {
		h.bids = append(h.bids, Bid{rand.IntN(300), rand.IntN(10_000), fmt.Sprint("b", rand.IntN(5000))})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bid", routes{h}.bid)
	mux.HandleFunc("GET /lot/{n}", routes{h}.lot)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, mux)

	base := "http://" + l.Addr().String()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 80}}
	drain := func(res *http.Response, err error) {
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for i := range 30 {
		go func() {
			for {
				drain(hc.Post(base+"/bid", "application/json", strings.NewReader(
					fmt.Sprintf(`{"Lot":%d,"Amount":%d,"Bidder":"b%d"}`, rand.IntN(300), rand.IntN(10_000), i))))
				time.Sleep(rand.N(20 * time.Millisecond))
			}
		}()
		go func() {
			for {
				drain(hc.Get(fmt.Sprintf("%s/lot/%d", base, rand.IntN(300))))
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
	select {}
}
