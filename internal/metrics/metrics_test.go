package metrics

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/opscenter/opscenter/internal/changes"
	"github.com/opscenter/opscenter/internal/notify"
	"github.com/opscenter/opscenter/internal/ops"
)

func metricsOf(all ...ops.Instance) *Metrics {
	return New(Config{
		Version:   "v1",
		Instances: func() []ops.Instance { return all },
		Storage:   func(context.Context) (int64, int64) { return 1 << 30, -1 },
		Channels: func() []notify.Status {
			return []notify.Status{{Channel: notify.Channel{Name: "oncall"}, Sent: 3, Failed: 1}}
		},
	})
}

func check(t *testing.T, m *Metrics, want string, names ...string) {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(want) {
		out.WriteString(strings.TrimSpace(line) + "\n")
	}
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(strings.TrimLeft(out.String(), "\n")), names...); err != nil {
		t.Error(err)
	}
}

func instance(id string, state ops.InstanceState, level ops.HealthLevel, issues ...ops.HealthIssue) ops.Instance {
	return ops.Instance{
		ID: ops.InstanceID(id), Project: "color-game", Service: "game-service", State: state,
		Health:    ops.Health{Level: level, Issues: issues},
		Heartbeat: ops.Heartbeat{CPUCores: 0.5, RSSBytes: 100, LiveHeapBytes: 40, Goroutines: 7, SchedLatencyP99Second: 0.001, PoolWaiters: 1},
	}
}

func TestServicesAreSummed(t *testing.T) {
	m := metricsOf(
		instance("a", ops.InstanceUp, ops.HealthOK),
		instance("b", ops.InstanceSuspect, ops.HealthCritical, ops.HealthIssue{Check: ops.CheckMemory, Level: ops.HealthCritical}),
		instance("c", ops.InstanceGone, ""),
	)
	check(t, m, `
		# HELP opscenter_archive_bytes What captures take on the disk.
		# TYPE opscenter_archive_bytes gauge
		opscenter_archive_bytes 1.073741824e+09
		# HELP opscenter_instances Instances that are not gone, by state: up, suspect.
		# TYPE opscenter_instances gauge
		opscenter_instances{project="color-game",service="game-service",state="suspect"} 1
		opscenter_instances{project="color-game",service="game-service",state="up"} 1
		# HELP opscenter_instances_failing Instances that fail a check of health, by check and level.
		# TYPE opscenter_instances_failing gauge
		opscenter_instances_failing{check="memory",level="critical",project="color-game",service="game-service"} 1
		# HELP opscenter_notifications_total Notifications by what became of them: sent, failed; dropped counts events.
		# TYPE opscenter_notifications_total counter
		opscenter_notifications_total{channel="oncall",result="dropped"} 0
		opscenter_notifications_total{channel="oncall",result="failed"} 1
		opscenter_notifications_total{channel="oncall",result="sent"} 3
		# HELP opscenter_service_cpu_cores Processors that the instances of a service use.
		# TYPE opscenter_service_cpu_cores gauge
		opscenter_service_cpu_cores{project="color-game",service="game-service"} 1
		# HELP opscenter_service_goroutines Goroutines of the instances of a service.
		# TYPE opscenter_service_goroutines gauge
		opscenter_service_goroutines{project="color-game",service="game-service"} 14`,
		"opscenter_archive_bytes", "opscenter_archive_free_bytes", "opscenter_instances", "opscenter_instances_failing",
		"opscenter_notifications_total", "opscenter_service_cpu_cores", "opscenter_service_goroutines")
}

func diagnosis(score string) ops.Findings {
	return ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: []byte(`{"instance":{"id":"a"},"findings":[
		{"rule":"heap-growth","severity":"critical","score":` + score + `},{"rule":"heap-growth","severity":"notice","score":30}]}`)}}
}

func TestScoresAreOfTheLatestCaptureOfWhoLives(t *testing.T) {
	m := metricsOf(instance("a", ops.InstanceUp, ops.HealthOK))
	of := func(ago time.Duration) ops.Capture {
		return ops.Capture{ID: "c", Project: "color-game", Service: "game-service", Finished: time.Now().Add(-ago)}
	}
	m.Diagnosed(of(time.Hour), diagnosis("93"))
	m.Diagnosed(of(2*time.Hour), diagnosis("77")) // diagnosed later, but older
	m.Diagnosed(of(0), ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: []byte("{")}})
	want := `
		# HELP opscenter_finding_score Score, 0 to 100, of a finding in the latest diagnosed capture of an instance: notice from 25, warning from 50, critical from 75.
		# TYPE opscenter_finding_score gauge
		opscenter_finding_score{instance_id="a",project="color-game",rule="heap-growth",service="game-service",severity="critical"} 93`
	check(t, m, want, "opscenter_finding_score")
	m.c.Instances = func() []ops.Instance { return nil }
	check(t, m, "", "opscenter_finding_score")
	m.Diagnosed(of(25*time.Hour), ops.Findings{Bodies: map[ops.Lang][]byte{ops.English: []byte(`{"instance":{"id":"b"}}`)}})
	if len(m.scores) != 1 {
		t.Errorf("%d verdicts are kept", len(m.scores))
	}
}

func TestCapturesAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metricsOf()
		var topic changes.Topic[ops.CaptureID]
		state := ops.CaptureCollecting
		m.c.Captures = topic.Subscribe
		m.c.Capture = func(_ context.Context, id ops.CaptureID) (ops.Capture, error) {
			return ops.Capture{ID: id, Project: "p", Service: "s", State: state}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		for _, s := range []ops.CaptureState{ops.CaptureCollecting, ops.CapturePartial, ops.CapturePartial} {
			state = s
			topic.Publish("x")
			synctest.Wait()
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		check(t, m, `
			# HELP opscenter_captures_total Captures that ended while this centre ran, by how: done, partial, failed, cancelled.
			# TYPE opscenter_captures_total counter
			opscenter_captures_total{project="p",service="s",state="partial"} 1`, "opscenter_captures_total")
	})
}

func TestTheAnswerIsWhatPrometheusReads(t *testing.T) {
	w := httptest.NewRecorder()
	metricsOf(instance("a", ops.InstanceUp, ops.HealthOK)).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, _ := io.ReadAll(w.Body)
	for _, want := range []string{"go_goroutines ", "process_resident_memory_bytes ", `opscenter_build_info{version="v1"} 1`, `opscenter_instances_health{level="ok",project="color-game",service="game-service"} 1`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if problems, err := testutil.GatherAndLint(metricsOf(instance("a", ops.InstanceUp, ops.HealthOK)).registry); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// The dashboard asks for nothing that is not there.
func TestTheDashboardKnowsOurNames(t *testing.T) {
	b, err := os.ReadFile("../../deploy/grafana/opscenter.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Fatal("the dashboard is no JSON")
	}
	known := map[string]bool{"opscenter_captures_total": true, "opscenter_build_info": true}
	ch := make(chan *prometheus.Desc, 100)
	metricsOf().Describe(ch)
	close(ch)
	for d := range ch {
		known[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	asked := regexp.MustCompile(`opscenter_[a-z0-9_]+`).FindAllString(string(b), -1)
	if len(asked) < 10 {
		t.Errorf("the dashboard asks for %d metrics", len(asked))
	}
	for _, name := range asked {
		if !known[name] {
			t.Errorf("the dashboard asks for %s, which is not there", name)
		}
	}
}
