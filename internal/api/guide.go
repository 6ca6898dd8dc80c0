package api

import (
	"context"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/guide"
	"github.com/opscenter/opscenter/internal/ops"
)

// langOf is the language that a caller asks for; whatever is not known is English.
func langOf(tag string) ops.Lang {
	if ops.Lang(tag) == ops.TraditionalChinese {
		return ops.TraditionalChinese
	}
	return ops.English
}

func (s *server) GetSample(ctx context.Context, req *connect.Request[apiv1.GetSampleRequest]) (*connect.Response[apiv1.GetSampleResponse], error) {
	sample, err := s.Guide.Sample(ctx, int(req.Msg.GetScenario()))
	if err != nil {
		return nil, err
	}
	kept, err := s.Guide.Kept(ctx, sample)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetSampleResponse{
		Capture: captureProto(capture.Status{Capture: sample.Capture}, s.keeps(sample.Capture.Project), true),
		Json:    string(sample.Bodies[langOf(req.Msg.GetLang())]), Kept: kept,
	}), nil
}

func (s *server) OpenSample(ctx context.Context, req *connect.Request[apiv1.OpenSampleRequest]) (*connect.Response[apiv1.OpenSampleResponse], error) {
	actor := auth.ActorOf(ctx).Name
	id, err := s.Guide.Open(ctx, int(req.Msg.GetScenario()), actor)
	if err != nil {
		return nil, err
	}
	s.Logger.InfoContext(ctx, "sample opened", "capture", id, "actor", actor)
	return connect.NewResponse(&apiv1.OpenSampleResponse{CaptureId: string(id)}), nil
}

func (s *server) ListRules(_ context.Context, req *connect.Request[apiv1.ListRulesRequest]) (*connect.Response[apiv1.ListRulesResponse], error) {
	out := &apiv1.ListRulesResponse{}
	for _, p := range guide.Pages() {
		out.Rules = append(out.Rules, pageProto(p, langOf(req.Msg.GetLang())))
	}
	return connect.NewResponse(out), nil
}

func pageProto(p guide.Page, l ops.Lang) *apiv1.RulePage {
	out := &apiv1.RulePage{
		Rule: string(p.Rule), Scenario: int32(p.Scenario), Name: p.Name.In(l), Means: p.Means.In(l), Evidence: p.Evidence.In(l),
		Thresholds: p.Thresholds.In(l), NotThis: p.NotThis.In(l), Kinds: kindNames(p.Kinds),
	}
	for _, r := range p.Related {
		out.Related = append(out.Related, string(r))
	}
	return out
}
