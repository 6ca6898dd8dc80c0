//go:build race && (amd64 || arm64)

package agent

import (
	"errors"
	"syscall"
)

// sysWrite lets the race detector know that whoever reads these bytes comes
// after whoever wrote them.
func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	var errno syscall.Errno
	errors.As(err, &errno)
	return max(n, 0), errno
}
