// Command ok-arena-sim runs the arenas' ticks: movement, steering, hits and what
// spectators get to see.
package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"expvar"
	"hash/crc32"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"time"
)

type body struct {
	X, Y, DX, DY float64
	HP, Team     int
}

type arena struct {
	bodies []body
	grid   map[[2]int][]int
	near   []int
	sum    uint32
}

func newArena(n int) *arena {
	a := &arena{grid: map[[2]int][]int{}}
	for range n {
		a.bodies = append(a.bodies, body{rand.Float64() * 400, rand.Float64() * 400, rand.NormFloat64(), rand.NormFloat64(), 100, rand.IntN(2)})
	}
	return a
}

func (a *arena) move() {
	for range 25 {
		for i := range a.bodies {
			b := &a.bodies[i]
			b.X, b.Y = math.Mod(b.X+b.DX*.04+400, 400), math.Mod(b.Y+b.DY*.04+400, 400)
		}
	}
}

func (a *arena) index() {
	for k, v := range a.grid {
		a.grid[k] = v[:0]
	}
	for i := range a.bodies {
		k := [2]int{int(a.bodies[i].X) / 20, int(a.bodies[i].Y) / 20}
		a.grid[k] = append(a.grid[k], i)
	}
}

func (a *arena) steer() {
	for _, cell := range a.grid {
		for _, i := range cell {
			var cx, cy float64
			for _, j := range cell {
				cx, cy = cx+a.bodies[j].X, cy+a.bodies[j].Y
			}
			b := &a.bodies[i]
			ang := math.Atan2(cy/float64(len(cell))-b.Y, cx/float64(len(cell))-b.X)
			b.DX, b.DY = b.DX*.9+math.Cos(ang)*.1, b.DY*.9+math.Sin(ang)*.1
		}
	}
}

func (a *arena) hits() {
	for k, cell := range a.grid {
		a.near = append(a.near[:0], cell...)
		a.near = append(a.near, a.grid[[2]int{k[0] + 1, k[1]}]...)
		slices.SortFunc(a.near, func(i, j int) int { return int(a.bodies[i].X*8) - int(a.bodies[j].X*8) })
		for n := 1; n < len(a.near); n++ {
			p, q := &a.bodies[a.near[n-1]], &a.bodies[a.near[n]]
			if p.Team != q.Team && math.Hypot(p.X-q.X, p.Y-q.Y) < 1.5 {
				p.HP, q.HP = (p.HP+99)%101, (q.HP+99)%101
			}
		}
	}
}

type packer struct {
	plain, packed bytes.Buffer
	zw            *flate.Writer
}

func (a *arena) publish(p *packer) int {
	p.plain.Reset()
	json.NewEncoder(&p.plain).Encode(a.bodies[:len(a.bodies)/6])
	p.packed.Reset()
	p.zw.Reset(&p.packed)
	p.zw.Write(p.plain.Bytes())
	p.zw.Close()
	a.sum = crc32.ChecksumIEEE(p.packed.Bytes())
	return p.packed.Len()
}

var (
	late  = expvar.NewInt("late_ticks")
	ticks = expvar.NewInt("ticks")
)

const tick = 100 * time.Millisecond

// run spends 72 ms of each tick on its arenas, as many as fit.
func run(arenas []*arena, seen chan<- int) {
	p := &packer{}
	p.zw, _ = flate.NewWriter(io.Discard, flate.BestSpeed)
	t := time.NewTicker(tick)
	defer t.Stop()
	for n := 0; ; {
		began, size := <-t.C, 0
		for time.Since(began) < 72*time.Millisecond {
			a := arenas[n%len(arenas)]
			n++
			a.move()
			a.index()
			a.steer()
			a.hits()
			size += a.publish(p)
		}
		ticks.Add(1)
		if time.Since(began) > tick {
			late.Add(1)
		}
		select {
		case seen <- size:
		default:
		}
	}
}

func main() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	seen := make(chan int, 16)
	for range 2 {
		var as []*arena
		for range 40 {
			as = append(as, newArena(900))
		}
		go run(as, seen)
	}
	go func() {
		total := expvar.NewInt("published_bytes")
		for n := range seen {
			total.Add(int64(n))
		}
	}()
	log.Fatal(http.ListenAndServe(addr, nil))
}
