package agentlink

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/opscenter/opscenter/agent"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/ops/opstest"
)

// wire stands between an agent and the centre and can be cut.
type wire struct {
	ln     net.Listener
	center string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newWire(t *testing.T, center string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, center: center, conns: map[net.Conn]bool{}}
	w.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", center)
			if err != nil || !w.keep(in, out) {
				in.Close()
				continue
			}
			for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
				w.wg.Go(func() {
					_, _ = io.Copy(p[0], p[1])
					p[0].Close()
					p[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		w.set(true)
		w.wg.Wait()
	})
	return w
}

func (w *wire) keep(cs ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range cs {
		if w.down {
			c.Close()
			continue
		}
		w.conns[c] = true
	}
	return !w.down
}

// set cuts what there is and, while down, what comes.
func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for c := range w.conns {
		c.Close()
		delete(w.conns, c)
	}
}

// realAgent joins an agent of the real library through a wire.
func realAgent(t *testing.T, c *centre) (joined, *wire) {
	t.Helper()
	w := newWire(t, c.address)
	a, err := agent.Start(agent.Config{Center: w.ln.Addr().String(), Project: "color-game", Service: "user-service", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return c.roster.next(t), w
}

func TestLinkOfTheRealAgent(t *testing.T) {
	opstest.TestLink(t, func(t *testing.T) opstest.LinkTarget {
		c := newCentre(t, Config{Patience: 2 * time.Second})
		j, w := realAgent(t, c)
		return opstest.LinkTarget{Link: j.link, Kill: func() { w.set(true) }}
	})
}

func TestTheRealAgentOverANetworkThatBreaks(t *testing.T) {
	c := newCentre(t, Config{Patience: 20 * time.Second})
	j, w := realAgent(t, c)
	r := opstest.NewRecorder()
	s, err := ops.Spec{Duration: 6 * time.Second, Kinds: []ops.Kind{ops.KindCPU, ops.KindGoroutine, ops.KindHeap, ops.KindTrace, ops.KindRuntime}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	done := collect(t.Context(), j.link, s, r)
	<-r.FirstProgress()
	for range 2 {
		time.Sleep(700 * time.Millisecond)
		w.set(true)
		w.set(false)
		if again := c.roster.next(t); again.link != j.link {
			t.Error("the same process has another link now")
		}
	}
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	kinds := map[ops.Kind]bool{}
	for _, a := range r.Artifacts() {
		if !a.Committed {
			t.Errorf("%s: %+v", a.Begun.Name, a.Loss)
		}
		kinds[a.Begun.Kind] = true
	}
	for _, k := range s.Kinds {
		if !kinds[k] {
			t.Errorf("no %s arrived; losses %+v", k, got.sum.Losses)
		}
	}
	for _, l := range got.sum.Losses {
		if l.Reason == ops.LossDisconnected {
			t.Errorf("a loss although everything was fetched: %+v", l)
		}
	}
}

func TestTheRealAgentSaysGoodbye(t *testing.T) {
	c := newCentre(t, Config{})
	a, err := agent.Start(agent.Config{Center: c.address, Project: "color-game", Service: "user-service"})
	if err != nil {
		t.Fatal(err)
	}
	c.roster.next(t)
	time.Sleep(100 * time.Millisecond)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c.roster.mu.Lock()
		ends := append([]error(nil), c.roster.ends...)
		c.roster.mu.Unlock()
		if len(ends) == 1 && ends[0] == nil {
			return
		}
		if len(ends) > 0 || time.Now().After(deadline) {
			t.Fatalf("Watch ended with %v, want nil for the goodbye", ends)
		}
	}
}
