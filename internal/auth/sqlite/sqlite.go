// Package sqlite keeps who may come in, in an SQLite file: auth.Store. It checks
// nothing and knows no secret but by its hash.
//
// The file is used by a running centre and by the command line at once: SQLite's
// own locks see to that.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// FileName is the file's name in the data directory.
const FileName = "access.db"

// Store is an auth.Store in a directory.
type Store struct {
	file            *sqlitefile.File
	writer, readers *sql.DB
}

var _ auth.Store = (*Store)(nil)

// Open opens the store of a data directory, or makes it. It is Exhausted when
// the disk is full.
func Open(ctx context.Context, dir string) (*Store, error) {
	f, err := sqlitefile.Open(ctx, filepath.Join(dir, FileName), migrations, 4)
	s := &Store{file: f, writer: f.Writer, readers: f.Readers}
	if err != nil {
		return nil, s.failure("open", err)
	}
	return s, nil
}

// Close closes the file.
func (s *Store) Close() error { return s.file.Close() }

// failure gives an error of the database its kind.
func (s *Store) failure(doing string, err error) error {
	var known *ops.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if s.file.Full(err) {
		return s.file.ErrFull(doing, err)
	}
	return fmt.Errorf("%s: %s: %w", FileName, doing, err)
}

// change runs fn in a transaction that ends with the event.
func (s *Store) change(ctx context.Context, doing string, e *auth.Event, fn func(*sql.Tx) error) error {
	err := func() error {
		tx, err := s.writer.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
		if err := fn(tx); err != nil {
			return err
		}
		if e != nil {
			if err := note(ctx, tx, *e); err != nil {
				return err
			}
		}
		return tx.Commit()
	}()
	return s.failure(doing, err)
}

// exec is change for one statement.
func (s *Store) exec(ctx context.Context, doing string, e *auth.Event, query string, args ...any) error {
	return s.change(ctx, doing, e, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// list reads every row of a query.
func list[T any](ctx context.Context, s *Store, doing string, scan func(*sql.Rows) (T, error), query string, args ...any) (out []T, err error) {
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.failure(doing, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, s.failure(doing, err)
		}
		out = append(out, v)
	}
	return out, s.failure(doing, rows.Err())
}

// one is the only row of a list, or NotFound.
func one[T any](rows []T, err error, what string) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	if len(rows) == 0 {
		return none, ops.Errorf(ops.NotFound, "there is no %s", what)
	}
	return rows[0], nil
}

// Secret implements auth.Store.
func (s *Store) Secret(ctx context.Context) (secret []byte, err error) {
	err = s.change(ctx, "secret", nil, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT secret FROM access_secret").Scan(&secret)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		secret = make([]byte, 32)
		rand.Read(secret)
		_, err = tx.ExecContext(ctx, "INSERT INTO access_secret (secret) VALUES ($1)", secret)
		return err
	})
	return secret, err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
