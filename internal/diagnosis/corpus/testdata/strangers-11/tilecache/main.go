package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

type cell struct {
	kind  uint8
	next  *cell
	props *props
}

type props struct {
	name string
	cost int32
}

type tile struct {
	x, y  int
	cells []*cell
}

type config struct {
	side, perTile int
	limit         int64
}

type option func(*config)

func withLimit(mib int64) option { return func(c *config) { c.limit = mib << 20 } }
func withSide(n int) option      { return func(c *config) { c.side = n } }

type world struct {
	cfg   config
	tiles []*tile
	hits  atomic.Uint64
}

func open(opts ...option) *world {
	w := &world{cfg: config{side: 32, perTile: 512}}
	for _, o := range opts {
		o(&w.cfg)
	}
	debug.SetMemoryLimit(w.cfg.limit) // want: memory-limit-thrash
	w.tiles = make([]*tile, w.cfg.side*w.cfg.side)
	for i := range w.tiles {
		w.tiles[i] = w.build(i%w.cfg.side, i/w.cfg.side) // want: memory-limit-thrash
	}
	return w
}

func (w *world) build(x, y int) *tile {
	t := &tile{x: x, y: y, cells: make([]*cell, w.cfg.perTile)} // want: memory-limit-thrash
	var prev *cell
	for i := range t.cells {
		prev = &cell{uint8(i), prev, &props{fmt.Sprint("biome-", i%40), rand.Int32N(9)}} // want: memory-limit-thrash
		t.cells[i] = prev
	}
	return t
}

type point struct{ x, y int }

type path struct {
	pts  []point
	from *cell
}

func (w *world) route(a, b point) *path {
	p := &path{}
	for a != b {
		switch {
		case a.x < b.x:
			a.x++
		case a.x > b.x:
			a.x--
		case a.y < b.y:
			a.y++
		default:
			a.y--
		}
		t := w.tiles[a.y*w.cfg.side+a.x]
		seen := make([]*cell, 0, len(t.cells)) // want: memory-limit-thrash
		for _, c := range t.cells {
			if c.props.cost < 7 {
				seen = append(seen, c)
			}
		}
		p.from = seen[len(seen)-1]
		p.pts = append(p.pts, a)
	}
	w.hits.Add(1)
	return p
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var a, b point
	if _, err := fmt.Sscanf(r.URL.RawQuery, "%d,%d,%d,%d", &a.x, &a.y, &b.x, &b.y); err != nil {
		http.Error(rw, err.Error(), 400)
		return
	}
	var sb strings.Builder
	for _, pt := range w.route(a, b).pts {
		fmt.Fprintf(&sb, "%d,%d;", pt.x, pt.y)
	}
	_, _ = io.WriteString(rw, sb.String())
}

func bot(base string, side int) {
	for range time.Tick(12 * time.Millisecond) {
		resp, err := http.Get(fmt.Sprintf("%s/?%d,%d,%d,%d", base, rand.IntN(side), rand.IntN(side), rand.IntN(side), rand.IntN(side)))
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	w := open(withSide(48), withLimit(88))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, w)) }()
	for range 4 {
		go bot("http://"+ln.Addr().String(), w.cfg.side)
	}
	select {}
}
