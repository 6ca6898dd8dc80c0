package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/audit/sqlite"
	"github.com/opscenter/opscenter/internal/ops"
)

// helm is the centre's ControlService as far as the CLI can see it: controls of
// every service, on record in a real record.
type helm struct {
	apiv1connect.UnimplementedControlServiceHandler
	fleet  *centre
	record *audit.Log
	asked  []*apiv1.InvokeControlRequest
}

func newHelm(t *testing.T, c *centre) *helm {
	t.Helper()
	store, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	record, err := audit.Open(t.Context(), audit.Config{Store: store, Now: func() time.Time { return testNow }})
	if err != nil {
		t.Fatal(err)
	}
	return &helm{fleet: c, record: record}
}

func (h *helm) targets(sel *apiv1.ControlSelection) (out []*apiv1.ControlTarget) {
	for _, i := range h.fleet.instances {
		if i.GetService() != sel.GetService() || i.GetProject() != sel.GetProject() || isGone(i) || len(sel.GetInstanceIds()) > 0 && sel.GetInstanceIds()[0] != i.GetId() {
			continue
		}
		out = append(out, &apiv1.ControlTarget{InstanceId: i.GetId(), Address: i.GetAddress()})
	}
	return out
}

func (h *helm) controls(targets []*apiv1.ControlTarget) []*apiv1.Control {
	kick := &apiv1.Control{Name: "kick-slow", Description: "Close slow connections", Mutating: true, DryRun: true, Params: []*apiv1.ControlParam{
		{Name: "pending", Type: "int", DefaultValue: "100"}, {Name: "how", Type: "enum", Choices: []string{"soft", "hard"}}}}
	flags := &apiv1.Control{Name: "flags", Description: "Show the flags", Builtin: true}
	gogc := &apiv1.Control{Name: "gogc", Description: "Set GOGC", Builtin: true, Mutating: true, Setting: true, DryRun: true, Params: []*apiv1.ControlParam{{Name: "percent", Type: "int", Choices: []string{"off"}, Required: true}}}
	for n, t := range targets {
		state := &apiv1.ControlState{InstanceId: t.GetInstanceId(), Value: "100"}
		if n == 1 {
			state.Value, state.SetTo, state.Original, state.RevertsAt = "50", "50", "100", before(-time.Hour)
		}
		gogc.On = append(gogc.On, state)
		kick.On = append(kick.On, &apiv1.ControlState{InstanceId: t.GetInstanceId()})
		flags.On = append(flags.On, &apiv1.ControlState{InstanceId: t.GetInstanceId()})
	}
	return []*apiv1.Control{kick, flags, gogc}
}

func (h *helm) ListControls(_ context.Context, r *connect.Request[apiv1.ListControlsRequest]) (*connect.Response[apiv1.ListControlsResponse], error) {
	sel := r.Msg.GetSelection()
	targets := h.targets(sel)
	return connect.NewResponse(&apiv1.ListControlsResponse{Project: sel.GetProject(), Service: sel.GetService(), Targets: targets, Controls: h.controls(targets)}), nil
}

func (h *helm) PreviewControl(_ context.Context, r *connect.Request[apiv1.PreviewControlRequest]) (*connect.Response[apiv1.PreviewControlResponse], error) {
	run := r.Msg.GetRun()
	out := &apiv1.PreviewControlResponse{Project: run.GetSelection().GetProject(), Service: run.GetSelection().GetService(), Targets: h.targets(run.GetSelection())}
	for _, c := range h.controls(out.GetTargets()) {
		if c.GetName() == run.GetName() {
			out.Control = c
		}
	}
	switch {
	case out.GetControl() == nil:
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("%s has no control %q: it has kick-slow, flags, gogc", out.GetService(), run.GetName()))
	case out.GetControl().GetMutating() && !run.GetDryRun():
		out.NeedsReason, out.ConfirmWith = true, []string{out.GetService()}
		if len(out.GetTargets()) == 1 {
			out.ConfirmWith = append(out.ConfirmWith, out.GetTargets()[0].GetInstanceId())
		}
	}
	for _, t := range out.GetTargets() {
		out.Waves = append(out.Waves, &apiv1.ControlWave{InstanceIds: []string{t.GetInstanceId()}})
	}
	return connect.NewResponse(out), nil
}

