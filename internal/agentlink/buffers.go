package agentlink

import (
	"crypto/tls"
	"net"
	"sync"

	"google.golang.org/grpc/mem"
)

// How much gRPC reads ahead, by what it reads from.
const (
	// readPlain is several frames in one system call. On a plain TCP connection
	// gRPC borrows the buffer only while there is something to read.
	readPlain = 64 << 10
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
