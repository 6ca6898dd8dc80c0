package trace_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	runtimetrace "runtime/trace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/trace"
)

// store is what a planted lock protects.
type store struct {
	mu   sync.Mutex
	rw   sync.RWMutex
	conn net.Conn
	buf  [1]byte
}

// query is a round trip: the other end answers after a millisecond.
func (s *store) query() {
	if _, err := s.conn.Write(s.buf[:]); err != nil {
		panic(err)
	}
	if _, err := io.ReadFull(s.conn, s.buf[:]); err != nil {
		panic(err)
	}
}

func (s *store) lock()   { s.mu.Lock() }
func (s *store) unlock() { s.mu.Unlock() }

// The shapes of locking. A loop of each runs in several goroutines.
func (s *store) ioUnderLock() {
	s.mu.Lock()
	s.query()
	s.mu.Unlock()
}

func (s *store) ioUnderDeferred() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.query()
}

func (s *store) ioUnderHelper() {
	s.lock()
	s.query()
	s.unlock()
}

func (s *store) ioUnderWriter() {
	s.rw.Lock()
	s.query()
	s.rw.Unlock()
	time.Sleep(time.Millisecond)
}

func (s *store) reads() {
	s.rw.RLock()
	time.Sleep(10 * time.Microsecond)
	s.rw.RUnlock()
}

func (s *store) cpuUnderLock() {
	s.mu.Lock()
	spin(200 * time.Microsecond)
	s.mu.Unlock()
}

func (s *store) ioOutside() {
	s.mu.Lock()
	spin(20 * time.Microsecond)
	s.mu.Unlock()
	time.Sleep(300 * time.Microsecond)
}

// twoLocks is a request that takes one lock, sleeps without any, and takes
// another, each some calls away.
func (s *store) twoLocks() {
	s.handler(1, s.shortly)
	time.Sleep(2 * time.Millisecond)
	s.handler(1, s.other)
}

//go:noinline
func (s *store) handler(n int, section func()) {
	if n < 4 {
		s.handler(n+1, section)
		return
	}
	section()
}

func (s *store) shortly() {
	s.mu.Lock()
	spin(50 * time.Microsecond)
	s.mu.Unlock()
}

func (s *store) other() {
	s.rw.Lock()
	spin(200 * time.Microsecond)
	s.rw.Unlock()
}

//go:noinline
func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); { //nolint:revive // spinning is the point
	}
}

