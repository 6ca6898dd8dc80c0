package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/control"
	"github.com/opscenter/opscenter/internal/ops"
)

// Controls is what the API needs to look up and change instances.
type Controls interface {
	List(context.Context, control.Selection) (control.Listing, error)
	Preview(context.Context, control.Request) (control.Preview, error)
	Run(ctx context.Context, r control.Request, fn func(control.Event) error) error
}

// Record is what the API needs of the audit record.
type Record interface {
	Search(context.Context, audit.Filter) ([]audit.Entry, error)
	Verify(ctx context.Context, expect *audit.Head) (audit.Report, error)
	Export(ctx context.Context, after int64, w io.Writer) error
}

// controlServer implements ControlService.
type controlServer struct{ *server }

func (s controlServer) ListControls(ctx context.Context, req *connect.Request[apiv1.ListControlsRequest]) (*connect.Response[apiv1.ListControlsResponse], error) {
	l, err := s.Controls.List(ctx, selectionFrom(req.Msg.GetSelection()))
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListControlsResponse{Project: string(l.Project), Service: string(l.Service), Targets: targetProtos(l.Instances, l.Problems)}
	for _, o := range l.Controls {
		out.Controls = append(out.Controls, offerProto(o, l.Instances))
	}
	return connect.NewResponse(out), nil
}

func (s controlServer) PreviewControl(ctx context.Context, req *connect.Request[apiv1.PreviewControlRequest]) (*connect.Response[apiv1.PreviewControlResponse], error) {
	p, err := s.Controls.Preview(ctx, runFrom(req.Msg.GetRun()))
	if err != nil {
		return nil, err
	}
	out := &apiv1.PreviewControlResponse{
		Project: string(p.Project), Service: string(p.Service), Control: offerProto(p.Control, p.Instances), Targets: targetProtos(p.Instances, p.Problems),
		NeedsReason: p.Needs.Reason, ConfirmWith: p.Needs.Confirm, Refused: p.Needs.Refused,
	}
	for _, wave := range p.Waves {
		out.Waves = append(out.Waves, &apiv1.ControlWave{InstanceIds: idTexts(wave)})
	}
	return connect.NewResponse(out), nil
}

func (s controlServer) InvokeControl(ctx context.Context, req *connect.Request[apiv1.InvokeControlRequest], stream *connect.ServerStream[apiv1.InvokeControlResponse]) error {
	r := runFrom(req.Msg.GetRun())
	r.Actor, r.Reason, r.Confirm = auth.ActorOf(ctx).Name, req.Msg.GetReason(), req.Msg.GetConfirm()
	r.Expect, r.Key = int(req.Msg.GetExpectInstances()), req.Msg.GetIdempotencyKey()
	return s.Controls.Run(ctx, r, func(e control.Event) error { return stream.Send(controlEventProto(e)) })
}

func (s controlServer) ListAudit(ctx context.Context, req *connect.Request[apiv1.ListAuditRequest]) (*connect.Response[apiv1.ListAuditResponse], error) {
	m := req.Msg
	f := audit.Filter{
		ID: audit.ID(m.GetAuditId()), Actor: m.GetActor(), Action: m.GetAction(), Subject: m.GetSubject(), Project: ops.ProjectName(m.GetProject()),
		Service: ops.ServiceName(m.GetService()), Target: m.GetTarget(), Mutating: m.GetMutatingOnly(), Text: m.GetText(),
		From: fromTS(m.GetFrom()), To: fromTS(m.GetTo()), Limit: int(m.GetPageSize()),
	}
	for _, r := range m.GetResults() {
		f.Results = append(f.Results, audit.Result(r))
	}
	if token := m.GetPageToken(); token != "" {
		before, err := strconv.ParseInt(token, 10, 64)
		if err != nil || before < 1 {
			return nil, ops.Errorf(ops.Invalid, "%.40q is no page of the record: begin with the first", token)
		}
		f.Before = before
	}
	entries, err := s.Record.Search(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &apiv1.ListAuditResponse{}
	for _, e := range entries {
		// What concerns no service, such as a login, is the whole centre's.
		if holds(ctx, auth.Audit, e.Project, e.Service) {
			out.Entries = append(out.Entries, entryProto(e))
		}
	}
	size := f.Limit
	if size == 0 {
		size = audit.DefaultPage
	}
	if len(entries) == size {
		out.NextPageToken = strconv.FormatInt(entries[len(entries)-1].Seq, 10)
	}
	return connect.NewResponse(out), nil
}

func (s controlServer) VerifyAudit(ctx context.Context, req *connect.Request[apiv1.VerifyAuditRequest]) (*connect.Response[apiv1.VerifyAuditResponse], error) {
	var expect *audit.Head
	if e := req.Msg.GetExpect(); e != nil {
		expect = &audit.Head{Rows: e.GetRows(), Hash: e.GetHash()}
	}
	r, err := s.Record.Verify(ctx, expect)
	if err != nil {
		return nil, err
	}
	out := &apiv1.VerifyAuditResponse{Head: headProto(r.Head), Anchor: headProto(r.Anchor), MoreProblems: int32(r.More)}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, &apiv1.AuditProblem{Seq: p.Seq, Text: p.Text})
	}
	return connect.NewResponse(out), nil
}

