package agent

import (
	"crypto/tls"
	"net"
	"sync"
)

// gatheredTLS is a TLS connection whose every Write is one write to the network.
// TLS by itself writes record by record, 16 KiB at most, and a system call and a
// wakeup of the other side for each is what a transfer would spend much of its
// time on.
type gatheredTLS struct {
	*tls.Conn
	under *gatherConn
}

// Write implements net.Conn.
func (c gatheredTLS) Write(p []byte) (int, error) {
	c.under.hold()
	n, err := c.Conn.Write(p)
	if ferr := c.under.release(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// Close implements net.Conn. Where the network does not take what was gathered
// there is no point in a goodbye, which would have to wait behind it.
func (c gatheredTLS) Close() error {
	if !c.under.mu.TryLock() {
		return c.under.Close()
	}
	c.under.mu.Unlock()
	return c.Conn.Close()
}

// gatherConn keeps what is written between hold and release and then writes it
// at once. Whatever else TLS has to say in the meantime keeps its place.
type gatherConn struct {
	net.Conn

	mu   sync.Mutex // guards what follows, and keeps writes in order
	held int        // holds without their release
	buf  []byte     // keeps its capacity: some more than the largest Write
}

func (c *gatherConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held++
}

func (c *gatherConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held--; c.held > 0 || len(c.buf) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

// Write implements net.Conn.
func (c *gatherConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == 0 {
		return c.Conn.Write(p)
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}
