package agent

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

const (
	// burstBytes is what a burst reads. gRPC lets a stream queue 64 KiB, and one
	// message more once that is not quite full: three chunks.
	burstBytes = burstChunks * chunkBytes
	// A stretch ends after so many bytes or so much time, for other artifacts and
	// the progress have their turn only then.
	stretchBytes  = 16 << 20
	stretchWithin = 250 * time.Millisecond
	// A burst that is being queued for so long that this many ticks see it waits
	// for what will not come.
	chainTick  = time.Second
	chainTicks = 3
)

// A chain sends a stretch of an artifact on the agent's own server: whoever
// wrote a burst to the network reads and queues the next.
//
// That is gRPC's writing goroutine. The one of the call would have to be woken
// for every burst and to wake the other in turn, each time on another core that
// does not have the data in its cache; a quarter of the CPU time of a transfer
// goes there. It only sends the first burst and waits for the end.
//
// Queueing may not wait on that goroutine, for it alone makes room. So a burst
// is as much as fits into an empty queue, and is queued only when gRPC has given
// all of the burst before back.
type chain struct {
	out   outlet
	a     *artifact
	end   int64
	until time.Time

	state atomic.Int32
	nudge chan struct{} // the goroutine of the call has to take the next step
	done  chan struct{}

	mu   sync.Mutex // held to take a step
	off  int64      // up to here it is queued
	err  error      // why it ended early
	over bool       // done is closed

	queuing atomic.Int64 // the offset of the burst that is being queued, plus 1
}

// The states of a chain's last burst.
const (
	burstQueued  int32 = iota // gRPC holds it
	burstMissed               // so it did when something was written
	burstWritten              // gRPC gave it back
)

// stretch sends from off, to end at most, and returns how many bytes it sent.
func (o outlet) stretch(a *artifact, off, end int64) (int64, error) {
	c := &chain{
		out: o, a: a, off: off, end: min(end, off+stretchBytes), until: time.Now().Add(stretchWithin),
		nudge: make(chan struct{}, 1), done: make(chan struct{}),
	}
	o.chains.add(c)
	defer o.chains.remove(c)
	// Here the first may wait for what was queued before.
	c.mu.Lock()
	c.next()
	c.mu.Unlock()
	watch := time.NewTicker(chainTick)
	defer watch.Stop()
	var stuckAt int64
	ticks := 0
	for {
		c.step()
		select {
		case <-c.done:
			return c.off - off, c.err
		case <-c.nudge:
		case <-watch.C:
			at := c.queuing.Load()
			if at == 0 || at != stuckAt {
				stuckAt, ticks = at, 0
			}
			if ticks++; at != 0 && ticks == chainTicks {
				o.chains.giveUp()
			}
		case <-o.stream.Context().Done():
			// Whoever is queueing notices as well, and no one begins again.
			c.mu.Lock()
			defer c.mu.Unlock()
			c.finish(status.FromContextError(o.stream.Context().Err()).Err())
			return c.off - off, c.err
		}
	}
}

// Get implements mem.BufferPool.
func (c *chain) Get(n int) *[]byte { return c.out.frames.Get(n) }

// Put implements mem.BufferPool: gRPC has copied all of a burst. It may hold
// locks; the next step is for the write that follows. But when that was already,
// because the burst ended where gRPC's buffer was full, there is none.
func (c *chain) Put(b *[]byte) {
	c.out.frames.Put(b)
	if c.state.Swap(burstWritten) == burstMissed {
		select {
		case c.nudge <- struct{}{}:
		default:
		}
	}
}

// written is called after every write to the network.
func (c *chain) written() {
	if !c.state.CompareAndSwap(burstQueued, burstMissed) {
		c.step()
	}
}

// step queues the next burst when it is time and no one else does. It looks
// again afterwards, for meanwhile others have left it to this one.
func (c *chain) step() {
	for c.state.Load() == burstWritten && c.mu.TryLock() {
		c.take()
		c.mu.Unlock()
	}
}

// take queues the next burst, unless somebody else did while this one came for it: a
// second one would find no room, and who waits for room may be the one that makes it.
func (c *chain) take() {
	if c.state.Load() == burstWritten {
		c.next()
	}
}

// next queues the next burst, or ends the chain. It does not panic: gRPC's
// goroutine would take the process with it.
func (c *chain) next() {
	defer func() {
		if r := recover(); r != nil {
			c.a.of.agent.log.Error("agent recovered from a panic", slog.String("in", "sending"), slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			c.finish(status.Errorf(codes.Internal, "the agent failed while sending: %v", r))
		}
	}()
	c.state.Store(burstQueued)
	if c.over || c.off >= c.end || time.Now().After(c.until) {
		c.finish(nil)
		return
	}
	b := c.Get(int(min(c.end-c.off, burstBytes)))
	n, err := c.a.store.ReadAt(*b, c.off)
	if n == 0 || err != nil {
		c.out.frames.Put(b)
		c.finish(storeStatus(c.a, err))
		return
	}
	*b = (*b)[:n]
	c.queuing.Store(c.off + 1)
	err = c.out.burst(c.a.begin.Artifact, c.off, mem.NewBuffer(b, c))
	c.queuing.Store(0)
	if err != nil {
		c.finish(err)
		return
	}
	c.off += int64(n)
}

// finish ends the chain, once.
func (c *chain) finish(err error) {
	if !c.over {
		c.over, c.err = true, err
		close(c.done)
	}
}

// chains are the chains of one connection.
type chains struct {
	agent *Agent
	conn  io.Closer

	mu  sync.Mutex               // held to replace all
	all atomic.Pointer[[]*chain] // nil = none
}

func (s *chains) add(c *chain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := []*chain{c}
	if all := s.all.Load(); all != nil {
		next = append(next, *all...)
	}
	s.all.Store(&next)
}

func (s *chains) remove(c *chain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next []*chain
	for _, other := range *s.all.Load() {
		if other != c {
			next = append(next, other)
		}
	}
	s.all.Store(&next)
}

// written is called by gRPC's writing goroutine after every write.
func (s *chains) written() {
	all := s.all.Load()
	if all == nil {
		return
	}
	for _, c := range *all {
		c.written()
	}
}

// giveUp ends a connection whose writing goroutine waits for itself, and chains
// in this process. It is for a gRPC that queues less than the one that this was
// made for; the centre fetches what is missing on the next connection.
func (s *chains) giveUp() {
	s.agent.unchained.Store(true)
	s.agent.log.Warn("sending blocked the connection to the centre: dialling again and sending more slowly from now on")
	_ = s.conn.Close()
}
