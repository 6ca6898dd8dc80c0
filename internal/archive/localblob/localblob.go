// Package localblob keeps the bytes of artifacts as files below one directory:
// ops.Blobs. It knows nothing of rows, nor of when a blob may be deleted.
//
//	part/<capture>/<instance>/<name>   grows
//	done/<capture>/<instance>/<name>   final
//	quarantine/…                       what nobody knows; for people to look at
//
// Whatever it calls durable was synced to the disk, and so was every directory
// entry that leads to it.
package localblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/opscenter/opscenter/internal/ops"
)

const (
	partDir       = "part"
	doneDir       = "done"
	quarantineDir = "quarantine"
)

// Config says where the files are.
type Config struct {
	// Dir is made if it does not exist; empty = "blobs".
	Dir string
	// Logger hears of files that were moved aside; nil = nobody.
	Logger *slog.Logger
}

// Store is an ops.Blobs on a local file system.
type Store struct {
	dir  string
	root *os.Root // every access goes through it: no name leads outside

	mu    sync.Mutex // guards known
	known map[string]struct{}
}

var _ ops.Blobs = (*Store)(nil)

// Open opens the store, or makes it. Files that have no place in it are moved to
// the quarantine.
func Open(c Config) (*Store, error) {
	if c.Dir == "" {
		c.Dir = "blobs"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", full(err))
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	s := &Store{dir: c.Dir, root: root, known: map[string]struct{}{}}
	err = syncPath(filepath.Dir(c.Dir))
	for _, d := range []string{partDir, doneDir, quarantineDir} {
		err = errors.Join(err, s.makeDir(d))
	}
	if err == nil {
		err = s.tidy(c.Logger)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open blobs: %w", err), root.Close())
	}
	return s, nil
}

// Close closes the store. Parts and blobs that are open stay so.
func (s *Store) Close() error { return s.root.Close() }

// Part implements ops.Blobs.
func (s *Store) Part(_ context.Context, ref ops.ArtifactRef) (ops.Part, error) {
	if !ref.Valid() {
		return nil, invalid(ref)
	}
	if final, err := s.exists(doneDir, ref); err != nil {
		return nil, fmt.Errorf("open part %s: %w", ref, err)
	} else if final {
		return nil, ops.Errorf(ops.Conflict, "blob %s is final", ref)
	}
	f, err := s.openPart(ref)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody opened the store a second time, which removes empty directories.
		s.forget(path.Dir(path.Dir(name(partDir, ref))))
		f, err = s.openPart(ref)
	}
	if err != nil {
		return nil, fmt.Errorf("open part %s: %w", ref, full(err))
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = ops.Errorf(ops.Corrupt, "part %s is not a file", ref)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open part %s: %w", ref, err), f.Close())
	}
	return &part{store: s, ref: ref, file: f, size: st.Size()}, nil
}

func (s *Store) openPart(ref ops.ArtifactRef) (*os.File, error) {
	if err := s.makeDir(path.Dir(name(partDir, ref))); err != nil {
		return nil, err
	}
	return s.root.OpenFile(name(partDir, ref), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// part is a file below part/.
type part struct {
	store   *Store
	ref     ops.ArtifactRef
	file    *os.File
	size    int64
	entered bool // its directory entry is durable
}

func (p *part) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.size += int64(n)
	return n, full(err)
}

func (p *part) Size() int64 { return p.size }

func (p *part) Sync() error {
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("sync part %s: %w", p.ref, err)
	}
	if p.entered {
		return nil
	}
	if err := p.store.syncDir(path.Dir(name(partDir, p.ref))); err != nil {
		return fmt.Errorf("sync part %s: %w", p.ref, err)
	}
	p.entered = true
	return nil
}

// Finalize may be tried again when it is Exhausted: nothing has moved then.
func (p *part) Finalize() error {
	from, to := name(partDir, p.ref), name(doneDir, p.ref)
	if final, err := p.store.exists(doneDir, p.ref); err != nil {
		return fmt.Errorf("finalize %s: %w", p.ref, err)
	} else if final {
		return ops.Errorf(ops.Conflict, "blob %s is final", p.ref)
	}
	err := p.store.makeDir(path.Dir(to))
	if err == nil {
		err = p.store.root.Rename(from, to)
	}
	if err != nil {
		return fmt.Errorf("finalize %s: %w", p.ref, full(err))
	}
	// From here on an error leaves open where a power cut would find the blob.
	err = errors.Join(p.store.syncDir(path.Dir(to)), p.store.syncDir(path.Dir(from)), p.file.Close())
	if err != nil {
		return fmt.Errorf("finalize %s: %w", p.ref, err)
	}
	return nil
}

