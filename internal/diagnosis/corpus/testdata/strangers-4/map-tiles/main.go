// Map tiles: keeps the world map in memory and renders views of it.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type tile struct {
	x, y   int32
	layers []*layer
}

type layer struct {
	kind  string
	cells [16]int32
}

type world struct {
	side  int
	tiles []*tile
	views atomic.Int64
}

func generate(side int) *world {
	w := &world{side: side}
	for i := range side * side {
		t := &tile{x: int32(i % side), y: int32(i / side)}
		for _, k := range []string{"ground", "water", "roads"} {
			t.layers = append(t.layers, &layer{kind: k})
		}
		w.tiles = append(w.tiles, t)
	}
	return w
}

func (w *world) view(cx, cy, size int) []byte {
	out := make([]byte, 0, size*size*3)
	for dy := range size {
		for dx := range size {
			t := w.tiles[(cy+dy)%w.side*w.side+(cx+dx)%w.side]
			for _, l := range t.layers {
				out = append(out, byte(l.cells[0])+l.kind[0])
			}
		}
	}
	return out
}

func (w *world) player(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.view(rand.IntN(w.side), rand.IntN(w.side), 24)
			w.views.Add(1)
		case <-ctx.Done():
			return
		}
	}
}

func megabytes(env string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(env), 10, 64); err == nil {
		return n << 20
	}
	return otherwise << 20
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	debug.SetMemoryLimit(megabytes("TILES_MEMORY_MB", 100)) // want: memory-limit-thrash
	w := generate(600)
	for range 30 {
		go w.player(ctx)
	}
	<-ctx.Done()
}
