//go:build linux && (amd64 || arm64)

package agent

import (
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// What is sent moves with system calls that do not wait: the socket says so, and
// of the spool file only what is in memory is asked for. The runtime need not
// know of such calls. From one that it knows of and that takes more than 20 µs,
// as most of these do, it takes the processor away for another thread, which has
// to be woken for it, and its monitor stays awake to notice: on cores that were
// idle that is a fifth of what a transfer costs.

// directConn is a TCP connection that writes that way.
type directConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	some func(fd uintptr) bool // writeSome, made once

	mu   sync.Mutex // held by one Write at a time; guards what follows
	rest []byte
	err  error
}

// direct makes c write directly, if it is a TCP connection.
func direct(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	d := &directConn{TCPConn: tcp, raw: raw}
	d.some = d.writeSome
	return d
}

// Write implements net.Conn.
func (c *directConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest, c.err = p, nil
	err := c.raw.Write(c.some)
	n := len(p) - len(c.rest)
	c.rest = nil
	if err == nil {
		err = c.err
	}
	return n, err
}

// writeSome writes what the socket takes. It reports whether there is nothing
// that is worth waiting for.
func (c *directConn) writeSome(fd uintptr) bool {
	for len(c.rest) > 0 {
		n, errno := sysWrite(fd, c.rest)
		switch errno {
		case 0:
			c.rest = c.rest[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

// readInMemory reads what the kernel has of a file in memory, from off without a
// gap. It is less than asked for, or nothing, if the rest has to be waited for,
// and never more than there is; no says that this file is not read that way.
func readInMemory(f *os.File, p []byte, off int64) (n int, no bool) {
	const rwfNoWait = 0x8 // RWF_NOWAIT, which package syscall does not name
	if len(p) == 0 {
		return 0, false
	}
	into := syscall.Iovec{Base: &p[0], Len: uint64(len(p))}
	r, _, errno := syscall.RawSyscall6(sysPreadv2, f.Fd(), uintptr(unsafe.Pointer(&into)), 1, uintptr(off), 0, rwfNoWait)
	switch errno {
	case 0:
		return int(r), false
	case syscall.EAGAIN, syscall.EINTR:
		return 0, false
	}
	return 0, true
}
