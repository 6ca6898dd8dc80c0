// Fifo-threads waits for signals on named pipes, one for every table.
package main

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

type bell struct{ path string }

func (b bell) wait() error {
	fd, err := syscall.Open(b.path, syscall.O_RDONLY, 0) // want: thread-explosion
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}

func main() {
	s := stage.Start()
	dir, err := os.MkdirTemp("", "bells-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for i := range 250 {
		b := bell{filepath.Join(dir, strconv.Itoa(i))}
		if err := syscall.Mkfifo(b.path, 0o600); err != nil {
			panic(err)
		}
		go b.wait()
	}
	s.Wait()
}