// InvokeControl works, but "hard" does not on the second instance, and key
// "used" was used before.
func (h *helm) InvokeControl(ctx context.Context, r *connect.Request[apiv1.InvokeControlRequest], s *connect.ServerStream[apiv1.InvokeControlResponse]) error {
	h.asked = append(h.asked, r.Msg)
	run := r.Msg.GetRun()
	targets := h.targets(run.GetSelection())
	if run.GetName() != "flags" && !run.GetDryRun() && r.Msg.GetConfirm() != run.GetSelection().GetService() && r.Msg.GetConfirm() != targets[0].GetInstanceId() {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("it needs a confirmation that names the target: confirm with "+run.GetSelection().GetService()))
	}
	in := audit.Intent{Actor: "local:ann", Action: "control.run", Subject: run.GetName(), Project: "color-game", Service: ops.ServiceName(run.GetSelection().GetService()), Reason: r.Msg.GetReason(), Mutating: run.GetName() != "flags"}
	for _, t := range targets {
		in.Instances = append(in.Instances, ops.InstanceID(t.GetInstanceId()))
	}
	act, err := h.record.Begin(ctx, in)
	if err != nil {
		return err
	}
	send := func(e *apiv1.InvokeControlResponse) {
		if err == nil {
			err = s.Send(e)
		}
	}
	send(&apiv1.InvokeControlResponse{Event: &apiv1.InvokeControlResponse_Started{Started: &apiv1.ControlStarted{AuditId: "01audit", Replayed: r.Msg.GetIdempotencyKey() == "used"}}})
	fin := &apiv1.ControlFinished{Result: "ok", Message: "ok on all"}
	for n, t := range targets {
		res := &apiv1.ControlResult{InstanceId: t.GetInstanceId(), Result: "ok", Took: durationpb.New(1500 * time.Millisecond)}
		switch {
		case run.GetName() == "flags":
			res.AnswerJson = `{"args":["game","\u001b[31m"]}`
		case run.GetName() == "gogc":
			res.Message, res.Before, res.After, res.RevertsAt = "gogc is "+run.GetArgs()["percent"]+" now; it was 100", "100", run.GetArgs()["percent"], before(-time.Minute)
		case run.GetArgs()["how"] == "hard" && n == len(targets)-1:
			res.Result, res.Message = "failed", "no such room"
			fin.Result, fin.Message = "partial", "ok on 1 of 2 instances, 1 failed: no such room"
			if len(targets) == 1 {
				fin.Result, fin.Message = "failed", "no such room"
			}
		default:
			res.AnswerJson = `{"kicked":3}`
		}
		send(&apiv1.InvokeControlResponse{Event: &apiv1.InvokeControlResponse_Result{Result: res}})
	}
	send(&apiv1.InvokeControlResponse{Event: &apiv1.InvokeControlResponse_Finished{Finished: fin}})
	return errors.Join(err, act.End(ctx, audit.Outcome{Result: audit.Result(fin.GetResult()), Message: fin.GetMessage()}))
}

func (h *helm) ListAudit(ctx context.Context, r *connect.Request[apiv1.ListAuditRequest]) (*connect.Response[apiv1.ListAuditResponse], error) {
	f := audit.Filter{Actor: r.Msg.GetActor(), Subject: r.Msg.GetSubject(), Text: r.Msg.GetText(), Limit: int(r.Msg.GetPageSize())}
	for _, o := range r.Msg.GetResults() {
		f.Results = append(f.Results, audit.Result(o))
	}
	if r.Msg.GetFrom() != nil {
		f.From = r.Msg.GetFrom().AsTime()
	}
	entries, err := h.record.Search(ctx, f)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	out := &apiv1.ListAuditResponse{}
	for n, e := range entries {
		a := &apiv1.AuditEntry{
			Id: fmt.Sprintf("01action%d", e.Seq), Seq: e.Seq, At: before(0), Actor: e.Actor, Action: e.Action, Subject: e.Subject, Project: string(e.Project), Service: string(e.Service),
			Reason: e.Reason, Mutating: e.Mutating, Result: string(e.Outcome.Result), Message: e.Outcome.Message,
		}
		for _, i := range e.Instances {
			a.InstanceIds = append(a.InstanceIds, string(i))
		}
		if out.Entries = append(out.Entries, a); n+1 == f.Limit {
			out.NextPageToken = "more"
		}
	}
	return connect.NewResponse(out), nil
}

