// Package sqlite keeps the audit record's rows in an SQLite file and its end in
// a second one beside it: audit.Store. It computes no hashes.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// The files of a record.
const (
	FileName       = "audit.db"
	AnchorFileName = "audit.head"
)

// Store is an audit.Store in a directory.
type Store struct {
	file            *sqlitefile.File
	writer, readers *sql.DB
	anchor          *anchor
}

var _ audit.Store = (*Store)(nil)

// Open opens the record of a directory, or begins one. It is Exhausted when the
// disk is full.
func Open(ctx context.Context, dir string) (*Store, error) {
	f, err := sqlitefile.Open(ctx, filepath.Join(dir, FileName), migrations, 2)
	s := &Store{file: f, writer: f.Writer, readers: f.Readers}
	if err != nil {
		return nil, s.failure("open", err)
	}
	if s.anchor, err = openAnchor(filepath.Join(dir, AnchorFileName)); err != nil {
		return nil, errors.Join(s.failure("open", err), f.Close())
	}
	return s, nil
}

// Close closes the files.
func (s *Store) Close() error { return errors.Join(s.file.Close(), s.anchor.close()) }

// Append implements audit.Store.
func (s *Store) Append(ctx context.Context, rows []audit.Row) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return s.failure("append", err)
	}
	for _, r := range rows {
		if _, err := tx.ExecContext(ctx, `INSERT INTO audit_row (seq, body, hash) VALUES ($1, $2, $3)`, r.Seq, string(r.Body), r.Hash); err != nil {
			if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && !s.file.Full(err) {
				err = errors.Join(err, rerr)
			}
			return s.failure("append", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return s.failure("append", err)
	}
	last := rows[len(rows)-1]
	// Its room was taken when it was made: a full disk does not stop it. An error
	// here is not Exhausted, for the rows are there.
	if err := s.anchor.set(audit.Head{Rows: last.Seq, Hash: last.Hash}); err != nil {
		return fmt.Errorf("audit record: note its end in %s: %w", AnchorFileName, err)
	}
	return nil
}

// Head implements audit.Store.
func (s *Store) Head(ctx context.Context) (h audit.Head, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT seq, hash FROM audit_row ORDER BY seq DESC LIMIT 1`).Scan(&h.Rows, &h.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return audit.Head{}, nil
	}
	return h, s.failure("read its end", err)
}

// Anchor implements audit.Store. It reads the file, not what was written to it.
func (s *Store) Anchor(context.Context) (audit.Head, error) { return s.anchor.get() }

// rowsAtOnce bounds how long one reading of many holds back the cleaning of the
// write-ahead log.
const rowsAtOnce = 1000

// Rows implements audit.Store.
func (s *Store) Rows(ctx context.Context, after int64, fn func(audit.Row) error) error {
	for {
		page, err := s.query(ctx, `SELECT seq, body, hash FROM audit_row WHERE seq > $1 ORDER BY seq LIMIT $2`, after, rowsAtOnce)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := fn(r); err != nil {
				return err
			}
			after = r.Seq
		}
		if len(page) < rowsAtOnce {
			return nil
		}
	}
}

func (s *Store) query(ctx context.Context, query string, args ...any) ([]audit.Row, error) {
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.failure("read", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var out []audit.Row
	for rows.Next() {
		var r audit.Row
		if err := rows.Scan(&r.Seq, &r.Body, &r.Hash); err != nil {
			return nil, s.failure("read", err)
		}
		out = append(out, r)
	}
	return out, s.failure("read", rows.Err())
}

// ByKey implements audit.Store.
func (s *Store) ByKey(ctx context.Context, actor, key string) (id audit.ID, err error) {
	err = s.readers.QueryRowContext(ctx, `SELECT action_id FROM audit_row WHERE kind = 'intent' AND actor = $1 AND idem_key = $2 ORDER BY seq LIMIT 1`, actor, key).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, s.failure("look for a key", err)
}

// Unended implements audit.Store.
func (s *Store) Unended(ctx context.Context) (out []audit.ID, err error) {
	rows, err := s.query(ctx, `SELECT seq, i.action_id, hash FROM audit_row i WHERE kind = 'intent' AND NOT EXISTS (SELECT 1 FROM audit_row o WHERE o.action_id = i.action_id AND o.kind = 'outcome') ORDER BY seq`)
	for _, r := range rows {
		out = append(out, audit.ID(r.Body))
	}
	return out, err
}

// Secret implements audit.Store.
func (s *Store) Secret(ctx context.Context) (secret []byte, err error) {
	err = s.writer.QueryRowContext(ctx, `SELECT secret FROM audit_secret LIMIT 1`).Scan(&secret)
	if !errors.Is(err, sql.ErrNoRows) {
		return secret, s.failure("read its secret", err)
	}
	secret = make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	_, err = s.writer.ExecContext(ctx, `INSERT INTO audit_secret (secret) VALUES ($1)`, secret)
	return secret, s.failure("make its secret", err)
}

// failure gives an error of the database its kind.
func (s *Store) failure(doing string, err error) error {
	if err == nil {
		return nil
	}
	var known *ops.Error
	switch {
	case errors.As(err, &known):
		return err
	case s.file.Full(err):
		return s.file.ErrFull(doing, err)
	}
	return fmt.Errorf("audit record: %s: %w", doing, err)
}
