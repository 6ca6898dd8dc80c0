// arena-server runs the rounds of small arenas, sends every player what it can
// see and reports achievements to the platform.
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

type unit struct {
	ID     int
	X, Y   float64
	Health int
	Tags   []string
}

type view struct {
	Unit   int
	Attrs  map[string]any
	Nearby []*unit
}

type arena struct {
	name    string
	mu      sync.Mutex
	units   []*unit
	history [][]*view
}

func newArena(name string, n int) *arena {
	a := &arena{name: name, history: make([][]*view, 10)}
	for i := range n {
		a.units = append(a.units, &unit{ID: i, X: rand.Float64() * 100, Y: rand.Float64() * 100, Health: 100, Tags: []string{"alive", name}})
	}
	return a
}

func (u *unit) clone() *unit {
	c := *u
	c.Tags = append([]string(nil), u.Tags...)
	return &c
}

// look is what one unit sees of the arena.
func (a *arena) look(self *unit) *view {
	v := &view{Unit: self.ID, Attrs: map[string]any{ // want: cpu-gc-pressure
		"x": self.X, "y": self.Y, "health": self.Health, "label": fmt.Sprintf("%s/%d", a.name, self.ID),
	}}
	for _, o := range a.units {
		if dx, dy := o.X-self.X, o.Y-self.Y; dx*dx+dy*dy < 2500 {
			v.Nearby = append(v.Nearby, o.clone()) // want: cpu-gc-pressure
		}
	}
	return v
}

// tick moves the units and returns the views of all of them.
func (a *arena) tick(n int) []*view {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range a.units {
		u.X, u.Y = u.X+rand.Float64()-.5, u.Y+rand.Float64()-.5
	}
	views := make([]*view, 0, len(a.units))
	for _, u := range a.units {
		views = append(views, a.look(u)) // want: cpu-gc-pressure
	}
	a.history[n%len(a.history)] = views
	return views
}

type platform struct {
	url  string
	hc   *http.Client
	sent atomic.Int64
}

// achieve reports one achievement; the platform takes repeats.
func (p *platform) achieve(ctx context.Context, player int, what string) error {
	b, err := json.Marshal(map[string]any{"player": player, "achievement": what})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := p.hc.Do(req) // want: response-body-leak
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("achievement %s: %s", what, resp.Status) // want: response-body-leak
	}
	defer resp.Body.Close()
	p.sent.Add(1)
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func platformAPI(w http.ResponseWriter, r *http.Request) {
	if rand.IntN(3) == 0 {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, `{"error":"achievement is known already","detail":%q}`, bytes.Repeat([]byte("-"), 3000))
		return
	}
	fmt.Fprintln(w, `{"ok":true}`)
}

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, http.HandlerFunc(platformAPI))) }()
	p := &platform{url: "http://" + ln.Addr().String() + "/achievements", hc: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	go func() {
		for i := range time.Tick(45 * time.Millisecond) {
			if err := p.achieve(context.Background(), i.Nanosecond()%1000, "streak"); err != nil && p.sent.Load()%200 == 0 {
				log.Print(err)
			}
		}
	}()
	for i := range 16 {
		a := newArena(fmt.Sprintf("arena-%d", i), 96)
		out := make(chan int, 64)
		go func() {
			for range out {
			}
		}()
		go func() {
			n := 0
			for range time.Tick(8 * time.Millisecond) {
				n++
				out <- len(a.tick(n))
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
