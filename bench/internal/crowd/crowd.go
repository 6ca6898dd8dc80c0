// Package crowd plays many agents out of one process: each is a connection of
// its own that speaks the real protocol, so that a centre cannot tell it from a
// process of its own. It must not know what is measured with it.
package crowd

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/agentlink"
)

// Config is who plays. Centre, N, Name and Hello are needed.
type Config struct {
	Centre string // host:port
	N      int
	TLS    bool // without looking at the certificate
	// Name is what number n says of itself when it dials.
	Name func(n int) (project, service, bootID string)
	// Hello is what it says when it is asked. BootID, Project, Service, Protocol
	// and Now are filled in.
	Hello func(n int) *agentv1.HelloResponse
	// Beat is its beat-th heartbeat, from 1.
	Beat func(n int, beat int64) *agentv1.Heartbeat
}

// Run dials all of them, 64 at a time, and keeps them until ctx ends or one
// cannot be connected.
func Run(ctx context.Context, c Config) error {
	ln := &connections{ready: make(chan net.Conn, 64), done: make(chan struct{})}
	srv := grpc.NewServer(grpc.ReadBufferSize(4 << 10))
	p := &players{c: c, number: make(map[string]int, c.N)}
	for n := range c.N {
		_, _, id := c.Name(n)
		p.number[id] = n
	}
	agentv1.RegisterAgentServiceServer(srv, p)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Serve(ln) })
	g.Go(func() error {
		<-ctx.Done()
		srv.Stop()
		return nil
	})
	next := make(chan int)
	g.Go(func() error {
		defer close(next)
		for n := range c.N {
			select {
			case next <- n:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	})
	for range 64 {
		g.Go(func() error {
			for n := range next {
				conn, err := c.dial(n)
				if err != nil {
					return err
				}
				select {
				case ln.ready <- conn:
				case <-ctx.Done():
					return conn.Close()
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// named is a connection whose peer, to the handlers, is the boot id it speaks for.
type named struct {
	net.Conn
	r    io.Reader
	name string
}

func (c named) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c named) RemoteAddr() net.Addr       { return &net.UnixAddr{Name: c.name, Net: "boot-id"} }

func (c Config) dial(n int) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", c.Centre)
	if err != nil {
		return nil, err
	}
	if c.TLS {
		// The certificate was made a moment ago by a process that we started.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	const request = "POST " + agentlink.Path + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: opscenter-agent/1\r\n" +
		"Ops-Protocol: 1\r\nOps-Project: %s\r\nOps-Service: %s\r\nOps-Boot-Id: %s\r\nContent-Length: 0\r\n\r\n"
	project, service, bootID := c.Name(n)
	if _, err := fmt.Fprintf(conn, request, project, service, bootID); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, 1024)
	resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // an upgraded connection has none
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("the centre answered %s", resp.Status)
	}
	return named{conn, r, bootID}, nil
}

// connections is a listener of connections that were dialled.
type connections struct {
	ready chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *connections) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *connections) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *connections) Addr() net.Addr { return &net.UnixAddr{} }

// players answers for all of them.
type players struct {
	agentv1.UnimplementedAgentServiceServer
	c      Config
	number map[string]int // by boot id
}

func (p *players) who(ctx context.Context) (n int, bootID string) {
	from, _ := peer.FromContext(ctx)
	bootID = from.Addr.String()
	return p.number[bootID], bootID
}

func (p *players) Hello(ctx context.Context, _ *agentv1.HelloRequest) (*agentv1.HelloResponse, error) {
	n, bootID := p.who(ctx)
	out := p.c.Hello(n)
	out.Protocol, out.BootId, out.Now = 1, bootID, timestamppb.Now()
	out.Project, out.Service, _ = p.c.Name(n)
	return out, nil
}

func (p *players) WatchMetrics(req *agentv1.WatchMetricsRequest, s grpc.ServerStreamingServer[agentv1.WatchMetricsResponse]) error {
	t := time.NewTicker(req.GetInterval().AsDuration())
	defer t.Stop()
	n, _ := p.who(s.Context())
	for beat := int64(1); ; beat++ {
		if err := s.Send(&agentv1.WatchMetricsResponse{At: timestamppb.Now(), Heartbeat: p.c.Beat(n, beat)}); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}