func (p *part) Close() error {
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("close part %s: %w", p.ref, err)
	}
	return nil
}

// Open implements ops.Blobs.
func (s *Store) Open(_ context.Context, ref ops.ArtifactRef) (ops.Blob, error) {
	if !ref.Valid() {
		return nil, invalid(ref)
	}
	// Twice done: a part may become final between the two looks.
	for _, d := range []string{doneDir, partDir, doneDir} {
		f, err := s.root.Open(name(d, ref))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open blob %s: %w", ref, err)
		}
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = ops.Errorf(ops.Corrupt, "blob %s is not a file", ref)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open blob %s: %w", ref, err), f.Close())
		}
		return &blob{SectionReader: io.NewSectionReader(f, 0, st.Size()), file: f}, nil
	}
	return nil, ops.Errorf(ops.NotFound, "there is no file of %s", ref)
}

// blob is a file as long as it was when it was opened.
type blob struct {
	*io.SectionReader
	file *os.File
}

func (b *blob) Close() error { return b.file.Close() }

// Final implements ops.Blobs.
func (s *Store) Final(_ context.Context, ref ops.ArtifactRef) (bool, error) {
	if !ref.Valid() {
		return false, invalid(ref)
	}
	return s.exists(doneDir, ref)
}

// Delete implements ops.Blobs.
func (s *Store) Delete(_ context.Context, ref ops.ArtifactRef) error {
	if !ref.Valid() {
		return invalid(ref)
	}
	for _, d := range []string{partDir, doneDir} {
		err := s.root.Remove(name(d, ref))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = s.syncDir(path.Dir(name(d, ref)))
		}
		if err != nil {
			return fmt.Errorf("delete blob %s: %w", ref, err)
		}
	}
	return nil
}

// DeleteCapture implements ops.Blobs.
func (s *Store) DeleteCapture(_ context.Context, id ops.CaptureID) error {
	if !id.Valid() {
		return ops.Errorf(ops.Invalid, "%q is no capture id", id)
	}
	for _, d := range []string{partDir, doneDir} {
		dir := path.Join(d, string(id))
		if _, err := s.root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err := s.root.RemoveAll(dir)
		s.forget(dir)
		if err == nil {
			err = s.syncDir(d)
		}
		if err != nil {
			return fmt.Errorf("delete blobs of %s: %w", id, err)
		}
	}
	return nil
}

// List implements ops.Blobs.
func (s *Store) List(ctx context.Context, fn func(ops.ArtifactRef, bool, int64) error) error {
	for _, d := range []string{partDir, doneDir} {
		err := s.walk(d, func(ref ops.ArtifactRef, e fs.DirEntry) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			st, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it moved on meanwhile
			}
			if err != nil {
				return err
			}
			return fn(ref, d == doneDir, st.Size())
		}, nil)
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
	}
	return nil
}

// Quarantine implements ops.Blobs.
func (s *Store) Quarantine(_ context.Context, ref ops.ArtifactRef) (string, error) {
	if !ref.Valid() {
		return "", invalid(ref)
	}
	where := ""
	for _, d := range []string{doneDir, partDir} {
		from := name(d, ref)
		if _, err := s.root.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		to, err := s.setAside(from, string(ref.Capture)+"."+string(ref.Instance)+"."+ref.Name+"."+d)
		if err != nil {
			return "", fmt.Errorf("quarantine %s: %w", ref, err)
		}
		if where == "" {
			where = to
		}
	}
	if where == "" {
		return "", ops.Errorf(ops.NotFound, "there is no file of %s", ref)
	}
	return filepath.Join(s.dir, filepath.FromSlash(where)), nil
}

// Free implements ops.Blobs.
func (s *Store) Free(context.Context) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // other systems have other types here
}

