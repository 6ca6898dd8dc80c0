//go:build !race

package agentlink

import (
	"syscall"
	"unsafe"
)

// sysRead reads from a file that is not waited for; p is not empty.
func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}
