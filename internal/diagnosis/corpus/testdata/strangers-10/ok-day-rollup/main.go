package main

import (
	"cmp"
	"context"
	"hash/maphash"
	"iter"
	"log"
	"math/rand/v2"
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

type wager struct {
	player uint32
	game   uint8
	stake  int32
	won    int32
}

type line struct {
	player uint32
	stake  int64
	margin int64
}

type shard struct {
	rows  []wager
	lines map[uint32]*line
}

func (s *shard) fold() []line {
	clear(s.lines)
	for _, w := range s.rows {
		l := s.lines[w.player]
		if l == nil {
			l = &line{player: w.player}
			s.lines[w.player] = l
		}
		l.stake += int64(w.stake)
		l.margin += int64(w.stake - w.won)
	}
	out := make([]line, 0, len(s.lines))
	for _, l := range s.lines {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b line) int { return cmp.Compare(b.margin, a.margin) })
	return out[:min(len(out), 50)]
}

type rollup struct {
	seed   maphash.Seed
	shards []*shard
	report atomic.Pointer[[]line]
	runs   atomic.Int64
}

func newRollup(n int) *rollup {
	r := &rollup{seed: maphash.MakeSeed()}
	for range n {
		r.shards = append(r.shards, &shard{lines: make(map[uint32]*line, 4096)})
	}
	return r
}

func (r *rollup) ingest(rows iter.Seq[wager]) {
	for _, s := range r.shards {
		s.rows = s.rows[:0]
	}
	for w := range rows {
		s := r.shards[maphash.Comparable(r.seed, w.player)%uint64(len(r.shards))]
		s.rows = append(s.rows, w)
	}
}

func (r *rollup) once(ctx context.Context, rows iter.Seq[wager]) error {
	r.ingest(rows)
	parts := make([][]line, len(r.shards))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i, s := range r.shards {
		g.Go(func() error {
			parts[i] = s.fold()
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	top := slices.Concat(parts...)
	slices.SortFunc(top, func(a, b line) int { return cmp.Compare(b.margin, a.margin) })
	top = slices.Clone(top[:min(len(top), 100)])
	r.report.Store(&top)
	r.runs.Add(1)
	return nil
}

func spool(n int) iter.Seq[wager] {
	return func(yield func(wager) bool) {
		for range n {
			w := wager{player: rand.Uint32N(40_000), game: uint8(rand.IntN(12)), stake: rand.Int32N(500)}
			if rand.IntN(5) == 0 {
				w.won = w.stake * 4
			}
			if !yield(w) {
				return
			}
		}
	}
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil)) }()
	r := newRollup(8)
	ctx := context.Background()
	timer := time.NewTimer(0)
	for {
		<-timer.C
		if err := r.once(ctx, spool(3_000_000)); err != nil {
			log.Print(err)
		}
		timer.Reset(1500 * time.Millisecond)
	}
}
