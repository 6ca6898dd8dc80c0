// replay-index takes finished replays, forwards them to storage and keeps the
// headers of the latest ones for the search page.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"
)

const (
	headerLen = 64
	keepLast  = 1000
)

// ring keeps the last values that were put in.
type ring[T any] struct {
	mu   sync.RWMutex
	buf  []T
	next int
}

func newRing[T any](n int) *ring[T] { return &ring[T]{buf: make([]T, 0, n)} }

func (r *ring[T]) Put(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buf) < cap(r.buf) {
		r.buf = append(r.buf, v)
		return
	}
	r.buf[r.next] = v
	r.next = (r.next + 1) % len(r.buf)
}

func (r *ring[T]) Each(f func(T) bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, v := range r.buf {
		if !f(v) {
			return
		}
	}
}

// header is the fixed first part of a replay: match, duration, players.
type header struct {
	raw []byte
	at  time.Time
}

func (h header) match() uint64    { return binary.BigEndian.Uint64(h.raw) }
func (h header) seconds() uint32  { return binary.BigEndian.Uint32(h.raw[8:]) }
func (h header) mode() byte       { return h.raw[12] }
func (h header) players() []byte  { return h.raw[16:headerLen] }
func parseHeader(b []byte) header { return header{raw: b[:headerLen], at: time.Now()} } // want: retained-objects

type indexer struct {
	recent *ring[header]
	sums   chan uint32
}

func (ix *indexer) ingest(r io.Reader, size int64) error {
	blob := make([]byte, size) // want: retained-objects
	if _, err := io.ReadFull(r, blob); err != nil {
		return err
	}
	if len(blob) < headerLen {
		return io.ErrUnexpectedEOF
	}
	select {
	case ix.sums <- crc32.ChecksumIEEE(blob):
	default:
	}
	ix.recent.Put(parseHeader(blob)) // want: retained-objects
	return nil
}

func (ix *indexer) upload(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength < headerLen || r.ContentLength > 8<<20 {
		http.Error(w, "size", http.StatusBadRequest)
		return
	}
	if err := ix.ingest(r.Body, r.ContentLength); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (ix *indexer) search(w http.ResponseWriter, r *http.Request) {
	n := 0
	ix.recent.Each(func(h header) bool {
		if h.mode() == 3 {
			fmt.Fprintf(w, "%d %ds %x\n", h.match(), h.seconds(), h.players()[:8])
			n++
		}
		return n < 20
	})
}

func gameServer(url string, interval time.Duration, first int) {
	blob := make([]byte, 160<<10)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(blob)
	for i := 0; ; i++ {
		binary.BigEndian.PutUint64(blob, rand.Uint64())
		binary.BigEndian.PutUint32(blob[8:], rand.Uint32N(3000))
		blob[12] = byte(rand.IntN(8))
		resp, err := http.Post(url, "application/octet-stream", bytes.NewReader(blob))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if i > first {
			time.Sleep(interval)
		}
	}
}

func main() {
	ix := &indexer{recent: newRing[header](keepLast), sums: make(chan uint32, 16)}
	go func() {
		var total uint32
		for s := range ix.sums {
			total ^= s
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /replays", ix.upload)
	mux.HandleFunc("GET /search", ix.search)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	base := "http://" + ln.Addr().String()
	for range 2 {
		go gameServer(base+"/replays", 40*time.Millisecond, keepLast*2)
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			if resp, err := http.Get(base + "/search"); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}()
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
