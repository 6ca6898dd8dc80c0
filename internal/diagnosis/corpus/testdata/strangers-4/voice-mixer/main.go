// Voice mixer: mixes the voice channels of parties.
package main

import (
	"context"
	"math"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type packet struct {
	party int
	pcm   [160]int16
}

type codec struct {
	gain  float64
	mixed atomic.Int64
}

func (c *codec) mix(p *packet) int16 {
	var peak int16
	for _, s := range p.pcm {
		v := int16(math.Tanh(float64(s)/8000*c.gain) * 8000)
		peak = max(peak, v)
	}
	c.mixed.Add(1)
	return peak
}

type party struct {
	id int
	in chan *packet
	codec
}

func (p *party) pinned(fn func()) {
	runtime.LockOSThread() // want: thread-explosion
	defer runtime.UnlockOSThread()
	fn()
}

func (p *party) serve(ctx context.Context) {
	p.pinned(func() {
		for {
			select {
			case pk := <-p.in:
				p.mix(pk)
			case <-ctx.Done():
				return
			}
		}
	})
}

type mixer struct{ parties []*party }

func (m *mixer) open(ctx context.Context, n int) {
	for i := range n {
		p := &party{id: i, in: make(chan *packet, 4), codec: codec{gain: 1.2}}
		m.parties = append(m.parties, p)
		go p.serve(ctx) // want: thread-explosion
	}
}

func (m *mixer) traffic(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for i := range 6 {
			p := m.parties[(n*6+i)%len(m.parties)]
			select {
			case p.in <- &packet{party: p.id}:
			default:
			}
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
	m := &mixer{}
	m.open(ctx, 400)
	go m.traffic(ctx)
	<-ctx.Done()
}
