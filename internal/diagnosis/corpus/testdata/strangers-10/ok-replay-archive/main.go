package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
)

type frame struct {
	tick  uint32
	x, y  int16
	input uint16
}

type replay struct {
	match  int
	frames []frame
}

func (r *replay) WriteTo(w io.Writer) (int64, error) {
	var b [10]byte
	var total int64
	for _, f := range r.frames {
		binary.LittleEndian.PutUint32(b[0:], f.tick)
		binary.LittleEndian.PutUint16(b[4:], uint16(f.x))
		binary.LittleEndian.PutUint16(b[6:], uint16(f.y))
		binary.LittleEndian.PutUint16(b[8:], f.input)
		n, err := w.Write(b[:])
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

type archiver struct {
	dir   string
	keep  int
	enc   *zstd.Encoder
	raw   bytes.Buffer
	out   []byte
	count *expvar.Map
}

func newArchiver(dir string, keep int) (*archiver, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return &archiver{dir: dir, keep: keep, enc: enc, count: expvar.NewMap("archive")}, nil
}

func (a *archiver) store(r *replay) error {
	a.raw.Reset()
	if _, err := r.WriteTo(&a.raw); err != nil {
		return err
	}
	a.out = a.enc.EncodeAll(a.raw.Bytes(), a.out[:0])
	sum := sha256.Sum256(a.out)
	a.out = append(a.out, sum[:]...)
	name := filepath.Join(a.dir, fmt.Sprintf("slot-%03d.rpl", r.match%a.keep))
	if err := os.WriteFile(name, a.out, 0o600); err != nil {
		return err
	}
	a.count.Add("replays", 1)
	a.count.Add("in", int64(a.raw.Len()))
	a.count.Add("out", int64(len(a.out)))
	return nil
}

func (a *archiver) run(ctx context.Context, in <-chan *replay, back chan<- *replay) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-in:
			if err := a.store(r); err != nil {
				return fmt.Errorf("match %d: %w", r.match, err)
			}
			select {
			case back <- r:
			default:
			}
		}
	}
}

func play(r *replay, match int) {
	r.match = match
	r.frames = r.frames[:0]
	var x, y int16
	for tick := range uint32(80_000) {
		x += int16(rand.IntN(5) - 2)
		y += int16(rand.IntN(3) - 1)
		r.frames = append(r.frames, frame{tick, x, y, uint16(1) << rand.IntN(4)})
	}
}

func matches(ctx context.Context, every time.Duration, out chan<- *replay, spare <-chan *replay) {
	t := time.NewTicker(every)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		var r *replay
		select {
		case r = <-spare:
		default:
			r = &replay{frames: make([]frame, 0, 80_000)}
		}
		play(r, n)
		out <- r
	}
}

func main() {
	dir, err := os.MkdirTemp("", "replay")
	if err != nil {
		log.Fatal(err)
	}
	a, err := newArchiver(dir, 24)
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	ctx := context.Background()
	full, spare := make(chan *replay, 4), make(chan *replay, 4)
	go matches(ctx, 70*time.Millisecond, full, spare)
	if err := a.run(ctx, full, spare); !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}
