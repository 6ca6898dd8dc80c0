package app

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/audit"
	"github.com/opscenter/opscenter/internal/cli"
)

// ran is what a run said.
type ran struct {
	started  *apiv1.ControlStarted
	results  []*apiv1.ControlResult
	finished *apiv1.ControlFinished
}

func runControl(ctx context.Context, c apiv1connect.ControlServiceClient, req *apiv1.InvokeControlRequest) (out ran, err error) {
	stream, err := c.InvokeControl(ctx, connect.NewRequest(req))
	if err != nil {
		return out, err
	}
	defer stream.Close()
	for stream.Receive() {
		switch e := stream.Msg().GetEvent().(type) {
		case *apiv1.InvokeControlResponse_Started:
			out.started = e.Started
		case *apiv1.InvokeControlResponse_Result:
			out.results = append(out.results, e.Result)
		case *apiv1.InvokeControlResponse_Finished:
			out.finished = e.Finished
		}
	}
	return out, stream.Err()
}

// From the API through guard rails, record, tunnel and agent to a function of a
// service, and back.
func TestControlFromEndToEnd(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("projects:\n  color-game:\n    deny: [gomaxprocs]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{ControlPolicy: policy})
	coins := 0
	var agents []*agent.Agent
	for range 2 {
		a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "wallet", SpoolDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		for _, own := range []agent.Control{
			{Name: "add-coins", Func: func(context.Context, agent.Args) (any, error) { coins++; return map[string]int{"coins": coins}, nil }},
			{Name: "panics", Func: func(context.Context, agent.Args) (any, error) { panic("boom") }},
		} {
			if err := a.AddControl(own); err != nil {
				t.Fatal(err)
			}
		}
		agents = append(agents, a)
	}
	instances(t, hc, url, 3)
	c := apiv1connect.NewControlServiceClient(hc, url)
	service := &apiv1.ControlSelection{Project: "color-game", Service: "wallet"}
	one := &apiv1.ControlSelection{InstanceIds: []string{agents[0].BootID()}}

	list, err := c.ListControls(t.Context(), connect.NewRequest(&apiv1.ListControlsRequest{Selection: service}))
	if err != nil || len(list.Msg.GetTargets()) != 2 || list.Msg.GetControls()[0].GetName() != "add-coins" || !list.Msg.GetControls()[0].GetMutating() || len(list.Msg.GetControls()[0].GetOn()) != 2 {
		t.Fatal(list, err)
	}
	p, err := c.PreviewControl(t.Context(), connect.NewRequest(&apiv1.PreviewControlRequest{Run: &apiv1.ControlRun{Selection: service, Name: "add-coins"}}))
	if err != nil || len(p.Msg.GetTargets()) != 2 || len(p.Msg.GetWaves()) != 2 || !p.Msg.GetNeedsReason() || strings.Join(p.Msg.GetConfirmWith(), ",") != "wallet" {
		t.Fatal(p, err)
	}

	// Guard rails, over the wire.
	for _, tt := range []struct {
		req  *apiv1.InvokeControlRequest
		code connect.Code
		want string
	}{
		{&apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: service, Name: "add-coins"}}, connect.CodeInvalidArgument, "add-coins changes 2 instances and needs a reason: say why in one sentence"},
		{&apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: service, Name: "gomaxprocs", Args: map[string]string{"procs": "1"}}, Reason: "why not", Confirm: "wallet"}, connect.CodePermissionDenied, "the policy of this centre forbids gomaxprocs in color-game"},
		{&apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: service, Name: "gogc", Args: map[string]string{"percent": "100"}}, Reason: "x", Confirm: "wallet", ExpectInstances: 3}, connect.CodeFailedPrecondition, "this would affect 2 instances, not 3 as was shown: look again and confirm"},
	} {
		_, err := runControl(t.Context(), c, tt.req)
		if connect.CodeOf(err) != tt.code || !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("got %v\nwant %s", err, tt.want)
		}
	}

	// One effect for one key.
	add := &apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: one, Name: "add-coins"}, Reason: "compensation", Confirm: agents[0].BootID(), IdempotencyKey: "ticket-1"}
	first, err := runControl(t.Context(), c, add)
	if err != nil || first.started.GetReplayed() || len(first.results) != 1 || first.results[0].GetAnswerJson() != `{"coins":1}` || first.finished.GetResult() != "ok" {
		t.Fatal(first, err)
	}
	again, err := runControl(t.Context(), c, add)
	if err != nil || !again.started.GetReplayed() || again.results[0].GetAnswerJson() != `{"coins":1}` || coins != 1 {
		t.Errorf("again: %v, %v; %d coins", again, err, coins)
	}
	add.Run.Selection = service
	add.Confirm = "wallet"
	if _, err := runControl(t.Context(), c, add); connect.CodeOf(err) != connect.CodeFailedPrecondition || coins != 1 {
		t.Errorf("another request under the key: %v; %d coins", err, coins)
	}

	// A panic is the control's error, and the rest is not touched.
	bad, err := runControl(t.Context(), c, &apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: service, Name: "panics"}, Reason: "try", Confirm: "wallet"})
	if err != nil || bad.finished.GetResult() != "failed" || len(bad.results) != 2 || bad.results[0].GetMessage() != "the control panicked: boom" || bad.results[1].GetResult() != "skipped" {
		t.Errorf("a panic: %v, %v", bad, err)
	}
	if env, err := runControl(t.Context(), c, &apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: one, Name: "build-info"}}); err != nil || !strings.Contains(env.results[0].GetAnswerJson(), `"go":"go1.`) {
		t.Errorf("what changes nothing: %v, %v", env, err)
	}

	// All of it is on record.
	found, err := c.ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Service: "wallet"}))
	var lines []string
	for _, e := range found.Msg.GetEntries() {
		lines = append(lines, e.GetSubject()+" "+e.GetResult())
	}
	if want := "build-info ok, panics failed, add-coins ok, gomaxprocs refused"; err != nil || strings.Join(lines, ", ") != want {
		t.Errorf("the record says %q, %v", lines, err)
	}
	page, err := c.ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Service: "wallet", PageSize: 3}))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := c.ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Service: "wallet", PageSize: 3, PageToken: page.Msg.GetNextPageToken()}))
	if err != nil || len(rest.Msg.GetEntries()) != 1 || rest.Msg.GetNextPageToken() != "" || rest.Msg.GetEntries()[0].GetSubject() != "gomaxprocs" {
		t.Errorf("the next page: %v, %v", rest, err)
	}
	check, err := c.VerifyAudit(t.Context(), connect.NewRequest(&apiv1.VerifyAuditRequest{}))
	if err != nil || len(check.Msg.GetProblems()) != 0 || check.Msg.GetHead().GetRows() == 0 {
		t.Errorf("verify: %v, %v", check, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/audit.jsonl", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	head := check.Msg.GetHead()
	if r, err := audit.VerifyExport(strings.NewReader(string(body)), &audit.Head{Rows: head.GetRows(), Hash: head.GetHash()}); err != nil || len(r.Problems) != 0 {
		t.Errorf("the export: %+v, %v", r, err)
	}
}

// Who starts, stops and deletes captures is on record, too.
func TestCapturesAreOnRecord(t *testing.T) {
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{})
	self := instances(t, hc, url, 1)[0]
	captures := apiv1connect.NewCaptureServiceClient(hc, url)
	started, err := captures.StartCapture(t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{InstanceIds: []string{self.GetId()}, Note: "slow lobby", Spec: &apiv1.CaptureSpec{Kinds: []string{"goroutine"}}}))
	if err != nil {
		t.Fatal(err)
	}
	id := started.Msg.GetCapture().GetId()
	if _, err := captures.CancelCapture(t.Context(), connect.NewRequest(&apiv1.CancelCaptureRequest{CaptureId: id})); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := captures.DeleteCapture(t.Context(), connect.NewRequest(&apiv1.DeleteCaptureRequest{CaptureId: id}))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	found, err := apiv1connect.NewControlServiceClient(hc, url).ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Action: "capture", Results: []string{"ok"}}))
	if err != nil || len(found.Msg.GetEntries()) != 3 {
		t.Fatal(found, err)
	}
	e := found.Msg.GetEntries()
	if e[0].GetAction() != "capture.delete" || e[0].GetSubject() != id || e[1].GetAction() != "capture.cancel" || e[2].GetAction() != "capture.start" || e[2].GetReason() != "slow lobby" || e[2].GetMessage() != id || !strings.HasPrefix(e[2].GetActor(), "local:") {
		t.Errorf("the record says %v", e)
	}
}

