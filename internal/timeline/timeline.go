// Package timeline answers what a browser asks of an execution trace: what it
// looks like at any zoom, what a goroutine did and who woke it, what a selection
// adds up to. A trace is read once and its intervals kept in a file of their own,
// for as long as somebody looks; it knows nothing of captures beyond how to open an
// artifact.
package timeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// Config is what Timelines are made of. Only Open is needed.
type Config struct {
	// Open opens an artifact; NotFound if there is none. It may be called at the
	// same time.
	Open func(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
	// Dir takes the files of kept intervals, which have no name once they are open;
	// empty = the system's.
	Dir string
	// KeepBytes is how much may be kept of traces that nobody asks of any more; the
	// least recently asked gives way. 0 = 1 GiB.
	KeepBytes int64
	// Room says whether there is room for so many bytes, as an Exhausted error if
	// not; nil = always.
	Room func(ctx context.Context, bytes int64) error
	// Workers read parts of a trace at the same time, each with about 60 MB; 0 = 2, or
	// GOMAXPROCS if that is less: a third costs 60 MB for a tenth of the time.
	Workers int
	Logger  *slog.Logger // nil = silent
}

// Timelines are the traces that are open. They hold no goroutines: whoever asks
// first reads.
type Timelines struct {
	cfg Config
	// turn is held while a trace is read: a read takes some hundred megabytes.
	turn chan struct{}

	mu      sync.Mutex // guards what follows
	entries map[string]*entry
	kept    int64 // bytes of all entries that are ready
	clock   int64 // counts uses
	closed  bool
}

// entry is a trace that is open, or being opened.
type entry struct {
	key   string
	ready chan struct{} // closed once view or err is set

	view *View
	err  error

	// Guarded by Timelines.mu.
	users       int
	used        int64
	done, total int // parts read
}

// New makes Timelines, which must be closed.
func New(cfg Config) *Timelines {
	if cfg.KeepBytes == 0 {
		cfg.KeepBytes = 1 << 30
	}
	if cfg.Workers == 0 {
		cfg.Workers = min(2, runtime.GOMAXPROCS(0))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Timelines{cfg: cfg, turn: make(chan struct{}, 1), entries: map[string]*entry{}}
}

// Close forgets everything. Calls that are under way end as they would.
func (t *Timelines) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return t.shrink(0)
}

// Use calls fn with the timeline of a trace, which stays open meanwhile. The first
// who uses one reads it, and progress is told how many of how many parts have been
// read; nil = nobody wants to know. Invalid for what is no artifact's name, Conflict
// while it is still being recorded, Corrupt if none of it can be read.
func (t *Timelines) Use(ctx context.Context, ref ops.ArtifactRef, progress func(done, total int), fn func(*View) error) (err error) {
	if !ref.Valid() {
		return ops.Errorf(ops.Invalid, "%q is not the name of an artifact: take one from the capture's list of files", ref)
	}
	blob, a, err := t.cfg.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	key := a.SHA256
	switch {
	case key == "" && !a.Partial:
		return ops.Errorf(ops.Conflict, "%s is still being recorded: look again when the capture has ended", ref.Name)
	case key == "":
		key = fmt.Sprintf("%s, %d bytes", ref, blob.Size())
	}
	for {
		if again, err := t.once(ctx, key, blob, progress, fn); !again {
			return err
		}
	}
}

// once is Use of a trace that is open, or opens now; again = whoever read it has
// gone, and it is our turn.
func (t *Timelines) once(ctx context.Context, key string, blob ops.Blob, progress func(done, total int), fn func(*View) error) (again bool, err error) {
	e, first, err := t.enter(key)
	if err != nil {
		return false, err
	}
	defer t.leave(e)
	if first {
		t.build(ctx, e, blob, progress)
	} else {
		t.wait(ctx, e, progress)
	}
	select {
	case <-e.ready:
	default:
		return false, ctx.Err()
	}
	if e.err != nil {
		return !first && ctx.Err() == nil && errors.Is(e.err, context.Canceled), e.err
	}
	return false, fn(e.view)
}

// enter finds the entry of a trace, or makes one that the caller must build.
func (t *Timelines) enter(key string) (e *entry, first bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false, ops.Errorf(ops.Unavailable, "the centre is stopping: ask again when it is back")
	}
	if e = t.entries[key]; e == nil {
		e, first = &entry{key: key, ready: make(chan struct{})}, true
		t.entries[key] = e
	}
	t.clock++
	e.users, e.used = e.users+1, t.clock
	return e, first, nil
}

