package cli

import (
	"testing"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
)

func TestIssuesAreToldWithTheirThresholds(t *testing.T) {
	for _, c := range []struct {
		check            string
		value, threshold float64
		want             string
	}{
		{"cpu", 0.914, 0.85, "CPU 91% > 85%"},
		{"throttled", 0.4, 0.1, "throttled 40% > 10%"},
		{"memory", 0.97, 0.95, "memory 97% > 95%"},
		{"goroutines", 4.21, 3, "goroutines 4.2x the usual > 3x"},
		{"sched-latency", 0.01234, 0.01, "scheduler p99 12.3ms > 10ms"},
		{"pool-waiters", 7, 2, "7 wait for a pool"},
		{"mutex-wait", 62.31, 20, "lock waits 62.3 s/s > 20"},
		{"heap-growth", 4.21, 2, "live heap 4.2x of before > 2x"},
		{"heap-slope", 12.345, 1, "live heap grows 12.3 GiB/h > 1"},
		{"goroutines-slope", 9.06, 2, "goroutines grow 9.06/s > 2"},
		{"goroutines-stand", 2.21, 2, "2.2x the goroutines, no more CPU > 2x"},
		{"flapping", 5, 2, "flapping, lost 5 times"},
		{"restarts", 3, 2, "3 restarts in an hour"},
		{"heartbeat", 16, 15, "no heartbeat"},
		{"from-a-newer-centre", 2, 1, "from-a-newer-centre 2 > 1"},
	} {
		if got := issueText(issue(c.check, apiv1.HealthLevel_HEALTH_LEVEL_WARNING, c.value, c.threshold)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.check, got, c.want)
		}
	}
}
