// betbatch collects bets and writes them to the archive in batches.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
)

type Bet struct {
	ID     string `json:"id"`
	Player string `json:"player"`
	Stake  int64  `json:"stake"`
}

type Sink interface {
	Write(ctx context.Context, batch []Bet) error
}

// fileSink keeps two files and starts over when one is full.
type fileSink struct {
	dir   string
	n     int
	bytes int64
	limit int64
	f     *os.File
}

func (s *fileSink) Write(_ context.Context, batch []Bet) error {
	if s.f == nil || s.bytes > s.limit {
		if s.f != nil {
			s.f.Close()
		}
		f, err := os.Create(fmt.Sprintf("%s/bets-%d.jsonl", s.dir, s.n%2))
		if err != nil {
			return err
		}
		s.n, s.f, s.bytes = s.n+1, f, 0
	}
	bw := bufio.NewWriter(s.f)
	enc := json.NewEncoder(bw)
	for i := range batch {
		if err := enc.Encode(&batch[i]); err != nil {
			return err
		}
		s.bytes += 80
	}
	time.Sleep(30 * time.Millisecond) // the archive's commit
	return bw.Flush()
}

var errFull = errors.New("archive is behind")

type Batcher struct {
	in      chan Bet
	sink    Sink
	max     int
	linger  time.Duration
	written atomic.Int64
}

func (b *Batcher) Submit(bet Bet) error {
	select {
	case b.in <- bet:
		return nil
	default:
		return errFull
	}
}

func (b *Batcher) run(ctx context.Context) {
	batch := make([]Bet, 0, b.max)
	tick := time.NewTicker(b.linger)
	defer tick.Stop()
	for {
		flush := false
		select {
		case bet := <-b.in:
			batch = append(batch, bet)
			flush = len(batch) == b.max
		case <-tick.C:
			flush = len(batch) > 0
		case <-ctx.Done():
			return
		}
		if !flush {
			continue
		}
		if err := b.sink.Write(ctx, batch); err != nil {
			log.Print(err)
		}
		b.written.Add(int64(len(batch)))
		batch = batch[:0]
	}
}

func (b *Batcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var bet Bet
	if err := json.NewDecoder(r.Body).Decode(&bet); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	bet.ID = ulid.Make().String()
	if err := b.Submit(bet); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func main() {
	go func() { log.Fatal(http.ListenAndServe(os.Getenv("PPROF_ADDR"), nil)) }()
	dir, err := os.MkdirTemp("", "bets")
	if err != nil {
		log.Fatal(err)
	}
	b := &Batcher{in: make(chan Bet, 4096), sink: &fileSink{dir: dir, limit: 4 << 20}, max: 500, linger: 100 * time.Millisecond}
	go b.run(context.Background())

	var refused atomic.Int64
	for i := range 30 {
		go func() {
			for {
				body := fmt.Sprintf(`{"player":"p%d","stake":%d}`, i, 1+rand.IntN(500))
				rec := httptest.NewRecorder()
				b.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/bets", strings.NewReader(body)))
				if rec.Code != http.StatusAccepted {
					refused.Add(1)
				}
				time.Sleep(time.Duration(25+rand.IntN(15)) * time.Millisecond)
			}
		}()
	}
	for range time.Tick(5 * time.Second) {
		log.Printf("written=%d queued=%d refused=%d", b.written.Load(), len(b.in), refused.Load())
	}
}
