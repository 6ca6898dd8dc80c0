package sqlitefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var players = fstest.MapFS{"migrations/001_players.sql": {Data: []byte(`-- +goose Up
CREATE TABLE room (id TEXT PRIMARY KEY);
CREATE TABLE player (id TEXT PRIMARY KEY, room TEXT NOT NULL REFERENCES room (id));
`)}}

func open(t *testing.T, path string, migrations fstest.MapFS) *File {
	t.Helper()
	f, err := Open(t.Context(), path, migrations, 2)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatIsCommittedIsThereAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "game.db")
	f := open(t, path, players)
	exec := func(f *File, q string) error {
		_, err := f.Writer.ExecContext(t.Context(), q)
		return err
	}
	if err := exec(f, `INSERT INTO room VALUES ('red')`); err != nil {
		t.Fatal(err)
	}
	if err := exec(f, `INSERT INTO room VALUES ('red')`); !IsDuplicate(err) || IsOrphan(err) || f.Full(err) {
		t.Errorf("a second row of one key: %v", err)
	}
	if err := exec(f, `INSERT INTO player VALUES ('p1', 'blue')`); !IsOrphan(err) || IsDuplicate(err) {
		t.Errorf("a row of nothing: %v", err)
	}
	if _, err := f.Readers.ExecContext(t.Context(), `DELETE FROM room`); err == nil {
		t.Error("a reader can write")
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", filepath.Base(name), st, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	// The next version brings a table more; the one before then knows too little.
	next := fstest.MapFS{"migrations/001_players.sql": players["migrations/001_players.sql"],
		"migrations/002_bets.sql": {Data: []byte("-- +goose Up\nCREATE TABLE bet (id TEXT PRIMARY KEY);\n")}}
	f = open(t, path, next)
	var room string
	if err := f.Readers.QueryRowContext(t.Context(), `SELECT id FROM room`).Scan(&room); err != nil || room != "red" {
		t.Errorf("found %q, %v", room, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, players, 2)
	want := path + " was written by a newer version (its tables are at 2, this program knows 1): run that version, or choose another data directory"
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFullDisk(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "game.db"), players)
	defer f.Close()
	if _, err := f.Writer.ExecContext(t.Context(), `PRAGMA max_page_count = 1`); err != nil { // the size that it has
		t.Fatal(err)
	}
	_, err := f.Writer.ExecContext(t.Context(), `INSERT INTO room VALUES (hex(randomblob(100000)))`)
	if !f.Full(err) {
		t.Errorf("a page too many: %v", err)
	}
	if told := f.ErrFull("add a room", err); ops.KindOf(told) != ops.Exhausted || !errors.Is(told, err) {
		t.Errorf("told: %v", told)
	}
	if !f.Full(fmt.Errorf("write: %w", unix.EDQUOT)) || f.Full(errors.New("no such table")) || f.Full(nil) {
		t.Error("another error is taken for a full disk, or a quota is not")
	}
}
