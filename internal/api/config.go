package api

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/archive"
	"github.com/opscenter/opscenter/internal/config"
	"github.com/opscenter/opscenter/internal/fleet"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/project"
)

// Projects is what the API needs of projects.
type Projects interface {
	List(seen []ops.ProjectName) []project.Entry
	Refused() []project.Refusal
}

// ConfigState is how the configuration stands.
type ConfigState struct {
	File    string // "" = none
	Loaded  time.Time
	Problem string // why the file as it is now does not count; empty = it does
	Since   time.Time
	Waiting []string // keys that wait for the next start
	Values  []config.Value
}

func (s *server) ListProjects(ctx context.Context, _ *connect.Request[apiv1.ListProjectsRequest]) (*connect.Response[apiv1.ListProjectsResponse], error) {
	type tally struct {
		services  map[ops.ServiceName]bool
		instances int32
	}
	tallies := map[ops.ProjectName]*tally{}
	var seen []ops.ProjectName
	for _, i := range s.Fleet.Instances(fleet.Filter{}) {
		if !sees(ctx, i.Project, i.Service) {
			continue
		}
		t := tallies[i.Project]
		if t == nil {
			t = &tally{services: map[ops.ServiceName]bool{}}
			tallies[i.Project] = t
			seen = append(seen, i.Project)
		}
		t.services[i.Service] = true
		t.instances++
	}
	out := &apiv1.ListProjectsResponse{}
	var keep archive.Retention
	if s.Retention != nil {
		keep = s.Retention()
	}
	for _, e := range s.Projects.List(seen) {
		t := tallies[e.Name]
		if t == nil {
			if !sees(ctx, e.Name, "") {
				continue
			}
			t = &tally{}
		}
		bounds, shared := keep.Of(e.Name)
		p := &apiv1.Project{
			Name: string(e.Name), TitleEn: e.Title.En, TitleZhTw: e.Title.ZhTW, Declared: e.Declared, Labels: e.Labels,
			Services: int32(len(t.services)), Instances: t.instances,
		}
		if bounds.MaxAge > 0 {
			p.Retention = dur(bounds.MaxAge)
		}
		if shared != "" && bounds.MaxBytes > 0 {
			p.RetentionBytes = bounds.MaxBytes
		}
		out.Projects = append(out.Projects, p)
	}
	for _, r := range s.Projects.Refused() {
		if sees(ctx, r.Project, r.Service) {
			out.Refused = append(out.Refused, &apiv1.RefusedProject{Name: string(r.Project), Service: string(r.Service), Source: r.Source, Times: int32(r.Times), Last: ts(r.Last)})
		}
	}
	return connect.NewResponse(out), nil
}

// keeps is how long a project's captures are kept; 0 = for ever.
func (s *server) keeps(p ops.ProjectName) time.Duration {
	if s.Retention == nil {
		return 0
	}
	bounds, _ := s.Retention().Of(p)
	return max(bounds.MaxAge, 0)
}

func (s *server) GetConfig(context.Context, *connect.Request[apiv1.GetConfigRequest]) (*connect.Response[apiv1.GetConfigResponse], error) {
	c := s.Configuration()
	out := &apiv1.GetConfigResponse{File: c.File, Loaded: ts(c.Loaded), Problem: c.Problem, ProblemSince: ts(c.Since), Waiting: slices.Clone(c.Waiting)}
	for _, v := range c.Values {
		out.Values = append(out.Values, &apiv1.ConfigValue{Key: v.Key, Value: v.Text, Origin: string(v.Origin), Where: v.Where, Restart: v.Restart})
	}
	return connect.NewResponse(out), nil
}
