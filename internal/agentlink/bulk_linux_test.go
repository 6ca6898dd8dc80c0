package agentlink

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
)

// askFor is little enough for every round to find it three times in a row.
const askFor = 16 << 10

// bulkPair is a connection as an agent has it, and the centre's end of it.
func bulkPair(t *testing.T) (net.Conn, *bulkConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, ok := newBulk(ours)
	if !ok {
		t.Fatal("a TCP connection cannot be read in bulk")
	}
	t.Cleanup(func() { _ = theirs.Close(); _ = ours.Close() })
	return theirs, c.(*bulkConn)
}

// take reads n bytes, or fewer before an error.
func take(c *bulkConn, n int) ([]byte, error) {
	var got []byte
	for len(got) < n {
		b, k, err := c.ReadOnReady(askFor, mem.NopBufferPool{})
		if err != nil {
			return got, err
		}
		got = append(got, (*b)[:k]...)
	}
	return got, nil
}

func TestBulkEndsWithItsLastBytes(t *testing.T) {
	theirs, c := bulkPair(t)
	much := make([]byte, 8<<20+1)
	for i := range much {
		much[i] = byte(rand.Uint32())
	}
	for round := range 3 { // what ended begins again
		go func() { _, _ = theirs.Write(much) }()
		time.Sleep(10 * time.Millisecond)
		wasBulk := false
		var got []byte
		for len(got) < len(much) {
			b, k, err := c.ReadOnReady(askFor, mem.NopBufferPool{})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, (*b)[:k]...)
			wasBulk = wasBulk || c.bulk
		}
		if !bytes.Equal(got, much) {
			t.Fatalf("round %d: what arrived is not what was sent", round)
		}
		if !wasBulk {
			t.Errorf("round %d: %d bytes were not read in bulk", round, len(much))
		}
		// Whether it comes while the reader still waits for much or later, it is
		// not waited with.
		late := round > 0
		go func() {
			if late {
				time.Sleep(100 * bulkWait) // long after the reader should have left it
			}
			_, _ = theirs.Write([]byte("a heartbeat"))
		}()
		if got, err := take(c, 11); err != nil || string(got) != "a heartbeat" {
			t.Fatalf("round %d: after it came %q, %v", round, got, err)
		}
		if late && c.bulk {
			t.Errorf("round %d: a heartbeat is read in bulk", round)
		}
	}
	_ = theirs.Close()
	if got, err := take(c, 1); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %q, %v", got, err)
	}
}

func TestBulkLeavesTheDeadlinesOfOthers(t *testing.T) {
	for _, when := range []string{"before", "within"} {
		t.Run(when, func(t *testing.T) {
			theirs, c := bulkPair(t)
			soon := func() {
				if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
			}
			if when == "before" {
				soon()
			}
			go func() { _, _ = theirs.Write(make([]byte, 4<<20)) }()
			if _, err := take(c, 4<<20); err != nil && when == "within" {
				t.Fatal(err)
			}
			if when == "within" {
				soon()
			}
			if _, err := take(c, 1); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a read with a deadline ended with %v", err)
			}
		})
	}
}

func TestBulkReadEndsWithTheConnection(t *testing.T) {
	_, c := bulkPair(t)
	failed := make(chan error, 1)
	go func() { _, err := take(c, 1); failed <- err }()
	_ = c.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read of a closed connection ended with %v", err)
	}
}

func TestFewConnectionsAreWide(t *testing.T) {
	_, some := bulkPair(t)
	var s lanes
	enter := func() (bool, func()) {
		c, l, leave := s.enter(some.TCPConn)
		_, isBulk := c.(*bulkConn)
		want := lane{narrowWindow, readPlain}
		if isBulk {
			want = lane{wideWindow, readBulk}
		}
		if l != want {
			t.Errorf("%T with %+v, want %+v", c, l, want)
		}
		return isBulk, leave
	}
	var leave []func()
	for i := range wideConns + 2 {
		ok, l := enter()
		if want := i < wideConns; ok != want {
			t.Errorf("connection %d is wide: %t, want %t", i+1, ok, want)
		}
		leave = append(leave, l)
	}
	leave[wideConns]() // was not wide
	if ok, _ := enter(); ok {
		t.Error("one that was not wide made room for one that is")
	}
	leave[0]()
	if ok, _ := enter(); !ok {
		t.Error("one that was wide made no room")
	}
}
