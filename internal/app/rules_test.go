package app

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/opscenter/opscenter/agent"
	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/gen/opscenter/api/v1/apiv1connect"
	"github.com/opscenter/opscenter/internal/cli"
)

// table is a service whose bets stall now and then: whoever settles has the lock
// for 50 ms of something slow.
type table struct {
	mu      sync.Mutex
	bets    int
	settled atomic.Bool // it has begun to
}

func (b *table) bet() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bets++
}

func (b *table) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled.Store(true)
	time.Sleep(50 * time.Millisecond) // stalls
}

// lineOf finds the line of this file that ends with a comment.
func lineOf(t *testing.T, comment string) int32 {
	t.Helper()
	text, err := os.ReadFile("rules_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasSuffix(line, "// "+comment) {
			return int32(i + 1)
		}
	}
	t.Fatal("no line ends with", comment)
	return 0
}

// play bets at the table until the test ends and times the bets. Those before the
// table settles are not told: on a busy machine some of them are slow too.
func (b *table) play(t *testing.T, a *agent.Agent) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				began := time.Now()
				b.bet()
				if b.settled.Load() {
					a.Slow(t.Context(), "bet", time.Since(began))
				}
			}
		})
	}
	t.Cleanup(func() { close(stop); all.Wait() })
}

func writeRules(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "own.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// history waits until an entry of that kind is there.
func history(t *testing.T, c apiv1connect.TriggerServiceClient, rule, kind string) *apiv1.TriggerEntry {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := c.ListTriggerHistory(t.Context(), connect.NewRequest(&apiv1.ListTriggerHistoryRequest{Rule: rule}))
		if err == nil {
			for _, e := range resp.Msg.GetEntries() {
				if e.GetKind() == kind {
					return e
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("rule %s has no entry %q within a minute: %v %v", rule, kind, resp, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// running waits until the rule is known to run on an instance.
func running(t *testing.T, c apiv1connect.TriggerServiceClient, rule string) *apiv1.TriggerStanding {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		resp, err := c.ListTriggers(t.Context(), connect.NewRequest(&apiv1.ListTriggersRequest{}))
		if err == nil {
			for _, f := range resp.Msg.GetFiles() {
				for _, r := range f.GetRules() {
					for _, s := range r.GetStandings() {
						if r.GetName() == rule && s.GetStanding() != "" {
							return s
						}
					}
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("rule %s does not run anywhere", rule)
	return nil
}

const stallRule = `rules:
  - name: stall
    for: {project: color-game, service: tables}
    when: {slow: bet, longer: 40ms}
    do:
      - flight: 1s
      - diagnose
    limits: {cooldown: 1m, times: 1, per: 1h}
`

// A stall of 50 ms that nobody watched is in the archive, with its line.
func TestAStallIsCaughtWithItsLine(t *testing.T) {
	hc := client(t, &http.Transport{})
	url, _ := serve(t, cli.ServeOptions{RulesDir: writeRules(t, stallRule)})
	a, err := agent.Start(agent.Config{Center: url, Project: "color-game", Service: "tables", SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	c := apiv1connect.NewTriggerServiceClient(hc, url)
	running(t, c, "stall")
	b := &table{}
	b.play(t, a)
	time.Sleep(1500 * time.Millisecond) // the flight recorder has something to hold
	b.settle()

	fired := history(t, c, "stall", "fired")
	if !strings.HasPrefix(fired.GetReason(), "bet took ") || !strings.Contains(fired.GetReason(), "rules_test.go:") {
		t.Errorf("it fired because %q", fired.GetReason())
	}
	done := history(t, c, "stall", "diagnosed")
	if done.GetSeverity() == "" {
		t.Errorf("the diagnosis found nothing: %v", done)
	}
	captures := apiv1connect.NewCaptureServiceClient(hc, url)
	got, err := captures.GetCapture(t.Context(), connect.NewRequest(&apiv1.GetCaptureRequest{CaptureId: done.GetCaptureId()}))
	if err != nil {
		t.Fatal(err)
	}
	if got := got.Msg.GetCapture(); got.GetActor() != "rule:stall" || got.GetState() != apiv1.CaptureState_CAPTURE_STATE_DONE || got.GetSpec().GetLast().AsDuration() != time.Second {
		t.Errorf("capture by %q is %v of the last %v", got.GetActor(), got.GetState(), got.GetSpec().GetLast().AsDuration())
	}
	said, err := captures.GetDiagnosis(t.Context(), connect.NewRequest(&apiv1.GetDiagnosisRequest{CaptureId: done.GetCaptureId()}))
	if err != nil {
		t.Fatal(err)
	}
	var diagnosis struct {
		Findings []struct {
			Rule  string
			Where []struct {
				File string
				Line int32
			}
		}
	}
	if err := json.Unmarshal([]byte(said.Msg.GetJson()), &diagnosis); err != nil {
		t.Fatal(err)
	}
	for _, f := range diagnosis.Findings {
		if len(f.Where) > 0 && strings.HasSuffix(f.Where[0].File, "rules_test.go") && f.Where[0].Line == lineOf(t, "stalls") {
			return
		}
	}
	t.Errorf("no finding names rules_test.go:%d first:\n%s", lineOf(t, "stalls"), said.Msg.GetJson())
}