func (t *Timelines) leave(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.users--
	bound := t.cfg.KeepBytes
	if t.closed {
		bound = 0
	}
	if err := t.shrink(bound); err != nil {
		t.cfg.Logger.Warn("a timeline did not close cleanly", "err", err)
	}
}

// shrink closes what nobody uses, the least recently used first, until no more
// than bound bytes are kept. mu must be held.
func (t *Timelines) shrink(bound int64) (err error) {
	for t.kept > bound {
		var oldest *entry
		for _, e := range t.entries {
			if e.view != nil && e.users == 0 && (oldest == nil || e.used < oldest.used) {
				oldest = e
			}
		}
		if oldest == nil {
			return err // all are in use
		}
		delete(t.entries, oldest.key)
		t.kept -= oldest.view.sizeBytes
		err = errors.Join(err, oldest.view.file.Close())
	}
	return err
}

// build reads a trace for everyone who waits for it.
func (t *Timelines) build(ctx context.Context, e *entry, blob ops.Blob, progress func(done, total int)) {
	view, err := t.read(ctx, blob, func(done, total int) {
		t.mu.Lock()
		e.done, e.total = done, total
		t.mu.Unlock()
		if progress != nil {
			progress(done, total)
		}
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	e.view, e.err = view, err
	if err != nil {
		delete(t.entries, e.key)
	} else {
		t.kept += view.sizeBytes
	}
	close(e.ready)
}

// wait returns when the entry is ready or ctx ends.
func (t *Timelines) wait(ctx context.Context, e *entry, progress func(done, total int)) {
	tick := time.NewTicker(100 * time.Millisecond) // as often as people can read it
	defer tick.Stop()
	for told := 0; ; {
		select {
		case <-e.ready:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			t.mu.Lock()
			done, total := e.done, e.total
			t.mu.Unlock()
			if progress != nil && done > told {
				told = done
				progress(done, total)
			}
		}
	}
}

// bytesPerTraceByte is how much is kept of a trace: 1.5 to 1.6 times its size, as
// measured on web services.
const bytesPerTraceByte = 2

func (t *Timelines) read(ctx context.Context, blob ops.Blob, progress func(done, total int)) (_ *View, err error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t.cfg.Room != nil {
		if err := t.cfg.Room(ctx, bytesPerTraceByte*blob.Size()); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	tr, err := trace.Open(blob, blob.Size())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tr.Close()) }()
	file, err := unnamed(t.cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	a, err := tr.Analyze(ctx, trace.Options{Workers: t.cfg.Workers, Goroutines: 1, Keep: file, Progress: progress})
	if err != nil {
		return nil, err
	}
	v := newView(tr, a, file)
	// What reading took is garbage now, up to a hundred megabytes; left to itself the
	// collector would let the tiles add as much again before it looks.
	runtime.GC()
	intervals, _ := a.Timeline.Kept()
	t.cfg.Logger.Info("timeline opened", "intervals", intervals, "bytes", v.sizeBytes, "took", time.Since(began).Round(time.Millisecond))
	return v, nil
}

// file is one that is deleted when it is closed.
type file struct {
	*os.File
	name string // empty = it has none any more
}

func unnamed(dir string) (*file, error) {
	f, err := os.CreateTemp(dir, "timeline-*")
	if err != nil {
		return nil, fmt.Errorf("make a file for a timeline: %w", err)
	}
	name := f.Name()
	if os.Remove(name) == nil {
		name = "" // where open files cannot be removed, Close does it
	}
	return &file{f, name}, nil
}

func (f *file) Close() error {
	err := f.File.Close()
	if f.name != "" {
		err = errors.Join(err, os.Remove(f.name))
	}
	return err
}