// tidy moves aside what has no place in the store and removes the directories
// of parts that have all become final.
func (s *Store) tidy(log *slog.Logger) error {
	for _, d := range []string{partDir, doneDir} {
		err := s.walk(d, nil, func(stray string) error {
			to, err := s.setAside(stray, "stray."+path.Base(stray))
			if err == nil {
				log.Warn("moved a file that has no place among the blobs", "file", stray, "to", to)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	captures, err := s.readDir(partDir)
	if err != nil {
		return err
	}
	for _, c := range captures {
		dir := path.Join(partDir, c.Name())
		instances, err := s.readDir(dir)
		if err != nil {
			return err
		}
		for _, i := range instances {
			_ = s.root.Remove(path.Join(dir, i.Name())) // refused while something is in it
		}
		_ = s.root.Remove(dir)
	}
	return nil
}

// walk calls file for what is where a blob belongs and stray for all else.
// Either may be nil.
func (s *Store) walk(d string, file func(ops.ArtifactRef, fs.DirEntry) error, stray func(string) error) error {
	none := func(string) error { return nil }
	if stray == nil {
		stray = none
	}
	captures, err := s.readDir(d)
	if err != nil {
		return err
	}
	for _, c := range captures {
		at := path.Join(d, c.Name())
		if !c.IsDir() || !ops.CaptureID(c.Name()).Valid() {
			if err := stray(at); err != nil {
				return err
			}
			continue
		}
		instances, err := s.readDir(at)
		if err != nil {
			return err
		}
		for _, i := range instances {
			at := path.Join(at, i.Name())
			if !i.IsDir() || !ops.InstanceID(i.Name()).Valid() {
				if err := stray(at); err != nil {
					return err
				}
				continue
			}
			files, err := s.readDir(at)
			if err != nil {
				return err
			}
			for _, f := range files {
				ref := ops.ArtifactRef{Capture: ops.CaptureID(c.Name()), Instance: ops.InstanceID(i.Name()), Name: f.Name()}
				if !f.Type().IsRegular() || !ref.Valid() {
					err = stray(path.Join(at, f.Name()))
				} else if file != nil {
					err = file(ref, f)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// readDir lists a directory; one that was deleted meanwhile is empty.
func (s *Store) readDir(dir string) ([]fs.DirEntry, error) {
	f, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

// setAside moves a file or directory into the quarantine, under a name that is
// free there.
func (s *Store) setAside(from, as string) (string, error) {
	if len(as) > 240 {
		as = as[:240]
	}
	to := path.Join(quarantineDir, as)
	for n := 2; ; n++ {
		if _, err := s.root.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		to = path.Join(quarantineDir, fmt.Sprintf("%s.%d", as, n))
	}
	if err := s.root.Rename(from, to); err != nil {
		return "", full(err)
	}
	return to, errors.Join(s.syncDir(quarantineDir), s.syncDir(path.Dir(from)))
}

func (s *Store) exists(d string, ref ops.ArtifactRef) (bool, error) {
	_, err := s.root.Lstat(name(d, ref))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// makeDir makes a directory and those above it, each entry durable.
func (s *Store) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	s.mu.Lock()
	_, known := s.known[dir]
	s.mu.Unlock()
	if known {
		return nil
	}
	if err := s.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Even if it was there: its maker may not have come this far.
	if err := s.syncDir(path.Dir(dir)); err != nil {
		return err
	}
	s.mu.Lock()
	s.known[dir] = struct{}{}
	s.mu.Unlock()
	return nil
}

// forget makes makeDir look again at a directory and all below it.
func (s *Store) forget(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.known {
		if k == dir || len(k) > len(dir) && k[:len(dir)] == dir && k[len(dir)] == '/' {
			delete(s.known, k)
		}
	}
}

func (s *Store) syncDir(dir string) error {
	f, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// full gives an error its kind if the disk, or the owner's share of it, is full.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return ops.Errorf(ops.Exhausted, "the disk is full: free some space (%w)", err)
	}
	return err
}

func name(d string, ref ops.ArtifactRef) string {
	return path.Join(d, string(ref.Capture), string(ref.Instance), ref.Name)
}

func invalid(ref ops.ArtifactRef) error {
	return ops.Errorf(ops.Invalid, "%q is no name of an artifact", ref)
}
