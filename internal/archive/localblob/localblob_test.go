package localblob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestBlobs(t *testing.T) {
	opstest.TestBlobs(t, func(t *testing.T) (ops.Blobs, func() ops.Blobs) {
		dir := filepath.Join(t.TempDir(), "a", "blobs")
		return open(t, dir), func() ops.Blobs { return open(t, dir) }
	})
}

func TestFilesAreWhereTheDocumentationSays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ref := ops.ArtifactRef{Capture: "01capture", Instance: "boot-0", Name: "cpu.pprof"}
	p, err := s.Part(t.Context(), ref)
	must(t, err)
	_, err = io.WriteString(p, "x")
	must(t, err)
	wantTree(t, dir, "part/01capture/boot-0/cpu.pprof")
	must(t, p.Sync())
	must(t, p.Finalize())
	wantTree(t, dir, "done/01capture/boot-0/cpu.pprof")
	where, err := s.Quarantine(t.Context(), ref)
	must(t, err)
	if want := filepath.Join(dir, "quarantine", "01capture.boot-0.cpu.pprof.done"); where != want {
		t.Errorf("got %s, want %s", where, want)
	}
	wantTree(t, dir, "quarantine/01capture.boot-0.cpu.pprof.done")
	st, err := os.Stat(where)
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("profiles hold secrets, but others may read them: %v", st.Mode())
	}
}

func TestStrayFilesAreMovedAsideAndNothingIsDeleted(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	must(t, open(t, dir).Close())
	must(t, os.MkdirAll(filepath.Join(dir, "done", "01capture", "boot-0", "a-directory"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "part", "02capture", "boot-0"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "done", "UPPER", "boot-0"), 0o700))
	for _, f := range []string{"done/notes.txt", "done/01capture/notes.txt", "done/01capture/boot-0/cpu.pprof", "done/01capture/boot-0/.hidden", "done/UPPER/boot-0/f", "part/notes.txt"} {
		must(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
	}
	must(t, os.Symlink(outside, filepath.Join(dir, "done/01capture/boot-0/link")))

	var log bytes.Buffer
	s, err := Open(Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer s.Close()
	wantTree(t, dir, "done/01capture/boot-0/cpu.pprof", "quarantine/stray..hidden", "quarantine/stray.UPPER/boot-0/f", "quarantine/stray.a-directory",
		"quarantine/stray.link", "quarantine/stray.notes.txt", "quarantine/stray.notes.txt.2", "quarantine/stray.notes.txt.3")
	if n := strings.Count(log.String(), "moved a file that has no place among the blobs"); n != 7 {
		t.Errorf("%d lines logged, want 7:\n%s", n, log.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "part", "02capture")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty directory of parts is still there: %v", err)
	}
}

// A second centre that is started by mistake opens the store before it notices.
func TestStoreOpenedTwiceGoesOn(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	for _, file := range []string{"cpu.pprof", "heap.pprof"} {
		p, err := first.Part(t.Context(), ops.ArtifactRef{Capture: "01capture", Instance: "boot-0", Name: file})
		must(t, err)
		must(t, p.Sync())
		must(t, p.Finalize())
		must(t, open(t, dir).Close())
	}
	wantTree(t, dir, "done/01capture/boot-0/cpu.pprof", "done/01capture/boot-0/heap.pprof")
}

func TestLinksLeadNowhere(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "cpu.pprof"), []byte("secret"), 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "done", "01capture"), 0o700))
	must(t, os.Symlink(outside, filepath.Join(dir, "done", "01capture", "boot-0")))
	ref := ops.ArtifactRef{Capture: "01capture", Instance: "boot-0", Name: "cpu.pprof"}
	if b, err := s.Open(t.Context(), ref); err == nil {
		b.Close()
		t.Error("a link out of the store was followed")
	}
	if err := s.Delete(t.Context(), ref); err == nil {
		t.Error("a file outside the store was deleted")
	}
	if _, err := os.Stat(filepath.Join(outside, "cpu.pprof")); err != nil {
		t.Error(err)
	}
}

func TestFullDiskIsExhausted(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		err := fmt.Errorf("open part x: %w", full(&os.PathError{Op: "write", Path: "x", Err: errno}))
		if ops.KindOf(err) != ops.Exhausted || !errors.Is(err, errno) {
			t.Errorf("%v has kind %s", err, ops.KindOf(err))
		}
	}
	if err := full(syscall.EIO); ops.KindOf(err) != ops.Internal {
		t.Errorf("%v has kind %s", err, ops.KindOf(err))
	}
	if full(nil) != nil {
		t.Error("no error became one")
	}
}

// wantTree compares the files and empty leaves below dir.
func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil && (!d.IsDir() || strings.Count(rel, "/") == 1 && strings.HasPrefix(rel, "quarantine/") && isEmpty(path)) {
			got = append(got, filepath.ToSlash(rel))
		}
		return err
	}))
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
