package agentlink

import (
	"crypto/tls"
	"net"
	"testing"
)

func TestFramePoolLendsWhatWasAskedFor(t *testing.T) {
	var p framePool
	for range 2 { // the second time from what was given back
		for _, n := range []int{0, 1, 9, readOther, readOther + 1, 16383, 16384, 16385, 32 << 10, 1 << 20} {
			b := p.Get(n)
			if len(*b) != n {
				t.Fatalf("asked for %d bytes and got %d", n, len(*b))
			}
			*b = (*b)[:n/2] // what is given back may be a prefix
			p.Put(b)
		}
	}
}

func TestHowFarIsReadAhead(t *testing.T) {
	for _, tc := range []struct {
		nc   net.Conn
		want int
	}{
		{&net.TCPConn{}, readPlain},
		{&tls.Conn{}, readTLS},
		{&earlyConn{Conn: &net.TCPConn{}}, readOther},
	} {
		if got := readBuffer(tc.nc); got != tc.want {
			t.Errorf("%T: %d bytes, want %d", tc.nc, got, tc.want)
		}
	}
}

func TestOnlyBulkIsWide(t *testing.T) {
	for _, tc := range []struct {
		nc   net.Conn
		want lane
	}{
		{&tls.Conn{}, lane{narrowWindow, readTLS}},
		{&earlyConn{Conn: &net.TCPConn{}}, lane{narrowWindow, readOther}},
	} {
		var s lanes
		nc, got, leave := s.enter(tc.nc)
		if got != tc.want || nc != tc.nc {
			t.Errorf("%T: %T with %+v, want %+v", tc.nc, nc, got, tc.want)
		}
		if leave(); s.wide.Load() != 0 {
			t.Errorf("%T: %d connections are wide", tc.nc, s.wide.Load())
		}
	}
}
