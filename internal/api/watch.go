package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
)

const (
	keepAliveEvery   = 15 * time.Second
	defaultInterval  = time.Second
	minInterval      = 100 * time.Millisecond
	captureInterval  = 250 * time.Millisecond
	recentCaptures   = 50
	maxWatchedMetric = 16
)

// Watch sends every topic's state and then what changed, taking as long between
// two messages of a topic as the caller asked for. A reader that does not keep
// up holds only its own call: changes collect in sets meanwhile.
func (s *server) Watch(ctx context.Context, req *connect.Request[apiv1.WatchRequest], stream *connect.ServerStream[apiv1.WatchResponse]) error {
	if n := len(req.Msg.GetMetricsInstanceIds()); n > maxWatchedMetric {
		return ops.Errorf(ops.Invalid, "%d instances are too many to watch every metric of: use up to %d", n, maxWatchedMetric)
	}
	interval := defaultInterval
	if req.Msg.GetMinInterval() != nil {
		interval = max(req.Msg.GetMinInterval().AsDuration(), minInterval)
	}

	var fleetReady, captureReady <-chan struct{} // nil = not asked for
	var takeFleet func() []ops.InstanceID
	var takeCaptures func() []ops.CaptureID
	known := told{beats: req.Msg.GetBeats()}
	if req.Msg.GetFleet() {
		sub := s.Fleet.Subscribe()
		defer sub.Close()
		fleetReady, takeFleet = sub.Ready(), sub.Take
		if err := stream.Send(&apiv1.WatchResponse{Event: &apiv1.WatchResponse_Fleet{Fleet: s.wholeFleet(ctx, &known)}}); err != nil {
			return err
		}
	}
	if req.Msg.GetCaptures() {
		sub := s.Captures.Subscribe()
		defer sub.Close()
		captureReady, takeCaptures = sub.Ready(), sub.Take
		recent, err := s.recent(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&apiv1.WatchResponse{Event: &apiv1.WatchResponse_Capture{Capture: recent}}); err != nil {
			return err
		}
	}
	samples, stop := s.watchMetrics(ctx, req.Msg.GetMetricsInstanceIds())
	defer stop()

	// While a topic rests between two messages its channel is nil.
	idle := time.NewTimer(keepAliveEvery)
	defer idle.Stop()
	fleetRest, captureRest := time.NewTimer(0), time.NewTimer(0)
	defer fleetRest.Stop()
	defer captureRest.Stop()
	fleetIn, captureIn := fleetReady, captureReady
	for {
		out := &apiv1.WatchResponse{}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-fleetRest.C:
			fleetIn = fleetReady
			continue
		case <-captureRest.C:
			captureIn = captureReady
			continue
		case <-fleetIn:
			fleetIn = nil
			fleetRest.Reset(interval)
			out.Event = &apiv1.WatchResponse_Fleet{Fleet: s.fleetChange(ctx, takeFleet(), &known)}
		case <-captureIn:
			captureIn = nil
			captureRest.Reset(min(interval, captureInterval))
			change, err := s.captureChange(ctx, takeCaptures())
			if err != nil {
				return err
			}
			out.Event = &apiv1.WatchResponse_Capture{Capture: change}
		case m := <-samples:
			out.Event = &apiv1.WatchResponse_Metrics{Metrics: m}
		case <-idle.C:
			out.Event = &apiv1.WatchResponse_KeepAlive{KeepAlive: &apiv1.KeepAlive{}}
		}
		idle.Reset(keepAliveEvery)
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

// told is what a reader knows of the fleet: the revision of each instance that
// was sent whole. Empty unless it asked for beats.
type told struct {
	beats bool
	revs  map[ops.InstanceID]uint64
}

// whole notes that an instance is sent whole, if that is what it takes.
func (t *told) whole(i ops.Instance) bool {
	if !t.beats {
		return true
	}
	if t.revs == nil {
		t.revs = map[ops.InstanceID]uint64{}
	}
	if rev, known := t.revs[i.ID]; known && rev == i.Revision {
		return false
	}
	t.revs[i.ID] = i.Revision
	return true
}

func (s *server) wholeFleet(ctx context.Context, known *told) *apiv1.FleetChange {
	out := &apiv1.FleetChange{Reset_: true}
	for _, i := range s.Fleet.Instances(fleet.Filter{IncludeGone: true}) {
		if sees(ctx, i.Project, i.Service) {
			known.whole(i)
			out.Instances = append(out.Instances, instanceProto(i))
		}
	}
	return out
}

func (s *server) fleetChange(ctx context.Context, ids []ops.InstanceID, known *told) *apiv1.FleetChange {
	out := &apiv1.FleetChange{}
	for _, id := range ids {
		i, err := s.Fleet.Instance(id)
		switch {
		case err != nil:
			out.RemovedIds = append(out.RemovedIds, string(id))
			delete(known.revs, id)
		case !sees(ctx, i.Project, i.Service):
		case known.whole(i):
			out.Instances = append(out.Instances, instanceProto(i))
		default:
			out.Beats = append(out.Beats, &apiv1.Beat{
				InstanceId: string(id), LastSeen: ts(i.LastSeen), Heartbeat: heartbeatProto(i.Heartbeat), Health: healthProto(i.Health),
			})
		}
	}
	return out
}

func (s *server) recent(ctx context.Context) (*apiv1.CaptureChange, error) {
	list, err := s.Captures.Captures(ctx, ops.CaptureFilter{Limit: recentCaptures})
	if err != nil {
		return nil, err
	}
	out := &apiv1.CaptureChange{Reset_: true}
	for _, st := range list {
		if sees(ctx, st.Project, st.Service) {
			out.Captures = append(out.Captures, s.captureProto(ctx, st, true))
		}
	}
	return out, nil
}

func (s *server) captureChange(ctx context.Context, ids []ops.CaptureID) (*apiv1.CaptureChange, error) {
	out := &apiv1.CaptureChange{}
	for _, id := range ids {
		st, err := s.Captures.Capture(ctx, id)
		switch {
		case err == nil && !sees(ctx, st.Project, st.Service):
		case err == nil:
			out.Captures = append(out.Captures, s.captureProto(ctx, st, true))
		case ops.KindOf(err) == ops.NotFound:
			out.RemovedIds = append(out.RemovedIds, string(id))
		default:
			return nil, err
		}
	}
	return out, nil
}

// watchMetrics delivers the newest sample of each instance; one that was not
// taken in time gives way to its successor. stop waits for what it started.
func (s *server) watchMetrics(ctx context.Context, ids []string) (<-chan *apiv1.MetricsSample, func()) {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *apiv1.MetricsSample)
	var wg sync.WaitGroup
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		wg.Go(func() { s.watchOne(ctx, ops.InstanceID(id), out) })
	}
	return out, func() { cancel(); wg.Wait() }
}

func (s *server) watchOne(ctx context.Context, id ops.InstanceID, out chan<- *apiv1.MetricsSample) {
	latest := make(chan *apiv1.MetricsSample, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-latest:
				select {
				case out <- m:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	var before ops.Sample
	for ctx.Err() == nil {
		// Why it ended does not matter: an instance that is unknown or away may come.
		// One that the caller may not see is like one that is away.
		if i, err := s.Fleet.Instance(id); err == nil && sees(ctx, i.Project, i.Service) {
			_ = s.Fleet.WatchMetrics(ctx, id, func(sample ops.Sample) {
				m := metricsProto(id, sample, before)
				before = sample
				select {
				case latest <- m:
				default:
					select {
					case <-latest:
					default:
					}
					select {
					case latest <- m:
					default:
					}
				}
			})
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
