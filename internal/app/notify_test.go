package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
)

// ledger holds a lock while it waits, for the whole test.
type ledger struct {
	mu sync.Mutex
	//nolint:unused // what the lock would guard
	rows int
}

func (l *ledger) book(stop <-chan struct{}) {
	for {
		l.mu.Lock()
		select {
		case <-stop:
			l.mu.Unlock()
			return
		case <-time.After(20 * time.Millisecond):
		}
		l.mu.Unlock()
	}
}

// From a lock in a process to a sentence in a chat, with nobody watching.
func TestAVerdictReachesTheChat(t *testing.T) {
	got := make(chan string, 10)
	chat := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Schema, Title, Text, Link string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m.Schema != "opscenter.notification/v1" || r.Header.Get("Authorization") != "Bearer hush" {
			t.Errorf("%v %+v %v", err, m, r.Header)
		}
		got <- strings.Join([]string{m.Title, m.Text, m.Link}, "\n")
	}))
	t.Cleanup(chat.Close)
	file := filepath.Join(t.TempDir(), "notify.yml")
	t.Setenv("CHAT_TOKEN", "hush")
	if err := os.WriteFile(file, []byte("channels:\n  - {name: oncall, type: webhook, url: '"+chat.URL+"/secret', token: '${env:CHAT_TOKEN}', group_for: 10ms, projects: [color-*], events: [diagnosis]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{NotifyFile: file, PublicURL: "https://ops.example.com"})
	channels := apiv1connect.NewNotifyServiceClient(hc, url)

	if _, err := channels.TestChannel(t.Context(), connect.NewRequest(&apiv1.TestChannelRequest{Name: "oncall"})); err != nil {
		t.Fatal(err)
	}
	if m := <-got; !strings.HasPrefix(m, "OPS Center: this channel works\nA test that local:") {
		t.Error(m)
	}

	a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "ledger", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	l, stop := &ledger{}, make(chan struct{})
	var workers sync.WaitGroup
	for range 40 {
		workers.Go(func() { l.book(stop) })
	}
	t.Cleanup(func() { close(stop); workers.Wait() })
	instances(t, hc, url, 2)
	captures := apiv1connect.NewCaptureServiceClient(hc, url)
	if _, err := captures.StartCapture(t.Context(), connect.NewRequest(&apiv1.StartCaptureRequest{
		Project: "color-game", Service: "ledger", Spec: &apiv1.CaptureSpec{Duration: durationpb.New(2 * time.Second), Kinds: []string{"goroutine", "mutex", "block", "trace", "runtime"}},
	})); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got:
		for _, want := range []string{"color-game/ledger: ", "Change first: ", "(*ledger).book", "notify_test.go:", "\nhttps://ops.example.com/captures/"} {
			if !strings.Contains(m, want) {
				t.Errorf("%q is not in\n%s", want, m)
			}
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}

	resp, err := hc.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	scores, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	for _, want := range []string{`opscenter_finding_score{instance_id="` + a.BootID() + `"`, `opscenter_captures_total{project="color-game",service="ledger",state="done"} 1`} {
		if !strings.Contains(string(scores), want) {
			t.Errorf("%s is not in\n%s", want, scores)
		}
	}

	list, err := channels.ListChannels(t.Context(), connect.NewRequest(&apiv1.ListChannelsRequest{}))
	if err != nil || len(list.Msg.GetChannels()) != 1 {
		t.Fatal(list, err)
	}
	s := list.Msg.GetChannels()[0]
	if s.GetSent()+int64(s.GetWaiting()) < 2 || !s.GetDeclared() || s.GetChannel().GetUrl() != chat.URL+"/•••" || s.GetChannel().GetToken() != "•••" {
		t.Errorf("%v", s)
	}

	// Changes by people are on record, and refused where a file says so.
	_, err = channels.PutChannel(t.Context(), connect.NewRequest(&apiv1.PutChannelRequest{Channel: &apiv1.NotifyChannel{Name: "oncall", Type: "slack", Url: chat.URL}}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Error(err)
	}
	if _, err := channels.PutChannel(t.Context(), connect.NewRequest(&apiv1.PutChannelRequest{Channel: &apiv1.NotifyChannel{Name: "mine", Type: "slack", Url: chat.URL + "/another-secret"}})); err != nil {
		t.Fatal(err)
	}
	if _, err := channels.DeleteChannel(t.Context(), connect.NewRequest(&apiv1.DeleteChannelRequest{Name: "mine"})); err != nil {
		t.Fatal(err)
	}
	record, err := apiv1connect.NewControlServiceClient(hc, url).ListAudit(t.Context(), connect.NewRequest(&apiv1.ListAuditRequest{Action: "notify"}))
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, e := range slices.Backward(record.Msg.GetEntries()) {
		did = append(did, e.GetAction()+" "+e.GetSubject()+" "+e.GetResult())
		if strings.Contains(e.String(), "secret") {
			t.Errorf("a secret is on record: %v", e)
		}
	}
	if all := strings.Join(did, ", "); all != "notify.test oncall ok, notify.put oncall failed, notify.put mine ok, notify.delete mine ok" {
		t.Error(all)
	}
}
