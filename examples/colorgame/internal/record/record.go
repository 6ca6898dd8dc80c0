// Package record is the game-record-service: it keeps every settled bet in
// Postgres and the house's account with it. It knows nothing of the game.
package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/opscenter/opscenter/examples/colorgame/internal/chassis"
	"github.com/opscenter/opscenter/examples/colorgame/internal/wire"
)

// Config of the service.
type Config struct {
	Pool *pgxpool.Pool // may not be nil
	// Workers write records; 0 = 32.
	Workers int
	// Keep is how long records are kept; 0 = 10 minutes, for this is a demo.
	Keep   time.Duration
	Logger *slog.Logger // nil = silent
}

// queueLength is how many records may wait for a worker beyond those in whose
// name a request waits.
const queueLength = 16

// Recorder writes records.
type Recorder struct {
	cfg  Config
	jobs chan job

	batch atomic.Int64  // records of one transaction; 0 and 1 = one
	flush chan chan int // ends the waiting for more

	mu      sync.Mutex // guards waiting and writing
	waiting []job      // for the next batch; bounded by the requests that wait
	writing bool       // a worker sees to waiting

	written, failed, abandoned atomic.Int64
	latency                    chassis.Latency
}

// job is a record and where to tell how it went.
type job struct {
	ctx  context.Context
	rec  wire.Record
	done chan<- error // buffered: the worker never waits for who asked
}

// New makes the recorder.
func New(cfg Config) *Recorder {
	if cfg.Workers == 0 {
		cfg.Workers = 32
	}
	if cfg.Keep == 0 {
		cfg.Keep = 10 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Recorder{cfg: cfg, jobs: make(chan job, queueLength), flush: make(chan chan int)}
}

// Record keeps a record and returns when it is kept.
func (r *Recorder) Record(ctx context.Context, rec wire.Record) error {
	defer r.latency.Since(time.Now())
	done := make(chan error, 1)
	select {
	case r.jobs <- job{ctx, rec, done}:
	case <-ctx.Done():
		r.abandoned.Add(1)
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		r.abandoned.Add(1)
		return ctx.Err()
	}
}

// work writes records until ctx ends.
func (r *Recorder) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-r.jobs:
			if j.ctx.Err() != nil {
				continue // nobody waits for it any more
			}
			if r.batch.Load() > 1 {
				r.together(ctx, j)
				continue
			}
			err := r.write(ctx, j.rec)
			if err != nil {
				r.failed.Add(1)
			} else {
				r.written.Add(1)
			}
			j.done <- err
		}
	}
}

// keep is a transaction of its own for every record, and all of them move the
// one row of the house's account.
const keep = `
	WITH record AS (
		INSERT INTO colorgame.bet_records (room, round, player, color, stake, payout)
		VALUES ($1, $2, $3, $4, $5, $6)
		RETURNING stake - payout AS won
	)
	UPDATE colorgame.house SET balance = balance + record.won FROM record WHERE account = 'main'`

// write keeps one record and moves the house's balance with it.
func (r *Recorder) write(ctx context.Context, rec wire.Record) error {
	if _, err := r.cfg.Pool.Exec(ctx, keep, rec.Room, rec.Round, rec.Player, rec.Color, rec.Stake, rec.Payout); err != nil {
		return fmt.Errorf("keeping the record: %w", err)
	}
	return nil
}

// Handler implements chassis.Part.
func (r *Recorder) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /records", func(w http.ResponseWriter, req *http.Request) {
		rec, ok := wire.Read[wire.Record](w, req)
		if !ok {
			return
		}
		if err := r.Record(req.Context(), rec); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// Run implements chassis.Part: it runs the workers and sweeps old records.
func (r *Recorder) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range r.cfg.Workers {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Go(func() { r.sweep(ctx) })
	workers.Wait()
	return nil
}

func (r *Recorder) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, err := r.cfg.Pool.Exec(ctx, `DELETE FROM colorgame.bet_records WHERE at < $1`, time.Now().Add(-r.cfg.Keep))
		if err != nil && !errors.Is(err, context.Canceled) {
			r.cfg.Logger.Warn("old records could not be swept", "error", err)
		}
	}
}

// Figures implements chassis.Part.
func (r *Recorder) Figures() chassis.Figures {
	st := r.cfg.Pool.Stat()
	f := chassis.Figures{
		"records_total":     float64(r.written.Load()),
		"records_failed":    float64(r.failed.Load()),
		"records_abandoned": float64(r.abandoned.Load()),
		"queue":             float64(len(r.jobs)),
		"batch":             float64(max(1, r.batch.Load())),
		"pool_in_use":       float64(st.AcquiredConns()),
		"pool_max":          float64(st.MaxConns()),
	}
	r.latency.Into(f, "record")
	return f
}
