package api

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/rules"
)

// Rules is what the API needs of the rules that instances watch themselves by.
type Rules interface {
	Files() []rules.File
	Standings(rules.Def) []rules.Standing
	Preview(rules.Def) []rules.Match
	Flights() map[ops.InstanceID]ops.FlightState
	History(rules.Filter) []rules.Entry
	Put(ctx context.Context, name, before, text string) error
	Enable(ctx context.Context, name string, on bool) error
}

// ruleServer implements TriggerService.
type ruleServer struct{ *server }

func (s ruleServer) ListTriggers(context.Context, *connect.Request[apiv1.ListTriggersRequest]) (*connect.Response[apiv1.ListTriggersResponse], error) {
	out := &apiv1.ListTriggersResponse{Now: timestamppb.Now()}
	for _, f := range s.Rules.Files() {
		file := &apiv1.TriggerFile{Name: f.Name, Text: f.Text, Error: f.Error}
		for _, d := range f.Rules {
			info := ruleInfo(d)
			for _, st := range s.Rules.Standings(d) {
				info.Standings = append(info.Standings, standingProto(st))
			}
			file.Rules = append(file.Rules, info)
		}
		out.Files = append(out.Files, file)
	}
	for id, f := range s.Rules.Flights() {
		r := &apiv1.FlightRecorder{
			InstanceId: string(id), On: f.On, Keeps: dur(f.MinAge), MaxBytes: f.MaxBytes, Since: stampOrNil(f.Since), WantedBy: f.WantedBy,
			LastBytes: f.LastBytes, LastTook: dur(f.LastTook), Refused: f.Refused,
		}
		if inst, err := s.Fleet.Instance(id); err == nil {
			r.Project, r.Service = string(inst.Project), string(inst.Service)
		}
		out.Recorders = append(out.Recorders, r)
	}
	return connect.NewResponse(out), nil
}

func (s ruleServer) CheckTriggers(_ context.Context, req *connect.Request[apiv1.CheckTriggersRequest]) (*connect.Response[apiv1.CheckTriggersResponse], error) {
	name := req.Msg.GetName()
	if name == "" {
		name = "rules.yaml"
	}
	out := &apiv1.CheckTriggersResponse{}
	defs, err := rules.Parse(name, []byte(req.Msg.GetText()))
	var place *rules.FileError
	if errors.As(err, &place) {
		out.Error, out.Line = place.Error(), int32(place.Line)
		return connect.NewResponse(out), nil
	}
	if err != nil {
		return nil, err
	}
	for _, d := range defs {
		p := &apiv1.TriggerPreview{Rule: ruleInfo(d)}
		for _, m := range s.Rules.Preview(d) {
			match := &apiv1.TriggerMatch{
				InstanceId: string(m.Instance.ID), Project: string(m.Instance.Project), Service: string(m.Instance.Service), Address: m.Instance.Address,
				Holds: m.Holds, Problem: m.Problem, ProblemCode: m.Code,
			}
			if m.Known {
				match.Value = &m.Value
			}
			p.Matches = append(p.Matches, match)
		}
		out.Rules = append(out.Rules, p)
	}
	return connect.NewResponse(out), nil
}

func (s ruleServer) PutTriggerFile(ctx context.Context, req *connect.Request[apiv1.PutTriggerFileRequest]) (*connect.Response[apiv1.PutTriggerFileResponse], error) {
	if err := s.Rules.Put(ctx, req.Msg.GetName(), req.Msg.GetBefore(), req.Msg.GetText()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.PutTriggerFileResponse{}), nil
}

func (s ruleServer) EnableTrigger(ctx context.Context, req *connect.Request[apiv1.EnableTriggerRequest]) (*connect.Response[apiv1.EnableTriggerResponse], error) {
	if err := s.Rules.Enable(ctx, req.Msg.GetName(), req.Msg.GetEnabled()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.EnableTriggerResponse{}), nil
}

