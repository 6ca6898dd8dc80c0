// Command voice-handles mixes the voice channels of rooms.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Handle struct {
	id   uint32
	pcm  []int16
	gain float32
}

type Mixer struct {
	mu    sync.Mutex
	live  map[uint32]struct{}
	freed chan uint32
	last  uint32
}

var errUnknown = errors.New("mixer: unknown handle")

// Open gives a handle; the mixer's slot is freed when nobody has it any more.
func (m *Mixer) Open() *Handle {
	m.mu.Lock()
	m.last++
	id := m.last
	m.live[id] = struct{}{}
	m.mu.Unlock()
	h := &Handle{id: id, pcm: make([]int16, 6<<10), gain: 1}     // want: heap-growth
	runtime.SetFinalizer(h, func(h *Handle) { m.freed <- h.id }) // want: heap-growth
	return h
}

func (m *Mixer) free(id uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.live[id]; !ok {
		return errUnknown
	}
	delete(m.live, id)
	return nil
}

// Close frees the slot at once.
func (m *Mixer) Close(h *Handle) error { return m.free(h.id) }

func (m *Mixer) reap() error {
	for id := range m.freed {
		if err := m.free(id); err != nil {
			return fmt.Errorf("free %d: %w", id, err)
		}
	}
	return nil
}

// Mix plays one burst of speech into the handle.
func (h *Handle) Mix(seed int) (peak int16) {
	for i := range h.pcm {
		v := int16((i*seed)%4096 - 2048)
		h.pcm[i] = int16(float32(v) * h.gain)
		peak = max(peak, h.pcm[i])
	}
	return peak
}

func main() {
	ctx, _, done := start()
	defer done()
	m := &Mixer{live: map[uint32]struct{}{}, freed: make(chan uint32, 32)}
	go func() {
		if err := m.reap(); err != nil {
			log.Print(err)
		}
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	scratch := make([][]byte, 16)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h := m.Open()
			h.Mix(i)
			if i%9 == 0 {
				_ = m.Close(h)
			}
			scratch[i%16] = make([]byte, 8<<10)
		}
	}
}

// start gives the context of the process and joins the operations centre.
func start() (context.Context, *agent.Agent, func()) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	if addr := os.Getenv("PPROF_ADDR"); addr != "" {
		m := http.NewServeMux()
		m.HandleFunc("/debug/pprof/", pprof.Index)
		m.HandleFunc("/debug/pprof/profile", pprof.Profile)
		m.HandleFunc("/debug/pprof/trace", pprof.Trace)
		m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		go func() { log.Print(http.ListenAndServe(addr, m)) }()
	}
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	return ctx, a, func() { a.Close(); stop() }
}
