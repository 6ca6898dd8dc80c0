// audit-writer takes audit records from the game services and writes them to
// disk in batches.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

type record struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Amount int64     `json:"amount"`
}

// Batcher collects values and flushes them when there are enough or after a
// while.
type Batcher[T any] struct {
	in      chan T
	size    int
	wait    time.Duration
	flush   func([]T) error
	dropped atomic.Int64
	written atomic.Int64
}

func NewBatcher[T any](size int, wait time.Duration, flush func([]T) error) *Batcher[T] {
	b := &Batcher[T]{in: make(chan T, size*8), size: size, wait: wait, flush: flush}
	go b.run()
	return b
}

func (b *Batcher[T]) Add(v T) bool {
	select {
	case b.in <- v:
		return true
	default:
		b.dropped.Add(1)
		return false
	}
}

func (b *Batcher[T]) run() {
	t := time.NewTicker(b.wait)
	defer t.Stop()
	batch := make([]T, 0, b.size)
	send := func() {
		if len(batch) == 0 {
			return
		}
		if err := b.flush(batch); err != nil {
			log.Printf("flush: %v", err)
		}
		b.written.Add(int64(len(batch)))
		batch = batch[:0]
	}
	for {
		select {
		case v := <-b.in:
			if batch = append(batch, v); len(batch) == b.size {
				send()
			}
		case <-t.C:
			send()
		}
	}
}

// file writes lines and starts over when it is too large.
type file struct {
	f    *os.File
	bw   *bufio.Writer
	size int64
	max  int64
}

func openFile(dir string, limit int64) (*file, error) {
	f, err := os.Create(filepath.Join(dir, "audit.log"))
	if err != nil {
		return nil, err
	}
	return &file{f: f, bw: bufio.NewWriterSize(f, 64<<10), max: limit}, nil
}

func (f *file) write(batch []record) error {
	if f.size > f.max {
		if err := f.f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		f.size = 0
	}
	for _, r := range batch {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		n, err := f.bw.Write(append(line, '\n'))
		f.size += int64(n)
		if err != nil {
			return err
		}
	}
	if err := f.bw.Flush(); err != nil {
		return err
	}
	return f.f.Sync()
}

func main() {
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		log.Fatal(err)
	}
	f, err := openFile(dir, 8<<20)
	if err != nil {
		log.Fatal(err)
	}
	b := NewBatcher(512, 250*time.Millisecond, f.write)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /audit", func(w http.ResponseWriter, r *http.Request) {
		if !b.Add(record{At: time.Now(), Actor: r.FormValue("actor"), Action: "bet.placed", Amount: rand.Int64N(5000)}) {
			http.Error(w, "later", http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "queued %d written %d dropped %d\n", len(b.in), b.written.Load(), b.dropped.Load())
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 2 * time.Second}
	for i := range 32 {
		go func() {
			for {
				resp, err := hc.Post(fmt.Sprintf("http://%s/audit?actor=svc%d", ln.Addr(), i), "", nil)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Duration(20+rand.IntN(40)) * time.Millisecond)
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
