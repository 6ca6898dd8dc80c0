package main

import (
	"fmt"
	"log"
	"math"
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

// Sample is one aim observation reported by a client.
type Sample struct {
	Player   int64
	Yaw      float64
	Pitch    float64
	Tags     map[string]string
	Previous *Sample
}

type Packet struct {
	Player int64
	Yaw    []float64
	Pitch  []float64
}

// Dossier is the long-term record the analysts work with.
type Dossier struct {
	Player int64
	Notes  []*string
	Next   *Dossier
}

type Archive struct {
	byPlayer map[int64]*Dossier
}

func loadArchive(n int) *Archive {
	a := &Archive{byPlayer: make(map[int64]*Dossier, n)}
	var prev *Dossier
	for i := range n {
		d := &Dossier{Player: int64(i), Next: prev}
		for j := range 4 {
			s := fmt.Sprintf("note-%d-%d", i, j)
			d.Notes = append(d.Notes, &s)
		}
		a.byPlayer[d.Player] = d
		prev = d
	}
	return a
}

type Analyzer struct {
	archive *Archive
	flagged atomic.Int64
}

func (a *Analyzer) unpack(p Packet) []*Sample {
	var out []*Sample
	var prev *Sample
	for i := range p.Yaw {
		s := &Sample{Player: p.Player, Yaw: p.Yaw[i], Pitch: p.Pitch[i], Previous: prev}
		s.Tags = map[string]string{"source": "client", "weapon": "rifle", "map": "dust"}
		out = append(out, s)
		prev = s
	}
	return out
}

func (a *Analyzer) snap(samples []*Sample) float64 {
	worst := 0.0
	for _, s := range samples {
		if s.Previous == nil {
			continue
		}
		if d := math.Abs(s.Yaw-s.Previous.Yaw) + math.Abs(s.Pitch-s.Previous.Pitch); d > worst {
			worst = d
		}
	}
	return worst
}

func (a *Analyzer) Inspect(p Packet) bool {
	samples := a.unpack(p)
	if a.snap(samples) < 1.95 {
		return false
	}
	if d := a.archive.byPlayer[p.Player]; d != nil {
		a.flagged.Add(1)
	}
	return true
}

// Intake replays recorded packets, as the UDP listener would deliver them.
type Intake struct {
	analyzer *Analyzer
	packets  []Packet
}

func (in *Intake) Run() {
	for i := 0; ; i++ {
		in.analyzer.Inspect(in.packets[i%len(in.packets)])
		if i%400 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func record(n int) []Packet {
	out := make([]Packet, n)
	for i := range out {
		out[i].Player = rand.Int64N(200_000)
		for range 32 {
			out[i].Yaw = append(out[i].Yaw, rand.Float64())
			out[i].Pitch = append(out[i].Pitch, rand.Float64())
		}
	}
	return out
}

func main() {
	// agent-hook
	runtime.GOMAXPROCS(2) // two-core pod
	startDiagnostics()
	an := &Analyzer{archive: loadArchive(200_000)}
	for range 2 {
		go (&Intake{analyzer: an, packets: record(256)}).Run()
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
