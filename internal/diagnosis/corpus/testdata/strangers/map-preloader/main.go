package main

import (
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

type Tile struct {
	Height   uint16
	Material uint8
	Walkable bool
}

type Region struct {
	ID    int
	Tiles []Tile
	Nav   []int32
}

type World struct {
	regions []*Region
}

// importRegion expands the packed asset and keeps what the server needs.
func importRegion(id, side int) *Region {
	raw := make([]uint64, side*side)
	rng := rand.New(rand.NewPCG(uint64(id), 99))
	for i := range raw {
		raw[i] = rng.Uint64()
	}
	r := &Region{ID: id, Tiles: make([]Tile, len(raw)), Nav: make([]int32, 0, len(raw)/4)}
	for i, v := range raw {
		r.Tiles[i] = Tile{Height: uint16(v), Material: uint8(v >> 16), Walkable: v>>24&3 != 0}
		if i%4 == 0 && r.Tiles[i].Walkable {
			r.Nav = append(r.Nav, int32(i))
		}
	}
	return r
}

func LoadWorld(n, side int) *World {
	w := &World{}
	for id := range n {
		w.regions = append(w.regions, importRegion(id, side))
	}
	return w
}

func (w *World) Spawn(region int, rng *rand.Rand) (int, uint16) {
	r := w.regions[region%len(w.regions)]
	at := r.Nav[rng.IntN(len(r.Nav))]
	return int(at), r.Tiles[at].Height
}

type SpawnService struct {
	world *World
	count atomic.Int64
}

func (s *SpawnService) loop(room int) {
	rng := rand.New(rand.NewPCG(uint64(room), 5))
	for range time.Tick(50 * time.Millisecond) {
		for range 40 {
			s.world.Spawn(rng.IntN(1000), rng)
			s.count.Add(1)
		}
	}
}

func main() {
	// agent-hook
	startDiagnostics()
	world := LoadWorld(60, 512)
	log.Printf("world ready: %d regions", len(world.regions))
	svc := &SpawnService{world: world}
	for room := range 12 {
		go svc.loop(room)
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
