package agent

import "syscall"

// controlTCP lets the kernel give a connection up when what was sent stays
// unanswered; otherwise a centre that vanished is only noticed after a quarter
// of an hour of retransmissions.
func controlTCP(_, _ string, c syscall.RawConn) error {
	const tcpUserTimeout = 18 // TCP_USER_TIMEOUT, which package syscall does not name
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(tcpDeadAfter.Milliseconds()))
	})
}
