package record

import (
	"context"
	"fmt"
	"time"
)

const (
	// maxBatch is the most records that one transaction keeps: all that can be on
	// their way.
	maxBatch = 256
	// linger is how long a batch waits for more once it has a first record.
	linger = 20 * time.Millisecond
)

// SetBatch says how many records one transaction keeps at most; 1 = a
// transaction for each. It holds for what is written from now on, and returns
// what held before.
func (r *Recorder) SetBatch(size int) (before int) {
	return max(1, int(r.batch.Swap(int64(min(max(size, 1), maxBatch)))))
}

// Flush writes the batch that is being gathered without waiting for more, and
// returns how many records it had; 0 = none is.
func (r *Recorder) Flush(ctx context.Context) int {
	n := make(chan int, 1)
	select {
	case r.flush <- n:
		return <-n
	case <-time.After(2 * linger): // nobody gathers
	case <-ctx.Done():
	}
	return 0
}

// together has j kept with whatever else waits, in one transaction. One worker
// writes at a time; the others bring what the next batch is made of.
func (r *Recorder) together(ctx context.Context, j job) {
	r.mu.Lock()
	r.waiting = append(r.waiting, j)
	leads := !r.writing
	r.writing = true
	r.mu.Unlock()
	if !leads {
		return
	}
	for {
		r.linger(ctx)
		r.mu.Lock()
		n := min(len(r.waiting), max(1, int(r.batch.Load())))
		batch := r.waiting[:n:n]
		r.waiting = r.waiting[n:]
		if n == 0 {
			r.writing = false
		}
		r.mu.Unlock()
		if n == 0 {
			return
		}
		r.keep(ctx, batch)
	}
}

// linger waits for more records, or for somebody who does not want to wait.
func (r *Recorder) linger(ctx context.Context) {
	enough := time.NewTimer(linger)
	defer enough.Stop()
	select {
	case n := <-r.flush:
		r.mu.Lock()
		defer r.mu.Unlock()
		n <- len(r.waiting)
	case <-enough.C:
	case <-ctx.Done():
	}
}

// keep writes a batch and tells everyone how it went. Who does not wait any more
// is kept all the same: one more costs nothing.
func (r *Recorder) keep(ctx context.Context, batch []job) {
	err := r.writeBatch(ctx, batch)
	for _, j := range batch {
		if err != nil {
			r.failed.Add(1)
		} else {
			r.written.Add(1)
		}
		j.done <- err
	}
}

// keepBatch moves the house's account once for all of its records.
const keepBatch = `
	WITH record AS (
		INSERT INTO colorgame.bet_records (room, round, player, color, stake, payout)
		SELECT * FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
		RETURNING stake - payout AS won
	), total AS (SELECT sum(won) AS won FROM record)
	UPDATE colorgame.house SET balance = balance + total.won FROM total WHERE account = 'main'`

func (r *Recorder) writeBatch(ctx context.Context, batch []job) error {
	var (
		rooms                   []int
		rounds, stakes, payouts []int64
		players, colors         []string
	)
	for _, j := range batch {
		rooms, rounds = append(rooms, j.rec.Room), append(rounds, j.rec.Round)
		players, colors = append(players, j.rec.Player), append(colors, j.rec.Color)
		stakes, payouts = append(stakes, j.rec.Stake), append(payouts, j.rec.Payout)
	}
	if _, err := r.cfg.Pool.Exec(ctx, keepBatch, rooms, rounds, players, colors, stakes, payouts); err != nil {
		return fmt.Errorf("keeping %d records: %w", len(batch), err)
	}
	return nil
}
