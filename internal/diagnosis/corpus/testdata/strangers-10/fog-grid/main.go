package main

import (
	"image"
	"log/slog"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

const side = 72

type tile uint8

const (
	ground tile = iota
	wall
	water
)

type board struct {
	tiles [side * side]tile
	lit   [side * side]bool
}

func (b *board) at(p image.Point) tile { return b.tiles[p.Y*side+p.X] }

func (b *board) opaque(p image.Point) bool { return b.at(p) == wall }

type unit struct {
	pos   image.Point
	sight int
}

func (b *board) sees(u unit, target image.Point) bool {
	d := target.Sub(u.pos)
	if d.X*d.X+d.Y*d.Y > u.sight*u.sight {
		return false
	}
	n := max(abs(d.X), abs(d.Y))
	for i := 1; i < n; i++ {
		if b.opaque(image.Pt(u.pos.X+d.X*i/n, u.pos.Y+d.Y*i/n)) {
			return false
		}
	}
	return true
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}

type visitor func(i int, p image.Point)

func (b *board) each(v visitor) {
	var wg sync.WaitGroup
	for i := range b.tiles {
		wg.Go(func() { v(i, image.Pt(i%side, i/side)) }) // want: goroutine-churn
	}
	wg.Wait()
}

type match struct {
	id    int
	board board
	units []unit
	steps int
}

func newMatch(id int) *match {
	m := &match{id: id}
	for i := range m.board.tiles {
		if rand.IntN(9) == 0 {
			m.board.tiles[i] = wall
		}
	}
	for range 3 {
		m.units = append(m.units, unit{
			pos:   image.Pt(rand.IntN(side), rand.IntN(side)),
			sight: 6 + rand.IntN(3),
		})
	}
	return m
}

func (m *match) move() {
	bounds := image.Rect(0, 0, side, side)
	for i := range m.units {
		to := m.units[i].pos.Add(image.Pt(rand.IntN(3)-1, rand.IntN(3)-1))
		if to.In(bounds) {
			m.units[i].pos = to
		}
	}
}

func (m *match) step() {
	m.move()
	m.board.each(func(i int, p image.Point) {
		seen := false
		for _, u := range m.units {
			if m.board.sees(u, p) {
				seen = true
				break
			}
		}
		m.board.lit[i] = seen
	})
	m.steps++
}

func (m *match) run(hz int) {
	t := time.NewTicker(time.Second / time.Duration(hz))
	defer t.Stop()
	for range t.C {
		m.step()
		if m.steps%6000 == 0 {
			slog.Info("match", "id", m.id, "steps", m.steps)
		}
	}
}

func main() {
	for id := range 8 {
		go newMatch(id).run(15)
	}
	if err := http.ListenAndServe(os.Getenv("ADDR"), nil); err != nil {
		slog.Error("diagnostics", "err", err)
		os.Exit(1)
	}
}
