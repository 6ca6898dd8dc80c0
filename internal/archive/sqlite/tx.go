package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/opscenter/opscenter/internal/ops"
)

// pendingChange is a change that waits for its turn.
type pendingChange struct {
	fn  func(context.Context, *sql.Tx) error
	err error
	// wake says once whether the waiting caller is to lead the next batch (true)
	// or has its outcome in err (false).
	wake chan bool
}

// maxBatch bounds how long the last one of a batch waits for the first.
const maxBatch = 64

// change runs fn in a transaction and returns when it is on the disk. Callers
// who come while another transaction is being synced share the next one, for
// the sync is what takes the time. fn may run twice; the first time was then
// rolled back.
func (c *Catalogue) change(ctx context.Context, doing string, fn func(context.Context, *sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return c.failure(ctx, doing, err)
	}
	p := &pendingChange{fn: fn, wake: make(chan bool, 1)}
	c.queueMu.Lock()
	c.queue = append(c.queue, p)
	leads := !c.leading
	c.leading = true
	c.queueMu.Unlock()
	if !leads {
		leads = <-p.wake
	}
	if leads {
		c.lead(context.WithoutCancel(ctx))
	}
	// Once begun it is not given up: a caller who leaves must not be able to make
	// a commit fail half-way.
	return c.failure(context.WithoutCancel(ctx), doing, p.err)
}

// lead commits what waits and hands over to who came meanwhile.
func (c *Catalogue) lead(ctx context.Context) {
	c.queueMu.Lock()
	batch := c.queue[:min(len(c.queue), maxBatch)]
	c.queue = c.queue[len(batch):]
	c.queueMu.Unlock()
	c.commit(ctx, batch)
	c.queueMu.Lock()
	if len(c.queue) > 0 {
		c.queue[0].wake <- true
	} else {
		c.leading = false
	}
	c.queueMu.Unlock()
	for _, p := range batch[1:] { // the first one leads
		p.wake <- false
	}
}

func (c *Catalogue) commit(ctx context.Context, batch []*pendingChange) {
	err := c.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, p := range batch {
			if err := p.fn(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return
	}
	if len(batch) == 1 || ops.KindOf(c.failure(ctx, "commit", err)) == ops.Internal {
		// A failed sync must never be tried again: it could succeed without
		// having written what the first one lost.
		for _, p := range batch {
			p.err = err
		}
		return
	}
	// One of them is to blame; the others must not suffer for it.
	for _, p := range batch {
		p.err = c.transact(ctx, p.fn)
	}
}

// transact runs fn in a transaction of its own.
func (c *Catalogue) transact(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	conn, err := c.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // hands the connection back
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(ctx, tx); err != nil {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && !c.file.Full(err) {
			// After a full disk SQLite has rolled back by itself.
			err = errors.Join(err, rerr)
		}
		return err
	}
	return tx.Commit()
}

// exec is change for a single statement; it returns the number of rows changed.
func (c *Catalogue) exec(ctx context.Context, doing, query string, args ...any) (n int64, err error) {
	err = c.change(ctx, doing, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, query, args...)
		if err == nil {
			n, err = r.RowsAffected()
		}
		return err
	})
	return n, err
}

// view runs fn on one consistent state of the database.
func (c *Catalogue) view(ctx context.Context, doing string, fn func(*sql.Tx) error) error {
	tx, err := c.readers.BeginTx(ctx, nil)
	if err != nil {
		return c.failure(ctx, doing, err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	return c.failure(ctx, doing, fn(tx))
}

// each calls scan for every row of a query.
func each(ctx context.Context, tx *sql.Tx, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
