package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

type recording struct {
	room int
	raw  []byte
}

type packed struct {
	data []byte
	at   time.Time
}

// packer compresses finished recordings with one encoder and keeps the last one of each room.
type packer struct {
	in  chan recording
	enc *zstd.Encoder
	buf sync.Pool

	mu   sync.RWMutex
	last map[int]packed

	skipped atomic.Int64
}

func newPacker() (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, err
	}
	p := &packer{in: make(chan recording, 64), enc: enc, last: make(map[int]packed)}
	p.buf.New = func() any { return new(bytes.Buffer) }
	return p, nil
}

func (p *packer) run() {
	for rec := range p.in {
		data := p.enc.EncodeAll(rec.raw, nil)
		p.mu.Lock()
		p.last[rec.room] = packed{data: data, at: time.Now()}
		p.mu.Unlock()
	}
}

func (p *packer) upload(w http.ResponseWriter, r *http.Request) {
	var room int
	if _, err := fmt.Sscan(r.URL.Query().Get("room"), &room); err != nil {
		http.Error(w, "bad room", http.StatusBadRequest)
		return
	}
	buf := p.buf.Get().(*bytes.Buffer)
	defer p.buf.Put(buf)
	buf.Reset()
	if _, err := io.Copy(buf, io.LimitReader(r.Body, 1<<20)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case p.in <- recording{room: room, raw: bytes.Clone(buf.Bytes())}:
		w.WriteHeader(http.StatusAccepted)
	default:
		p.skipped.Add(1)
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

func (p *packer) fetch(w http.ResponseWriter, r *http.Request) {
	var room int
	_, _ = fmt.Sscan(r.URL.Query().Get("room"), &room)
	p.mu.RLock()
	rec, ok := p.last[room]
	p.mu.RUnlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Encoding", "zstd")
	w.Header().Set("Last-Modified", rec.at.UTC().Format(http.TimeFormat))
	_, _ = w.Write(rec.data)
}

func moves(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%d seat=%d act=%s chips=%d\n", i*40, rand.IntN(9), [...]string{"bet", "call", "fold"}[rand.IntN(3)], rand.IntN(5000))
	}
	return b.Bytes()
}

func main() {
	p, err := newPacker()
	if err != nil {
		log.Fatal(err)
	}
	go p.run()
	mux := http.NewServeMux()
	mux.HandleFunc("/upload", p.upload)
	mux.HandleFunc("/fetch", p.fetch)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(ln, mux)) }()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	do := func(resp *http.Response, err error) {
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	base := "http://" + ln.Addr().String()
	body := moves(8000)
	for room := range 10 {
		go func() {
			for {
				time.Sleep(time.Duration(350+rand.IntN(100)) * time.Millisecond)
				do(client.Post(fmt.Sprintf("%s/upload?room=%d", base, room), "text/plain", bytes.NewReader(body)))
				do(client.Get(fmt.Sprintf("%s/fetch?room=%d", base, room)))
			}
		}()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil))
}
