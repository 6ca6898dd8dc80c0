package sqlite

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/sqlitefile"
)

// anchor is a small file that says where the record ends. It has two places,
// written in turn, so that a write which a power cut tears leaves the one before.
type anchor struct {
	mu   sync.Mutex // guards next, and is held while the file is written
	file *os.File
	next int64 // the place to write
}

const (
	anchorBytes  = 256 // of one place
	anchorPlaces = 2
	anchorMagic  = "opscenter.audit-head/1"
)

func openAnchor(path string) (*anchor, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	a := &anchor{file: f}
	st, err := f.Stat()
	if err == nil && st.Size() < anchorPlaces*anchorBytes {
		// All of its room is taken now, while there is some.
		if _, err = f.WriteAt(bytes.Repeat([]byte(" "), int(anchorPlaces*anchorBytes-st.Size())), st.Size()); err == nil {
			err = f.Sync()
		}
		if err == nil {
			err = sqlitefile.SyncDir(filepath.Dir(path))
		}
	}
	if err == nil {
		var place int64
		if _, place, err = a.read(); err == nil {
			a.next = (place + 1) % anchorPlaces
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return a, nil
}

func (a *anchor) set(h audit.Head) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := fmt.Sprintf("%s %d %s", anchorMagic, h.Rows, h.Hash)
	line := fmt.Sprintf("%s %08x", said, crc32.ChecksumIEEE([]byte(said)))
	if len(line) >= anchorBytes {
		return fmt.Errorf("the end is %d bytes long", len(line))
	}
	padded := line + strings.Repeat(" ", anchorBytes-1-len(line)) + "\n"
	if _, err := a.file.WriteAt([]byte(padded), a.next*anchorBytes); err != nil {
		return err
	}
	if err := a.file.Sync(); err != nil {
		return err
	}
	a.next = (a.next + 1) % anchorPlaces
	return nil
}

func (a *anchor) get() (audit.Head, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h, _, err := a.read()
	return h, err
}

// read returns the later of both places, and which it is. A place that was torn,
// or never written, says nothing.
func (a *anchor) read() (h audit.Head, place int64, err error) {
	b := make([]byte, anchorPlaces*anchorBytes)
	if n, err := a.file.ReadAt(b, 0); err != nil && err != io.EOF { //nolint:errorlint // ReadAt returns io.EOF itself
		return h, 0, err
	} else if n < len(b) {
		b = b[:n]
	}
	for i := int64(0); (i+1)*anchorBytes <= int64(len(b)); i++ {
		f := strings.Fields(string(b[i*anchorBytes : (i+1)*anchorBytes]))
		if len(f) != 4 || f[0] != anchorMagic || f[3] != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(strings.Join(f[:3], " ")))) {
			continue
		}
		var rows int64
		if _, err := fmt.Sscanf(f[1], "%d", &rows); err != nil {
			continue
		}
		if rows >= h.Rows {
			h, place = audit.Head{Rows: rows, Hash: f[2]}, i
		}
	}
	return h, place, nil
}

func (a *anchor) close() error { return a.file.Close() }
