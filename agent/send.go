package agent

import (
	"context"
	"errors"
	"hash/crc32"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// progressEvery is a little less than the second that the protocol promises.
const progressEvery = 900 * time.Millisecond

// outlet sends the events of a capture on a stream. On the agent's own server
// chunks are frames, which are not copied; on a foreign one, whose codec and
// interceptors are not ours, they are ordinary messages.
type outlet struct {
	stream grpc.ServerStream
	fetch  bool // the messages are FetchArtifactResponses
	frames *chunkPool
	chains *chains // nil = bursts are sent by the call alone
}

// event sends one event that is not a chunk.
func (o outlet) event(v any) error {
	if o.fetch {
		m := &agentv1.FetchArtifactResponse{}
		switch v := v.(type) {
		case *agentv1.ArtifactBegin:
			m.Event = &agentv1.FetchArtifactResponse_ArtifactBegin{ArtifactBegin: v}
		case *agentv1.Chunk:
			m.Event = &agentv1.FetchArtifactResponse_Chunk{Chunk: v}
		case *agentv1.ArtifactEnd:
			m.Event = &agentv1.FetchArtifactResponse_ArtifactEnd{ArtifactEnd: v}
		case *agentv1.Summary:
			m.Event = &agentv1.FetchArtifactResponse_Summary{Summary: v}
		}
		return o.stream.SendMsg(m)
	}
	m := &agentv1.CollectPerformanceDataResponse{}
	switch v := v.(type) {
	case *agentv1.Progress:
		m.Event = &agentv1.CollectPerformanceDataResponse_Progress{Progress: v}
	case *agentv1.ArtifactBegin:
		m.Event = &agentv1.CollectPerformanceDataResponse_ArtifactBegin{ArtifactBegin: v}
	case *agentv1.Chunk:
		m.Event = &agentv1.CollectPerformanceDataResponse_Chunk{Chunk: v}
	case *agentv1.ArtifactEnd:
		m.Event = &agentv1.CollectPerformanceDataResponse_ArtifactEnd{ArtifactEnd: v}
	case *agentv1.Summary:
		m.Event = &agentv1.CollectPerformanceDataResponse_Summary{Summary: v}
	}
	return o.stream.SendMsg(m)
}

// send sends the bytes of an artifact from off, as many as fit into a burst of
// chunks and are there, and returns how many that were.
func (o outlet) send(a *artifact, off int64) (int, error) {
	if o.frames == nil {
		b := make([]byte, chunkBytes) // interceptors may hold on to the message
		n, err := a.store.ReadAt(b, off)
		if n == 0 || err != nil {
			return 0, storeStatus(a, err)
		}
		b = b[:n]
		return n, o.event(&agentv1.Chunk{Artifact: a.begin.Artifact, Offset: off, Crc32C: crc32.Checksum(b, castagnoli), Data: b})
	}
	b := o.frames.Get(burstBytes)
	n, err := a.store.ReadAt(*b, off)
	if n == 0 || err != nil {
		o.frames.Put(b)
		return 0, storeStatus(a, err)
	}
	*b = (*b)[:n]
	return n, o.burst(a.begin.Artifact, off, mem.NewBuffer(b, o.frames))
}

// burst sends what was read, and gives it up.
func (o outlet) burst(artifact uint32, off int64, read mem.Buffer) error {
	defer read.Free()
	var frames [burstChunks]chunkFrame
	n := 0
	// All sums first: then nothing holds the chunks up on their way, and more of
	// them go into one write.
	for at := 0; at < read.Len(); at += chunkBytes {
		end := min(at+chunkBytes, read.Len())
		frames[n] = chunkFrame{
			artifact: artifact, offset: off + int64(at),
			crc:  crc32.Checksum(read.ReadOnlyData()[at:end], castagnoli),
			data: read.Slice(at, end),
		}
		n++
	}
	for i := range frames[:n] {
		// The chunk is the transport's from here on.
		if err := o.stream.SendMsg(&frames[i]); err != nil {
			for _, unsent := range frames[i+1 : n] {
				unsent.data.Free()
			}
			return err
		}
	}
	return nil
}

func storeStatus(a *artifact, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStoreClosed):
		if why := a.of.dropped(); why != nil {
			return why
		}
		return status.Errorf(codes.NotFound, "artifact %d was acknowledged or dropped and is no longer on this instance", a.begin.Artifact)
	}
	return status.Errorf(codes.Internal, "reading the spool of artifact %d: %v", a.begin.Artifact, err)
}

