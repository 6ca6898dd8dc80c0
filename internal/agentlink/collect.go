package agentlink

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	// maxArtifacts of one capture: ten minutes of CPU segments and room to spare.
	maxArtifacts = 256
	// maxEventBytes is one message of a capture's stream. Chunks are half of it;
	// a summary with many losses may need more than a chunk.
	maxEventBytes = 64 << 10
	// maxTries is how often an artifact is fetched again that arrives damaged.
	maxTries = 3
	// progressAtMost keeps an agent from calling Progress without end.
	progressAtMost = 100 * time.Millisecond
	// endWithin is how long a stream may go on after its last word.
	endWithin = 5 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// collection takes one window in, over as many streams as it needs. The agent
// runs the window whether or not we listen and keeps every artifact until it is
// acknowledged, so a stream that breaks is followed by others that fetch what is
// missing. Only one goroutine touches it.
type collection struct {
	link *link
	id   ops.CaptureID
	spec ops.Spec
	sink ops.Sink
	conn *conn // the current one
	// kept: the agent took it by itself, and has it for whoever comes. It is
	// acknowledged when all has arrived, and never dropped.
	kept bool

	heard     bool      // the agent has said anything of this window
	last      time.Time // when it did so last
	artifacts map[uint32]*incoming
	next      uint32 // number of the artifact that is announced next
	names     map[string]bool
	received  int64    // bytes that were written or dropped
	damaged   int64    // bytes that have to be sent again
	unacked   []uint32 // committed, and the agent does not know it yet

	progress ops.Progress
	told     time.Time    // when progress was passed on last
	said     ops.Progress // the agent's own last word on it
	saidAt   time.Time
	lastWord bool // the summary has come
	summary  ops.CollectSummary
}

// incoming is an artifact on its way.
type incoming struct {
	number   uint32
	artifact ops.Artifact
	w        ops.ArtifactWriter // nil = of a kind we do not know: read and dropped
	skipped  int64              // bytes dropped
	damaged  bool               // what comes is not what was sent; to be fetched again
	done     bool               // committed or aborted
	tries    int
}

func (a *incoming) offset() int64 {
	if a.w == nil {
		return a.skipped
	}
	return a.w.Offset()
}

func newCollection(l *link, id ops.CaptureID, spec ops.Spec, sink ops.Sink) *collection {
	return &collection{
		link: l, id: id, spec: spec, sink: sink, next: 1,
		artifacts: map[uint32]*incoming{}, names: map[string]bool{},
		progress: ops.Progress{Duration: spec.Duration},
	}
}

// sinkError is an error of our own side: it ends the collection as it is.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// violation is an error of an agent that breaks the protocol.
func violation(format string, args ...any) error {
	return ops.Errorf(ops.Corrupt, "the agent broke the protocol: %s; update it", fmt.Sprintf(format, args...))
}

// run takes the window in until the agent's last word. Errors are not yet
// explained, and artifacts may be open.
func (c *collection) run(ctx context.Context, first *conn) error {
	c.conn = first
	begin := c.listen
	if c.kept {
		begin = c.fetch
	}
	err := begin(ctx)
	for {
		switch {
		case err == nil && len(c.pending()) == 0:
			c.ackRest(ctx)
			return nil
		case err == nil: // all was said, but not all of it arrived whole
			err = c.fetch(ctx)
			continue
		case ctx.Err() != nil || !isLost(err):
			if (c.conn != first || c.lastWord) && !c.kept {
				c.drop(ctx) // the stream whose end drops it is not there any more
			}
			return err
		}
		if err = c.await(ctx); err != nil {
			return err
		}
		if c.heard {
			err = c.fetch(ctx)
			continue
		}
		// Perhaps the request never arrived.
		if err = c.listen(ctx); status.Code(err) == codes.AlreadyExists {
			err = c.fetch(ctx)
		}
	}
}

// explain is the error for the caller.
func (c *collection) explain(ctx context.Context, err error) error {
	var ours *ops.Error
	var sink *sinkError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("collecting from instance %s: %w", c.link.id, ctx.Err())
	case errors.As(err, &sink):
		return sink.err
	case errors.As(err, &ours):
		return err
	}
	return fromStatus(err, "instance "+string(c.link.id))
}

