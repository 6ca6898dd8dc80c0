// Package examine brings what is to be diagnosed before the rules: a capture of
// the archive, a bundle, a directory, single files, or a running program that
// serves net/http/pprof. It decides nothing about what is wrong, and keeps
// nothing but temporary files, which are gone when it returns.
package examine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/diagnosis"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// Options of an examination. The zero value works.
type Options struct {
	// Duration of the window on a running program; 0 = 10 s.
	Duration time.Duration
	// Progress is told what goes on; nil = nobody listens.
	Progress func(activity string, done, whole time.Duration)
	// TempDir takes what must be read at random; "" = the system's.
	TempDir string
	// Binary is the executable of the processes: it tells the types of their heaps
	// where they could not; "" = none.
	Binary string
	// Keep is a directory that gets the artifacts of a running program; "" = they
	// are dropped.
	Keep string
}

// DefaultDuration of a window on a running program: a verdict is wanted soon.
const DefaultDuration = 10 * time.Second

// Result is what was found out about all instances of one window.
type Result struct {
	Diagnoses []ops.Diagnosis
	Outliers  []ops.Outlier
}

func resultOf(all []ops.Diagnosis) Result {
	return Result{Diagnoses: all, Outliers: diagnosis.Outliers(all)}
}

// Capture diagnoses each instance of a capture whose artifacts open gives; more
// are files of all of them, such as their executable. An
// instance without a single artifact is diagnosed from what it lost.
func Capture(ctx context.Context, c ops.Capture, open func(context.Context, ops.ArtifactRef) (ops.Blob, error), more ...evidence.File) (Result, error) {
	var all []ops.Diagnosis
	for _, t := range c.Targets {
		d, err := target(ctx, c, t, open, more)
		if err != nil {
			return Result{}, err
		}
		all = append(all, d)
	}
	return resultOf(all), nil
}

func target(ctx context.Context, c ops.Capture, t ops.CaptureTarget, open func(context.Context, ops.ArtifactRef) (ops.Blob, error), more []evidence.File) (ops.Diagnosis, error) {
	losses := slices.Clone(t.Losses)
	var files []evidence.File
	var opened closers
	defer func() { opened.close() }()
	for _, a := range t.Artifacts {
		losses = append(losses, a.Losses...)
		b, err := open(ctx, ops.ArtifactRef{Capture: c.ID, Instance: t.Instance.ID, Name: a.Name})
		if err != nil {
			if ctx.Err() != nil {
				return ops.Diagnosis{}, ctx.Err()
			}
			losses = append(losses, ops.Loss{Kind: a.Kind, Reason: ops.LossFailed, Message: fmt.Sprintf("%s could not be opened: %v", a.Name, err)})
			continue
		}
		opened = append(opened, b)
		files = append(files, evidence.File{Name: a.Name, Reader: b, Size: b.Size()})
	}
	d, err := load(ctx, append(files, more...), evidence.Options{Instance: t.Instance, Losses: unique(losses), Trigger: c.Spec.Trigger})
	if ops.KindOf(err) == ops.Invalid {
		// Nothing of it could be read: the rules say what they would have needed.
		return diagnosis.Diagnose(ctx, &evidence.Evidence{Instance: t.Instance, Losses: unique(losses), Frames: evidence.NewFrames("")})
	}
	if err != nil {
		return ops.Diagnosis{}, err
	}
	if d.Start.IsZero() {
		d.Start = t.WindowStart
	}
	return d, nil
}

func load(ctx context.Context, files []evidence.File, o evidence.Options) (ops.Diagnosis, error) {
	e, err := evidence.Load(ctx, files, o)
	if err != nil {
		return ops.Diagnosis{}, err
	}
	return diagnosis.Diagnose(ctx, e)
}

func unique(losses []ops.Loss) (out []ops.Loss) {
	for _, l := range losses {
		if !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// Paths diagnoses what lies on disk: a bundle, a directory (a capture's, with a
// directory for each instance, or one of files), or files of one instance.
func Paths(ctx context.Context, paths []string, o Options) (Result, error) {
	more, done, err := executable(o.Binary)
	if err != nil {
		return Result{}, err
	}
	defer done()
	if len(paths) == 1 {
		info, err := os.Stat(paths[0])
		if err != nil {
			return Result{}, pathError(paths[0], err)
		}
		if info.IsDir() {
			return directory(ctx, paths[0], more)
		}
		if zipped(paths[0]) {
			return bundle(ctx, paths[0], o, more)
		}
	}
	d, err := onDisk(ctx, paths, more)
	if err != nil {
		return Result{}, err
	}
	return resultOf([]ops.Diagnosis{d}), nil
}

// closers are what was opened to be read.
type closers []io.Closer

func (all closers) close() {
	for _, c := range all {
		_ = c.Close() // it was only read
	}
}

func pathError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ops.Errorf(ops.NotFound, "there is no file or directory %q", path)
	case errors.Is(err, fs.ErrPermission):
		return ops.Errorf(ops.Denied, "%q may not be read", path)
	}
	return fmt.Errorf("reading %q: %w", path, err)
}

