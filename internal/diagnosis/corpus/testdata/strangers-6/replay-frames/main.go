// Command replay-frames packs finished rounds for the replay viewer.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Move struct {
	Seat  int    `json:"s"`
	Color string `json:"c"`
	Stake int64  `json:"a"`
}

type Round struct {
	ID    uint64  `json:"id"`
	Table string  `json:"t"`
	Moves []*Move `json:"m"`
}

// Codec writes one value in its own framing.
type Codec[T any] interface {
	Encode(w io.Writer, v T) error
}

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Encode(w io.Writer, v T) error { return json.NewEncoder(w).Encode(v) }

// packed compresses what another codec writes.
type packed[T any] struct {
	inner Codec[T]
	level int
}

func (p packed[T]) Encode(w io.Writer, v T) (err error) {
	zw, err := gzip.NewWriterLevel(w, p.level) // want: cpu-gc-pressure
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, zw.Close()) }() // want: cpu-gc-pressure
	return p.inner.Encode(zw, v)                          // want: cpu-gc-pressure
}

// framed puts a length before each message.
type framed[T any] struct{ inner Codec[T] }

func (f framed[T]) Encode(w io.Writer, v T) error {
	var b bytes.Buffer
	if err := f.inner.Encode(&b, v); err != nil { // want: cpu-gc-pressure
		return err
	}
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(b.Len()))
	if _, err := w.Write(n[:]); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

// Recent keeps the last rounds of each table for the viewer.
type Recent struct {
	mu     sync.RWMutex
	tables map[string][]*Round
	keep   int
}

func (r *Recent) Add(rd *Round) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := append(r.tables[rd.Table], rd)
	if len(l) > r.keep {
		l = append([]*Round(nil), l[len(l)-r.keep:]...)
	}
	r.tables[rd.Table] = l
}

type Recorder struct {
	recent *Recent
	out    Codec[*Round]
	sink   io.Writer
	bytes  atomic.Int64
	rounds atomic.Int64
}

func (r *Recorder) Write(p []byte) (int, error) {
	r.bytes.Add(int64(len(p)))
	return r.sink.Write(p)
}

func (r *Recorder) Finish(rd *Round) error {
	r.recent.Add(rd)
	r.rounds.Add(1)
	if err := r.out.Encode(r, rd); err != nil { // want: cpu-gc-pressure
		return fmt.Errorf("round %d: %w", rd.ID, err)
	}
	return nil
}

type Table struct {
	*Recorder
	name string
	seq  uint64
}

var colors = [...]string{"red", "green", "blue", "gold"}

func (t *Table) play() *Round {
	t.seq++
	rd := &Round{ID: t.seq, Table: t.name}
	for s := range 6 {
		rd.Moves = append(rd.Moves, &Move{Seat: s, Color: colors[rand.IntN(4)], Stake: rand.Int64N(5000)})
	}
	return rd
}

func (t *Table) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := t.Finish(t.play()); err != nil {
				log.Print(err)
			}
		}
	}
}

func debugServer(addr string) {
	if addr == "" {
		return
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	go func() { log.Print(http.ListenAndServe(addr, m)) }()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	debugServer(os.Getenv("PPROF_ADDR"))
	a, err := agent.Start(agent.Config{})
	if err != nil {
		log.Print(err)
	}
	defer a.Close()

	rec := &Recorder{
		recent: &Recent{tables: map[string][]*Round{}, keep: 400},
		out:    framed[*Round]{packed[*Round]{inner: jsonCodec[*Round]{}, level: gzip.BestSpeed}},
		sink:   io.Discard,
	}
	for i := range 40 {
		t := &Table{Recorder: rec, name: fmt.Sprintf("color-%02d", i)}
		for range 400 {
			rec.recent.Add(t.play())
		}
		go t.run(ctx, 7*time.Millisecond)
	}
	for t := time.NewTicker(10 * time.Second); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			log.Printf("rounds=%d bytes=%d", rec.rounds.Load(), rec.bytes.Load())
		}
	}
}
