package agent

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

func directPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close(); _ = theirs.Close() })
	return direct(dialled), theirs
}

func TestDirectWriteWaitsForASlowReader(t *testing.T) {
	ours, theirs := directPair(t)
	sent := make([]byte, 16<<20) // more than the kernel takes
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	written := make(chan error, 1)
	go func() {
		n, err := ours.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		_ = ours.Close()
		written <- err
	}()
	time.Sleep(20 * time.Millisecond)
	got, err := io.ReadAll(theirs)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived, or others: %v", len(got), len(sent), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestDirectWriteGivesUp(t *testing.T) {
	much := make([]byte, 16<<20)
	for _, tc := range []struct {
		when string
		do   func(ours, theirs net.Conn) error
		want error
	}{
		{"its deadline passes", func(ours, _ net.Conn) error { return ours.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		{"it is closed", func(ours, _ net.Conn) error { return ours.Close() }, net.ErrClosed},
		{"the other side is gone", func(_, theirs net.Conn) error { return theirs.Close() }, errGone},
	} {
		t.Run(tc.when, func(t *testing.T) {
			ours, theirs := directPair(t)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				n, err := ours.Write(much)
				if n >= len(much) || err == nil || (tc.want != errGone && !errors.Is(err, tc.want)) {
					t.Errorf("a write ended after %d of %d bytes with %v", n, len(much), err)
				}
			}()
			time.Sleep(5 * time.Millisecond)
			if err := tc.do(ours, theirs); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
}

// errGone stands for what the kernel says of a connection that was reset: one of
// two errors, depending on when.
var errGone = errors.New("reset or broken pipe")

func TestFileStoreReadsWhatIsThere(t *testing.T) {
	written := make([]byte, 300_000)
	for i := range written {
		written[i] = byte(rand.Uint32())
	}
	for _, waits := range []bool{false, true} {
		f, err := openSpoolFile(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var budget atomic.Int64
		budget.Store(1 << 20)
		s := &fileStore{f: f, budget: &budget}
		s.waits.Store(waits)
		if _, err := s.Write(written); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ off, ask, want int }{
			{0, burstBytes, burstBytes}, {1, 1, 1}, {4095, 8192, 8192}, {299_000, 4096, 1000}, {300_000, 10, 0}, {400_000, 10, 0}, {5, 0, 0},
		} {
			p := make([]byte, tc.ask)
			n, err := s.ReadAt(p, int64(tc.off))
			if err != nil || n != tc.want || !bytes.Equal(p[:n], written[min(tc.off, len(written)):][:n]) {
				t.Errorf("waits %t: %d bytes from %d: %d, %v, or others than were written", waits, tc.ask, tc.off, n, err)
			}
		}
		s.close()
		if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, errStoreClosed) {
			t.Errorf("waits %t: after close: %v", waits, err)
		}
	}
}