func (s ruleServer) ListTriggerHistory(_ context.Context, req *connect.Request[apiv1.ListTriggerHistoryRequest]) (*connect.Response[apiv1.ListTriggerHistoryResponse], error) {
	limit := int(req.Msg.GetLimit())
	if limit < 0 || limit > 1000 {
		return nil, ops.Errorf(ops.Invalid, "%d entries are out of range: use up to 1000", limit)
	}
	out := &apiv1.ListTriggerHistoryResponse{}
	for _, e := range s.Rules.History(rules.Filter{Rule: req.Msg.GetRule(), Instance: ops.InstanceID(req.Msg.GetInstanceId()), Limit: limit}) {
		p := &apiv1.TriggerEntry{
			Number: e.Number, At: timestamppb.New(e.At), Project: string(e.Project), Service: string(e.Service), InstanceId: string(e.Instance),
			Rule: e.Rule, Kind: string(e.Kind), Reason: e.Reason, Value: e.Value, CaptureId: string(e.Capture),
			Severity: string(e.Verdict.Severity), Verdict: map[string]string{}, Reasons: reasonProtos(e.Reasons),
		}
		for lang, text := range e.Verdict.Title {
			p.Verdict[string(lang)] = text
		}
		out.Entries = append(out.Entries, p)
	}
	return connect.NewResponse(out), nil
}

func ruleInfo(d rules.Def) *apiv1.TriggerInfo {
	return &apiv1.TriggerInfo{
		Name: d.Name, About: d.About, Enabled: d.Enabled, File: d.File, Line: int32(d.Line), Project: d.Project, Service: d.Service, Labels: d.Labels,
		When: d.When, Do: d.Do, Limits: d.Limits, Unit: string(d.Unit()), Budget: int32(d.Bounds.Budget),
		Condition: conditionProto(d.Trigger), Steps: stepProtos(d), Bounds: boundsProto(d.Bounds),
	}
}

func conditionProto(t ops.RuleTrigger) *apiv1.TriggerCondition {
	return &apiv1.TriggerCondition{
		Metric: t.Metric, Below: t.Below, Level: t.Level, TimesUsual: t.TimesUsual, Hold: dur(t.Hold),
		Calls: t.Signal, Longer: dur(t.Longer), Quantile: t.Quantile, Times: int32(t.Times), Within: dur(t.Within),
	}
}

func stepProtos(d rules.Def) (out []*apiv1.TriggerStep) {
	for _, a := range d.Actions {
		s := &apiv1.TriggerStep{Kind: string(a.Kind), Time: dur(a.Last + a.For)} // an action has one of them
		for _, k := range a.Kinds {
			s.Kinds = append(s.Kinds, string(k))
		}
		out = append(out, s)
	}
	if d.Notify {
		out = append(out, &apiv1.TriggerStep{Kind: "notify"})
	}
	return out
}

func boundsProto(b ops.RuleBounds) *apiv1.TriggerBounds {
	return &apiv1.TriggerBounds{
		Times: int32(b.Budget), Per: dur(b.Per), Cooldown: dur(b.Cooldown), StopAfter: int32(b.StopAfter), MaxMemory: b.MaxMemory, MaxCpu: b.MaxCPU,
	}
}

func reasonProtos(in []ops.RuleReason) (out []*apiv1.TriggerReason) {
	for _, r := range in {
		out = append(out, &apiv1.TriggerReason{Code: r.Code, Numbers: r.Numbers, Words: r.Words})
	}
	return out
}

func standingProto(st rules.Standing) *apiv1.TriggerStanding {
	s := st.State
	return &apiv1.TriggerStanding{
		InstanceId: string(st.Instance.ID), Project: string(st.Instance.Project), Service: string(st.Instance.Service), Address: st.Instance.Address,
		Standing: string(s.Standing), Reason: s.Reason, Value: s.Value, Usual: s.Usual, HoldsSince: stampOrNil(s.HoldsSince),
		Fired: s.Fired, Refused: s.Refused, Used: int32(s.Used), FreeAt: stampOrNil(s.FreeAt), LastFired: stampOrNil(s.LastFired),
		Reasons: reasonProtos(s.Reasons),
	}
}

func stampOrNil(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
