// replayframes assembles replay frames of running fights for the spectators.
package main

import (
	"fmt"
	"hash/fnv"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync/atomic"
	"time"
)

type Vec struct{ X, Y, Z float64 }

type Unit struct {
	ID    int64
	Name  string
	Pos   *Vec
	Stats map[string]int64
}

type Fight struct {
	ID    int64
	Units []*Unit
	tick  atomic.Int64
}

// Frame is what spectators get, one per tick.
type Frame struct {
	Fight int64
	Tick  int64
	Items []*FrameItem
}

type FrameItem struct {
	Unit *Unit
	Attr map[string]any
	Path []Vec
}

type Arena struct{ fights []*Fight }

func NewArena(n, units int) *Arena {
	a := &Arena{}
	for i := range n {
		f := &Fight{ID: int64(i)}
		for u := range units {
			f.Units = append(f.Units, &Unit{
				ID:    int64(i*units + u),
				Name:  fmt.Sprintf("unit-%d-%d", i, u),
				Pos:   &Vec{rand.Float64(), rand.Float64(), rand.Float64()},
				Stats: map[string]int64{"hp": 100, "mp": 50, "lvl": int64(u)},
			})
		}
		a.fights = append(a.fights, f)
	}
	return a
}

func (f *Fight) Compose() *Frame {
	fr := &Frame{Fight: f.ID, Tick: f.tick.Add(1)}
	for _, u := range f.Units {
		attr := make(map[string]any, 16) // want: cpu-gc-pressure
		for k, v := range u.Stats {
			attr[k] = v + 1000 + fr.Tick
		}
		attr["pos"] = *u.Pos
		path := make([]Vec, 0, 24) // want: cpu-gc-pressure
		for step := range 4 {
			path = append(path, Vec{u.Pos.X + float64(step), u.Pos.Y, u.Pos.Z})
		}
		fr.Items = append(fr.Items, &FrameItem{Unit: u, Attr: attr, Path: path})
	}
	return fr
}

func (fr *Frame) Checksum() uint64 {
	h := fnv.New64a()
	for _, it := range fr.Items {
		hp, _ := it.Attr["hp"].(int64)
		_, _ = h.Write([]byte{byte(hp), byte(hp >> 8), byte(len(it.Path))})
	}
	return h.Sum64()
}

type spectatorFeed struct {
	arena *Arena
	sums  atomic.Uint64
	late  atomic.Int64
}

func (s *spectatorFeed) tick(every time.Duration, from, to int) {
	t := time.NewTicker(every)
	defer t.Stop()
	for range t.C {
		start := time.Now()
		for _, f := range s.arena.fights[from:to] {
			s.sums.Add(f.Compose().Checksum())
		}
		if time.Since(start) > every {
			s.late.Add(1)
		}
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	const fights = 2400
	feed := &spectatorFeed{arena: NewArena(fights, 60)}
	const lanes = 6
	for l := range lanes {
		go feed.tick(100*time.Millisecond, l*fights/lanes, (l+1)*fights/lanes)
	}
	for range time.Tick(15 * time.Second) {
		log.Printf("late ticks: %d", feed.late.Load())
	}
}
