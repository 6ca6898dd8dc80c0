package api

import (
	"context"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/timeline"
	"github.com/opscenter/opscenter/internal/trace"
)

// Timelines is what the API needs to answer from execution traces.
type Timelines interface {
	Use(ctx context.Context, ref ops.ArtifactRef, progress func(done, total int), fn func(*timeline.View) error) error
}

func (s *server) OpenTimeline(ctx context.Context, req *connect.Request[apiv1.OpenTimelineRequest], stream *connect.ServerStream[apiv1.OpenTimelineResponse]) error {
	var gone error // whoever asked does not listen any more
	return s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), func(done, total int) {
		if gone == nil {
			gone = stream.Send(&apiv1.OpenTimelineResponse{Event: &apiv1.OpenTimelineResponse_Progress{Progress: &apiv1.TimelineProgress{Done: int32(done), Total: int32(total)}}})
		}
	}, func(v *timeline.View) error {
		if gone != nil {
			return gone
		}
		return stream.Send(&apiv1.OpenTimelineResponse{Event: &apiv1.OpenTimelineResponse_Overview{Overview: overviewProto(v.Overview())}})
	})
}

// tilesAge is how long browsers may keep tiles: the file of an artifact never
// changes, but a capture may be deleted.
const tilesAge = "private, max-age=600"