// pending are the artifacts that were announced and not ended, by number.
func (c *collection) pending() (out []*incoming) {
	for _, a := range c.artifacts {
		if !a.done {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *incoming) int { return int(a.number) - int(b.number) })
	return out
}

// listen asks for the window and takes the stream that answers.
func (c *collection) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx, c.conn, agentv1.AgentService_CollectPerformanceData_FullMethodName, request(c.link.s.id, c.id, c.spec))
	if err != nil {
		return err
	}
	// Progress comes every second. If nothing comes for long, the network may be a
	// black hole. To cancel the stream would tell the agent to drop the data, so
	// the whole connection goes, as if it had been lost.
	cc := c.conn.cc
	watchdog := time.AfterFunc(c.link.s.silence, func() { cc.Close() })
	defer watchdog.Stop()
	var e event
	defer e.free()
	for {
		watchdog.Reset(c.link.s.silence)
		err := stream.RecvMsg(&e)
		watchdog.Stop() // what we do with it may take its time
		switch {
		case c.lastWord && err != nil: // however it ends: all was said
			return nil
		case errors.Is(err, io.EOF):
			return violation("the stream ended without a summary")
		case err != nil:
			return err
		case c.lastWord:
			return violation("the stream goes on after the summary")
		}
		c.heard, c.last = true, time.Now()
		if err := c.take(ctx, &e, 0); err != nil {
			return err
		}
		e.free()
		if c.lastWord {
			defer time.AfterFunc(endWithin, cancel).Stop()
		}
	}
}

func open(ctx context.Context, c *conn, method string, req any) (grpc.ClientStream, error) {
	stream, err := c.cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, grpc.MaxCallRecvMsgSize(maxEventBytes))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg says why
		return nil, err
	}
	return stream, stream.CloseSend()
}

// take handles one event. only is the number that a fetch asked for; 0 = any.
func (c *collection) take(ctx context.Context, e *event, only uint32) error {
	if e.isChunk {
		return c.chunk(&e.chunk, only)
	}
	switch ev := e.msg.GetEvent().(type) {
	case *agentv1.CollectPerformanceDataResponse_Progress:
		if only != 0 {
			return violation("progress where artifact %d was asked for", only)
		}
		c.said, c.saidAt = ops.Progress{
			Elapsed: min(max(duration(ev.Progress.GetElapsed()), 0), c.spec.Duration), Duration: c.spec.Duration,
			Activity: clip(ev.Progress.GetActivity(), maxText),
		}, time.Now()
		c.tell(c.said)
	case *agentv1.CollectPerformanceDataResponse_ArtifactBegin:
		return c.begin(ev.ArtifactBegin, only)
	case *agentv1.CollectPerformanceDataResponse_ArtifactEnd:
		return c.end(ctx, ev.ArtifactEnd, only)
	case *agentv1.CollectPerformanceDataResponse_Summary:
		if only != 0 && c.artifacts[only] != nil {
			return violation("a summary where the rest of artifact %d was asked for", only)
		}
		c.sum(ev.Summary)
	}
	return nil // an event of a newer agent
}

func (c *collection) begin(b *agentv1.ArtifactBegin, only uint32) error {
	n := b.GetArtifact()
	if only != 0 && n != only {
		return violation("artifact %d where %d was asked for", n, only)
	}
	if a := c.artifacts[n]; a != nil {
		if only == 0 {
			return violation("artifact %d began twice", n)
		}
		if a.artifact.Name != b.GetName() {
			return violation("artifact %d was named %s and is now named %q", n, a.artifact.Name, clip(b.GetName(), 60))
		}
		return nil
	}
	switch {
	case n != c.next:
		return violation("artifact %d began where %d was due", n, c.next)
	case n > maxArtifacts:
		return violation("it sends more than %d artifacts", maxArtifacts)
	case !ops.ValidName(b.GetName()):
		return violation("artifact %d is named %q, which is not a file name", n, clip(b.GetName(), 60))
	case c.names[b.GetName()]:
		return violation("two artifacts are named %s", b.GetName())
	}
	c.next++
	c.names[b.GetName()] = true
	a := &incoming{number: n, artifact: ops.Artifact{
		Name: b.GetName(), Kind: kindOf(b.GetKind()), Phase: phaseOf(b.GetPhase()), TakenAt: onOurClock(b.GetTakenAt(), c.conn.offset),
	}}
	c.artifacts[n] = a
	if a.artifact.TakenAt.IsZero() {
		a.artifact.TakenAt = time.Now()
	}
	if a.artifact.Kind == "" {
		c.lose(ops.Loss{Reason: ops.LossUnsupported, Message: fmt.Sprintf("%s is of a kind that this centre does not know and was not kept: update the centre", a.artifact.Name)})
		return nil
	}
	w, err := c.sink.Begin(a.artifact)
	if err != nil {
		a.done = true
		return &sinkError{err}
	}
	a.w = w
	return nil
}

