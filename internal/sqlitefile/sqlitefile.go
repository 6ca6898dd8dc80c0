// Package sqlitefile opens an SQLite file for one who writes and several who
// read, brings its tables up to date, and tells a full disk from other trouble.
// It knows no table: whose file it is brings the migrations and the statements.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/opscenter/opscenter/internal/ops"
)

// File is an open file. Several processes may have it open at once: SQLite's own
// locks see to that.
type File struct {
	Path string
	// Writer has one connection: SQLite has one writer at a time, and a queue in
	// front of it is fairer than its busy handler. Readers see the last commit,
	// wait for nobody and cannot write.
	Writer, Readers *sql.DB
}

// Open opens the file, or makes it and its directory, such that nobody else reads
// them, and applies what is new in the directory "migrations" of that tree. A file
// that a newer version wrote is Invalid; a full disk is told by File.Full, for
// which the File is returned with the error, already closed.
func Open(ctx context.Context, path string, migrations fs.FS, readers int) (*File, error) {
	f := &File{Path: path}
	if err := f.open(ctx, migrations, readers); err != nil {
		return f, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *File) open(ctx context.Context, migrations fs.FS, readers int) (err error) {
	if err := private(f.Path); err != nil {
		return err
	}
	// synchronous(FULL) makes a commit survive a power cut; the shipped default
	// of WAL mode would lose the last ones.
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: f.Path}).EscapedPath()}).String() +
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	if f.Writer, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return err
	}
	f.Writer.SetMaxOpenConns(1)
	if f.Readers, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return err
	}
	f.Readers.SetMaxOpenConns(readers)
	f.Readers.SetMaxIdleConns(readers)
	if err := f.keepJournal(ctx); err != nil {
		return err
	}
	return f.migrate(ctx, migrations)
}

// private makes the file and its directory, if they are not there, for this user
// alone; what SQLite puts beside the file gets its mode. The names survive a power
// cut.
func private(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), SyncDir(dir), SyncDir(filepath.Dir(dir)))
}

// SyncDir makes the names in a directory survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keepJournal leaves the files beside the database where they are when it is
// closed. They would have to be made anew by the next start, which could not do
// so on a disk that somebody filled meanwhile.
func (f *File) keepJournal(ctx context.Context) error {
	conn, err := f.Writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // hands the connection back
	return conn.Raw(func(raw any) error {
		_, err := raw.(driver.FileControl).FileControlPersistWAL("main", 1)
		return err
	})
}

func (f *File) migrate(ctx context.Context, migrations fs.FS) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, f.Writer, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return ops.Errorf(ops.Invalid, "%s was written by a newer version (its tables are at %d, this program knows %d): run that version, or choose another data directory", f.Path, current, target)
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the file.
func (f *File) Close() error {
	var err error
	for _, db := range []*sql.DB{f.Readers, f.Writer} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// Full reports whether the error is that of a full disk. Besides saying so, SQLite
// has several ways to stumble over it: it cannot create or grow the files beside
// the database.
func (f *File) Full(err error) bool {
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
		return unix.Statfs(filepath.Dir(f.Path), &st) == nil && int64(st.Bavail)*int64(st.Bsize) < 1<<20 //nolint:unconvert // other systems have other types here
	}
	return false
}

// ErrFull is what a caller is told of a full disk.
func (f *File) ErrFull(doing string, err error) error {
	return ops.Errorf(ops.Exhausted, "the disk that holds %s is full: free some space (%s: %w)", f.Path, doing, err)
}

// IsDuplicate reports whether a row of that key was there already.
func IsDuplicate(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && (e.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY || e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE)
}

// IsOrphan reports whether the row that this one belongs to is not there.
func IsOrphan(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code() == lib.SQLITE_CONSTRAINT_FOREIGNKEY
}
