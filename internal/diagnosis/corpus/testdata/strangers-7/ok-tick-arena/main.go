// Command ok-tick-arena computes arenas at 30 frames a second: moves, hits, standings, frames.
package main

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/json"
	"hash"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Unit struct {
	ID       int `json:"id"`
	X, Y     float64
	VX, VY   float64 `json:"-"`
	HP       int     `json:"hp"`
	Distance float64 `json:"-"`
}

type Arena struct {
	units []Unit
	rank  []int
	out   bytes.Buffer
	zw    *flate.Writer
	sum   hash.Hash
	frame int
}

func newArena(n int) *Arena {
	a := &Arena{units: make([]Unit, n), rank: make([]int, n), sum: sha256.New()}
	a.zw, _ = flate.NewWriter(&a.out, flate.BestSpeed)
	for i := range a.units {
		a.rank[i] = i
		a.units[i] = Unit{ID: i, X: rand.Float64() * 100, Y: rand.Float64() * 100, VX: rand.Float64() - .5, VY: rand.Float64() - .5, HP: 100}
	}
	return a
}

func (a *Arena) move() {
	for range 60 {
		for i := range a.units {
			u := &a.units[i]
			u.X += u.VX / 60
			u.Y += u.VY / 60
			if u.X < 0 || u.X > 100 {
				u.VX = -u.VX
			}
			if u.Y < 0 || u.Y > 100 {
				u.VY = -u.VY
			}
			u.Distance += math.Hypot(u.VX, u.VY)
		}
	}
}

func (a *Arena) hit() {
	for i := range a.units {
		for j := i + 1; j < len(a.units); j++ {
			dx, dy := a.units[i].X-a.units[j].X, a.units[i].Y-a.units[j].Y
			if dx*dx+dy*dy < .25 {
				a.units[i].HP = max(1, a.units[i].HP-1)
			}
		}
	}
}

func (a *Arena) standings() {
	for k := range 4 {
		slices.SortFunc(a.rank, func(x, y int) int {
			return cmp.Or(cmp.Compare(a.units[x].HP*(k%2), a.units[y].HP*(k%2)), cmp.Compare(a.units[y].Distance, a.units[x].Distance))
		})
	}
}

func (a *Arena) pack() int {
	a.out.Reset()
	a.zw.Reset(&a.out)
	_ = json.NewEncoder(a.zw).Encode(a.units[:80])
	_ = a.zw.Close()
	return a.out.Len()
}

func (a *Arena) seal() {
	a.sum.Reset()
	for range 60 {
		_, _ = a.sum.Write(a.out.Bytes())
	}
	_ = a.sum.Sum(nil)
}

func (a *Arena) Frame() {
	a.frame++
	a.move()
	a.hit()
	a.standings()
	a.pack()
	a.seal()
}

func main() {
	ctx, _, done := start()
	defer done()
	arenas := make([]*Arena, 38)
	for i := range arenas {
		arenas[i] = newArena(260)
	}
	t := time.NewTicker(time.Second / 30)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, a := range arenas {
				a.Frame()
			}
		}
	}
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
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
	return ctx, a, func() { a.Close(); stop() }
}
