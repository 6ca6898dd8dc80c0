package agent

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// transport is a stream and the goroutine that writes it, as gRPC has them:
// SendMsg queues, and waits when there is no room; the writer copies what is
// queued, gives it back and writes.
type transport struct {
	grpc.ServerStream
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc
	chains chains
	once   bool // SendMsg copies by itself and nothing is ever written

	mu      sync.Mutex
	room    int // as gRPC: a message fits when there is any at all
	breakAt int // bytes
	queue   []chunkFrame
	changed signal
	got     []byte
	bursts  int // queued by the writer
	writing bool
}

func newTransport(t *testing.T, a *Agent) *transport {
	x := &transport{t: t, room: 64 << 10, breakAt: 1 << 30}
	x.ctx, x.cancel = context.WithCancel(t.Context())
	x.chains.agent, x.chains.conn = a, x
	return x
}

// Close breaks the connection.
func (x *transport) Close() error {
	x.cancel()
	return nil
}

func (x *transport) Context() context.Context { return x.ctx }

func (x *transport) SendMsg(m any) error {
	frame := *m.(*chunkFrame)
	for {
		changed := x.changed.wait()
		x.mu.Lock()
		if len(x.got) >= x.breakAt {
			x.mu.Unlock()
			frame.data.Free()
			return errBroken
		}
		if x.room > 0 {
			break
		}
		x.mu.Unlock()
		select {
		case <-changed:
		case <-x.ctx.Done():
			frame.data.Free()
			return status.FromContextError(x.ctx.Err()).Err()
		}
	}
	if len(x.queue) > 0 && frame.offset%burstBytes == 0 {
		x.t.Errorf("the burst at %d was queued while another was", frame.offset)
	}
	x.room -= frame.data.Len()
	x.queue = append(x.queue, frame)
	if x.writing && frame.offset%burstBytes == 0 {
		x.bursts++
	}
	x.mu.Unlock()
	x.changed.broadcast()
	if x.once {
		for _, free := range x.copyAll() {
			free()
		}
	}
	return nil
}

// copyAll takes what is queued and returns what gives it back.
func (x *transport) copyAll() (free []func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.queue {
		b := f.data.ReadOnlyData()
		if f.offset != int64(len(x.got)) || len(b) > chunkBytes || f.crc != crc32.Checksum(b, castagnoli) {
			x.t.Errorf("a chunk of %d bytes at %d has CRC %x, after %d bytes", len(b), f.offset, f.crc, len(x.got))
		}
		x.got = append(x.got, b...)
		x.room += len(b)
		free = append(free, f.data.Free)
	}
	x.queue = nil
	x.changed.broadcast()
	return free
}

func (x *transport) write() {
	x.mu.Lock()
	x.writing = true
	x.mu.Unlock()
	x.chains.written()
	x.mu.Lock()
	x.writing = false
	x.mu.Unlock()
}

// serve is the writer's goroutine: round says in which order it does things.
func (x *transport) serve(round func()) {
	for {
		changed := x.changed.wait()
		x.mu.Lock()
		queued := len(x.queue)
		x.mu.Unlock()
		if queued > 0 {
			round()
			continue
		}
		select {
		case <-changed:
		case <-x.ctx.Done():
			return
		}
	}
}

// chainedArtifact is an artifact of size bytes on an agent without a centre.
func chainedArtifact(t *testing.T, size int) (*artifact, []byte) {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	agent := &Agent{log: slog.New(slog.DiscardHandler), ctx: t.Context()}
	c := &capture{agent: agent, ctx: t.Context(), spool: newSpool(t.TempDir(), 1<<30, nil)}
	a := c.newArtifact("trace.out", agentv1.Kind_KIND_TRACE, agentv1.Phase_PHASE_WINDOW, 0, time.Now())
	t.Cleanup(a.release)
	if _, err := a.Write(data); err != nil {
		t.Fatal(err)
	}
	return a, data
}