// auditLines sends the record, or its rows after ?after=N, as lines of JSON.
func (s *server) auditLines(w http.ResponseWriter, r *http.Request) error {
	after := int64(0)
	if text := r.URL.Query().Get("after"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return ops.Errorf(ops.Invalid, "after=%s is no number of a row: use 0 or more", asciiOnly(text))
		}
		after = n
	}
	attachment(w, "audit.jsonl")
	out := &counted{w: w}
	if err := s.Record.Export(r.Context(), after, out); err != nil {
		if out.n == 0 {
			w.Header().Del("Content-Disposition")
			return err
		}
		// Part of it is out: a broken connection is the only honest end.
		s.Logger.ErrorContext(r.Context(), "export of the audit record cut off", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func selectionFrom(m *apiv1.ControlSelection) control.Selection {
	return control.Selection{Project: ops.ProjectName(m.GetProject()), Service: ops.ServiceName(m.GetService()), Instances: instanceIDs(m.GetInstanceIds())}
}

func runFrom(m *apiv1.ControlRun) control.Request {
	r := control.Request{
		Selection: selectionFrom(m.GetSelection()), Name: m.GetName(), Args: m.GetArgs(), Revert: m.GetRevert(), DryRun: m.GetDryRun(),
		Timeout: m.GetTimeout().AsDuration(),
		Rollout: control.Rollout{NoCanary: m.GetNoCanary(), Batch: int(m.GetBatchSize()), Pause: m.GetPause().AsDuration(), KeepGoing: m.GetKeepGoing()},
	}
	if m.GetTtl() != nil {
		if r.TTL = m.GetTtl().AsDuration(); r.TTL == 0 {
			r.TTL = time.Nanosecond // too short, which is not the same as none
		}
	}
	return r
}

func idTexts(ids []ops.InstanceID) []string {
	out := make([]string, len(ids))
	for n, id := range ids {
		out[n] = string(id)
	}
	return out
}

func targetProtos(instances []ops.Instance, problems map[ops.InstanceID]string) (out []*apiv1.ControlTarget) {
	for _, i := range instances {
		out = append(out, &apiv1.ControlTarget{InstanceId: string(i.ID), Address: i.Address, State: string(i.State), Problem: problems[i.ID]})
	}
	return out
}

func offerProto(o control.Offer, instances []ops.Instance) *apiv1.Control {
	c := &apiv1.Control{
		Name: o.Name, Description: o.Description, Builtin: o.Builtin, Mutating: o.Mutating, Effect: o.Effect, Undo: o.Undo,
		Setting: o.Setting, DryRun: o.DryRun, Timeout: dur(o.Timeout), Differs: o.Differs,
	}
	for _, p := range o.Params {
		c.Params = append(c.Params, &apiv1.ControlParam{
			Name: p.Name, Description: p.Description, Type: string(p.Type), Required: p.Required, DefaultValue: p.Default,
			Min: p.Min, Max: p.Max, Choices: p.Choices, Secret: p.Secret,
		})
	}
	for _, i := range instances {
		if on, ok := o.On[i.ID]; ok {
			c.On = append(c.On, &apiv1.ControlState{
				InstanceId: string(i.ID), Value: on.Value, SetTo: on.SetTo, Original: on.Original, RevertsAt: ts(on.RevertsAt), Unavailable: on.Unavailable,
			})
		}
	}
	return c
}

func controlEventProto(e control.Event) *apiv1.InvokeControlResponse {
	switch {
	case e.Started != nil:
		return &apiv1.InvokeControlResponse{Event: &apiv1.InvokeControlResponse_Started{Started: &apiv1.ControlStarted{
			AuditId: string(e.Started.Action), InstanceIds: idTexts(e.Started.Instances), Waves: int32(e.Started.Waves), Replayed: e.Started.Replayed,
		}}}
	case e.Result != nil:
		r := e.Result
		return &apiv1.InvokeControlResponse{Event: &apiv1.InvokeControlResponse_Result{Result: &apiv1.ControlResult{
			InstanceId: string(r.Instance), Result: string(r.Result), Message: r.Message, AnswerJson: string(r.Answer),
			Before: r.Before, After: r.After, RevertsAt: ts(r.RevertsAt), Took: dur(r.Took),
		}}}
	}
	f := &apiv1.ControlFinished{Result: string(e.Finished.Result), Message: e.Finished.Message, Counts: map[string]int32{}, Unrecorded: e.Finished.Unrecorded}
	for r, n := range e.Finished.Counts {
		f.Counts[string(r)] = int32(n)
	}
	return &apiv1.InvokeControlResponse{Event: &apiv1.InvokeControlResponse_Finished{Finished: f}}
}

func entryProto(e audit.Entry) *apiv1.AuditEntry {
	out := &apiv1.AuditEntry{
		Id: string(e.ID), Seq: e.Seq, Hash: e.Hash, At: ts(e.At), Ended: ts(e.Ended), Actor: e.Actor, Action: e.Action, Subject: e.Subject,
		Project: string(e.Project), Service: string(e.Service), InstanceIds: idTexts(e.Instances), Reason: e.Reason, Mutating: e.Mutating,
		DryRun: e.DryRun, IdempotencyKey: e.Key, RequestJson: string(e.Request),
		Result: string(e.Outcome.Result), Message: e.Outcome.Message, AnswerJson: string(e.Outcome.Answer), AnswerLost: e.Outcome.AnswerLost,
	}
	for _, s := range e.Steps {
		out.Steps = append(out.Steps, &apiv1.AuditStep{InstanceId: string(s.Instance), Result: string(s.Result), Message: s.Message})
	}
	return out
}

func headProto(h audit.Head) *apiv1.AuditHead { return &apiv1.AuditHead{Rows: h.Rows, Hash: h.Hash} }
