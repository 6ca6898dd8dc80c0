package agentlink

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"
)

const (
	// bulkBytes have to be there before the reader of a connection in bulk is
	// woken: a dozen wakeups per millisecond become a few, and what they cost,
	// here and at whoever sends, is a third of a transfer on idle cores.
	bulkBytes = 256 << 10
	// bulkAfter is how many reads in a row have to find as much as they ask for.
	// Those of a slow network do not.
	bulkAfter = 3
	// bulkWait is how long less than that may wait. It ends the bulk: so late do
	// the last bytes of an artifact come, once, and nothing after them.
	bulkWait = 2 * time.Millisecond
)

// bulkConn is a TCP connection that tells the kernel not to wake its reader for
// little while much is coming. gRPC asks it for ReadOnReady, from one goroutine.
type bulkConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	once func(fd uintptr) bool // readOnce, made once

	// Of the reader alone.
	bulk  bool
	much  int       // reads in a row that found all they asked for
	until time.Time // the read deadline that we have set
	want  int       // what readOnce is asked for and answers
	pool  mem.BufferPool
	buf   *[]byte
	n     int
	errno syscall.Errno

	mu     sync.Mutex
	theirs bool // somebody else has set a read deadline, which stays
}

// newBulk wraps a connection, if it is one whose kernel can be told.
func newBulk(nc net.Conn) (net.Conn, bool) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc, false
	}
	c := &bulkConn{TCPConn: tcp, raw: raw}
	c.once = c.readOnce
	return c, true
}

// ReadOnReady implements what gRPC reads from if it can: it waits until there is
// something, takes a buffer of size bytes from pool only then, and reads into it.
func (c *bulkConn) ReadOnReady(size int, pool mem.BufferPool) (b *[]byte, n int, err error) {
	c.want, c.pool = size, pool
	for {
		if c.bulk && !c.extend() {
			c.leave()
		}
		err := c.raw.Read(c.once)
		if err != nil && c.bulk && errors.Is(err, os.ErrDeadlineExceeded) {
			c.leave()
			continue
		}
		b, c.buf = c.buf, nil
		switch {
		case err != nil: // gRPC's own deadline, or closed
			return nil, 0, err
		case c.errno != 0:
			return nil, 0, os.NewSyscallError("read", c.errno)
		case c.n == 0:
			pool.Put(b)
			return nil, 0, io.EOF
		}
		c.found(c.n)
		return b, c.n, nil
	}
}

// readOnce reads without waiting and reports whether there was something to read
// or to say. The runtime need not know of a system call that cannot wait; see
// the agent's directConn.
func (c *bulkConn) readOnce(fd uintptr) bool {
	c.buf = c.pool.Get(c.want)
	c.n, c.errno = sysRead(fd, *c.buf)
	if c.errno != 0 {
		c.pool.Put(c.buf)
		c.buf = nil
	}
	return c.errno != syscall.EAGAIN && c.errno != syscall.EINTR
}

// found judges a read of n bytes.
func (c *bulkConn) found(n int) {
	switch {
	case c.bulk:
	case n < c.want:
		c.much = 0
	default:
		if c.much++; c.much >= bulkAfter {
			c.bulk, c.until = c.wakeAt(bulkBytes) == nil, time.Time{}
		}
	}
}

// extend lets a bulk go on for bulkWait, or a little less: a deadline is not
// moved for every read. It says no if that would move somebody else's.
func (c *bulkConn) extend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.theirs {
		return false
	}
	now := time.Now()
	if c.until.Sub(now) > bulkWait/2 {
		return true
	}
	c.until = now.Add(bulkWait)
	return c.TCPConn.SetReadDeadline(c.until) == nil
}

// leave ends the bulk.
func (c *bulkConn) leave() {
	c.bulk, c.much = false, 0
	_ = c.wakeAt(1) // if not even that, the connection is gone, and reading says so
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.theirs {
		_ = c.TCPConn.SetReadDeadline(time.Time{})
	}
}

// wakeAt lets the kernel wake the reader for n bytes and more, for the end of
// the connection, and when there is no room for more.
func (c *bulkConn) wakeAt(n int) error {
	var failed error
	err := c.raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
	})
	return errors.Join(err, failed)
}

// SetReadDeadline implements net.Conn. It ends all bulk.
func (c *bulkConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = true
	return c.TCPConn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn. It ends all bulk.
func (c *bulkConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.theirs = true
	return c.TCPConn.SetDeadline(t)
}
