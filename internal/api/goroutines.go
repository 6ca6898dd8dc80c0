package api

import (
	"context"
	"strconv"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/census"
	"github.com/opscenter/opscenter/internal/ops"
)

// namedArtifact reads the name of an artifact from the wire.
func namedArtifact(capture, instance, name string) (ops.ArtifactRef, error) {
	ref := ops.ArtifactRef{Capture: ops.CaptureID(capture), Instance: ops.InstanceID(instance), Name: name}
	if !ref.Valid() {
		return ref, ops.Errorf(ops.Invalid, "%s is not the name of an artifact", strconv.QuoteToASCII(ref.String()))
	}
	return ref, nil
}

func (s *server) GetGoroutines(ctx context.Context, req *connect.Request[apiv1.GetGoroutinesRequest]) (*connect.Response[apiv1.GetGoroutinesResponse], error) {
	m := req.Msg
	q := census.Query{Text: m.GetText(), States: m.GetStates(), Groups: int(m.GetMaxGroups())}
	var err error
	if q.Of, err = namedArtifact(m.GetOf().GetCaptureId(), m.GetOf().GetInstanceId(), m.GetOf().GetArtifact()); err != nil {
		return nil, err
	}
	if a := m.GetAgainst(); a != nil {
		ref, err := namedArtifact(a.GetCaptureId(), a.GetInstanceId(), a.GetArtifact())
		if err != nil {
			return nil, err
		}
		q.Against = &ref
	}
	c, err := s.Goroutines(ctx, q)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(censusProto(c)), nil
}

func censusProto(c *census.Census) *apiv1.GetGoroutinesResponse {
	out := &apiv1.GetGoroutinesResponse{
		Format: c.Format.String(), Taken: ts(c.Taken), AgainstTaken: ts(c.AgainstTaken),
		Total: int64(c.Total), AgainstTotal: int64(c.AgainstTotal), Compared: c.Compared, Loss: c.Loss,
		OmittedGroups: int32(c.OmittedGroups), OmittedGoroutines: int64(c.OmittedGoroutines),
	}
	for _, s := range c.States {
		out.States = append(out.States, &apiv1.GoroutineState{State: string(s.State), Count: int64(s.Count), Against: int64(s.Against)})
	}
	for _, f := range c.Frames {
		// Origins are in the order of the enum, whose zero says nothing.
		out.Frames = append(out.Frames, &apiv1.CodeFrame{Function: f.Function, File: f.File, Line: int64(f.Line), Package: f.Package, Origin: apiv1.CodeOrigin(f.Origin + 1)})
	}
	for i := range c.Groups {
		out.Groups = append(out.Groups, groupProto(&c.Groups[i]))
	}
	return out
}

func groupProto(g *census.Group) *apiv1.GoroutineGroup {
	out := &apiv1.GoroutineGroup{
		Id: g.ID, Count: int64(g.Count), Against: int64(g.Against), State: string(g.State), Forever: g.Forever,
		WaitClass: string(g.Wait.Class), WaitLibrary: g.Wait.Library, WaitFunction: g.Wait.Function,
		CreatedBy: uint32(g.CreatedBy + 1), Aged: int64(g.Aged), Youngest: dur(g.Youngest), Oldest: dur(g.Oldest),
		Ids: g.IDs, Dumped: int64(g.Dumped), Locked: int64(g.Locked), Stack: make([]uint32, len(g.Stack)),
	}
	for i, f := range g.Stack {
		out.Stack[i] = uint32(f)
	}
	for _, l := range g.Labels {
		out.Labels = append(out.Labels, &apiv1.GoroutineLabels{Count: int64(l.Count), Labels: l.Set})
	}
	return out
}

func (s *server) GetRuntime(ctx context.Context, req *connect.Request[apiv1.GetRuntimeRequest]) (*connect.Response[apiv1.GetRuntimeResponse], error) {
	ref, err := namedArtifact(req.Msg.GetCaptureId(), req.Msg.GetInstanceId(), req.Msg.GetArtifact())
	if err != nil {
		return nil, err
	}
	b, err := s.Runtime(ctx, ref)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetRuntimeResponse{Json: string(b)}), nil
}
