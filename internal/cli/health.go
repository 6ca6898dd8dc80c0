package cli

import (
	"fmt"
	"time"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// healthText is how an instance does: its worst issue with how long it lasts,
// and how many more there are.
func healthText(h *apiv1.Health, now time.Time) string {
	issues := h.GetIssues()
	if len(issues) == 0 {
		return word(h.GetLevel())
	}
	i := issues[0]
	s := word(i.GetLevel()) + ": " + issueText(i)
	if since := i.GetSince(); since != nil {
		s += " for " + ago(now, since)
	}
	if more := len(issues) - 1; more > 0 {
		s += fmt.Sprintf(" (+%d)", more)
	}
	return s
}

// issueText says what is wrong, with its threshold.
func issueText(i *apiv1.HealthIssue) string {
	v, t := i.GetValue(), i.GetThreshold()
	share := func(what string) string { return fmt.Sprintf("%s %.0f%% > %.0f%%", what, 100*v, 100*t) }
	switch ops.HealthCheck(i.GetCheck()) {
	case ops.CheckCPU:
		return share("CPU")
	case ops.CheckThrottled:
		return share("throttled")
	case ops.CheckMemory:
		return share("memory")
	case ops.CheckGoroutines:
		return fmt.Sprintf("goroutines %.1fx the usual > %gx", v, t)
	case ops.CheckSchedLatency:
		return fmt.Sprintf("scheduler p99 %v > %v", seconds(v), seconds(t))
	case ops.CheckPoolWaiters:
		return fmt.Sprintf("%.0f wait for a pool", v)
	case ops.CheckMutexWait:
		return fmt.Sprintf("lock waits %.1f s/s > %g", v, t)
	case ops.CheckHeapGrowth:
		return fmt.Sprintf("live heap %.1fx of before > %gx", v, t)
	case ops.CheckHeapSlope:
		return fmt.Sprintf("live heap grows %.3g GiB/h > %g", v, t)
	case ops.CheckGoroutinesSlope:
		return fmt.Sprintf("goroutines grow %.3g/s > %g", v, t)
	case ops.CheckGoroutinesStand:
		return fmt.Sprintf("%.1fx the goroutines, no more CPU > %gx", v, t)
	case ops.CheckRestarts:
		return fmt.Sprintf("%.0f restarts in an hour", v)
	case ops.CheckFlapping:
		return fmt.Sprintf("flapping, lost %.0f times", v)
	case ops.CheckHeartbeat:
		return "no heartbeat"
	}
	return fmt.Sprintf("%s %g > %g", i.GetCheck(), v, t) // a newer centre's
}

func seconds(v float64) time.Duration {
	return time.Duration(v * float64(time.Second)).Round(100 * time.Microsecond)
}

// troubles is how many instances of a service are in trouble.
func troubles(r serviceRow) string {
	switch {
	case r.Critical > 0 && r.Warning > 0:
		return fmt.Sprintf("%d critical, %d warning", r.Critical, r.Warning)
	case r.Critical > 0:
		return fmt.Sprintf("%d critical", r.Critical)
	case r.Warning > 0:
		return fmt.Sprintf("%d warning", r.Warning)
	case r.Up+r.Suspect > 0:
		return "ok"
	}
	return ""
}
