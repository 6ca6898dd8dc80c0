package main

import (
	"cmp"
	"context"
	"log"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type entity struct {
	ID   uint64
	X, Y float32
}

type grid[T any] struct {
	cell  float32
	cells map[[2]int32][]T
}

func (g *grid[T]) put(x, y float32, v T) {
	k := [2]int32{int32(x / g.cell), int32(y / g.cell)}
	g.cells[k] = append(g.cells[k], v)
}

func (g *grid[T]) around(x, y float32, visit func(T)) {
	cx, cy := int32(x/g.cell), int32(y/g.cell)
	for dx := int32(-1); dx <= 1; dx++ {
		for dy := int32(-1); dy <= 1; dy++ {
			for _, v := range g.cells[[2]int32{cx + dx, cy + dy}] {
				visit(v)
			}
		}
	}
}

type idSet[K cmp.Ordered] struct {
	ids []K
}

func (s *idSet[K]) add(k K) bool {
	if slices.Contains(s.ids, k) { // want: cpu-hot-path
		return false
	}
	s.ids = append(s.ids, k)
	return true
}

func (s *idSet[K]) reset() { s.ids = s.ids[:0] }

type party struct {
	members []*entity
	visible idSet[uint64]
}

type world struct {
	entities []*entity
	parties  []*party
	grid     grid[*entity]
	updates  atomic.Int64
}

func newWorld(n int) *world {
	w := &world{grid: grid[*entity]{cell: 100, cells: map[[2]int32][]*entity{}}}
	for i := 0; i < n; i++ {
		w.entities = append(w.entities, &entity{ID: uint64(i) + 1<<32, X: rand.Float32() * 600, Y: rand.Float32() * 600})
	}
	for i := 0; i < n; i += 40 {
		p := &party{members: w.entities[i:min(i+4, n)]}
		w.parties = append(w.parties, p)
	}
	return w
}

func (w *world) move() {
	for k := range w.grid.cells {
		w.grid.cells[k] = w.grid.cells[k][:0]
	}
	for _, e := range w.entities {
		e.X = min(max(e.X+rand.Float32()*4-2, 0), 599)
		e.Y = min(max(e.Y+rand.Float32()*4-2, 0), 599)
		w.grid.put(e.X, e.Y, e)
	}
}

func (p *party) refresh(w *world) int {
	p.visible.reset()
	n := 0
	for _, m := range p.members {
		w.grid.around(m.X, m.Y, func(e *entity) {
			if p.visible.add(e.ID) {
				n++
			}
		})
	}
	return n
}

func (w *world) tick() {
	w.move()
	for _, p := range w.parties {
		w.updates.Add(int64(p.refresh(w)))
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	w := newWorld(6000)
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.tick()
		case <-ctx.Done():
			return
		}
	}
}
