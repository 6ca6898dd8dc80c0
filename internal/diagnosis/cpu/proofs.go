package cpu

import (
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// ofLimit says how much of the limit is in use, as the end of a clause; nothing
// where the limit is not known.
func ofLimit(l load) ops.Text {
	if l.Limit == 0 {
		return ops.Text{}
	}
	return rule.Say(" (%.2f of %.4g cores were in use, %s)", "（可用 %.4[2]g 核心，使用了 %.2[1]f，%[3]s）", l.Cores, l.Limit, rule.Pct(l.Cores/l.Limit))
}

// loadProofs are what says how busy the processors are.
func loadProofs(e *evidence.Evidence, l load) (out []ops.Proof) {
	if l.Limit > 0 && l.measured {
		out = append(out, ops.Proof{Artifact: ops.KindCPU, Metric: "cpu_cores", Value: l.Cores, Unit: "cores", Share: min(1, l.Cores/l.Limit),
			Text: rule.Say("%.2f cores were in use on average, of %.4g that the process may use", "平均使用 %.2f 核心，上限 %.4g 核心", l.Cores, l.Limit)})
	}
	if l.Throttled > 0.01 {
		out = append(out, ops.Proof{Artifact: ops.KindRuntime, Metric: "throttled_periods", Value: float64(e.Runtime.Cgroup.ThrottledPeriods), Unit: "periods", Share: l.Throttled,
			Text: rule.Say("the cgroup stopped the process in %s of its periods", "cgroup 在 %s 的週期內暫停了此程序", rule.Pct(l.Throttled))})
	}
	if l.Queue > 0.05 {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "runnable_per_running", Value: l.Queue, Unit: "s/s",
			Text: rule.Say("for each second that goroutines ran, others were ready and waited %.2[1]f s for a processor: %[2]s each time on average, %[3]s at most",
				"goroutine 每執行 1 秒，就有其他可執行的 goroutine 共等待 CPU %.2[1]f 秒：每次平均 %[2]s，最長 %[3]s", l.Queue, rule.Dur(l.Wait), rule.Dur(l.LongestWait))})
	}
	return out
}
