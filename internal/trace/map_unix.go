//go:build unix

package trace

import (
	"os"
	"syscall"
)

// mapFile makes the file's bytes readable without reading them.
func mapFile(f *os.File, size int64) (b []byte, unmap func() error, err error) {
	if int64(int(size)) != size {
		return nil, nil, syscall.EFBIG
	}
	b, err = syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return b, func() error { return syscall.Munmap(b) }, nil
}
