package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A store holds the bytes of one artifact between the profiler that writes them
// and the streams that read them. One goroutine writes; Write may be called
// while others read.
type store interface {
	// Write appends. An error means that p, or its rest, is not kept.
	io.Writer
	// ReadAt reads what was written, like io.ReaderAt, but never waits and
	// returns 0, nil at the present end.
	ReadAt(p []byte, off int64) (int, error)
	// resumable reports whether ReadAt can read the same bytes again.
	resumable() bool
	// close gives everything up. Reads and writes fail from then on.
	close()
}

var (
	errStoreClosed  = errors.New("the capture was dropped")
	errCaptureBytes = errors.New("the capture's size limit is reached")
	errQueueFull    = errors.New("the receiver did not take it in time and there is no spool file to keep it in")
)

// spool makes the stores of one capture and bounds what they hold together.
type spool struct {
	dir    string
	budget atomic.Int64 // bytes that may still be written
	queue  *queueSpace  // shared by the stores that have no file
	done   <-chan struct{}

	mu     sync.Mutex
	noFile error // why there are no files; nil = there are
}

// queueBytes is how much of a capture waits in memory when no file can.
const queueBytes = 8 << 20

func newSpool(dir string, maxBytes int64, done <-chan struct{}) *spool {
	s := &spool{dir: dir, queue: newQueueSpace(queueBytes), done: done}
	s.budget.Store(min(maxBytes, tmpfsAllowance(dir)))
	return s
}

// open makes the store of one artifact: a file, or a queue when there is no
// directory to write in.
func (s *spool) open() store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noFile == nil {
		f, err := openSpoolFile(s.dir)
		if err == nil {
			return &fileStore{f: f, budget: &s.budget}
		}
		s.noFile = err
	}
	return &queueStore{space: s.queue, budget: &s.budget, done: s.done}
}

// loss says why there are no files, or nil.
func (s *spool) loss() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noFile
}

// openSpoolFile makes a file that no one else can open and that is gone when
// the process is, however it dies.
func openSpoolFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "opscenter-spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil && !removeLater(f.Name()) {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// take reserves n bytes of a budget and returns how many it got.
func take(budget *atomic.Int64, n int) int {
	for {
		left := budget.Load()
		got := min(int64(n), max(left, 0))
		if budget.CompareAndSwap(left, left-got) {
			return int(got)
		}
	}
}

// fileStore is an unlinked temporary file.
type fileStore struct {
	budget *atomic.Int64
	size   int64 // written; only the writer's goroutine changes it

	mu sync.RWMutex // held to read while the file is in use, to write to close it
	f  *os.File     // nil after close

	waits atomic.Bool // the file cannot be read without waiting
}

func (s *fileStore) Write(p []byte) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return 0, errStoreClosed
	}
	n := take(s.budget, len(p))
	written, err := s.f.WriteAt(p[:n], s.size)
	s.size += int64(written)
	switch {
	case err != nil:
		return written, err
	case n < len(p):
		return written, errCaptureBytes
	}
	return written, nil
}

func (s *fileStore) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return 0, errStoreClosed
	}
	n := 0
	if !s.waits.Load() {
		var no bool
		if n, no = readInMemory(s.f, p, off); no {
			s.waits.Store(true)
		}
	}
	if n == len(p) {
		return n, nil
	}
	rest, err := s.f.ReadAt(p[n:], off+int64(n))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n + rest, err
}

func (s *fileStore) resumable() bool { return true }

func (s *fileStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		discardFile(s.f)
		s.f = nil
	}
}

// queueSpace is the memory that the queues of one capture share.
type queueSpace struct {
	mu    sync.Mutex
	free  int
	freed signal
}

func newQueueSpace(n int) *queueSpace { return &queueSpace{free: n} }

func (q *queueSpace) take(n int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free < n {
		return false
	}
	q.free -= n
	return true
}

func (q *queueSpace) give(n int) {
	q.mu.Lock()
	q.free += n
	q.mu.Unlock()
	q.freed.broadcast()
}

// queuePatience is how long a writer waits for the receiver to make room.
const queuePatience = 2 * time.Second

// queueStore keeps what was not sent yet in memory; what was read is gone.
type queueStore struct {
	space  *queueSpace
	budget *atomic.Int64
	done   <-chan struct{}

	mu     sync.Mutex
	blocks [][]byte
	base   int64 // offset of the first byte of blocks
	closed bool
}

func (s *queueStore) Write(p []byte) (int, error) {
	n := take(s.budget, len(p))
	for written := 0; written < n; {
		block := p[written:min(n, written+chunkBytes)]
		if err := s.push(block); err != nil {
			return written, err
		}
		written += len(block)
	}
	if n < len(p) {
		return n, errCaptureBytes
	}
	return n, nil
}

func (s *queueStore) push(block []byte) error {
	var patience <-chan time.Time
	for {
		freed := s.space.freed.wait()
		if s.space.take(len(block)) {
			break
		}
		if patience == nil {
			patience = time.After(queuePatience)
		}
		select {
		case <-freed:
		case <-patience:
			return errQueueFull
		case <-s.done:
			return errStoreClosed
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.space.give(len(block))
		return errStoreClosed
	}
	s.blocks = append(s.blocks, append([]byte(nil), block...))
	return nil
}

func (s *queueStore) ReadAt(p []byte, off int64) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errStoreClosed
	}
	if off != s.base {
		return 0, fmt.Errorf("offset %d was sent and is not kept", off)
	}
	for n < len(p) && len(s.blocks) > 0 {
		k := copy(p[n:], s.blocks[0])
		n += k
		if k == len(s.blocks[0]) {
			s.blocks = s.blocks[1:]
		} else {
			s.blocks[0] = s.blocks[0][k:]
		}
	}
	s.base += int64(n)
	s.space.give(n)
	return n, nil
}

func (s *queueStore) resumable() bool { return false }

func (s *queueStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blocks {
		s.space.give(len(b))
	}
	s.blocks, s.closed = nil, true
}

// signal wakes everyone who waits. Its zero value is ready.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that is closed at the next broadcast. Take it before
// looking at what the broadcast is about.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