func (c *collection) chunk(ch *chunk, only uint32) error {
	a := c.artifacts[ch.artifact]
	switch {
	case only != 0 && ch.artifact != only:
		return violation("data of artifact %d where %d was asked for", ch.artifact, only)
	case a == nil:
		return violation("data of artifact %d, which never began", ch.artifact)
	case a.done:
		return violation("data of artifact %d after its end", ch.artifact)
	}
	size := int64(ch.data.Len())
	if a.damaged { // from here on it is fetched again
		if c.damaged += size; c.damaged > c.link.s.maxBytes {
			return violation("it sends damaged data without end")
		}
		return nil
	}
	if c.received += size; c.received > c.link.s.maxBytes {
		return ops.Errorf(ops.Exhausted, "instance %s sent more than %d MiB, the most for one capture: ask for fewer kinds or a shorter trace", c.link.id, c.link.s.maxBytes>>20)
	}
	var crc uint32
	for _, b := range ch.data {
		crc = crc32.Update(crc, castagnoli, b.ReadOnlyData())
	}
	if crc != ch.crc || ch.offset != a.offset() {
		a.damaged = true
		return nil
	}
	if a.w == nil {
		a.skipped += size
		return nil
	}
	for _, b := range ch.data {
		if _, err := a.w.Write(b.ReadOnlyData()); err != nil {
			return &sinkError{err}
		}
	}
	return nil
}

func (c *collection) end(ctx context.Context, e *agentv1.ArtifactEnd, only uint32) error {
	n := e.GetArtifact()
	a := c.artifacts[n]
	switch {
	case only != 0 && n != only:
		return violation("the end of artifact %d where %d was asked for", n, only)
	case a == nil:
		return violation("the end of artifact %d, which never began", n)
	case a.done:
		return violation("artifact %d ended twice", n)
	case len(e.GetSha256()) != 32:
		return violation("the SHA-256 of artifact %d has %d bytes", n, len(e.GetSha256()))
	}
	if a.damaged = a.damaged || e.GetSizeBytes() != a.offset(); a.damaged {
		return nil
	}
	if a.w != nil {
		a.artifact.WindowStart = onOurClock(e.GetWindowStart(), c.conn.offset)
		a.artifact.WindowEnd = onOurClock(e.GetWindowEnd(), c.conn.offset)
		a.artifact.Losses = lossesOf(e.GetLosses())
		a.done = true // whatever Commit says, it ends the writer
		switch err := a.w.Commit(e.GetSizeBytes(), e.GetSha256(), a.artifact); {
		case ops.KindOf(err) == ops.Corrupt && err != nil:
			return nil // kept as partial, and never acknowledged
		case err != nil:
			return &sinkError{err}
		}
	}
	a.done = true
	c.ack(ctx, n)
	return nil
}

func (c *collection) sum(s *agentv1.Summary) {
	c.lastWord = true
	c.summary.WindowStart = onOurClock(s.GetWindowStart(), c.conn.offset)
	c.summary.WindowEnd = onOurClock(s.GetWindowEnd(), c.conn.offset)
	c.summary.StoppedEarly = s.GetStoppedEarly()
	c.summary.Losses = append(c.summary.Losses, lossesOf(s.GetLosses())...)
}

