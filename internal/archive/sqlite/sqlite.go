// Package sqlite keeps the archive's rows in an SQLite file: ops.Catalogue. It
// knows nothing of the commit protocol that calls it, nor of files with bytes.
//
// What is particular to SQLite stands in internal/sqlitefile. Here one speaks plain
// database/sql, with $N placeholders in order and column types that PostgreSQL
// shares.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Catalogue is an ops.Catalogue in one SQLite file.
type Catalogue struct {
	file            *sqlitefile.File
	writer, readers *sql.DB

	queueMu sync.Mutex // guards queue and leading
	queue   []*pendingChange
	leading bool // somebody commits, and will see to the queue

	historyMu sync.Mutex // guards nums, and is held while history is appended or deleted
	nums      map[ops.InstanceID]*historyNum
}

var _ ops.Catalogue = (*Catalogue)(nil)

// Open opens the database file, or makes it and its directory, and brings its
// tables up to date. It is Exhausted when the disk is full; what to do then is
// the caller's matter.
func Open(ctx context.Context, path string) (*Catalogue, error) {
	f, err := sqlitefile.Open(ctx, path, migrations, 4)
	c := &Catalogue{file: f, writer: f.Writer, readers: f.Readers, nums: map[ops.InstanceID]*historyNum{}}
	if err != nil {
		return nil, c.failure(ctx, "open", err)
	}
	return c, nil
}

// Close closes the database.
func (c *Catalogue) Close() error { return c.file.Close() }

// failure gives an error of the database its kind. What it leaves Internal means
// that the database can no longer be trusted until it was opened again.
func (c *Catalogue) failure(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	var known *ops.Error
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("catalogue: %s: %w", doing, ctx.Err())
	}
	if c.file.Full(err) {
		return c.file.ErrFull(doing, err)
	}
	return fmt.Errorf("catalogue: %s: %w", doing, err)
}

// storable is s as every database takes it: valid UTF-8 without NUL.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
