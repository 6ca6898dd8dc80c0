package api

import (
	"context"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/discovery"
	"github.com/opscenter/opscenter/internal/ops"
)

// Sources is what a discovery.Manager tells.
type Sources interface {
	Status() []discovery.Status
	Absences() []discovery.Absence
}

func (s *server) ListSources(ctx context.Context, _ *connect.Request[apiv1.ListSourcesRequest]) (*connect.Response[apiv1.ListSourcesResponse], error) {
	out := &apiv1.ListSourcesResponse{}
	for _, x := range s.Fleet.Shortages() {
		if sees(ctx, x.Service.Project, x.Service.Service) {
			out.Shortages = append(out.Shortages, &apiv1.Shortage{
				Project: string(x.Service.Project), Service: string(x.Service.Service), Expected: int32(x.Count), Up: int32(x.Up), Since: ts(x.Since), Says: x.Says, Alarm: x.Alarm, StaleSince: ts(x.StaleSince),
			})
		}
	}
	if s.Sources == nil {
		return connect.NewResponse(out), nil
	}
	all := sees(ctx, "", "")
	for _, st := range s.Sources.Status() {
		if all {
			out.Sources = append(out.Sources, &apiv1.Source{
				Name: st.Source, Targets: int32(st.Targets), Heard: ts(st.Heard), Problem: st.Problem, StaleSince: ts(st.StaleSince), Expects: int32(st.Expects), Unknown: st.Unknown,
			})
		}
	}
	for _, a := range s.Sources.Absences() {
		if t := a.Target; sees(ctx, t.Project, t.Service) {
			out.Absences = append(out.Absences, &apiv1.Absence{
				Source: t.Source, Project: string(t.Project), Service: string(t.Service), Address: addressOf(t),
				Since: ts(a.Since), Problem: a.Problem, Complaint: t.Complaint,
			})
		}
	}
	return connect.NewResponse(out), nil
}

// addressOf is where a target is, as people know it.
func addressOf(t ops.Target) string {
	switch {
	case t.URL != "":
		return t.URL
	case t.Pod != "":
		return "pod " + t.Pod
	}
	return "instance " + string(t.Instance)
}
