package main

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

type bet struct {
	player, market uint32
	stake          int64
}

type book struct {
	mu   sync.Mutex
	open []bet
}

func (b *book) place(x bet) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) == cap(b.open) {
		return false
	}
	b.open = append(b.open, x)
	return true
}

func (b *book) take(into []bet) []bet {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.open
	b.open = into[:0]
	return full
}

type report struct {
	markets  int
	net      int64
	archived int64
	sum      uint32
}

type stage func(ctx context.Context, batch []bet, rep *report) error

type settler struct {
	book   *book
	spare  []bet
	stages []stage
	pack   *gzip.Writer
	last   report
	mu     sync.RWMutex
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func (s *settler) totals(_ context.Context, batch []bet, rep *report) error {
	slices.SortFunc(batch, func(a, b bet) int { return int(a.market) - int(b.market) })
	prev := ^uint32(0)
	for _, x := range batch {
		if x.market != prev {
			prev = x.market
			rep.markets++
		}
		rep.net += x.stake
	}
	return nil
}

func (s *settler) archive(_ context.Context, batch []bet, rep *report) error {
	var c counter
	s.pack.Reset(&c)
	h := crc32.NewIEEE()
	w := io.MultiWriter(s.pack, h)
	var b [16]byte
	for _, x := range batch {
		binary.LittleEndian.PutUint32(b[:], x.player)
		binary.LittleEndian.PutUint32(b[4:], x.market)
		binary.LittleEndian.PutUint64(b[8:], uint64(x.stake))
		if _, err := w.Write(b[:]); err != nil {
			return err
		}
	}
	err := s.pack.Close()
	rep.archived, rep.sum = c.n, h.Sum32()
	return err
}

func (s *settler) run(ctx context.Context, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		batch := s.book.take(s.spare)
		var rep report
		for i, st := range s.stages {
			if err := st(ctx, batch, &rep); err != nil {
				return fmt.Errorf("stage %d: %w", i, err)
			}
		}
		s.spare = batch
		s.mu.Lock()
		s.last = rep
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func table(ctx context.Context, b *book, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, seed))
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			for range 300 {
				b.place(bet{rng.Uint32N(1e6), rng.Uint32N(4000), rng.Int64N(5000) - 2600})
			}
		}
	}
}

func main() {
	const room = 600_000
	s := &settler{book: &book{open: make([]bet, 0, room)}, spare: make([]bet, 0, room)}
	s.pack, _ = gzip.NewWriterLevel(io.Discard, gzip.DefaultCompression)
	s.stages = []stage{s.totals, s.archive}
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return s.run(ctx, 3*time.Second) })
	for i := range uint64(4) {
		g.Go(func() error { return table(ctx, s.book, i+1) })
	}
	http.HandleFunc("/settled", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		fmt.Fprintf(w, "%+v\n", s.last)
	})
	g.Go(func() error { return http.ListenAndServe(os.Getenv("ADDR"), nil) })
	log.Fatal(g.Wait())
}
