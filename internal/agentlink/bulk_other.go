//go:build !linux

package agentlink

import "net"

func newBulk(nc net.Conn) (net.Conn, bool) { return nc, false }
