package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Heartbeat history is written by time (one point of every instance, again and
// again) and read by instance (a day of one). Rows in either order make the
// other slow, so points are first kept as they come, in one row per call and
// bucket of instances, and once a bucket has enough of those they are laid out
// again as one row per instance.
const (
	historyBuckets = 64
	// A bucket is laid out again when it has this many fresh rows: ten minutes
	// of 10 s points.
	tailRows = 60
	// At most so many buckets are laid out again in one append, so that buckets
	// which fill in step do not make one append slow.
	bucketsAtOnce = 4
	// A block holds at most this many points of its instance.
	blockPoints = 4096
)

// historyNum is the number that stands for an instance within history.
type historyNum struct {
	num  int64
	used time.Time // of the latest point appended by this program
}

// AppendHistory implements ops.Catalogue.
func (c *Catalogue) AppendHistory(ctx context.Context, in []ops.HistoryPoint, step time.Duration) error {
	if len(in) == 0 {
		return nil
	}
	c.historyMu.Lock()
	defer c.historyMu.Unlock()
	if err := ctx.Err(); err != nil {
		return c.failure(ctx, "append history", err)
	}
	// Not shared with others: numberOf remembers what it did.
	err := c.transact(context.WithoutCancel(ctx), func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO history_step (step_ms, before_ms) VALUES ($1, 0) ON CONFLICT (step_ms) DO NOTHING`, step.Milliseconds()); err != nil {
			return err
		}
		var buckets [historyBuckets][]point
		for _, p := range in {
			num, err := c.numberOf(ctx, tx, p.Instance, p.Heartbeat.At)
			if err != nil {
				return err
			}
			b := num % historyBuckets
			buckets[b] = append(buckets[b], point{num, p.Heartbeat})
		}
		for b, points := range buckets {
			for part := range slices.Chunk(points, maxPoints) {
				first, last := span(part)
				_, err := tx.ExecContext(ctx, `INSERT INTO history_tail (step_ms, bucket, seq, first_ms, last_ms, points)
					VALUES ($1, $2, (SELECT COALESCE(MAX(seq), 0) + 1 FROM history_tail WHERE step_ms = $3 AND bucket = $4), $5, $6, $7)`,
					step.Milliseconds(), b, step.Milliseconds(), b, first, last, encodePoints(part))
				if err != nil {
					return err
				}
			}
		}
		var full []int64
		err := each(ctx, tx, func(rows *sql.Rows) error {
			var b int64
			err := rows.Scan(&b)
			full = append(full, b)
			return err
		}, `SELECT bucket FROM history_tail WHERE step_ms = $1 GROUP BY bucket HAVING COUNT(*) >= $2 ORDER BY COUNT(*) DESC LIMIT $3`,
			step.Milliseconds(), tailRows, bucketsAtOnce)
		if err != nil {
			return err
		}
		for _, b := range full {
			if err := layOut(ctx, tx, step, b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		clear(c.nums) // they may have been rolled back
	}
	return c.failure(context.WithoutCancel(ctx), "append history", err)
}

// numberOf returns an instance's number, a new one if need be.
func (c *Catalogue) numberOf(ctx context.Context, tx *sql.Tx, id ops.InstanceID, at time.Time) (int64, error) {
	if known := c.nums[id]; known != nil {
		if at.After(known.used) {
			known.used = at
		}
		return known.num, nil
	}
	var num int64
	// WHERE true keeps SQLite from reading ON CONFLICT as a join's.
	err := tx.QueryRowContext(ctx, `INSERT INTO history_instance (num, id, seen_ms)
		SELECT COALESCE(MAX(num), 0) + 1, CAST($1 AS TEXT), CAST($2 AS BIGINT) FROM history_instance WHERE true
		ON CONFLICT (id) DO UPDATE SET seen_ms = excluded.seen_ms RETURNING num`, storable(string(id)), millis(at)).Scan(&num)
	if err != nil {
		return 0, err
	}
	c.nums[id] = &historyNum{num: num, used: at}
	return num, nil
}

// layOut turns the fresh rows of a bucket into blocks of single instances.
func layOut(ctx context.Context, tx *sql.Tx, step time.Duration, bucket int64) error {
	var fresh []point
	err := each(ctx, tx, func(rows *sql.Rows) error {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return err
		}
		points, err := decodePoints(raw)
		if err != nil {
			return err
		}
		fresh = append(fresh, points...)
		return nil
	}, `SELECT points FROM history_tail WHERE step_ms = $1 AND bucket = $2 ORDER BY seq`, step.Milliseconds(), bucket)
	if err != nil {
		return err
	}
	slices.SortStableFunc(fresh, func(a, b point) int { return cmp.Or(cmp.Compare(a.num, b.num), a.hb.At.Compare(b.hb.At)) })
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && n < blockPoints && fresh[n].num == fresh[0].num {
			n++
		}
		first, last := span(fresh[:n])
		_, err := tx.ExecContext(ctx, `INSERT INTO history_block (step_ms, num, first_ms, seq, last_ms, points)
			VALUES ($1, $2, $3, (SELECT COALESCE(MAX(seq), 0) + 1 FROM history_block WHERE step_ms = $4 AND num = $5 AND first_ms = $6), $7, $8)`,
			step.Milliseconds(), fresh[0].num, first, step.Milliseconds(), fresh[0].num, first, last, encodePoints(fresh[:n]))
		if err != nil {
			return err
		}
		fresh = fresh[n:]
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM history_tail WHERE step_ms = $1 AND bucket = $2`, step.Milliseconds(), bucket)
	return err
}

// History implements ops.Catalogue. Of two points of the same millisecond, the
// one appended last counts.
func (c *Catalogue) History(ctx context.Context, id ops.InstanceID, from, to time.Time, step time.Duration) ([]ops.Heartbeat, error) {
	var out []ops.Heartbeat
	err := c.view(ctx, "read history", func(tx *sql.Tx) error {
		var num, floor int64
		err := tx.QueryRowContext(ctx, `SELECT num FROM history_instance WHERE id = $1`, storable(string(id))).Scan(&num)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `SELECT before_ms FROM history_step WHERE step_ms = $1`, step.Milliseconds()).Scan(&floor)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if deleted := moment(floor); from.Before(deleted) {
			from = deleted
		}
		read := func(rows *sql.Rows) error {
			var raw sql.RawBytes
			if err := rows.Scan(&raw); err != nil {
				return err
			}
			points, err := decodePoints(raw)
			out = between(points, num, from, to, out)
			return err
		}
		if err := each(ctx, tx, read, `SELECT points FROM history_block
			WHERE step_ms = $1 AND num = $2 AND last_ms >= $3 AND first_ms < $4 ORDER BY first_ms, seq`,
			step.Milliseconds(), num, from.UnixMilli(), to.UnixMilli()+1); err != nil {
			return err
		}
		return each(ctx, tx, read, `SELECT points FROM history_tail
			WHERE step_ms = $1 AND bucket = $2 AND last_ms >= $3 AND first_ms < $4 ORDER BY seq`,
			step.Milliseconds(), num%historyBuckets, from.UnixMilli(), to.UnixMilli()+1)
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b ops.Heartbeat) int { return a.At.Compare(b.At) })
	kept := out[:0]
	for i, h := range out {
		if i+1 == len(out) || !out[i+1].At.Equal(h.At) {
			kept = append(kept, h)
		}
	}
	return kept, nil
}

