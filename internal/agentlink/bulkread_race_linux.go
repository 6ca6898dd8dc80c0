//go:build race

package agentlink

import (
	"errors"
	"syscall"
)

// sysRead lets the race detector know that it comes after whoever wrote.
func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	var errno syscall.Errno
	errors.As(err, &errno)
	return max(n, 0), errno
}
