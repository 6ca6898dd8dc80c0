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

// The remedy of scenario 3: who reads too slowly is let go, once or for a while,
// and nobody waits for them.
func TestKickSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		ctx, leave := context.WithCancel(t.Context())
		near := &peer{}
		served := make(chan string, 3)
		join := func(name string, p *peer) {
			go func() {
				h.Serve(ctx, p)
				served <- name
			}()
			synctest.Wait()
		}
		stuck := func() {
			for range sendBuffer + 2 { // one is being written, the buffer is full, one waits
				if err := h.Announce([]byte("x")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // each goes before the next
			}
		}
		join("near", near)
		join("far", &peer{pace: -1})
		stuck()
		if n := h.KickSlow(sendBuffer, 0); n != 0 || h.Slow(sendBuffer) != 0 {
			t.Errorf("%d were kicked who had been behind for no time", n)
		}
		time.Sleep(slowWrite)
		if n := h.Slow(sendBuffer); n != 1 {
			t.Errorf("%d are slow", n)
		}
		if n := h.KickSlow(sendBuffer, 0); n != 1 || <-served != "far" {
			t.Errorf("%d were kicked", n)
		}
		synctest.Wait()
		if f := h.Figures(); f["broadcasts_pending"] != 0 || f["clients"] != 1 || f["kicked_total"] != 1 || len(near.got) != sendBuffer+2 {
			t.Errorf("after the kick: %v, the near one heard %d", f, len(near.got))
		}
		// For a while: the next one who falls behind goes by itself.
		h.KickSlow(sendBuffer, time.Minute)
		join("far again", &peer{pace: -1})
		stuck()
		time.Sleep(slowWrite)
		h.Broadcast([]byte("x"))
		if who := <-served; who != "far again" {
			t.Errorf("%s went", who)
		}
		time.Sleep(time.Minute)
		join("late", &peer{pace: -1})
		stuck()
		time.Sleep(slowWrite)
		if err := h.Announce([]byte("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f := h.Figures(); f["broadcasts_pending"] != 2 || f["clients"] != 2 {
			t.Errorf("after its time: %v", f)
		}
		leave()
		h.Close()
		<-served
		<-served
	})
}
