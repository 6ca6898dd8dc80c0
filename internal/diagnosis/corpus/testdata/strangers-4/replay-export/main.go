// Replay export: expands recorded matches into frames for the viewer.
package main

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/opscenter/opscenter/agent"
)

type unit struct {
	id   int32
	x, y float32
	prev *unit
	tags []int32
}

type frame struct {
	units []*unit
}

type clip struct {
	next *clip
	key  *string
	unit *unit
}

type archive struct {
	clips []*clip
}

func load(n int) *archive {
	a := &archive{}
	var last *clip
	for i := range n {
		k := string(rune('a' + i%26))
		c := &clip{next: last, key: &k, unit: &unit{id: int32(i)}}
		a.clips = append(a.clips, c)
		last = c
	}
	rand.Shuffle(n, func(i, j int) { a.clips[i], a.clips[j] = a.clips[j], a.clips[i] })
	for i, c := range a.clips {
		c.next = a.clips[(i+1)%n]
	}
	return a
}

type exporter struct {
	src    *archive
	frames atomic.Int64
}

func (e *exporter) expand(at, size int) *frame {
	f := &frame{}
	for i := range size {
		c := e.src.clips[(at+i)%len(e.src.clips)]
		u := &unit{id: c.unit.id, x: float32(i), prev: c.unit, tags: make([]int32, 96)} // want: cpu-gc-pressure
		f.units = append(f.units, u)
	}
	return f
}

func (e *exporter) checksum(f *frame) uint64 {
	h := fnv.New64a()
	var b [4]byte
	for _, u := range f.units[:8] {
		b[0], b[1] = byte(u.id), byte(u.x)
		h.Write(b[:])
	}
	return h.Sum64()
}

func (e *exporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		at := rand.IntN(len(e.src.clips))
		for step := range 60 {
			e.checksum(e.expand(at+step, 96))
			e.frames.Add(1)
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a, err := agent.Start(agent.Config{}); err == nil {
		defer a.Close()
	}
	go http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)
	e := &exporter{src: load(450_000)}
	for range 2 {
		go e.run(ctx)
	}
	<-ctx.Done()
}
