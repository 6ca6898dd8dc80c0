//go:build !race && (amd64 || arm64)

package agent

import (
	"syscall"
	"unsafe"
)

// sysWrite writes to a file that is not waited for; p is not empty.
func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}