func (x *transport) outlet() outlet {
	return outlet{stream: x, frames: &x.chains.agent.chunks, chains: &x.chains}
}

func TestChain(t *testing.T) {
	const size = 20*burstBytes + 12345
	free := func(all []func()) {
		for _, f := range all {
			f()
		}
	}
	for _, c := range []struct {
		name   string
		round  func(*transport)
		bursts int // at least, that the writer has to queue
	}{
		{"written when given back", func(x *transport) { free(x.copyAll()); x.write() }, 20},
		{"written before it is given back", func(x *transport) { b := x.copyAll(); x.write(); free(b) }, 0},
		{"something else is written in between", func(x *transport) { x.write(); free(x.copyAll()); x.write() }, 0},
		{"nothing is written for now", func(x *transport) { free(x.copyAll()); time.Sleep(time.Second); x.write() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, data := chainedArtifact(t, size)
				x := newTransport(t, a.of.agent)
				served := make(chan struct{})
				go func() { defer close(served); x.serve(func() { c.round(x) }) }()
				sent := int64(0)
				for sent < size { // a stretch may end early, when it takes long
					n, err := x.outlet().stretch(a, sent, size)
					if err != nil {
						t.Fatal(err)
					}
					sent += n
				}
				synctest.Wait()
				x.cancel()
				<-served
				if !bytes.Equal(x.got, data) {
					t.Errorf("%d of %d bytes arrived, or others", len(x.got), size)
				}
				if x.bursts < c.bursts {
					t.Errorf("the writer queued %d bursts, want %d", x.bursts, c.bursts)
				}
				if x.chains.agent.unchained.Load() {
					t.Error("the chain was given up")
				}
			})
		})
	}
}

// Whoever finds that it is time may be held up before it takes the step, and come
// late: somebody else has taken it, and there is room for one burst.
func TestChainQueuesOneBurstAtATime(t *testing.T) {
	a, data := chainedArtifact(t, 3*burstBytes)
	x := newTransport(t, a.of.agent)
	c := &chain{out: x.outlet(), a: a, end: int64(len(data)), until: time.Now().Add(time.Hour), nudge: make(chan struct{}, 1), done: make(chan struct{})}
	c.state.Store(burstWritten)
	c.step()
	c.take()
	if c.off != burstBytes || len(x.queue) != burstChunks {
		t.Errorf("%d chunks up to %d are queued, want one burst", len(x.queue), c.off)
	}
	for _, f := range x.copyAll() {
		f()
	}
	c.take()
	if c.off != 2*burstBytes {
		t.Errorf("the next burst ends at %d", c.off)
	}
	for _, f := range x.copyAll() {
		f()
	}
}

// A stream that copies at once leaves everything to the call.
func TestChainWithoutAWriter(t *testing.T) {
	a, data := chainedArtifact(t, 5*burstBytes+1)
	x := newTransport(t, a.of.agent)
	x.once = true
	n, err := x.outlet().stretch(a, 0, int64(len(data)))
	if err != nil || n != int64(len(data)) || !bytes.Equal(x.got, data) {
		t.Errorf("%d of %d bytes sent, %d arrived: %v", n, len(data), len(x.got), err)
	}
}

