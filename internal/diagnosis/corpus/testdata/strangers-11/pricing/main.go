package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

type rule struct {
	Prefix string
	Num    int64
	Den    int64
}

type sheet struct {
	version int
	base    map[string]int64
	rules   []rule
	fx      map[string]float64
}

type book struct {
	sync.RWMutex
	cur *sheet
}

func (b *book) swap(s *sheet) {
	b.Lock()
	defer b.Unlock()
	if b.cur != nil {
		s.version = b.cur.version + 1
	}
	b.cur = s
}

func (b *book) rate(ccy string) float64 {
	b.RLock() // want: deadlock
	defer b.RUnlock()
	if r, ok := b.cur.fx[ccy]; ok {
		return r
	}
	return 1
}

func (b *book) matching(sku string) iter.Seq[rule] {
	return func(yield func(rule) bool) {
		for _, r := range b.cur.rules {
			if strings.HasPrefix(sku, r.Prefix) && !yield(r) {
				return
			}
		}
	}
}

type line struct {
	SKU string `json:"sku"`
	Qty int64  `json:"qty"`
}

type quote struct {
	Version int     `json:"version"`
	Total   float64 `json:"total"`
	Ccy     string  `json:"ccy"`
}

func (b *book) price(lines []line, ccy string) (q quote, err error) {
	b.RLock() // want: deadlock
	defer b.RUnlock()
	var minor int64
	for _, l := range lines {
		unit, ok := b.cur.base[l.SKU]
		if !ok {
			return q, fmt.Errorf("sku %q", l.SKU)
		}
		for r := range b.matching(l.SKU) {
			unit = unit * r.Num / r.Den
		}
		minor += unit * l.Qty
	}
	q = quote{Version: b.cur.version, Ccy: ccy}
	q.Total = b.convert(minor, ccy) // want: deadlock
	return q, nil
}

func (b *book) convert(minor int64, ccy string) float64 {
	if ccy == "USD" {
		return float64(minor) / 100
	}
	return float64(minor) / 100 * b.rate(ccy) // want: deadlock
}

func load() *sheet {
	s := &sheet{base: map[string]int64{}, fx: map[string]float64{"TWD": 32.1, "JPY": 151.4, "EUR": .92}}
	for i := range 500 {
		s.base[fmt.Sprintf("skin-%03d", i)] = 100 + rand.Int64N(5000)
	}
	for i := range 400 {
		s.rules = append(s.rules, rule{fmt.Sprintf("skin-%02d", i%50), 99, 100})
	}
	return s
}

type handler struct{ *book }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var lines []line
	if err := json.NewDecoder(r.Body).Decode(&lines); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	q, err := h.price(lines, r.URL.Query().Get("ccy"))
	if err != nil {
		http.Error(w, err.Error(), 404)
		return
	}
	_ = json.NewEncoder(w).Encode(q)
}

func shopper(url string, hc *http.Client) {
	ccys := []string{"TWD", "JPY", "EUR", "USD"}
	for {
		basket := slices.Collect(func(yield func(line) bool) {
			for range 12 {
				if !yield(line{fmt.Sprintf("skin-%03d", rand.IntN(500)), 1 + rand.Int64N(3)}) {
					return
				}
			}
		})
		raw, _ := json.Marshal(basket)
		resp, err := hc.Post(url+"?ccy="+ccys[rand.IntN(4)], "application/json", strings.NewReader(string(raw)))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func main() {
	b := &book{}
	b.swap(load())
	go func() {
		for range time.Tick(15 * time.Millisecond) {
			b.swap(load())
		}
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, handler{b})) }()
	hc := &http.Client{Timeout: 3 * time.Second}
	for range 12 {
		go shopper("http://"+ln.Addr().String()+"/quote", hc)
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
