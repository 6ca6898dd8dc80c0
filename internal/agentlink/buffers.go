package agentlink

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// How much gRPC reads ahead, by what it reads from.
const (
	// readPlain is several frames in one system call. On a plain TCP connection
	// gRPC borrows the buffer only while there is something to read.
	readPlain = 64 << 10
	// readBulk is what a wide connection reads at once when there is much. More
	// than that does not stay in a core's cache until it is used.
	readBulk = 256 << 10
	// readTLS is nothing: the TLS connection holds a whole record already, and
	// payloads then go from there to where they are used.
	readTLS = 0
	// readOther is kept for as long as the connection lives.
	readOther = 4 << 10
)

func readBuffer(nc net.Conn) int {
	switch nc.(type) {
	case *net.TCPConn:
		return readPlain
	case *tls.Conn:
		return readTLS
	}
	return readOther
}

// How many bytes of one stream may be in flight and unread.
const (
	// narrowWindow covers 10 Gbit/s at nearly a millisecond.
	narrowWindow = 1 << 20
	// wideWindow lets an agent go on while the centre is busy elsewhere for a
	// few milliseconds, and its updates are as much rarer.
	wideWindow = 4 << 20
	// wideConns may have it at once. The window is settled when a connection
	// begins, before it is known who will send much, and all that it lets in may
	// have to be kept when the disk is slow: 24 MiB more than without.
	wideConns = 8
)

// wide counts the connections that are wide. Its zero value is ready.
type wide struct{ open atomic.Int32 }

// enter says whether one more may be; leave is called when it has ended.
func (w *wide) enter() (ok bool, leave func()) {
	if w.open.Add(1) > wideConns {
		w.open.Add(-1)
		return false, func() {}
	}
	return true, func() { w.open.Add(-1) }
}

// lane is what gRPC is told of a connection.
type lane struct {
	window    int32 // of a stream, in bytes
	readAhead int   // bytes
}

// laneOf widens a connection, if it may be.
func laneOf(nc net.Conn, isWide bool) (net.Conn, lane) {
	if !isWide {
		return nc, lane{narrowWindow, readBuffer(nc)}
	}
	if bulk, ok := newBulk(nc); ok {
		return bulk, lane{wideWindow, readBulk}
	}
	return nc, lane{wideWindow, readBuffer(nc)}
}

// frameBytes is the largest payload of a frame that gRPC accepts.
const frameBytes = 16 << 10

// framePool lends the buffers that frames are read into. gRPC's own pool clears
// each of them first, although it then fills all of it. Other sizes come from
// that pool. The zero value is ready.
type framePool struct{ pool sync.Pool }

// Get implements mem.BufferPool.
func (p *framePool) Get(n int) *[]byte {
	if n <= readOther || n > frameBytes {
		return mem.DefaultBufferPool().Get(n)
	}
	if b, ok := p.pool.Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, frameBytes)
	return &b
}

// Put implements mem.BufferPool.
func (p *framePool) Put(b *[]byte) {
	if cap(*b) != frameBytes {
		mem.DefaultBufferPool().Put(b)
		return
	}
	p.pool.Put(b)
}