func (h *helm) VerifyAudit(ctx context.Context, r *connect.Request[apiv1.VerifyAuditRequest]) (*connect.Response[apiv1.VerifyAuditResponse], error) {
	var expect *audit.Head
	if e := r.Msg.GetExpect(); e != nil {
		expect = &audit.Head{Rows: e.GetRows(), Hash: e.GetHash()}
	}
	report, err := h.record.Verify(ctx, expect)
	if err != nil {
		return nil, err
	}
	out := &apiv1.VerifyAuditResponse{Head: &apiv1.AuditHead{Rows: report.Head.Rows, Hash: report.Head.Hash}}
	for _, p := range report.Problems {
		out.Problems = append(out.Problems, &apiv1.AuditProblem{Seq: p.Seq, Text: p.Text})
	}
	return connect.NewResponse(out), nil
}

func (h *helm) lines(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := h.record.Export(r.Context(), 0, w); err != nil {
		panic(err)
	}
}

func TestControlAsksOfTheCentreWhatWasSaid(t *testing.T) {
	c := newCentre(t, "")
	out, errs, code := run{}.ops(t, c, "control", "game-service", "kick-slow", "pending=5", "soft", "--all", "--reason", "the lobby is late", "--yes", "--batch", "1", "--pause", "2s",
		"--keep-going", "--no-canary", "--timeout", "3s", "--key", "ticket-1")
	if code != 2 || !strings.Contains(errs, "pending is given twice") || out != "" {
		t.Errorf("%d: %s%s", code, out, errs)
	}
	_, errs, code = run{}.ops(t, c, "control", "run", "game-service", "kick-slow", "5", "how=soft", "--all", "--reason", "the lobby is late", "--yes", "--batch", "1", "--pause", "2s",
		"--keep-going", "--no-canary", "--timeout", "3s", "--key", "ticket-1")
	if code != 0 || len(c.helm.asked) != 1 {
		t.Fatalf("%d: %s", code, errs)
	}
	r := c.helm.asked[0]
	if got := fmt.Sprintln(r.GetRun().GetArgs(), r.GetReason(), r.GetConfirm(), r.GetExpectInstances(), r.GetIdempotencyKey(), r.GetRun().GetBatchSize(), r.GetRun().GetPause().AsDuration(),
		r.GetRun().GetTimeout().AsDuration(), r.GetRun().GetKeepGoing(), r.GetRun().GetNoCanary(), r.GetRun().GetTtl()); got != "map[how:soft pending:5] the lobby is late game-service 2 ticket-1 1 2s 3s true true <nil>\n" {
		t.Errorf("it asked %s", got)
	}
}

// terminal is an input on which people type.
type terminal struct{ *strings.Reader }

func (terminal) IsTerminal() bool { return true }

func TestControlAsksForTheTargetsName(t *testing.T) {
	for typed, want := range map[string]int{"game-service\n": 0, "yes\n": 130, "": 130} {
		c := newCentre(t, "")
		_, errs, code := run{stdin: terminal{strings.NewReader(typed)}}.ops(t, c, "control", "game-service", "kick-slow", "--all", "--reason", "the lobby is late")
		if code != want || !strings.Contains(errs, "kick-slow affects 2 instances of color-game/game-service, 1 first, then 1\nTo run it, type game-service: ") || (want == 0) != (len(c.helm.asked) == 1) {
			t.Errorf("%q: %d, %s", typed, code, errs)
		}
	}
}

func TestAuditFileIsVerifiedWithoutACentre(t *testing.T) {
	c := newCentre(t, "")
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	for range 2 {
		if _, errs, code := (run{}).ops(t, c, "control", "game-service", "flags", "--all"); code != 0 {
			t.Fatal(errs)
		}
	}
	if out, errs, code := (run{}).ops(t, c, "audit", "export", "-o", file); code != 0 || out != file+"\n" {
		t.Fatal(out, errs)
	}
	away := &centre{url: "http://127.0.0.1:1"}
	out, errs, code := run{}.ops(t, away, "audit", "verify", file)
	if code != 0 || !strings.HasPrefix(out, "intact: 4 rows, ends at 4:") {
		t.Errorf("%d: %s%s", code, out, errs)
	}
	end := strings.TrimSpace(strings.TrimPrefix(out, "intact: 4 rows, ends at "))
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte("local:ann"), []byte("local:eve"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code = run{}.ops(t, away, "audit", "verify", file, "--expect", end)
	if code != 1 || out != "row 1 does not match its hash: it was edited, or the row before it was\n" || errs != "ops: the record is not as it was written: keep its files, and look who could write them\n" {
		t.Errorf("%d: %s%s", code, out, errs)
	}
	if out, _, code := (run{}).ops(t, away, "audit", "verify", file, "--json"); code != 1 || !strings.Contains(out, `"intact": false`) {
		t.Errorf("%d: %s", code, out)
	}
}