// locked is a trace of goroutines that called shapes for 600 ms, and its locks.
func locked(t *testing.T, name string, shapes func(*store) []func()) (*trace.Trace, []trace.LockClass) {
	t.Helper()
	tr := open(t, recordedOnce(name, func() []byte { return locking(t, shapes) })())
	classes, err := tr.Locks(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return tr, classes
}

func locking(t *testing.T, shapes func(*store) []func()) []byte {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		for b := make([]byte, 1); ; {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &store{conn: conn}
	var b bytes.Buffer
	if err := runtimetrace.Start(&b); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	end := time.Now().Add(600 * time.Millisecond)
	for _, shape := range shapes(s) {
		wg.Go(func() {
			for time.Now().Before(end) {
				shape()
			}
		})
	}
	wg.Wait()
	runtimetrace.Stop()
	_ = conn.Close()
	_ = ln.Close()
	server.Wait()
	return b.Bytes()
}

// calls is the first function of a stack that is not of a library, with its caller.
func calls(tr *trace.Trace, id trace.StackID) string {
	out := ""
	for _, f := range tr.Stack(id) {
		if i := strings.LastIndexByte(f.Func, '.'); strings.Contains(f.Func, "trace_test") {
			out += f.Func[i+1:] + " "
		}
	}
	return out
}

func describe(tr *trace.Trace, classes []trace.LockClass) (s string) {
	for _, c := range classes {
		s += fmt.Sprintf("%v at %s: %d waits %v, exact %d %v inside %v in %d, at least %d %v inside %v in %d, stale %d, conflicts %d\n", c.Kind, calls(tr, c.Lock), c.Waits, c.WaitTotal,
			c.Exact.Count, c.Exact.Total, c.Exact.InsideTotal, c.Exact.Waiting, c.AtLeast.Count, c.AtLeast.Total, c.AtLeast.InsideTotal, c.AtLeast.Waiting, c.Stale, c.Conflicts)
	}
	return s
}

func TestIOUnderALockIsSeen(t *testing.T) {
	tests := []struct {
		name   string
		shapes func(*store) []func()
	}{
		{"ioUnderLock", func(s *store) []func() { f := s.ioUnderLock; return []func(){f, f, f, f} }},
		{"ioUnderDeferred", func(s *store) []func() { f := s.ioUnderDeferred; return []func(){f, f, f, f} }},
		{"ioUnderHelper", func(s *store) []func() { f := s.ioUnderHelper; return []func(){f, f, f, f} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, classes := locked(t, tt.name, tt.shapes)
			if len(classes) == 0 || !strings.Contains(calls(tr, classes[0].Lock), tt.name+" ") {
				t.Fatalf("not found:\n%s", describe(tr, classes))
			}
			h := classes[0].Exact
			if end := h.Ends; len(end) == 0 || end[0].Total > h.Total || !strings.Contains(calls(tr, end[0].Stack), tt.name+" ") {
				t.Errorf("the holds end at %+v", end)
			}
			if c := classes[0]; c.Slow > c.Waits || c.SlowTotal > c.WaitTotal || c.Slow < c.Waits*8/10 {
				t.Errorf("%d of %d waits of a millisecond and more, %v of %v", c.Slow, c.Waits, c.SlowTotal, c.WaitTotal)
			}
			if h.Count < 20 || h.Waiting < h.Count*9/10 || h.InsideTotal < h.Total*7/10 || h.Total/time.Duration(h.Count) < time.Millisecond {
				t.Errorf("want nearly all of 1 ms and more in nearly all of the holds:\n%s", describe(tr, classes))
			}
			if len(h.Inside) == 0 || h.Inside[0].State != trace.StateNetwork || !strings.HasPrefix(calls(tr, h.Inside[0].Stack), "query ") {
				t.Errorf("inside %+v, want the network wait of query", h.Inside)
			}
			if u := calls(tr, classes[0].Unlocks[0].Stack); !strings.Contains(u, tt.name+" ") {
				t.Errorf("unlocked in %s", u)
			}
		})
	}
}

func TestAWriterWhoseLockWasNotSeenHoldsAtLeast(t *testing.T) {
	tr, classes := locked(t, "ioUnderWriter", func(s *store) []func() {
		return []func(){s.ioUnderWriter, s.reads, s.reads, s.reads}
	})
	var readers *trace.LockClass
	for i := range classes {
		if classes[i].Kind == trace.LockRead {
			readers = &classes[i]
		}
	}
	if readers == nil {
		t.Fatalf("no waiting readers:\n%s", describe(tr, classes))
	}
	sum := readers.AtLeast
	for _, c := range classes {
		if c.Kind == trace.LockWrite {
			sum.Count += c.Exact.Count
			sum.Waiting += c.Exact.Waiting
			sum.InsideTotal += c.Exact.InsideTotal
			sum.Total += c.Exact.Total
		}
	}
	if sum.Count < 20 || sum.Waiting < sum.Count*8/10 || sum.InsideTotal < sum.Total/2 {
		t.Errorf("want the writer's network wait:\n%s", describe(tr, classes))
	}
}

func TestNoIOUnderALockIsNotSeen(t *testing.T) {
	tests := []struct {
		name   string
		shapes func(*store) []func()
	}{
		{"cpuUnderLock", func(s *store) []func() { f := s.cpuUnderLock; return []func(){f, f, f, f} }},
		{"ioOutside", func(s *store) []func() { f := s.ioOutside; return []func(){f, f, f, f, f, f, f, f} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, classes := locked(t, tt.name, tt.shapes)
			for _, c := range classes {
				if n := c.Exact.Waiting + c.AtLeast.Waiting; strings.Contains(calls(tr, c.Lock), tt.name+" ") && n > (c.Exact.Count+c.AtLeast.Count)/50 {
					t.Errorf("%d holds are said to wait:\n%s", n, describe(tr, classes))
				}
			}
		})
	}
}

// Who waited for a lock and gives back another one later did not hold the first
// until then.
func TestAnUnlockElsewhereIsOfAnotherLock(t *testing.T) {
	tr, classes := locked(t, "twoLocks", func(s *store) []func() {
		f := s.twoLocks
		return []func(){f, f, f, f, f, f, f, f}
	})
	for _, c := range classes {
		for _, w := range c.Exact.Inside {
			if w.State == trace.StateSleep {
				t.Fatalf("the sleep between the locks is said to be under one:\n%s", describe(tr, classes))
			}
		}
	}
}

func TestLocksOfEveryVersion(t *testing.T) {
	everyTrace(t, func(t *testing.T, b []byte) {
		if _, err := open(t, b).Locks(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// A generation of the trace ends every second: what a holder has waited for since the
// one before is known although nobody had to wait for the lock until then.
func TestAHolderIsKnownBeforeAnybodyWaitsForIt(t *testing.T) {
	tr := traceOf(t, func() {
		r, w := net.Pipe()
		var mu sync.Mutex
		var done sync.WaitGroup
		done.Go(func() { heldByReader(&mu, r) })
		done.Go(func() {
			time.Sleep(1200 * time.Millisecond)
			mu.Lock()
			mu.Unlock() //nolint:staticcheck // it is enough to have waited for it
		})
		time.Sleep(1500 * time.Millisecond)
		_ = w.Close()
		done.Wait()
	})
	classes, err := tr.Locks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range classes {
		for _, in := range c.AtLeast.Inside {
			if strings.Contains(calls(tr, in.Stack), "heldByReader ") && in.Total >= 9*c.AtLeast.Total/10 && in.Total > 0 {
				return
			}
		}
	}
	t.Errorf("what its holder read is not among what was waited for under the lock:\n%s", describe(tr, classes))
}

//go:noinline
func heldByReader(mu *sync.Mutex, r net.Conn) {
	mu.Lock()
	defer mu.Unlock()
	_, _ = r.Read(make([]byte, 1))
}
