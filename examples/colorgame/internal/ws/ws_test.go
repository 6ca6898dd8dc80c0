package ws

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a socket whose other side takes pace to read a message; a negative
// pace never reads.
type peer struct {
	pace time.Duration
	got  []string
	err  error
}

func (p *peer) Write(ctx context.Context, msg []byte) error {
	if p.err != nil {
		return p.err
	}
	pace := time.NewTimer(p.pace)
	if p.pace < 0 {
		pace.Stop()
	}
	select {
	case <-pace.C:
		p.got = append(p.got, string(msg))
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestEveryoneHearsEverythingInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ctx, leave := context.WithCancel(t.Context())
		peers := []*peer{{}, {}, {pace: time.Millisecond}}
		var served sync.WaitGroup
		for _, p := range peers {
			served.Go(func() { h.Serve(ctx, p) })
		}
		synctest.Wait()
		for _, msg := range []string{"red", "green", "blue"} {
			h.Broadcast([]byte(msg))
		}
		time.Sleep(time.Second)
		leave()
		served.Wait()
		h.Close()
		for i, p := range peers {
			if len(p.got) != 3 || p.got[0] != "red" || p.got[2] != "blue" {
				t.Errorf("peer %d heard %v", i, p.got)
			}
		}
	})
}

// This is scenario 3: one slow peer makes an announcement late for all.
func TestASlowPeerHoldsTheBroadcastUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ctx, leave := context.WithCancel(t.Context())
		go h.Serve(ctx, &peer{pace: time.Second})
		synctest.Wait()
		start := time.Now()
		for range sendBuffer + 11 {
			h.Broadcast([]byte("x"))
		}
		// One message is being written and sendBuffer wait; the rest took a second each.
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("the broadcasts took %v", took)
		}
		leave()
		h.Close()
	})
}

func TestAPeerThatLeavesLetsTheBroadcastGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ctx, leave := context.WithCancel(t.Context())
		stuck := &peer{pace: -1}
		served := make(chan struct{})
		go func() {
			h.Serve(ctx, stuck)
			close(served)
		}()
		synctest.Wait()
		for range maxPending {
			if err := h.Announce([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if f := h.Figures(); f["broadcasts_pending"] != maxPending-sendBuffer-1 {
			t.Errorf("%v broadcasts are stuck", f["broadcasts_pending"])
		}
		leave()
		<-served
		h.Close()
		if f := h.Figures(); f["broadcasts_pending"] != 0 || f["clients"] != 0 {
			t.Errorf("after the peer left: %v", f)
		}
	})
}

func TestStuckAnnouncementsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ctx, leave := context.WithCancel(t.Context())
		go h.Serve(ctx, &peer{pace: -1})
		synctest.Wait()
		var refused int
		for range 10 * maxPending {
			synctest.Wait()
			if err := h.Announce([]byte("x")); errors.Is(err, ErrBusy) {
				refused++
			}
		}
		if accepted := 10*maxPending - refused; accepted != maxPending+sendBuffer+1 {
			t.Errorf("%d announcements were accepted", accepted)
		}
		leave()
		h.Close()
		if err := h.Announce([]byte("x")); !errors.Is(err, ErrBusy) {
			t.Errorf("a closed hub says %v", err)
		}
	})
}

func TestABrokenSocketOnlyDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ctx, leave := context.WithCancel(t.Context())
		p := &peer{err: errors.New("reset by peer")}
		served := make(chan struct{})
		go func() {
			h.Serve(ctx, p)
			close(served)
		}()
		synctest.Wait()
		for range 5 * sendBuffer {
			h.Broadcast([]byte("x"))
		}
		leave()
		<-served
		h.Close()
		if len(p.got) != 0 {
			t.Errorf("a broken socket got %v", p.got)
		}
	})
}
