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
	// have to be kept when the disk is slow: 12 MiB more than without.
	wideConns = 4
)

// lane is what gRPC is told of a connection.
type lane struct {
	window    int32 // of a stream, in bytes
	readAhead int   // bytes
}

// lanes counts the wide ones. Its zero value is ready.
type lanes struct{ wide atomic.Int32 }

// enter widens a connection if it can be read in bulk and there is room. Over TLS
// it cannot: what is read there comes record by record. leave is to be called when
// the connection has ended.
func (s *lanes) enter(nc net.Conn) (c net.Conn, l lane, leave func()) {
	narrow := lane{narrowWindow, readBuffer(nc)}
	bulk, ok := newBulk(nc)
	if !ok {
		return nc, narrow, func() {}
	}
	if s.wide.Add(1) > wideConns {
		s.wide.Add(-1)
		return nc, narrow, func() {}
	}
	return bulk, lane{wideWindow, readBulk}, func() { s.wide.Add(-1) }
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
