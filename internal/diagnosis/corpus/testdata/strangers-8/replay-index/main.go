// Command replay-index takes uploaded replays and keeps an index of the newest.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

const keep = 50000

// Replay layout: 4 bytes magic, 8 bytes match id, 32 bytes digest, 4 bytes CRC, frames.
var magic = []byte("RPL2")

type Entry struct {
	Match  uint64
	Digest []byte
	Frames int
	At     time.Time
}

// ---- index: the newest entries by match ----

type Index struct {
	mu    sync.RWMutex
	by    map[uint64]*Entry
	order []uint64
	next  int
}

func newIndex() *Index { return &Index{by: map[uint64]*Entry{}, order: make([]uint64, keep)} }

func (x *Index) Put(e *Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.by, x.order[x.next])
	x.order[x.next] = e.Match
	x.next = (x.next + 1) % keep
	x.by[e.Match] = e
}

func (x *Index) Same(d []byte) (n int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.by {
		if bytes.Equal(e.Digest, d) {
			n++
		}
	}
	return n
}

// ---- decoding ----

var errFormat = errors.New("not a replay")

type decoder struct{ table *crc32.Table }

func (d decoder) entry(b []byte) (*Entry, error) {
	if len(b) < 48 || !bytes.HasPrefix(b, magic) {
		return nil, errFormat
	}
	e := &Entry{Match: binary.BigEndian.Uint64(b[4:]), At: time.Now()}
	e.Digest, b = b[12:44], b[44:] // want: heap-growth
	if want := binary.BigEndian.Uint32(b); crc32.Checksum(b[4:], d.table) != want {
		return nil, fmt.Errorf("match %d: checksum", e.Match)
	}
	for b = b[4:]; len(b) >= 64; b = b[64:] {
		e.Frames++
	}
	return e, nil
}

// ---- upload ----

type Uploads struct {
	dec   decoder
	index *Index
	store func(id uint64, r io.Reader) error
}

func (u *Uploads) take(r io.Reader) (*Entry, error) {
	body, err := io.ReadAll(io.LimitReader(r, 1<<20)) // want: heap-growth
	if err != nil {
		return nil, err
	}
	e, err := u.dec.entry(body)
	if err != nil {
		return nil, err
	}
	return e, u.store(e.Match, bytes.NewReader(body))
}

func (u *Uploads) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, err := u.take(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u.index.Put(e)
	fmt.Fprintln(w, e.Frames)
}

func replay() []byte {
	b := make([]byte, 48+64*(600+rand.IntN(100)))
	copy(b, magic)
	for i := 4; i+8 <= len(b); i += 8 {
		binary.BigEndian.PutUint64(b[i:], rand.Uint64())
	}
	binary.BigEndian.PutUint32(b[44:], crc32.Checksum(b[48:], crc32.IEEETable))
	return b
}

func serve(h http.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = http.Serve(ln, h) }()
	return "http://" + ln.Addr().String()
}

// observe serves the profiles and joins the centre.
func observe() *agent.Agent {
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
	return a
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	a := observe()
	defer a.Close()

	u := &Uploads{dec: decoder{crc32.IEEETable}, index: newIndex(), store: func(_ uint64, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		time.Sleep(5 * time.Millisecond)
		return err
	}}
	url := serve(u)
	go func() {
		for ctx.Err() == nil {
			u.index.Same(make([]byte, 32))
			time.Sleep(time.Second)
		}
	}()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	for range 5 {
		go func() {
			for ctx.Err() == nil {
				if resp, err := client.Post(url, "application/octet-stream", bytes.NewReader(replay())); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(90 * time.Millisecond)
			}
		}()
	}
	<-ctx.Done()
}
