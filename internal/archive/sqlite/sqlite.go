// Package sqlite keeps the archive's rows in an SQLite file: ops.Catalogue. It
// knows nothing of the commit protocol that calls it, nor of files with bytes.
//
// What is particular to SQLite stands in this file. The others speak plain
// database/sql, with $N placeholders in order and column types that PostgreSQL
// shares.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/opscenter/opscenter/internal/ops"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Catalogue is an ops.Catalogue in one SQLite file.
type Catalogue struct {
	path string
	// writer has one connection: SQLite has one writer at a time, and a queue in
	// front of it is fairer than its busy handler. readers see the last commit
	// and wait for nobody.
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
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	c := &Catalogue{path: path, nums: map[ops.InstanceID]*historyNum{}}
	// synchronous(FULL) makes a commit survive a power cut; the shipped default
	// of WAL mode would lose the last ones.
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String() +
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	var err error
	if c.writer, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return nil, fmt.Errorf("open catalogue: %w", err)
	}
	c.writer.SetMaxOpenConns(1)
	if c.readers, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalogue: %w", err), c.writer.Close())
	}
	c.readers.SetMaxOpenConns(4)
	c.readers.SetMaxIdleConns(4)
	err = c.keepJournal(ctx)
	if err == nil {
		err = c.migrate(ctx)
	}
	if err != nil {
		return nil, errors.Join(c.failure(ctx, "open", err), c.Close())
	}
	return c, nil
}

// keepJournal leaves the files beside the database where they are when it is
// closed. They would have to be made anew by the next start, which could not do
// so on a disk that somebody filled meanwhile.
func (c *Catalogue) keepJournal(ctx context.Context) error {
	conn, err := c.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // hands the connection back
	return conn.Raw(func(raw any) error {
		_, err := raw.(driver.FileControl).FileControlPersistWAL("main", 1)
		return err
	})
}

func (c *Catalogue) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, c.writer, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return ops.Errorf(ops.Invalid, "%s was written by a newer version (its tables are at %d, this program knows %d): run that version, or choose another data directory", c.path, current, target)
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the database.
func (c *Catalogue) Close() error { return errors.Join(c.readers.Close(), c.writer.Close()) }

// makeDir makes a directory whose entry survives a power cut.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

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
	if c.full(err) {
		return ops.Errorf(ops.Exhausted, "the disk that holds %s is full: free some space (%s: %w)", c.path, doing, err)
	}
	return fmt.Errorf("catalogue: %s: %w", doing, err)
}

// full reports whether the disk is. Besides saying so, SQLite has several ways
// to stumble over it: it cannot create or grow the files beside the database.
func (c *Catalogue) full(err error) bool {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return true
	}
	var e *driver.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL:
		return true
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN, lib.SQLITE_PROTOCOL, lib.SQLITE_NOMEM:
		var st unix.Statfs_t
		return unix.Statfs(filepath.Dir(c.path), &st) == nil && int64(st.Bavail)*int64(st.Bsize) < 1<<20 //nolint:unconvert // other systems have other types here
	}
	return false
}

func isDuplicate(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && (e.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY || e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE)
}

func isOrphan(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code() == lib.SQLITE_CONSTRAINT_FOREIGNKEY
}

// storable is s as every database takes it: valid UTF-8 without NUL.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