// DeleteHistory implements ops.Catalogue. What lies in the same row as younger
// points is hidden at once and goes when the row goes.
func (c *Catalogue) DeleteHistory(ctx context.Context, before time.Time, step time.Duration) error {
	c.historyMu.Lock()
	defer c.historyMu.Unlock()
	_, err := c.exec(ctx, "delete history", `INSERT INTO history_step (step_ms, before_ms) VALUES ($1, $2)
		ON CONFLICT (step_ms) DO UPDATE SET before_ms = excluded.before_ms WHERE history_step.before_ms < excluded.before_ms`,
		step.Milliseconds(), before.UnixMilli())
	if err != nil {
		return err
	}
	if _, err := c.exec(ctx, "delete history", `DELETE FROM history_tail WHERE step_ms = $1 AND last_ms < $2`, step.Milliseconds(), before.UnixMilli()); err != nil {
		return err
	}
	// Slice by slice, so that a day's worth does not keep other writers waiting.
	for {
		n, err := c.exec(ctx, "delete history", `DELETE FROM history_block WHERE step_ms = $1 AND last_ms <
			COALESCE((SELECT last_ms + 1 FROM history_block WHERE step_ms = $2 AND last_ms < $3 ORDER BY last_ms LIMIT 1 OFFSET 5000), $4)`,
			step.Milliseconds(), step.Milliseconds(), before.UnixMilli(), before.UnixMilli())
		if err != nil {
			return err
		}
		if n <= 5000 {
			break
		}
	}
	return c.forgetNums(ctx, before)
}

// forgetNums gives up the numbers of instances of which no point is left. A
// fresh row does not say whose points it holds: an instance whose last point is
// older than every fresh row of its bucket has none there.
func (c *Catalogue) forgetNums(ctx context.Context, before time.Time) error {
	recent := map[int64]bool{}
	for _, n := range c.nums {
		recent[n.num] = !n.used.Before(before)
	}
	var gone []int64
	err := c.change(ctx, "forget history instances", func(ctx context.Context, tx *sql.Tx) error {
		gone = nil
		err := each(ctx, tx, func(rows *sql.Rows) error {
			var num int64
			err := rows.Scan(&num)
			if !recent[num] {
				gone = append(gone, num)
			}
			return err
		}, `SELECT num FROM history_instance AS i WHERE seen_ms < $1
			AND NOT EXISTS (SELECT 1 FROM history_block AS b WHERE b.num = i.num AND b.step_ms IN (SELECT step_ms FROM history_step))
			AND NOT EXISTS (SELECT 1 FROM history_tail AS t WHERE t.bucket = i.num % $2 AND t.first_ms < $3)`,
			before.UnixMilli(), historyBuckets, before.UnixMilli())
		if err != nil {
			return err
		}
		for _, num := range gone {
			if _, err := tx.ExecContext(ctx, `DELETE FROM history_instance WHERE num = $1`, num); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, n := range c.nums {
		if slices.Contains(gone, n.num) {
			delete(c.nums, id)
		}
	}
	return nil
}