func (c *collection) lose(l ops.Loss) {
	if len(c.summary.Losses) < maxLosses {
		c.summary.Losses = append(c.summary.Losses, l)
	}
}

// ack lets the agent give up its copy. If that fails it is tried once more at
// the end; after that the agent's own patience sees to it.
func (c *collection) ack(ctx context.Context, n ...uint32) {
	if c.kept && !c.lastWord {
		c.unacked = append(c.unacked, n...)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.conn.client.AckArtifact(ctx, &agentv1.AckArtifactRequest{CaptureId: string(c.id), Artifacts: n}); err != nil {
		c.unacked = append(c.unacked, n...)
	}
}

func (c *collection) ackRest(ctx context.Context) {
	if rest := c.unacked; len(rest) > 0 {
		c.unacked = nil
		c.ack(ctx, rest...)
	}
}

// drop tells the agent that nobody will come for the data, as far as it listens.
func (c *collection) drop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if cur, _, _ := c.link.look(); cur != nil {
		_, _ = cur.client.StopCapture(ctx, &agentv1.StopCaptureRequest{CaptureId: string(c.id)})
		_, _ = cur.client.AckArtifact(ctx, &agentv1.AckArtifactRequest{CaptureId: string(c.id)})
	}
}

// tell passes progress on, but not more often than anybody could look at it.
func (c *collection) tell(p ops.Progress) {
	now := time.Now()
	if now.Sub(c.told) < progressAtMost {
		return
	}
	c.progress, c.told = p, now
	c.sink.Progress(p)
}

// tellAlone makes progress up while the agent tells none.
func (c *collection) tellAlone(activity string) {
	p := c.progress
	if !c.lastWord && !c.told.IsZero() {
		p.Elapsed = min(p.Elapsed+time.Since(c.told), p.Duration)
	}
	p.Activity = activity
	c.tell(p)
}

// tellTheEnd takes back what tellAlone made up: the window got as far as the
// last that was heard of it.
func (c *collection) tellTheEnd() {
	p := c.said
	if p.Duration = c.spec.Duration; !c.saidAt.IsZero() {
		p.Elapsed = min(p.Elapsed+max(c.last.Sub(c.saidAt), 0), p.Duration)
	}
	c.progress, c.told = p, time.Now()
	c.sink.Progress(p)
}

// await waits until the process is connected again. Silence before the loss
// counts as waiting.
func (c *collection) await(ctx context.Context) error {
	left := c.link.s.patience
	if c.heard {
		left = max(left-time.Since(c.last), left/2)
	}
	patience := time.NewTimer(left)
	defer patience.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		cur, bye, changed := c.link.look()
		switch {
		case cur != nil && cur != c.conn:
			c.conn = cur
			return nil
		case bye:
			c.tellTheEnd()
			return ops.Errorf(ops.Unavailable, "instance %s ended while it was captured", c.link.id)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			c.tellTheEnd()
			return ops.Errorf(ops.Unavailable, "instance %s was lost while it was captured and did not come back within %v", c.link.id, c.link.s.patience)
		case <-tick.C:
			c.tellAlone("waiting for the instance to come back")
		case <-changed:
		}
	}
}

// delivery is what a fetching stream hands to the collection.
type delivery struct {
	number uint32
	event  *event        // nil = the stream has ended
	err    error         // how; io.EOF = well
	taken  chan struct{} // receives when event may be used again
}

// fetch takes the rest of every artifact that is open, all at once because some
// still grow, and one after the other those that were never announced, until
// the summary comes in the place of one. It returns nil when all was said; an
// artifact that cannot be had is then aborted.
func (c *collection) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan delivery)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel()
	running := 0
	start := func(n uint32, offset int64) {
		running++
		req := &agentv1.FetchArtifactRequest{CaptureId: string(c.id), Artifact: n, Offset: offset}
		streams.Go(func() { follow(ctx, c.conn, req, in) })
	}
	for _, a := range c.pending() {
		a.damaged = false
		start(a.number, a.offset())
	}
	if !c.lastWord {
		start(c.next, 0)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for running > 0 {
		var d delivery
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			c.tellAlone("sending the rest again")
			continue
		case d = <-in:
		}
		known := c.artifacts[d.number] != nil
		if d.event != nil {
			c.heard, c.last = true, time.Now()
			err := c.take(ctx, d.event, d.number)
			d.event.free()
			d.taken <- struct{}{}
			if err != nil {
				return err
			}
			if !known && c.artifacts[d.number] != nil {
				if c.next > maxArtifacts+1 {
					return violation("it sends more than %d artifacts", maxArtifacts)
				}
				start(c.next, 0) // the one after it
			}
			continue
		}
		running--
		again, err := c.fetched(d)
		if err != nil {
			return err
		}
		if again != 0 {
			offset := int64(0)
			if a := c.artifacts[again]; a != nil {
				a.damaged = false
				offset = a.offset()
			}
			start(again, offset)
		}
	}
	return nil
}

