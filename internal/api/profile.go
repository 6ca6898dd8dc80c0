package api

import (
	"context"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/flame"
	"github.com/opscenter/opscenter/internal/ops"
)

// Profiles is what the API needs to answer from profiles.
type Profiles interface {
	Graph(ctx context.Context, q flame.Query, boxes int) (*flame.Graph, error)
	Top(ctx context.Context, q flame.Query, rows int) (*flame.Table, error)
	Function(ctx context.Context, q flame.Query, name string) (*flame.Function, error)
}

func (s *server) GetFlame(ctx context.Context, req *connect.Request[apiv1.GetFlameRequest]) (*connect.Response[apiv1.GetFlameResponse], error) {
	boxes := int(req.Msg.GetMaxBoxes())
	if boxes < 0 || boxes > flame.BoxesAtMost {
		return nil, ops.Errorf(ops.Invalid, "%d boxes are out of range: use 1 to %d, or 0 for all of these", boxes, flame.BoxesAtMost)
	}
	g, err := s.Profiles.Graph(ctx, profileQueryFrom(req.Msg.GetQuery()), boxes)
	if err != nil {
		return nil, err
	}
	out := &apiv1.GetFlameResponse{
		Frame: g.Frame, Depth: g.Depth, Self: g.Self, BaseSelf: g.BaseSelf,
		Pruned: int64(g.Pruned), PrunedShare: g.PrunedShare, Negative: g.Negative, BaseNegative: g.BaseNegative,
	}
	out.Types, out.Type, out.Source, out.Base = subjectProto(g.Subject)
	for _, f := range g.Frames {
		out.Names, out.Files = append(out.Names, f.Name), append(out.Files, f.File)
		out.Lines = append(out.Lines, uint32(max(0, min(f.Line, 1<<31))))
	}
	return connect.NewResponse(out), nil
}

// topRows is what one looks through.
const topRows = 500

func (s *server) GetTop(ctx context.Context, req *connect.Request[apiv1.GetTopRequest]) (*connect.Response[apiv1.GetTopResponse], error) {
	rows := int(req.Msg.GetMaxRows())
	switch {
	case rows == 0:
		rows = topRows
	case rows < 0:
		return nil, ops.Errorf(ops.Invalid, "%d rows are out of range: use 1 or more, or 0 for %d", rows, topRows)
	}
	t, err := s.Profiles.Top(ctx, profileQueryFrom(req.Msg.GetQuery()), rows)
	if err != nil {
		return nil, err
	}
	out := &apiv1.GetTopResponse{Rows: profileRowsProto(t.Rows), Functions: int32(t.Functions)}
	out.Types, out.Type, out.Source, out.Base = subjectProto(t.Subject)
	return connect.NewResponse(out), nil
}

func (s *server) GetFunction(ctx context.Context, req *connect.Request[apiv1.GetFunctionRequest]) (*connect.Response[apiv1.GetFunctionResponse], error) {
	f, err := s.Profiles.Function(ctx, profileQueryFrom(req.Msg.GetQuery()), req.Msg.GetFunction())
	if err != nil {
		return nil, err
	}
	out := &apiv1.GetFunctionResponse{
		Row: profileRowProto(f.Row), Callers: profileRowsProto(f.Callers), Callees: profileRowsProto(f.Callees), Lines: profileRowsProto(f.Lines),
	}
	out.Types, out.Type, out.Source, out.Base = subjectProto(f.Subject)
	return connect.NewResponse(out), nil
}

func profileQueryFrom(p *apiv1.ProfileQuery) flame.Query {
	q := flame.Query{Source: profileSourceFrom(p.GetSource()), Type: p.GetSampleType(), Normalise: p.GetNormalise()}
	if p.GetBase() != nil {
		base := profileSourceFrom(p.GetBase())
		q.Base = &base
	}
	q.Filter.Focus, q.Filter.Ignore, q.Filter.Hide = p.GetFocus(), p.GetIgnore(), p.GetHide()
	q.Filter.HidePackages, q.Filter.Lines = p.GetHidePackages(), p.GetLines()
	return q
}

func profileSourceFrom(p *apiv1.ProfileSource) flame.Source {
	s := flame.Source{Capture: ops.CaptureID(p.GetCaptureId()), Artifact: p.GetArtifact()}
	for _, id := range p.GetInstanceIds() {
		s.Instances = append(s.Instances, ops.InstanceID(id))
	}
	return s
}

func subjectProto(s flame.Subject) (types []*apiv1.ProfileType, typ int32, source, base *apiv1.ProfileSide) {
	for _, t := range s.Types {
		types = append(types, &apiv1.ProfileType{Type: t.Type, Unit: t.Unit})
	}
	if s.Base != nil {
		base = sideProto(*s.Base)
	}
	return types, int32(s.Type), sideProto(s.Source), base
}

func sideProto(s flame.Side) *apiv1.ProfileSide {
	out := &apiv1.ProfileSide{
		Artifact: s.Artifact, Total: s.Total, Samples: int64(s.Samples), Taken: ts(s.Taken), Duration: dur(s.Duration), Losses: lossesProto(s.Losses),
	}
	for _, id := range s.Instances {
		out.InstanceIds = append(out.InstanceIds, string(id))
	}
	return out
}

func profileRowProto(r flame.Row) *apiv1.ProfileRow {
	return &apiv1.ProfileRow{
		Function: r.Name, File: r.File, Line: r.Line, Self: r.Self, Total: r.Total, BaseSelf: r.BaseSelf, BaseTotal: r.BaseTotal,
	}
}

func profileRowsProto(rows []flame.Row) []*apiv1.ProfileRow {
	out := make([]*apiv1.ProfileRow, len(rows))
	for i, r := range rows {
		out[i] = profileRowProto(r)
	}
	return out
}
