package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// service answers the protocol, on the tunnel or on a foreign server.
type service struct {
	agentv1.UnimplementedAgentServiceServer
	agent *Agent
	// tunnel is set on the agent's own server: the peer is the centre that the
	// agent dialled, and codec and limits are ours.
	tunnel *tunnelActivity
	chains *chains // with tunnel
}

// guard is around every call: it refuses strangers, lets Close wait for the
// call, and turns a panic into a status.
func (s *service) guard(ctx context.Context, method string, call func() error) (err error) {
	a := s.agent
	if !a.enter() {
		return errClosing()
	}
	defer a.calls.Done()
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("agent recovered from a panic", slog.String("in", method), slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			err = status.Errorf(codes.Internal, "the agent failed in %s: %v", method, r)
		}
	}()
	if s.tunnel == nil {
		if err := authorize(ctx, a.cfg.token); err != nil {
			return err
		}
	} else {
		defer s.tunnel.call()()
	}
	return call()
}

// Hello implements the protocol.
func (s *service) Hello(ctx context.Context, req *agentv1.HelloRequest) (resp *agentv1.HelloResponse, err error) {
	err = s.guard(ctx, "Hello", func() error {
		if req.GetProtocol()+1 < protocolVersion {
			return status.Errorf(codes.FailedPrecondition, "the centre speaks protocol %d and this agent %d: update the centre", req.GetProtocol(), protocolVersion)
		}
		a := s.agent
		resp = &agentv1.HelloResponse{
			Protocol:     protocolVersion,
			BootId:       a.self.bootID,
			Project:      a.cfg.project,
			Service:      a.cfg.service,
			Labels:       a.cfg.labels,
			Build:        a.self.build,
			Process:      a.self.process(),
			Kinds:        a.cfg.supportedKinds(),
			Limits:       a.cfg.limits.proto(),
			Now:          timestamppb.Now(),
			AgentVersion: agentVersion,
			Rules:        true,
			GrpcServices: s.tunnel == nil || a.cfg.services.Register != nil,
		}
		return nil
	})
	return resp, err
}

// CollectPerformanceData implements the protocol.
func (s *service) CollectPerformanceData(req *agentv1.CollectPerformanceDataRequest, stream grpc.ServerStreamingServer[agentv1.CollectPerformanceDataResponse]) error {
	return s.guard(stream.Context(), "CollectPerformanceData", func() error {
		p, err := newPlan(req, s.agent.cfg.limits)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		c, err := s.agent.beginCapture(p)
		if err != nil {
			return err
		}
		defer c.detach()
		o := s.outlet(stream, false)
		err = o.sendCapture(stream.Context(), c)
		if stream.Context().Err() != nil && o.wasCancelled(c) {
			c.drop(errCancelled)
		}
		return err
	})
}

// FetchArtifact implements the protocol.
func (s *service) FetchArtifact(req *agentv1.FetchArtifactRequest, stream grpc.ServerStreamingServer[agentv1.FetchArtifactResponse]) error {
	return s.guard(stream.Context(), "FetchArtifact", func() error {
		if req.GetArtifact() == 0 || req.GetOffset() < 0 {
			return status.Errorf(codes.InvalidArgument, "artifact %d at offset %d cannot be: artifacts count from 1, offsets from 0", req.GetArtifact(), req.GetOffset())
		}
		c, err := s.agent.captures.get(req.GetCaptureId())
		if err != nil {
			return err
		}
		c.attach()
		defer c.detach()
		return s.outlet(stream, true).sendArtifact(stream.Context(), c, req.GetArtifact(), req.GetOffset())
	})
}

func (s *service) outlet(stream grpc.ServerStream, fetch bool) outlet {
	o := outlet{stream: stream, fetch: fetch}
	if s.tunnel != nil {
		o.frames = &s.agent.chunks
		if !s.agent.unchained.Load() {
			o.chains = s.chains
		}
	}
	return o
}

// StopCapture implements the protocol.
func (s *service) StopCapture(ctx context.Context, req *agentv1.StopCaptureRequest) (*agentv1.StopCaptureResponse, error) {
	return &agentv1.StopCaptureResponse{}, s.guard(ctx, "StopCapture", func() error {
		c, err := s.agent.captures.get(req.GetCaptureId())
		if err == nil {
			c.stop()
		}
		return err
	})
}

// AckArtifact implements the protocol.
func (s *service) AckArtifact(ctx context.Context, req *agentv1.AckArtifactRequest) (*agentv1.AckArtifactResponse, error) {
	return &agentv1.AckArtifactResponse{}, s.guard(ctx, "AckArtifact", func() error {
		if c, err := s.agent.captures.get(req.GetCaptureId()); err == nil {
			c.ack(req.GetArtifacts())
		}
		return nil
	})
}

const (
	defaultWatchInterval = 5 * time.Second
	minWatchInterval     = time.Second
	maxWatchInterval     = time.Hour
)

// WatchMetrics implements the protocol. It ends with OK when the process says
// goodbye.
func (s *service) WatchMetrics(req *agentv1.WatchMetricsRequest, stream grpc.ServerStreamingServer[agentv1.WatchMetricsResponse]) error {
	return s.guard(stream.Context(), "WatchMetrics", func() error {
		interval := orDefault(req.GetInterval(), defaultWatchInterval)
		if interval < minWatchInterval || interval > maxWatchInterval {
			return status.Errorf(codes.InvalidArgument, "interval %v is out of range: use %v to %v", interval, minWatchInterval, maxWatchInterval)
		}
		a := s.agent
		names := heartbeatMetrics()
		if req.GetFull() {
			names = allMetrics()
		}
		m := newMeter(names, a.self.cgroup, &a.pools)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		prev := a.first.get()
		for {
			r := m.read()
			if err := stream.Send(r.response(prev, req.GetFull())); err != nil {
				return err
			}
			prev = r
			a.first.set(r)
			select {
			case <-tick.C:
			case <-stream.Context().Done():
				return status.FromContextError(stream.Context().Err()).Err()
			case <-a.ctx.Done():
				return nil
			}
		}
	})
}
