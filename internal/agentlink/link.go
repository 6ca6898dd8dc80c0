package agentlink

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// conn is one connection to an agent.
type conn struct {
	cc     *grpc.ClientConn
	client agentv1.AgentServiceClient
	offset time.Duration // the agent's clock minus ours
	// services: the connection leads to the process's own gRPC services too.
	services bool
	rules    bool // the agent knows rules, and captures of the past
}

// link is the way to one process: the same for as long as anybody uses it, over
// however many connections. It implements ops.Link.
type link struct {
	s   *Server
	id  ops.InstanceID
	key ops.ServiceKey // of the process; only it may take the link over

	// Guarded by Server.mu.
	conn    *conn         // nil = none now
	changed chan struct{} // closed and replaced whenever conn or bye changes
	bye     bool          // the process has said goodbye
	users   int           // connections and collections; a link without any is forgotten
}

// attach makes c the connection of an instance. What the instance has stays, and
// c is refused with a Conflict, if yield is set or c is of another service: who
// is not the same process must not come between it and a running capture.
func (s *Server) attach(id ops.InstanceID, key ops.ServiceKey, c *conn, yield bool) (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[id]
	switch {
	case l == nil:
		l = &link{s: s, id: id, key: key, changed: make(chan struct{})}
		s.links[id] = l
	case yield && l.conn != nil:
		return nil, ops.Errorf(ops.Conflict, "instance %s is connected already", id)
	case l.key != key:
		return nil, ops.Errorf(ops.Conflict, "instance %s is connected as %s and cannot connect as %s", id, l.key, key)
	}
	l.users++
	l.bye = false
	l.set(c)
	return l, nil
}

// detach ends the use of c, which may not be the link's connection any more.
func (s *Server) detach(l *link, c *conn, bye bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.conn == c {
		l.bye = bye
		l.set(nil)
	}
	l.unuse()
}

func (l *link) set(c *conn) {
	l.conn = c
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) unuse() {
	if l.users--; l.users == 0 {
		delete(l.s.links, l.id)
	}
}

// use returns the current connection and keeps the link from being forgotten
// until done is called.
func (l *link) use() (c *conn, done func(), err error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.conn == nil {
		return nil, nil, ops.Errorf(ops.Unavailable, "instance %s is not connected: try again when it is back", l.id)
	}
	l.users++
	return l.conn, func() {
		l.s.mu.Lock()
		defer l.s.mu.Unlock()
		l.unuse()
	}, nil
}

// GRPC returns the connection for calls of the process's own services, and what
// ends its use: Unavailable if there is none now, Conflict if it leads to the
// agent alone.
func (l *link) GRPC() (grpc.ClientConnInterface, func(), error) {
	c, done, err := l.use()
	if err != nil {
		return nil, nil, err
	}
	if !c.services {
		done()
		return nil, nil, ops.Errorf(ops.Conflict, "the agent of instance %s leads to no gRPC service: give it those that may be called (agent.Config.Services)", l.id)
	}
	return c.cc, done, nil
}

// look returns the connection now, whether the process is gone for good, and
// when to look again.
func (l *link) look() (c *conn, bye bool, changed <-chan struct{}) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.conn, l.bye, l.changed
}

// tooEager is how many samples in a row may come at less than half their interval.
const tooEager = 20

// Watch implements ops.Link.
func (l *link) Watch(ctx context.Context, interval time.Duration, full bool, fn func(ops.Sample)) error {
	c, done, err := l.use()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.client.WatchMetrics(ctx, &agentv1.WatchMetricsRequest{Interval: durationpb.New(interval), Full: full})
	if err != nil {
		return l.lost(ctx, err)
	}
	var last time.Time
	eager := 0
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return l.lost(ctx, err)
		}
		now := time.Now()
		if now.Sub(last) < interval/2 {
			if eager++; eager > tooEager {
				return ops.Errorf(ops.Corrupt, "instance %s sends far more heartbeats than it was asked for: update its agent", l.id)
			}
			continue
		}
		eager, last = 0, now
		fn(sampleOf(m, c.offset))
	}
}

// lost explains how a call ended that should have gone on.
func (l *link) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if isLost(err) {
		return ops.Errorf(ops.Unavailable, "the connection to instance %s was lost (%s)", l.id, clip(status.Convert(err).Message(), maxText))
	}
	return fromStatus(err, "instance "+string(l.id))
}

// isLost reports whether the connection, not the agent, ended a call. We close
// connections that were replaced, which gRPC calls cancelled.
func isLost(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
		return true
	}
	return false
}

// Stop implements ops.Link.
func (l *link) Stop(ctx context.Context, id ops.CaptureID) error {
	c, done, err := l.use()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.client.StopCapture(ctx, &agentv1.StopCaptureRequest{CaptureId: string(id)}); err != nil {
		return fromStatus(err, "stopping capture "+string(id)+" on instance "+string(l.id))
	}
	return nil
}

// Collect implements ops.Link.
func (l *link) Collect(ctx context.Context, id ops.CaptureID, spec ops.Spec, sink ops.Sink) (ops.CollectSummary, error) {
	c, done, err := l.use()
	if err != nil {
		return ops.CollectSummary{}, err
	}
	defer done()
	if spec.Last > 0 && !c.rules {
		return ops.CollectSummary{}, ops.Errorf(ops.Unavailable, "the agent of instance %s is older than the flight recorder: update it, or capture a window", l.id)
	}
	col := newCollection(l, id, spec, sink)
	err = col.run(ctx, c)
	if err != nil {
		col.abortOpen(err)
		err = col.explain(ctx, err)
	}
	return col.summary, err
}