func (o outlet) lastWord(c *capture, s *agentv1.Summary) error {
	err := o.event(s)
	if err == nil {
		c.tell()
	}
	return err
}

// progressOf is how far a stream is with an artifact.
type progressOf struct {
	begun, ended bool
	off          int64
}

// sendCapture sends everything of a capture until its summary. It returns the
// stream's status.
func (o outlet) sendCapture(ctx context.Context, c *capture) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	overall := time.NewTimer(c.plan.duration + c.agent.tune.transfer)
	defer overall.Stop()
	var sent []progressOf
	for {
		// Taken before looking, so that nothing is missed in between.
		changed := c.changed.wait()
		artifacts, summary := c.list()
		for len(sent) < len(artifacts) {
			sent = append(sent, progressOf{})
		}
		busy, done := false, summary != nil
		for i, a := range artifacts {
			more, err := o.advance(&sent[i], a)
			if err != nil {
				return err
			}
			busy = busy || more
			done = done && sent[i].ended
		}
		if done {
			return o.lastWord(c, summary)
		}
		if busy {
			changed = closedChannel // look again at once, but see to the rest first
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return c.dropped()
		case <-overall.C:
			c.drop(errAbandoned)
			return status.Errorf(codes.DeadlineExceeded, "the transfer took longer than %v after the window: the rest was dropped", c.agent.tune.transfer)
		case <-tick.C:
			if err := o.event(c.progress()); err != nil {
				return err
			}
		case <-changed:
		}
	}
}

var closedChannel = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// advance sends the next of an artifact: its beginning, some chunks, its end.
// more says that there is more to send right now.
func (o outlet) advance(p *progressOf, a *artifact) (more bool, err error) {
	if p.ended {
		return false, nil
	}
	if !p.begun {
		if err := o.event(a.begin); err != nil {
			return false, err
		}
		p.begun = true
	}
	size, end := a.state()
	if o.chains != nil && size-p.off > burstBytes {
		n, err := o.stretch(a, p.off, size)
		p.off += n
		return true, err
	}
	const turn = 16 * chunkBytes // before the next artifact has its turn
	for end := p.off + turn; p.off < min(size, end); {
		n, err := o.send(a, p.off)
		if err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
		p.off += int64(n)
	}
	if p.off < size {
		return true, nil
	}
	if end != nil {
		p.ended = true
		return false, o.event(end)
	}
	return false, nil
}

// sendArtifact sends one artifact from an offset to its end. One that the
// window has not begun is waited for; when it has ended without, the summary is
// sent instead.
func (o outlet) sendArtifact(ctx context.Context, c *capture, number uint32, off int64) error {
	p := progressOf{off: off}
	checked := false
	for {
		changed := c.changed.wait()
		artifacts, summary := c.list()
		more := false
		if int(number) <= len(artifacts) {
			a := artifacts[number-1]
			if !checked {
				if err := fetchable(a, off); err != nil {
					return err
				}
				checked = true
			}
			var err error
			if more, err = o.advance(&p, a); err != nil || p.ended {
				return err
			}
		} else if summary != nil {
			return o.lastWord(c, summary)
		}
		if more {
			changed = closedChannel
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return c.dropped()
		case <-changed:
		}
	}
}

func fetchable(a *artifact, off int64) error {
	size, end := a.state()
	switch {
	case a.released():
		return storeStatus(a, errStoreClosed)
	case !a.begin.Resumable:
		return status.Errorf(codes.FailedPrecondition, "artifact %d (%s) is not kept, because the instance has no writable spool directory: capture again", a.begin.Artifact, a.begin.Name)
	case end != nil && off > size:
		return status.Errorf(codes.OutOfRange, "offset %d is behind the end of artifact %d (%s), which has %d bytes", off, a.begin.Artifact, a.begin.Name, size)
	}
	return nil
}

// wasCancelled tells a caller that gave up from a connection that broke: only
// then the transport is gone, and a send says so.
func (o outlet) wasCancelled(c *capture) bool {
	err := o.event(c.progress())
	return status.Code(err) == codes.Canceled
}
