// Command ok-warm-ring keeps the last events of every table for replays: the
// rings fill during the first seconds and then overwrite themselves.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

// Ring has the last items of a sequence.
type Ring[T any] struct {
	mu    sync.RWMutex
	items []T
	next  uint64
}

func NewRing[T any](n int) *Ring[T] { return &Ring[T]{items: make([]T, n)} }

func (r *Ring[T]) Add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items[r.next%uint64(len(r.items))] = v
	r.next++
}

// Last gives up to n items, newest first.
func (r *Ring[T]) Last(n int) []T {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n = min(n, len(r.items), int(r.next))
	out := make([]T, 0, n)
	for i := range uint64(n) {
		out = append(out, r.items[(r.next-1-i)%uint64(len(r.items))])
	}
	return out
}

type Event struct {
	Seq     uint64
	Kind    string
	Payload []byte
}

type Table struct {
	name string
	ring *Ring[*Event]
	seq  uint64
}

var kinds = [...]string{"deal", "bet", "reveal", "pay"}

func (t *Table) emit() {
	t.seq++
	t.ring.Add(&Event{Seq: t.seq, Kind: kinds[t.seq%4], Payload: bytes.Repeat([]byte{byte(t.seq) | 1}, 500+rand.IntN(600))})
}

func (t *Table) Run(ctx context.Context) {
	// the replica sends its recent events first
	for range cap(t.ring.items) {
		if t.emit(); t.seq%100 == 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.emit()
		}
	}
}

type ReplayHandler struct{ tables map[string]*Table }

func (h *ReplayHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok := h.tables[r.PathValue("table")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	type line struct {
		Seq  uint64 `json:"seq"`
		Kind string `json:"kind"`
		Size int    `json:"size"`
	}
	var out []line
	for _, e := range t.ring.Last(25) {
		out = append(out, line{e.Seq, e.Kind, len(e.Payload)})
	}
	_ = json.NewEncoder(w).Encode(out)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
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
	defer a.Close()

	h := &ReplayHandler{tables: map[string]*Table{}}
	for i := range 50 {
		t := &Table{name: fmt.Sprintf("t%d", i), ring: NewRing[*Event](1600)}
		h.tables[t.name] = t
		go t.Run(ctx)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /replay/{table}", h)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				if resp, err := http.Get(fmt.Sprintf("http://%s/replay/t%d", ln.Addr(), rand.IntN(50))); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
	_ = srv.Close()
}
