package main

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

type Body struct {
	X, Y, VX, VY, R float64
	Team            int
	HP              float64
	Target          int
}

type Sim struct {
	bodies []Body
	grid   map[int][]int
	dist   []int
	wire   []byte
	sum    uint64
	vis    []bool
	heat   []float64
	order  []int
}

func NewSim(n int, seed uint64) *Sim {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &Sim{grid: map[int][]int{}, dist: make([]int, 48*48), heat: make([]float64, 48*48), vis: make([]bool, n), order: make([]int, n)}
	for i := range n {
		s.bodies = append(s.bodies, Body{X: rng.Float64() * 480, Y: rng.Float64() * 480, VX: rng.NormFloat64() * 8, VY: rng.NormFloat64() * 8, R: 3, Team: i % 4, HP: 100})
		s.order[i] = i
	}
	return s
}

func wrap(v float64) float64 {
	if v < 0 {
		return v + 480
	}
	if v >= 480 {
		return v - 480
	}
	return v
}

func (s *Sim) integrate(dt float64) {
	for range 24 {
		for i := range s.bodies {
			b := &s.bodies[i]
			b.X = wrap(b.X + b.VX*dt/24)
			b.Y = wrap(b.Y + b.VY*dt/24)
		}
	}
}

func (s *Sim) broadPhase() {
	for k := range s.grid {
		s.grid[k] = s.grid[k][:0]
	}
	for range 3 {
		for i, b := range s.bodies {
			k := int(b.X/20)*64 + int(b.Y/20)
			if l := s.grid[k]; len(l) < 24 {
				s.grid[k] = append(l, i)
			}
		}
	}
}

func (s *Sim) narrowPhase() {
	for _, cell := range s.grid {
		for a := range cell {
			for b := a + 1; b < len(cell); b++ {
				p, q := &s.bodies[cell[a]], &s.bodies[cell[b]]
				dx, dy := q.X-p.X, q.Y-p.Y
				if d := math.Sqrt(dx*dx + dy*dy); d > 0 && d < p.R+q.R {
					p.VX, q.VX = q.VX, p.VX
				}
			}
		}
	}
}

func (s *Sim) flowField(goal int) {
	for i := range s.dist {
		s.dist[i] = -1
	}
	queue := []int{goal}
	s.dist[goal] = 0
	for len(queue) > 0 {
		c := queue[0]
		queue = queue[1:]
		for _, d := range [4]int{-1, 1, -48, 48} {
			if n := c + d; n >= 0 && n < len(s.dist) && s.dist[n] < 0 {
				s.dist[n] = s.dist[c] + 1
				queue = append(queue, n)
			}
		}
	}
}

func (s *Sim) acquireTargets() {
	for i := range s.bodies {
		b, best := &s.bodies[i], math.MaxFloat64
		for j := i % 9; j < len(s.bodies); j += 9 {
			o := &s.bodies[j]
			if o.Team == b.Team {
				continue
			}
			if d := (o.X-b.X)*(o.X-b.X) + (o.Y-b.Y)*(o.Y-b.Y); d < best {
				best, b.Target = d, j
			}
		}
	}
}

func (s *Sim) visibility(viewer int) {
	v := s.bodies[viewer]
	for range 10 {
		for i, b := range s.bodies {
			s.vis[i] = math.Hypot(b.X-v.X, b.Y-v.Y) < 120 && math.Abs(math.Atan2(b.Y-v.Y, b.X-v.X)) < 1.2
		}
	}
}

func (s *Sim) diffuse() {
	for range 7 {
		for i := 48; i < len(s.heat)-48; i++ {
			s.heat[i] += 0.1 * (s.heat[i-1] + s.heat[i+1] + s.heat[i-48] + s.heat[i+48] - 4*s.heat[i])
		}
	}
}

func (s *Sim) encode() {
	for range 6 {
		s.wire = s.wire[:0]
		for _, b := range s.bodies {
			s.wire = binary.AppendVarint(s.wire, int64(b.X*64))
			s.wire = binary.AppendVarint(s.wire, int64(b.Y*64))
			s.wire = binary.AppendUvarint(s.wire, uint64(b.HP))
		}
	}
}

func (s *Sim) checksum() {
	h := fnv.New64a()
	for range 8 {
		h.Write(s.wire)
	}
	s.sum ^= h.Sum64()
}

func (s *Sim) interestOrder() {
	for i := range s.order {
		s.order[i] = i
	}
	slices.SortFunc(s.order, func(a, b int) int { return cmp.Compare(s.bodies[a].X+s.bodies[a].Y, s.bodies[b].X+s.bodies[b].Y) })
}

func (s *Sim) Step(n int) {
	s.integrate(0.05)
	s.broadPhase()
	s.narrowPhase()
	s.flowField(n % len(s.dist))
	s.acquireTargets()
	s.visibility(n % len(s.bodies))
	s.diffuse()
	s.encode()
	s.checksum()
	s.interestOrder()
}

// Room advances one simulation at 20 Hz and spends what is left of the frame
// budget on finer sub-steps.
type Room struct{ sim *Sim }

func (r *Room) Run() {
	const frame = 50 * time.Millisecond
	for n := 0; ; n++ {
		start := time.Now()
		for k := 0; time.Since(start) < 40*time.Millisecond; k++ {
			r.sim.Step(n*31 + k)
		}
		time.Sleep(frame - time.Since(start))
	}
}

func main() {
	// agent-hook
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()
	for i := range 2 {
		go (&Room{sim: NewSim(800, uint64(i))}).Run()
	}
	awaitShutdown()
}

func startDiagnostics() {
	addr := os.Getenv("PPROF_ADDR")
	if addr == "" {
		return
	}
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	go func() {
		if err := http.ListenAndServe(addr, nil); err != nil {
			log.Printf("diagnostics listener: %v", err)
		}
	}()
}

func awaitShutdown() {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, os.Interrupt)
	<-sig
	log.Print("shutting down")
}
