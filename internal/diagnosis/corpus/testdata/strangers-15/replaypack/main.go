// replaypack compresses finished replays for the object store.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/time/rate"
)

type Replay struct {
	Match uint64
	Raw   []byte
}

type ObjectStore interface {
	Put(ctx context.Context, key uint64, blob []byte) error
}

// memStore stands for the bucket; it keeps only the newest objects.
type memStore struct {
	mu   sync.Mutex
	ring [16][]byte
	n    int
}

var errEmpty = errors.New("empty object")

func (m *memStore) Put(_ context.Context, _ uint64, blob []byte) error {
	if len(blob) == 0 {
		return errEmpty
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := m.n % len(m.ring)
	m.ring[slot] = append(m.ring[slot][:0], blob...)
	m.n++
	return nil
}

type Packer struct {
	enc   *zstd.Encoder
	store ObjectStore
	bufs  sync.Pool
	in    atomic.Int64
	out   atomic.Int64
}

func NewPacker(store ObjectStore) (*Packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	return &Packer{enc: enc, store: store, bufs: sync.Pool{New: func() any {
		b := make([]byte, 0, 1<<20)
		return &b
	}}}, nil
}

func (p *Packer) Pack(ctx context.Context, r *Replay) error {
	buf := p.bufs.Get().(*[]byte)
	defer p.bufs.Put(buf)
	*buf = p.enc.EncodeAll(r.Raw, (*buf)[:0])
	p.in.Add(int64(len(r.Raw)))
	p.out.Add(int64(len(*buf)))
	return p.store.Put(ctx, r.Match, *buf)
}

func record(r *Replay, rng *rand.Rand) {
	var x, y uint32
	for off := 0; off+16 <= len(r.Raw); off += 16 {
		x += rng.Uint32N(7)
		y += rng.Uint32N(5)
		binary.LittleEndian.PutUint32(r.Raw[off:], uint32(off/16))
		binary.LittleEndian.PutUint32(r.Raw[off+4:], x)
		binary.LittleEndian.PutUint32(r.Raw[off+8:], y)
		binary.LittleEndian.PutUint32(r.Raw[off+12:], rng.Uint32N(3))
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	p, err := NewPacker(&memStore{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(3, 9))
	replays := make([]*Replay, 8)
	for i := range replays {
		replays[i] = &Replay{Match: uint64(i), Raw: make([]byte, 512<<10)}
		record(replays[i], rng)
	}
	go func() {
		for range time.Tick(5 * time.Second) {
			log.Printf("in=%dMB out=%dMB", p.in.Load()>>20, p.out.Load()>>20)
		}
	}()
	// matches end at this pace
	ended := rate.NewLimiter(rate.Every(55*time.Millisecond), 1)
	for n := 0; ; n++ {
		if err := ended.Wait(ctx); err != nil {
			log.Fatal(err)
		}
		if err := p.Pack(ctx, replays[n%len(replays)]); err != nil {
			log.Print(err)
		}
	}
}