func (s *server) GetTiles(ctx context.Context, req *connect.Request[apiv1.GetTilesRequest]) (*connect.Response[apiv1.GetTilesResponse], error) {
	q := timeline.TileQuery{Level: int(req.Msg.GetLevel()), Index: req.Msg.GetIndex(), Columns: int(req.Msg.GetColumns()), Tracks: tracksFrom(req.Msg.GetTracks())}
	out := &apiv1.GetTilesResponse{}
	err := s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), nil, func(v *timeline.View) error {
		tile, err := v.Tile(ctx, q)
		for _, r := range tile.Rows {
			out.Rows = append(out.Rows, &apiv1.TimelineRow{
				FromNs: r.From, ToNs: r.To, State: r.State, Reason: r.Reason, Stack: r.Stack, WakerStack: r.WakerStack, Goroutine: r.Goroutine,
				ShareStates: r.ShareStates, Shares: r.Shares, Goroutines: r.Goroutines,
			})
		}
		for _, x := range tile.Stacks {
			out.Stacks = append(out.Stacks, timelineStackProto(x))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := connect.NewResponse(out)
	resp.Header().Set("Cache-Control", tilesAge)
	return resp, nil
}

func (s *server) ListGoroutines(ctx context.Context, req *connect.Request[apiv1.ListGoroutinesRequest]) (*connect.Response[apiv1.ListGoroutinesResponse], error) {
	state := trace.NumStates
	if req.Msg.State != nil {
		var err error
		if state, err = stateFrom(req.Msg.GetState()); err != nil {
			return nil, err
		}
	}
	out := &apiv1.ListGoroutinesResponse{}
	err := s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), nil, func(v *timeline.View) error {
		list, total, err := v.Goroutines(ctx, req.Msg.GetGroup(), state, int(req.Msg.GetLimit()))
		for i := range list {
			out.Goroutines = append(out.Goroutines, timelineGoroutineProto(&list[i]))
		}
		out.Total = total
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func (s *server) GetGoroutine(ctx context.Context, req *connect.Request[apiv1.GetGoroutineRequest]) (*connect.Response[apiv1.GetGoroutineResponse], error) {
	out := &apiv1.GetGoroutineResponse{}
	err := s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), nil, func(v *timeline.View) error {
		g, err := v.Goroutine(ctx, trace.GoID(req.Msg.GetId()), time.Duration(req.Msg.GetAtNs()))
		out.Goroutine, out.Group, out.Born, out.Intervals = timelineGoroutineProto(&g.Goroutine), g.Func, g.Born, g.Intervals
		out.Creator, out.CreatedAt = int64(max(g.Creator, 0)), timelineStackProto(g.CreatedAt)
		out.Interval, out.Sites = timelineIntervalProto(g.Interval), timelineSitesProto(g.Sites)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func (s *server) FindInterval(ctx context.Context, req *connect.Request[apiv1.FindIntervalRequest]) (*connect.Response[apiv1.FindIntervalResponse], error) {
	state, err := stateFrom(req.Msg.GetState())
	if err != nil {
		return nil, err
	}
	out := &apiv1.FindIntervalResponse{}
	err = s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), nil, func(v *timeline.View) error {
		iv, err := v.Find(ctx, trackFrom(req.Msg.GetTrack()), state, time.Duration(req.Msg.GetAtNs()), req.Msg.GetBackwards())
		out.Interval = timelineIntervalProto(iv)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func (s *server) SearchTimeline(ctx context.Context, req *connect.Request[apiv1.SearchTimelineRequest]) (*connect.Response[apiv1.SearchTimelineResponse], error) {
	out := &apiv1.SearchTimelineResponse{}
	err := s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), nil, func(v *timeline.View) error {
		hits, err := v.Search(ctx, req.Msg.GetQuery(), int(req.Msg.GetLimit()))
		for i := range hits.Goroutines {
			out.Goroutines = append(out.Goroutines, timelineGoroutineProto(&hits.Goroutines[i]))
		}
		out.GoroutineGroups, out.Groups, out.Sites = hits.GoroutineGroups, hits.Groups, timelineSitesProto(hits.Sites)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func (s *server) GetStatistics(ctx context.Context, req *connect.Request[apiv1.GetStatisticsRequest]) (*connect.Response[apiv1.GetStatisticsResponse], error) {
	out := &apiv1.GetStatisticsResponse{}
	err := s.Timelines.Use(ctx, traceRefFrom(req.Msg.GetTrace()), nil, func(v *timeline.View) error {
		x, err := v.Statistics(ctx, time.Duration(req.Msg.GetFromNs()), time.Duration(req.Msg.GetToNs()), tracksFrom(req.Msg.GetTracks()))
		out.StateNs, out.Goroutines, out.Sites, out.Intervals = stateTimes(&x.Times), x.Goroutines, timelineSitesProto(x.Sites), x.Intervals
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

func traceRefFrom(r *apiv1.TraceRef) ops.ArtifactRef {
	ref := ops.ArtifactRef{Capture: ops.CaptureID(r.GetCaptureId()), Instance: ops.InstanceID(r.GetInstanceId()), Name: r.GetArtifact()}
	if ref.Name == "" {
		ref.Name = ops.KindTrace.FileName()
	}
	return ref
}

func stateFrom(n int32) (trace.State, error) {
	if n < 0 || n >= int32(trace.NumStates) {
		return 0, ops.Errorf(ops.Invalid, "there is no state %d: use one of the overview", n)
	}
	return trace.State(n), nil
}

func trackFrom(t *apiv1.TimelineTrack) timeline.Track {
	switch x := t.GetTrack().(type) {
	case *apiv1.TimelineTrack_Proc:
		return timeline.Track{Kind: trace.TrackProc, ID: int64(x.Proc)}
	case *apiv1.TimelineTrack_Goroutine:
		return timeline.Track{Kind: trace.TrackGoroutine, ID: x.Goroutine}
	}
	return timeline.Track{Kind: trace.TrackGroup, Group: t.GetGroup()}
}

func tracksFrom(in []*apiv1.TimelineTrack) (out []timeline.Track) {
	for _, t := range in {
		out = append(out, trackFrom(t))
	}
	return out
}

func overviewProto(o timeline.Overview) *apiv1.TimelineOverview {
	out := &apiv1.TimelineOverview{
		DurationNs: int64(o.Duration), GoMaxprocs: int32(o.Procs), Sites: timelineSitesProto(o.Sites), Events: o.Events, Intervals: o.Intervals,
		Goroutines: o.Goroutines, LatencyP50Ns: int64(o.P50), LatencyP99Ns: int64(o.P99), LatencyMaxNs: int64(o.Max),
		Gc: timelineRangesProto(o.GC), Stw: timelineRangesProto(o.STW),
	}
	if o.Loss != nil {
		out.Loss = o.Loss.Message
	}
	for s := range trace.NumStates {
		out.States = append(out.States, s.String())
	}
	for r := range trace.NumReasons {
		out.Reasons = append(out.Reasons, r.String())
	}
	for i := range o.Groups {
		g := &o.Groups[i]
		out.Groups = append(out.Groups, &apiv1.TimelineGroup{Function: g.Func, Goroutines: g.Goroutines, Born: g.Born, Died: g.Died, StateNs: stateTimes(&g.Times)})
	}
	for i := range o.Ps {
		out.Procs = append(out.Procs, &apiv1.TimelineProc{Id: int32(o.Ps[i].ID), StateNs: stateTimes(&o.Ps[i].Times)})
	}
	for _, at := range o.Generations {
		out.GenerationsNs = append(out.GenerationsNs, int64(at))
	}
	return out
}

func stateTimes(t *trace.Times) []int64 {
	out := make([]int64, len(t))
	for s, d := range t {
		out[s] = int64(d)
	}
	return out
}

func timelineRangesProto(in []trace.Range) (out []*apiv1.TimelineRange) {
	for _, r := range in {
		out = append(out, &apiv1.TimelineRange{FromNs: int64(r.From), ToNs: int64(r.To), Text: r.Text, Open: r.Open})
	}
	return out
}

func timelineStackProto(s timeline.Stack) *apiv1.TimelineStack {
	out := &apiv1.TimelineStack{}
	for _, f := range s {
		out.Frames = append(out.Frames, &apiv1.TimelineFrame{Function: f.Function, File: f.File, Line: int32(min(f.Line, 1<<30)), Own: f.Own})
	}
	return out
}

func timelineSitesProto(in []timeline.Site) (out []*apiv1.TimelineSite) {
	for _, s := range in {
		out = append(out, &apiv1.TimelineSite{
			Stack: timelineStackProto(s.Stack), Group: s.Group, State: int32(s.State), Reason: int32(s.Reason), Count: s.Count,
			TotalNs: int64(s.Total), MaxNs: int64(s.Max), MaxGoroutine: int64(max(s.Longest, 0)), MaxFromNs: int64(s.From),
		})
	}
	return out
}

func timelineGoroutineProto(g *trace.Goroutine) *apiv1.TimelineGoroutine {
	return &apiv1.TimelineGoroutine{Id: int64(g.ID), FromNs: int64(g.Begin), ToNs: int64(g.End), StateNs: stateTimes(&g.Times)}
}

func timelineIntervalProto(iv *timeline.Interval) *apiv1.TimelineInterval {
	if iv == nil {
		return nil
	}
	return &apiv1.TimelineInterval{
		FromNs: int64(iv.From), ToNs: int64(iv.To), State: int32(iv.State), Reason: int32(iv.Reason), Stack: timelineStackProto(iv.Stack),
		Waker: int64(max(iv.Waker, 0)), WakerStack: timelineStackProto(iv.WakerStack), WakerGroup: iv.WakerGroup, Goroutine: int64(max(iv.Goroutine, 0)),
	}
}
