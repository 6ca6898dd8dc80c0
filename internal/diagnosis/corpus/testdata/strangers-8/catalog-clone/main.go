// Command catalog-clone serves the shop's shelves with the prices of a player.
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
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// Doc is a document of the catalog as the content team writes it.
type Doc map[string]any

// ---- catalog ----

type Catalog struct {
	mu      sync.RWMutex
	shelves [][]Doc
}

// Shelf gives the shelf's documents; the caller may change them.
func (c *Catalog) Shelf(n int) []Doc {
	c.mu.RLock()
	src := c.shelves[n%len(c.shelves)]
	c.mu.RUnlock()
	out := make([]Doc, len(src))
	for i, d := range src {
		out[i] = dup(d).(Doc) // want: cpu-gc-pressure
	}
	return out
}

func dup(v any) any {
	switch v := v.(type) {
	case Doc:
		m := make(Doc, len(v)) // want: cpu-gc-pressure
		for k, e := range v {
			m[k] = dup(e) // want: cpu-gc-pressure
		}
		return m
	case []any:
		s := make([]any, len(v)) // want: cpu-gc-pressure
		for i, e := range v {
			s[i] = dup(e)
		}
		return s
	default:
		return v
	}
}

// ---- offers ----

type Offer struct {
	ID    string `json:"id"`
	Price int    `json:"price"`
}

type Pricer interface{ Price(d Doc, player int) int }

type loyalty struct{}

func (loyalty) Price(d Doc, player int) int {
	base, _ := d["price"].(int)
	return base - base*(player%10)/100
}

type Shop struct {
	cat   *Catalog
	price Pricer
}

func (s *Shop) offers(shelf, player, n int) []Offer {
	var out []Offer
	for _, d := range s.cat.Shelf(shelf) { // want: cpu-gc-pressure
		if live, _ := d["live"].(bool); !live {
			continue
		}
		d["price"] = s.price.Price(d, player)
		if out = append(out, Offer{d["id"].(string), d["price"].(int)}); len(out) == n {
			break
		}
	}
	return out
}

func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shelf, _ := strconv.Atoi(r.FormValue("shelf"))
	player, _ := strconv.Atoi(r.FormValue("p"))
	_ = json.NewEncoder(w).Encode(s.offers(shelf, player, 12))
}

func stock(shelves, docs int) *Catalog {
	c := &Catalog{}
	for s := range shelves {
		var sh []Doc
		for i := range docs {
			names := Doc{}
			for _, l := range []string{"zh", "en", "ja", "ko"} {
				names[l] = fmt.Sprintf("item %d of shelf %d (%s)", i, s, l)
			}
			sh = append(sh, Doc{
				"id": fmt.Sprintf("s%02d-%04d", s, i), "price": 10 + rand.IntN(990), "live": i%9 == 0,
				"names": names, "tags": []any{"season", "rare", s, i},
				"stats": Doc{"power": i % 100, "speed": i % 70, "rank": "A"},
			})
		}
		c.shelves = append(c.shelves, sh)
	}
	return c
}

// Tuning is what operations set for the process.
type Tuning struct {
	GCPercent int
	Clients   int
}

func (t Tuning) apply() {
	if t.GCPercent > 0 {
		debug.SetGCPercent(t.GCPercent) // want: cpu-gc-pressure
	}
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// drive lets n clients call url, each pausing between its calls.
func drive(ctx context.Context, n int, pause time.Duration, url func() string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for range n {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Get(url()); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(pause)
			}
		}()
	}
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	t := Tuning{GCPercent: 20, Clients: 5} // want: cpu-gc-pressure
	t.apply()
	url := serve(&Shop{cat: stock(80, 400), price: loyalty{}})
	drive(ctx, t.Clients, 4*time.Millisecond, func() string {
		return fmt.Sprintf("%s/shop?shelf=%d&p=%d", url, rand.IntN(60), rand.IntN(1e6))
	})
	<-ctx.Done()
}
