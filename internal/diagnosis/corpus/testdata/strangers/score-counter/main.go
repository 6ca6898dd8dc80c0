package main

import (
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

type Counter struct {
	mu    sync.Mutex
	total int64
	byDay [7]int64
}

func (c *Counter) Add(day int, n int64) {
	c.mu.Lock()
	c.total += n
	c.byDay[day] += n
	c.mu.Unlock()
}

func (c *Counter) Total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Kill is the wire form of a kill event: two positions and a hit zone.
type Kill struct {
	From, To [3]float32
	Zone     uint8
}

func points(k Kill) int64 {
	p, d := int64(100), 0.0
	if k.Zone == 0 {
		p += 50
	}
	for i := range k.From {
		d += math.Pow(float64(k.From[i]-k.To[i]), 2)
	}
	return p + int64(20*math.Log1p(math.Sqrt(d)))
}

type Collector struct {
	counter *Counter
}

// Ingest counts one frame's worth of kill events.
func (c *Collector) Ingest(day int, frame []Kill) {
	for _, k := range frame {
		if p := points(k); p > 0 {
			c.counter.Add(day, p)
		}
	}
}

func (c *Collector) follow(server int) {
	frame := make([]Kill, 2500)
	rng := rand.New(rand.NewPCG(uint64(server), 7))
	for range time.Tick(10 * time.Millisecond) {
		for i := range frame {
			k := &frame[i]
			k.Zone = uint8(rng.IntN(6))
			for a := range k.From {
				k.From[a], k.To[a] = rng.Float32()*300, rng.Float32()*300
			}
		}
		c.Ingest(server%7, frame)
	}
}

func main() {
	// agent-hook
	startDiagnostics()
	c := &Collector{counter: &Counter{}}
	for s := range 10 {
		go c.follow(s)
	}
	go func() {
		for range time.Tick(10 * time.Second) {
			log.Printf("points awarded: %d", c.counter.Total())
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
