package main

import (
	"crypto/sha256"
	"encoding/json"
	"log"
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

type Play struct {
	Player int64
	Game   int
	Stake  int64
	Won    int64
}

type Rollup struct {
	Plays int
	Stake int64
	Won   int64
}

// Source yields one page of the play log.
type Source struct{ rng *rand.Rand }

func (s *Source) Page(n int, buf []Play) []Play {
	buf = buf[:0]
	for range n {
		st := 10 * (1 + s.rng.Int64N(100))
		buf = append(buf, Play{s.rng.Int64N(5000), s.rng.IntN(12), st, st * s.rng.Int64N(2)})
	}
	return buf
}

type Summariser struct {
	src    *Source
	buf    []Play
	byGame map[int]Rollup
	median []int64
}

func (s *Summariser) tally() {
	clear(s.byGame)
	for _, p := range s.buf {
		r := s.byGame[p.Game]
		r.Plays++
		r.Stake += p.Stake
		r.Won += p.Won
		s.byGame[p.Game] = r
	}
}

func (s *Summariser) stakes() int64 {
	s.median = s.median[:0]
	for _, p := range s.buf {
		s.median = append(s.median, p.Stake)
	}
	slices.Sort(s.median)
	return s.median[len(s.median)/2]
}

func (s *Summariser) digest() [32]byte {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for g := range 12 {
		enc.Encode(s.byGame[g])
	}
	return [32]byte(h.Sum(nil))
}

func (s *Summariser) RunOnce() {
	for range 60 {
		s.buf = s.src.Page(60_000, s.buf)
		s.tally()
		s.stakes()
		s.digest()
	}
}

func main() {
	// agent-hook
	startDiagnostics()
	s := &Summariser{src: &Source{rng: rand.New(rand.NewPCG(3, 4))}, byGame: map[int]Rollup{}}
	go func() {
		for run := 1; ; run++ {
			start := time.Now()
			s.RunOnce()
			log.Printf("run %d took %s", run, time.Since(start).Round(time.Millisecond))
			time.Sleep(1800 * time.Millisecond)
		}
	}()
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