// follow reads one artifact and delivers it.
func follow(ctx context.Context, conn *conn, req *agentv1.FetchArtifactRequest, in chan<- delivery) {
	d := delivery{number: req.GetArtifact(), taken: make(chan struct{}, 1)}
	var e event
	stream, err := open(ctx, conn, agentv1.AgentService_FetchArtifact_FullMethodName, req)
	for err == nil {
		if err = stream.RecvMsg(&e); err != nil {
			break
		}
		d.event = &e
		select {
		case in <- d:
			<-d.taken
		case <-ctx.Done():
			e.free()
			return
		}
	}
	d.event, d.err = nil, err
	select {
	case in <- d:
	case <-ctx.Done():
	}
}

// fetched judges how a fetch ended and says which number to fetch next, if any.
func (c *collection) fetched(d delivery) (again uint32, err error) {
	a := c.artifacts[d.number]
	ended := errors.Is(d.err, io.EOF)
	switch {
	case isLost(d.err) && !ended:
		return 0, d.err
	case a != nil && a.done:
		return 0, nil
	case a == nil && ended:
		if !c.lastWord {
			return 0, violation("it ended artifact %d without beginning it", d.number)
		}
		return 0, nil
	case a == nil && status.Code(d.err) == codes.FailedPrecondition:
		// It exists but cannot be sent again: whatever it was, the next may be there.
		c.lose(ops.Loss{Reason: ops.LossDisconnected, Message: "the connection was lost before an artifact arrived: " + clip(status.Convert(d.err).Message(), maxText)})
		if c.next++; c.next > maxArtifacts {
			return 0, violation("it sends more than %d artifacts", maxArtifacts)
		}
		return c.next, nil
	case a == nil && status.Code(d.err) == codes.NotFound:
		return 0, ops.Errorf(ops.Unavailable, "the connection to instance %s was lost, and when it came back the instance no longer had the capture", c.link.id)
	case a == nil:
		return 0, d.err
	}
	a.tries++
	switch {
	case ended && a.tries < maxTries:
		return a.number, nil
	case ended:
		return 0, c.abort(a, ops.Loss{Kind: a.artifact.Kind, Reason: ops.LossFailed, Message: fmt.Sprintf("%s arrived damaged %d times", a.artifact.Name, a.tries)})
	}
	return 0, c.abort(a, ops.Loss{Kind: a.artifact.Kind, Reason: ops.LossDisconnected, Message: "the rest could not be fetched: " + clip(status.Convert(d.err).Message(), maxText)})
}

func (c *collection) abort(a *incoming, l ops.Loss) error {
	a.done = true
	if a.w == nil {
		return nil
	}
	if err := a.w.Abort(l); err != nil {
		return &sinkError{err}
	}
	return nil
}

// abortOpen ends what a collection that failed leaves open; what arrived stays.
func (c *collection) abortOpen(why error) {
	l := ops.Loss{Reason: ops.LossDisconnected, Message: "the rest did not arrive: " + why.Error()}
	var sink *sinkError
	switch kind := ops.KindOf(why); {
	case errors.As(why, &sink) && kind != ops.Exhausted, kind == ops.Corrupt:
		l.Reason = ops.LossFailed
	case kind == ops.Exhausted:
		l.Reason = ops.LossTruncated
	}
	for _, a := range c.pending() {
		l.Kind = a.artifact.Kind
		_ = c.abort(a, l) // the first error is the one to tell
	}
}
