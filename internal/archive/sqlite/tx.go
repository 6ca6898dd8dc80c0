package sqlite

import (
	"context"
	"database/sql"
	"errors"
)

// change runs fn in one transaction. It may be given up while it waits for its
// turn, but not once it has begun: a caller who leaves must not be able to make
// a commit fail half-way.
func (c *Catalogue) change(ctx context.Context, doing string, fn func(context.Context, *sql.Tx) error) error {
	conn, err := c.writer.Conn(ctx)
	if err != nil {
		return c.failure(ctx, doing, err)
	}
	defer conn.Close() //nolint:errcheck // hands the connection back
	ctx = context.WithoutCancel(ctx)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return c.failure(ctx, doing, err)
	}
	if err := fn(ctx, tx); err != nil {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && !c.full(err) {
			// After a full disk SQLite has rolled back by itself.
			err = errors.Join(err, rerr)
		}
		return c.failure(ctx, doing, err)
	}
	return c.failure(ctx, doing, tx.Commit())
}

// exec is change for a single statement; it returns the number of rows changed.
func (c *Catalogue) exec(ctx context.Context, doing, query string, args ...any) (int64, error) {
	conn, err := c.writer.Conn(ctx)
	if err != nil {
		return 0, c.failure(ctx, doing, err)
	}
	defer conn.Close() //nolint:errcheck // hands the connection back
	ctx = context.WithoutCancel(ctx)
	r, err := conn.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, c.failure(ctx, doing, err)
	}
	n, err := r.RowsAffected()
	return n, c.failure(ctx, doing, err)
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
