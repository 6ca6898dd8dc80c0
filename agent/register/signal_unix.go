//go:build unix

package register

import (
	"os"
	"syscall"
)

func endSignals() []os.Signal { return []os.Signal{syscall.SIGTERM} }

// raise lets a signal do what it does to a program without a handler.
func raise(s os.Signal) {
	if n, ok := s.(syscall.Signal); ok {
		_ = syscall.Kill(os.Getpid(), n)
	}
}
