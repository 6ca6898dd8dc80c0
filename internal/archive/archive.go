// Package archive keeps captures: it runs the commit protocol over a catalogue
// of rows and a store of blobs, so that whatever it acknowledged is there after
// a kill or a power cut, and whatever it did not finish says so. It knows
// neither SQL nor file formats, nor where captures come from.
//
// The protocol: the row first (receiving), then the bytes; when size and
// SHA-256 are right, sync the bytes, row committing, rename, sync the
// directories, row done; only then does Commit return. Open puts in order what
// an earlier run left in between.
package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opscenter/opscenter/internal/ops"
)

// Config says what the archive is made of. Catalogue and Blobs are required; the
// archive closes neither.
type Config struct {
	Catalogue ops.Catalogue
	Blobs     ops.Blobs
	// Dir is on the disk that fills up: it holds the ballast and the lock that
	// keeps a second centre away. Empty = neither, for stores that are elsewhere.
	Dir       string
	Retention Retention
	// Reserve is the free space below which nothing new is accepted. 0 = 1 GiB or
	// 5 % of the disk, whichever is more; negative = none.
	Reserve int64
	// Ballast is the space set aside that is given up when the disk is full, so
	// that the database can record what happened. 0 = 64 MiB; negative = none.
	Ballast int64
	// OnFailure, if set, is called once, on a goroutine that must go on, with the
	// error that made the archive stop (a *FailStopError is in its chain). Run
	// returns the same error.
	OnFailure func(error)
	// Logger; nil = silence.
	Logger *slog.Logger
}

// Retention says how long captures are kept. Pinned captures are exempt and do
// not count; running ones are never touched.
type Retention struct {
	MaxAge   time.Duration // 0 = 30 days, negative = for ever
	MaxBytes int64         // 0 = 50 GiB, negative = no limit
	// Projects are those with bounds of their own; what is 0 there is as above. The
	// captures of a project with MaxBytes of its own count there alone.
	Projects map[ops.ProjectName]Retention
}

// Of returns the bounds of a project's captures, and whose bytes they share; ""
// = those of all without bytes of their own.
func (r Retention) Of(p ops.ProjectName) (bounds Retention, shared ops.ProjectName) {
	own, ok := r.Projects[p]
	if !ok {
		return r, ""
	}
	bounds = Retention{MaxAge: cmp.Or(own.MaxAge, r.MaxAge), MaxBytes: cmp.Or(own.MaxBytes, r.MaxBytes)}
	if own.MaxBytes != 0 {
		shared = p
	}
	return bounds, shared
}

// The defaults of Config.
const (
	DefaultMaxAge   = 30 * 24 * time.Hour
	DefaultMaxBytes = 50 << 30
	defaultReserve  = 1 << 30
	defaultBallast  = 64 << 20
)

// WithDefaults fills in what is zero.
func (r Retention) WithDefaults() Retention {
	if r.MaxAge == 0 {
		r.MaxAge = DefaultMaxAge
	}
	if r.MaxBytes == 0 {
		r.MaxBytes = DefaultMaxBytes
	}
	return r
}

// Archive keeps captures. All its methods may be called concurrently.
type Archive struct {
	rows      ops.Catalogue
	blobs     ops.Blobs
	log       *slog.Logger
	retention atomic.Pointer[Retention]
	bounded   chan struct{} // the bounds are others now
	space     *space
	lock      *os.File // nil without a Dir
	onFailure func(error)

	stored  atomic.Int64 // bytes of all artifacts
	failure atomic.Pointer[error]
	failed  chan struct{} // closed once failure is set

	mu     sync.Mutex // guards active, what is in it unless it says otherwise, and later
	active map[ops.CaptureID]*activity
	later  map[string]func(context.Context) error // writes that a full disk refused
}

// activity is what goes on with a capture at the moment.
type activity struct {
	running  bool // its state has not ended
	deleting bool
	uses     int // calls that rely on it to stay
	open     map[ops.ArtifactRef]bool
	received map[ops.InstanceID]int64 // bytes, by what sort of writer wrote them
	derived  map[ops.InstanceID]int64

	// row is held while the capture's row is read and written back, so that
	// pinning and ending do not undo each other.
	row sync.Mutex
}

