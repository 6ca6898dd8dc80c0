package archive

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/opscenter/opscenter/internal/ops"
)

// space watches the disk: the reserve that is never written to, and the ballast
// that is given up when the disk is full all the same, because somebody else
// fills it.
type space struct {
	blobs   ops.Blobs
	dir     string
	log     *slog.Logger
	reserve atomic.Int64

	// left is the free space as last seen, less what was written since; seen is
	// when (Unix nanoseconds).
	left, seen atomic.Int64

	ballastBytes int64
	ballastMu    sync.Mutex // one change to the ballast file at a time
}

const freeSpaceFor = 250 * time.Millisecond

func newSpace(c Config, log *slog.Logger) *space {
	s := &space{blobs: c.Blobs, dir: c.Dir, log: log, ballastBytes: c.Ballast}
	s.setReserve(c.Reserve)
	if s.ballastBytes == 0 {
		s.ballastBytes = defaultBallast
	}
	return s
}

// setReserve takes Config.Reserve.
func (s *space) setReserve(bytes int64) {
	if bytes == 0 {
		bytes = defaultReserve
		var st unix.Statfs_t
		if s.dir != "" && unix.Statfs(s.dir, &st) == nil {
			bytes = max(bytes, int64(st.Blocks)*int64(st.Bsize)/20) //nolint:unconvert // other systems have other types here
		}
	}
	s.reserve.Store(max(bytes, 0))
}

// free returns the free bytes of the fuller of the two places, or -1 where
// neither knows a limit.
func (s *space) free(ctx context.Context) (int64, error) {
	free, err := s.blobs.Free(ctx)
	if err != nil {
		return 0, err
	}
	if s.dir == "" {
		return free, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: s.dir, Err: err}
	}
	here := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // other systems have other types here
	if free < 0 {
		return here, nil
	}
	return min(free, here), nil
}

// check is Exhausted while the reserve is not there.
func (s *space) check(ctx context.Context) error {
	s.seen.Store(0)
	return s.take(ctx, 0)
}

// take accounts for n bytes about to be written, or is Exhausted if they would
// eat into the reserve. It looks at the disk only now and then.
func (s *space) take(ctx context.Context, n int64) error {
	reserve := s.reserve.Load()
	if reserve == 0 {
		return nil
	}
	left := s.left.Add(-n)
	now := time.Now().UnixNano()
	if left >= reserve && now-s.seen.Load() < int64(freeSpaceFor) {
		return nil
	}
	free, err := s.free(ctx)
	if err != nil {
		return ops.Errorf(ops.Exhausted, "the free space cannot be determined: %w", err)
	}
	if free < 0 {
		free = math.MaxInt64
	}
	s.left.Store(free - n)
	s.seen.Store(now)
	if free-n < reserve {
		return ops.Errorf(ops.Exhausted, "the disk has %s free and %s are kept in reserve: delete captures or free some space",
			humanize.IBytes(uint64(max(free, 0))), humanize.IBytes(uint64(reserve)))
	}
	return nil
}

// remakeBallast sets the ballast aside where there is room for it beyond the
// reserve.
func (s *space) remakeBallast(ctx context.Context) {
	if s.dir == "" || s.ballastBytes < 0 {
		return
	}
	s.ballastMu.Lock()
	defer s.ballastMu.Unlock()
	name := filepath.Join(s.dir, ballastName)
	if st, err := os.Stat(name); err == nil && st.Size() == s.ballastBytes {
		return
	}
	free, err := s.free(ctx)
	if err != nil || free >= 0 && free < s.reserve.Load()+s.ballastBytes {
		return
	}
	if err := preallocate(name, s.ballastBytes); err != nil {
		s.log.Warn("no ballast: a full disk may keep the centre from recording what happens", "error", err)
		_ = os.Remove(name)
	}
}

// ReleaseBallast gives the ballast up for something beside the archive that has
// to be written on a full disk, and reports whether there was one.
func (a *Archive) ReleaseBallast() bool { return a.space.releaseBallast() }

// releaseBallast gives the ballast up and reports whether there was one.
func (s *space) releaseBallast() bool {
	if s.dir == "" {
		return false
	}
	s.ballastMu.Lock()
	defer s.ballastMu.Unlock()
	released := removeBallast(s.dir)
	if released {
		s.log.Warn("the disk is full: gave up the ballast", "bytes", s.ballastBytes)
	}
	return released
}

const ballastName = "ballast"

// WithBallast runs open, and once more without the ballast in dir if the disk is
// full. The catalogue must be opened like this: it is needed before there is an
// archive, and on a full disk it cannot even start.
func WithBallast(dir string, open func() error) error {
	err := open()
	if ops.KindOf(err) == ops.Exhausted && removeBallast(dir) {
		err = open()
	}
	return err
}

func removeBallast(dir string) bool {
	name := filepath.Join(dir, ballastName)
	// The file may be open or held back by a snapshot: what truncation gives
	// back is given back at once.
	_ = os.Truncate(name, 0)
	return os.Remove(name) == nil
}

// preallocate makes a file that really occupies so many bytes.
func preallocate(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = fallocate(f, size)
	if errors.Is(err, errors.ErrUnsupported) {
		err = fill(f, size)
	}
	return errors.Join(err, f.Close())
}

func fill(f *os.File, size int64) error {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 31) // not zeros: some file systems store those as nothing
	}
	for size > 0 {
		n, err := f.Write(block[:min(size, int64(len(block)))])
		size -= int64(n)
		if err != nil {
			return err
		}
	}
	return f.Sync()
}
