package main

import (
	"context"
	"log"
	"math"
	"math/rand"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sort"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type vec struct{ X, Y float64 }

type body struct {
	ID       int
	Pos, Vel vec
	Threat   float64
}

type sector struct {
	bodies []*body
	order  []*body
}

type world struct{ sectors []*sector }

func (w *world) integrate(dt float64) {
	for _, s := range w.sectors {
		for _, b := range s.bodies {
			b.Pos.X += b.Vel.X * dt
			b.Pos.Y += b.Vel.Y * dt
			if b.Pos.X < 0 || b.Pos.X > 100 {
				b.Vel.X = -b.Vel.X
			}
			if b.Pos.Y < 0 || b.Pos.Y > 100 {
				b.Vel.Y = -b.Vel.Y
			}
		}
	}
}

func (w *world) steer() {
	for _, s := range w.sectors {
		for _, b := range s.bodies {
			a := math.Atan2(b.Vel.Y, b.Vel.X) + (rand.Float64()-0.5)*0.1
			v := math.Hypot(b.Vel.X, b.Vel.Y)
			b.Vel = vec{math.Cos(a) * v, math.Sin(a) * v}
		}
	}
}

func (w *world) collide() int {
	hits := 0
	for _, s := range w.sectors {
		for i, a := range s.bodies {
			for _, b := range s.bodies[i+1:] {
				dx, dy := a.Pos.X-b.Pos.X, a.Pos.Y-b.Pos.Y
				if dx*dx+dy*dy < 1 {
					a.Threat++
					b.Threat++
					hits++
				}
			}
		}
	}
	return hits
}

func (w *world) rank() {
	for _, s := range w.sectors {
		sort.Slice(s.order, func(i, j int) bool { return s.order[i].Threat > s.order[j].Threat })
		for _, b := range s.order {
			b.Threat *= 0.95
		}
	}
}

func main() {
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go func() { log.Println(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	w := &world{}
	for i := 0; i < 900; i++ {
		s := &sector{}
		for j := 0; j < 60; j++ {
			b := &body{ID: i*60 + j, Pos: vec{rand.Float64() * 100, rand.Float64() * 100}, Vel: vec{rand.Float64()*8 - 4, rand.Float64()*8 - 4}}
			s.bodies = append(s.bodies, b)
			s.order = append(s.order, b)
		}
		w.sectors = append(w.sectors, s)
	}
	t := time.NewTicker(33 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.steer()
			w.integrate(0.033)
			w.collide()
			w.rank()
		case <-ctx.Done():
			return
		}
	}
}