// regular follows links: a volume of Kubernetes has nothing else.
func regular(path string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func zipped(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // it was only read
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "PK\x03\x04"
}

// onDisk diagnoses files of one instance.
func onDisk(ctx context.Context, paths []string, more []evidence.File) (ops.Diagnosis, error) {
	files := slices.Clone(more)
	var opened closers
	defer func() { opened.close() }()
	for _, p := range paths {
		info, err := os.Stat(p) // before it is opened: a pipe that nobody writes would hold us
		switch {
		case err != nil:
			return ops.Diagnosis{}, pathError(p, err)
		case info.IsDir():
			return ops.Diagnosis{}, ops.Errorf(ops.Invalid, "%q is a directory: give it alone, or the files in it", p)
		case !info.Mode().IsRegular():
			return ops.Diagnosis{}, ops.Errorf(ops.Invalid, "%q is no regular file: save what it gives to one first", p)
		}
		f, err := os.Open(p)
		if err != nil {
			return ops.Diagnosis{}, pathError(p, err)
		}
		opened = append(opened, f)
		files = append(files, evidence.File{Name: p, Reader: f, Size: info.Size()})
	}
	return load(ctx, files, evidence.Options{})
}

// directory diagnoses the files of a directory as one instance, and each
// directory in it that has files as another.
func directory(ctx context.Context, dir string, more []evidence.File) (Result, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Result{}, pathError(dir, err)
	}
	var here []string
	var all []ops.Diagnosis
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() {
			if regular(path, e) && !strings.HasPrefix(e.Name(), ".") && e.Name() != "manifest.json" && e.Name() != "findings.json" {
				here = append(here, path)
			}
			continue
		}
		below, err := os.ReadDir(path)
		if err != nil {
			return Result{}, pathError(path, err)
		}
		var files []string
		for _, f := range below {
			if regular(filepath.Join(path, f.Name()), f) && !strings.HasPrefix(f.Name(), ".") {
				files = append(files, filepath.Join(path, f.Name()))
			}
		}
		if len(files) == 0 {
			continue
		}
		d, err := onDisk(ctx, files, more)
		if ops.KindOf(err) == ops.Invalid {
			continue // a directory of something else
		}
		if err != nil {
			return Result{}, err
		}
		all = append(all, d)
	}
	if len(here) > 0 {
		d, err := onDisk(ctx, here, more)
		switch {
		case err == nil:
			all = append(all, d)
		case ops.KindOf(err) != ops.Invalid || len(all) == 0:
			return Result{}, err
		}
	}
	if len(all) == 0 {
		return Result{}, ops.Errorf(ops.Invalid, "%q has no artifacts: give a directory with profiles, traces or goroutine dumps", dir)
	}
	return resultOf(all), nil
}

// bundle unpacks an exported capture, an instance at a time, checking each file.
func bundle(ctx context.Context, path string, o Options, more []evidence.File) (Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return Result{}, pathError(path, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return Result{}, pathError(path, err)
	}
	b, err := archive.OpenBundle(f, info.Size())
	if err != nil {
		return Result{}, err
	}
	return Capture(ctx, b.Capture, func(ctx context.Context, ref ops.ArtifactRef) (ops.Blob, error) {
		t, err := newTemp(o.TempDir)
		if err != nil {
			return nil, err
		}
		if err := b.Extract(ctx, ref.Instance, ref.Name, t); err != nil {
			return nil, errors.Join(err, t.Close())
		}
		return t, nil
	}, more...)
}

// executable opens a process's binary; nothing if there is none.
func executable(path string) (more []evidence.File, done func(), err error) {
	if path == "" {
		return nil, func() {}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, pathError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ops.Errorf(ops.Invalid, "%q is no executable: give the program's own file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, pathError(path, err)
	}
	done = func() { _ = f.Close() } // it was only read
	var magic [4]byte
	if _, rerr := io.ReadFull(f, magic[:]); rerr != nil || string(magic[:]) != "\x7fELF" {
		err = ops.Errorf(ops.Invalid, "%q is no executable for Linux: give the program's own file", path)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return []evidence.File{{Name: path, Reader: f, Size: info.Size()}}, done, nil
}

// temp is a file that nobody else sees, and that is gone when it is closed.
type temp struct {
	*os.File
	size int64
}

func newTemp(dir string) (*temp, error) {
	f, err := os.CreateTemp(dir, "ops-diagnose-*")
	if err != nil {
		return nil, ops.Errorf(ops.Exhausted, "no temporary file can be made: %w: set TMPDIR to a directory with room", err)
	}
	return &temp{File: f}, nil
}

func (t *temp) Write(p []byte) (int, error) {
	n, err := t.File.Write(p)
	t.size += int64(n)
	return n, err
}

func (t *temp) Size() int64 { return t.size }

func (t *temp) Close() error { return errors.Join(t.File.Close(), os.Remove(t.Name())) }
