// Command replay-index knows of each replay where its rounds begin.
package main

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opscenter/opscenter/agent"
)

type Segment struct {
	ID     int
	Packed []byte
}

type Head struct {
	Magic []byte
	Title []byte
	At    time.Time
}

// Ring keeps the newest n values.
type Ring[T any] struct {
	mu   sync.Mutex
	vals []T
	next int
}

func NewRing[T any](n int) *Ring[T] { return &Ring[T]{vals: make([]T, n)} }

func (r *Ring[T]) Put(v T) {
	r.mu.Lock()
	r.vals[r.next%len(r.vals)] = v
	r.next++
	r.mu.Unlock()
}

func (r *Ring[T]) Do(f func(T)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.vals {
		f(v)
	}
}

var errShort = errors.New("segment too short")

func readHead(s Segment) (Head, error) {
	zr := flate.NewReader(bytes.NewReader(s.Packed))
	defer zr.Close()
	body, err := io.ReadAll(zr) // want: retained-objects
	if err != nil {
		return Head{}, err
	}
	if len(body) < 64 {
		return Head{}, errShort
	}
	return Head{Magic: body[:4:4], Title: body[4:64:64], At: time.Now()}, nil // want: retained-objects
}

type Index struct {
	heads *Ring[Head]
	bad   atomic.Int64
}

func (x *Index) Learn(s Segment) {
	h, err := readHead(s)
	if err != nil {
		x.bad.Add(1)
		return
	}
	x.heads.Put(h)
}

func (x *Index) Search(word []byte) (n int) {
	x.heads.Do(func(h Head) {
		if bytes.Contains(h.Title, word) {
			n++
		}
	})
	return n
}

func record(id int) Segment {
	var buf bytes.Buffer
	zw, _ := flate.NewWriter(&buf, flate.BestSpeed)
	fmt.Fprintf(zw, "RPL2%-60s", "room "+strconv.Itoa(id))
	row := bytes.Repeat([]byte{byte(id), 1, 2, 3, 0, 0, 0, 9}, 512)
	for range 48 {
		_, _ = zw.Write(row)
	}
	_ = zw.Close()
	return Segment{ID: id, Packed: buf.Bytes()}
}

func main() {
	ctx, _, done := start()
	defer done()
	x := &Index{heads: NewRing[Head](500)}
	for i := range 500 {
		x.Learn(record(i))
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for i := 500; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			x.Learn(record(i))
			x.Search([]byte("room 7"))
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