// The writer must not fall with what it reads.
func TestChainEndsWithAnError(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(*artifact, *transport)
		want string
	}{
		{"the stream breaks", func(_ *artifact, x *transport) { x.breakAt = burstBytes }, errBroken.Error()},
		{"the spool panics", func(a *artifact, _ *transport) {
			a.store = hookedStore{a.store, func(off int64) error {
				if off > 0 {
					panic("no more")
				}
				return nil
			}}
		}, "rpc error: code = Internal desc = the agent failed while sending: no more"},
		{"the spool fails", func(a *artifact, _ *transport) {
			a.store = hookedStore{a.store, func(off int64) error {
				if off > 0 {
					return errors.New("the disk is on fire")
				}
				return nil
			}}
		}, "rpc error: code = Internal desc = reading the spool of artifact 1: the disk is on fire"},
		{"the call ends", func(a *artifact, x *transport) {
			a.store = hookedStore{a.store, func(off int64) error {
				if off > 0 {
					x.cancel()
				}
				return nil
			}}
		}, "rpc error: code = Canceled desc = context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, data := chainedArtifact(t, 9*burstBytes)
				x := newTransport(t, a.of.agent)
				c.harm(a, x)
				served := make(chan struct{})
				go func() {
					defer close(served)
					x.serve(func() {
						for _, f := range x.copyAll() {
							f()
						}
						x.write()
					})
				}()
				_, err := x.outlet().stretch(a, 0, int64(len(data)))
				if err == nil || err.Error() != c.want {
					t.Errorf("%v, want %s", err, c.want)
				}
				x.cancel()
				<-served
			})
		})
	}
}

// A gRPC that queues less than this one would let its writer wait for itself.
func TestChainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, data := chainedArtifact(t, 9*burstBytes)
		x := newTransport(t, a.of.agent)
		x.room = chunkBytes
		served := make(chan struct{})
		go func() {
			defer close(served)
			x.serve(func() {
				for _, f := range x.copyAll() {
					f()
				}
				x.write()
			})
		}()
		began := time.Now()
		_, err := x.outlet().stretch(a, 0, int64(len(data)))
		if status.Code(err) != codes.Canceled {
			t.Errorf("%v, want that the connection is gone", err)
		}
		if d := time.Since(began); d > (chainTicks+2)*chainTick {
			t.Errorf("it took %v", d)
		}
		if !x.chains.agent.unchained.Load() {
			t.Error("the next one would do the same")
		}
		<-served
	})
}

// hookedStore calls before every read.
type hookedStore struct {
	store
	before func(off int64) error
}

func (s hookedStore) ReadAt(p []byte, off int64) (int, error) {
	if err := s.before(off); err != nil {
		return 0, err
	}
	return s.store.ReadAt(p, off)
}

// With gRPC as it is, the writer reads nearly everything. When this fails after
// an update of gRPC, sending got slower and chain.go says what it relies on.
func TestWriterReadsTheSpool(t *testing.T) {
	const size = 24 << 20
	a, tun := joined(t, nil)
	var all, byWriter atomic.Int64
	var fetching sync.WaitGroup
	for i := range 2 { // at once, on one connection
		c := heldCapture(t, a, size+i<<20)
		art := c.artifacts[0]
		art.mu.Lock()
		art.store = hookedStore{art.store, func(int64) error {
			all.Add(1)
			if calledBy("(*upgradedConn).Write") {
				byWriter.Add(1)
			}
			return nil
		}}
		art.mu.Unlock()
		fetching.Go(func() {
			stream, err := tun.FetchArtifact(t.Context(), &agentv1.FetchArtifactRequest{CaptureId: c.plan.id, Artifact: 1})
			if err != nil {
				t.Error(err)
				return
			}
			n := 0
			for {
				m, err := stream.Recv()
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					break
				}
				if k := m.GetChunk(); k != nil {
					if k.Offset != int64(n) || k.Crc32C != crc32.Checksum(k.Data, castagnoli) {
						t.Errorf("a chunk at %d after %d bytes, or with another CRC", k.Offset, n)
					}
					n += len(k.Data)
				}
			}
			if n != size+i<<20 {
				t.Errorf("%d bytes arrived of %d", n, size+i<<20)
			}
		})
	}
	fetching.Wait()
	tun.sizes.check(t)
	if all.Load() == 0 || byWriter.Load()*2 < all.Load() {
		t.Errorf("gRPC's writer read %d of %d bursts", byWriter.Load(), all.Load())
	}
}

func calledBy(function string) bool {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}