// A second centre on the same data is refused before it can meddle with what the
// first one is doing.
func TestASecondCentreLeavesTheRecordAlone(t *testing.T) {
	hc := client(t, &http.Transport{})
	dir := t.TempDir()
	url, _ := serve(t, cli.ServeOptions{DataDir: dir})
	a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "wallet", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	running, release := make(chan struct{}), make(chan struct{})
	if err := a.AddControl(agent.Control{Name: "slow", Func: func(context.Context, agent.Args) (any, error) {
		close(running)
		<-release
		return nil, nil
	}}); err != nil {
		t.Fatal(err)
	}
	instances(t, hc, url, 2)
	c := apiv1connect.NewControlServiceClient(hc, url)
	done := make(chan string, 1)
	go func() {
		got, err := runControl(context.Background(), c, &apiv1.InvokeControlRequest{Run: &apiv1.ControlRun{Selection: &apiv1.ControlSelection{Service: "wallet"}, Name: "slow"}, Reason: "a test", Confirm: "wallet"})
		if err != nil {
			done <- err.Error()
			return
		}
		done <- got.finished.GetResult() + got.finished.GetUnrecorded()
	}()
	<-running
	if err := Serve(t.Context(), cli.ServeOptions{Listen: "127.0.0.1:0", DataDir: dir}); err == nil {
		t.Fatal("a second centre started")
	}
	close(release)
	if got := <-done; got != "ok" {
		t.Errorf("the action ended with %s", got)
	}
	found, err := c.ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Subject: "slow"}))
	if err != nil || len(found.Msg.GetEntries()) != 1 || found.Msg.GetEntries()[0].GetResult() != "ok" {
		t.Errorf("the record says %v, %v", found, err)
	}
}
