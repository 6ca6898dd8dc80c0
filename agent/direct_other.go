//go:build !linux || !(amd64 || arm64)

package agent

import (
	"net"
	"os"
)

func direct(c net.Conn) net.Conn { return c }

func readInMemory(*os.File, []byte, int64) (n int, no bool) { return 0, true }
