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

func TestFewConnectionsAreWide(t *testing.T) {
	var w wide
	var leave []func()
	for i := range wideConns + 2 {
		ok, l := w.enter()
		if want := i < wideConns; ok != want {
			t.Errorf("connection %d is wide: %t, want %t", i+1, ok, want)
		}
		leave = append(leave, l)
	}
	leave[wideConns]() // was not wide and makes no room
	if ok, _ := w.enter(); ok {
		t.Error("one that was not wide made room for one that is")
	}
	leave[0]()
	if ok, _ := w.enter(); !ok {
		t.Error("one that was wide made no room")
	}
}

func TestLanes(t *testing.T) {
	for _, tc := range []struct {
		nc   net.Conn
		wide bool
		want lane
	}{
		{&tls.Conn{}, false, lane{narrowWindow, readTLS}},
		{&tls.Conn{}, true, lane{wideWindow, readTLS}},
		{&earlyConn{Conn: &net.TCPConn{}}, true, lane{wideWindow, readOther}},
		{&net.TCPConn{}, false, lane{narrowWindow, readPlain}},
	} {
		if nc, got := laneOf(tc.nc, tc.wide); got != tc.want || nc != tc.nc {
			t.Errorf("%T, wide %t: %T with %+v, want %+v", tc.nc, tc.wide, nc, got, tc.want)
		}
	}
}