// Open puts in order what an earlier run left behind and returns the archive.
// Conflict when another process has it open.
func Open(ctx context.Context, c Config) (*Archive, error) {
	if c.Catalogue == nil || c.Blobs == nil {
		return nil, errors.New("archive: a catalogue and a store of blobs are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Archive{
		rows: c.Catalogue, blobs: c.Blobs, log: c.Logger, onFailure: c.OnFailure,
		failed: make(chan struct{}), bounded: make(chan struct{}, 1), active: map[ops.CaptureID]*activity{}, later: map[string]func(context.Context) error{},
	}
	a.SetRetention(c.Retention)
	if c.Dir != "" {
		lock, err := lockDir(c.Dir)
		if err != nil {
			return nil, err
		}
		a.lock = lock
	}
	a.space = newSpace(c, a.log)
	err := a.recover(ctx)
	if ops.KindOf(err) == ops.Exhausted && a.space.releaseBallast() {
		err = a.recover(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("recover the archive: %w", err), a.Close())
	}
	a.space.remakeBallast(ctx)
	return a, nil
}

// SetRetention replaces the bounds; Run applies them at once when they differ: who
// lowers them wants the space.
func (a *Archive) SetRetention(r Retention) {
	r = r.WithDefaults()
	if old := a.retention.Swap(&r); old != nil && !reflect.DeepEqual(*old, r) {
		select {
		case a.bounded <- struct{}{}:
		default: // Run is told already
		}
	}
}

// Retention returns the bounds that count now.
func (a *Archive) Retention() Retention { return *a.retention.Load() }

// SetReserve replaces Config.Reserve.
func (a *Archive) SetReserve(bytes int64) { a.space.setReserve(bytes) }

// Close gives up the lock. It waits for nobody: end Run and all callers first.
func (a *Archive) Close() error {
	if a.lock == nil {
		return nil
	}
	return a.lock.Close()
}

// Run enforces retention, puts the ballast back and repeats what a full disk
// refused, until ctx ends. It returns nil then, or the error that made the
// archive stop: the caller must exit, for only a new start can tell what the
// disk holds.
func (a *Archive) Run(ctx context.Context) error {
	const (
		settleEvery = 10 * time.Second
		sweepEvery  = 5 * time.Minute
	)
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	var swept time.Time
	for {
		if now := time.Now(); now.Sub(swept) >= sweepEvery {
			swept = now
			if err := a.sweep(ctx, now); err != nil && ctx.Err() == nil {
				a.log.Warn("retention", "error", err)
			}
		}
		a.settle(ctx)
		a.space.remakeBallast(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-a.failed:
			return a.stopped()
		case <-a.bounded:
			swept = time.Time{}
		case <-tick.C:
		}
	}
}

// Status is how the archive does.
type Status struct {
	StoredBytes  int64
	FreeBytes    int64 // negative = unlimited
	ReserveBytes int64
	Retention    Retention
	// Problem says in words why nothing new is accepted; empty = all is well.
	Problem string
}

// Status returns how the archive does.
func (a *Archive) Status(ctx context.Context) Status {
	s := Status{StoredBytes: a.stored.Load(), ReserveBytes: a.space.reserve.Load(), Retention: *a.retention.Load()}
	var err error
	if s.FreeBytes, err = a.space.free(ctx); err != nil {
		s.Problem = "the free space cannot be determined: " + err.Error()
	}
	if err := a.space.check(ctx); err != nil {
		s.Problem = err.Error()
	}
	if err := a.stopped(); err != nil {
		s.Problem = err.Error()
	}
	return s
}

// FailStopError is an I/O error after which nobody can tell what is on the disk
// without reading it again.
type FailStopError struct {
	Op  string
	Err error
}

func (e *FailStopError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the I/O error.
func (e *FailStopError) Unwrap() error { return e.Err }

// fail stops the archive for good and returns what callers get from now on.
func (a *Archive) fail(op string, err error) error {
	stop := ops.Errorf(ops.Unavailable, "the archive stopped after a storage error (%w): restart the centre, it keeps everything it acknowledged", &FailStopError{Op: op, Err: err})
	if a.failure.CompareAndSwap(nil, &stop) {
		close(a.failed)
		a.log.Error("the archive stopped", "op", op, "error", err)
		if a.onFailure != nil {
			a.onFailure(stop)
		}
	}
	return a.stopped()
}

// stopped returns the error that stopped the archive, if any.
func (a *Archive) stopped() error {
	if err := a.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// change runs something that writes rows. When the disk is full the ballast is
// given up and it is tried once more; an error that no caller can do anything
// about stops the archive.
func (a *Archive) change(ctx context.Context, op string, fn func() error) error {
	if err := a.stopped(); err != nil {
		return err
	}
	err := fn()
	if ops.KindOf(err) == ops.Exhausted && a.space.releaseBallast() {
		err = fn()
	}
	return a.judge(ctx, op, err)
}

// judge lets an error of the catalogue stop the archive unless it is one that a
// caller can do something about.
func (a *Archive) judge(ctx context.Context, op string, err error) error {
	if err != nil && ops.KindOf(err) == ops.Internal && ctx.Err() == nil {
		return a.fail(op, err)
	}
	return err
}

// postpone remembers a write that a full disk refused. Run repeats it until it
// succeeds; if the program ends before, recovery comes to the same result.
func (a *Archive) postpone(key string, fn func(context.Context) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.later[key] = fn
}

func (a *Archive) settle(ctx context.Context) {
	a.mu.Lock()
	todo := a.later
	a.later = map[string]func(context.Context) error{}
	a.mu.Unlock()
	for key, fn := range todo {
		if err := fn(ctx); ops.KindOf(err) == ops.Exhausted || ctx.Err() != nil {
			a.postpone(key, fn)
		} else if err != nil {
			a.log.Warn("a postponed write was given up", "what", key, "error", err)
		}
	}
}

// use registers a call that relies on a capture to stay. The caller calls
// release when it is done.
func (a *Archive) use(id ops.CaptureID) (act *activity, release func(), err error) {
	if !id.Valid() {
		return nil, nil, noCapture(id)
	}
	if err := a.stopped(); err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	act = a.active[id]
	if act == nil {
		act = newActivity()
		a.active[id] = act
	}
	if act.deleting {
		return nil, nil, ops.Errorf(ops.Conflict, "capture %s is being deleted", id)
	}
	act.uses++
	return act, sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		act.uses--
		a.dropIdle(id, act)
	}), nil
}

// dropIdle forgets an activity nobody needs any more. It is called with mu held.
func (a *Archive) dropIdle(id ops.CaptureID, act *activity) {
	if act.uses == 0 && !act.running && !act.deleting && a.active[id] == act {
		delete(a.active, id)
	}
}

func newActivity() *activity {
	return &activity{open: map[ops.ArtifactRef]bool{}, received: map[ops.InstanceID]int64{}, derived: map[ops.InstanceID]int64{}}
}

// lockDir takes the lock of a data directory; the system gives it back however
// the program ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ops.Errorf(ops.Conflict, "another centre is using %s: stop it first, or choose another data directory", dir)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func noCapture(id ops.CaptureID) error {
	return ops.Errorf(ops.NotFound, "there is no capture %q", id)
}
