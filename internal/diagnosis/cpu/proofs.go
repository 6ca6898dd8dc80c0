package cpu

import (
	"time"

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
	if got := l.Got(); got > 0 {
		return rule.Say(" (%.2[1]f of the %.2[2]f cores that it got of %[3]s were in use)", "（上限 %[3]s，實際分到 %.2[2]f 核心，使用了 %.2[1]f）", l.Cores, got, cores(l.Limit))
	}
	return rule.Say(" (%.2[1]f of %[2]s were in use, %[3]s)", "（可用 %[2]s，使用了 %.2[1]f，%[3]s）", l.Cores, cores(l.Limit), rule.Pct(l.Cores/l.Limit))
}

// ofUsable says what share of what the process can get something is; where that
// is not known, of what it is taken to be.
func ofUsable(l load, share float64) ops.Text {
	switch {
	case l.Limit > 0:
		return rule.Say("%s of what the process can get", "為可用 CPU 的 %s", rule.Pct(share))
	case l.Assumed <= 1:
		return rule.Say("%s of one core (how many the process may use is not known)", "為一個核心的 %s（不知道此行程可用的核心數）", rule.Pct(share))
	}
	return rule.Say("%[1]s of %.0[2]f cores (how many the process may use is not known; %.2[3]f were in use)", "為 %.0[2]f 核心的 %[1]s（不知道此行程可用的核心數；使用了 %.2[3]f）", rule.Pct(share), l.Assumed, l.Cores)
}

// cores counts cores in words.
func cores(n float64) ops.Text {
	if n == 1 {
		return rule.Say("1 core", "1 核心")
	}
	return rule.Say("%.4g cores", "%.4g 核心", n)
}

// inUse says how busy the process is.
func inUse(l load) ops.Text {
	if got := l.Got(); got > 0 {
		return rule.Say("%.2[1]f of the %.2[2]f cores that it got of %[3]s are in use", "上限 %[3]s，實際分到 %.2[2]f 核心，使用了 %.2[1]f", l.Cores, got, cores(l.Limit))
	}
	if l.Limit > 0 {
		return rule.Say("%s of what the process can get is in use", "可用的 CPU 使用了 %s", rule.Pct(l.ofLimit()))
	}
	return rule.Say("%.2f cores are in use (how many the process may use is not known)", "使用了 %.2f 核心（不知道此行程可用的核心數）", l.Cores)
}

// processors counts processors in words; 0 = unknown.
func processors(n int) ops.Text {
	switch n {
	case 0:
		return rule.Say("an unknown number of processors", "數量不明的處理器")
	case 1:
		return rule.Say("1 processor", "1 個處理器")
	}
	return rule.Say("%d processors", "%d 個處理器", n)
}

// loadProofs are what says how busy the processors are.
func loadProofs(e *evidence.Evidence, l load) (out []ops.Proof) {
	if l.Limit > 0 && l.measured {
		p := ops.Proof{Artifact: ops.KindCPU, Metric: "cpu_cores", Value: l.Cores, Unit: "cores", Share: min(1, l.Cores/l.Limit),
			Text: rule.Say("%.2f cores were in use on average, of %.4g that the process may use", "平均使用 %.2f 核心，上限 %.4g 核心", l.Cores, l.Limit)}
		if got := l.Got(); got > 0 {
			p.Text = rule.Say("%[1]s, of which others left it %.2[2]f", "%[1]s，其中其他行程留給它 %.2[2]f 核心", p.Text, got)
		}
		out = append(out, p)
	}
	if l.Throttled > 0.01 {
		out = append(out, ops.Proof{Artifact: ops.KindRuntime, Metric: "throttled_periods", Value: float64(e.Runtime.Cgroup.ThrottledPeriods), Unit: "periods", Share: l.Throttled,
			Text: rule.Say("the cgroup stopped the process in %s of its periods", "cgroup 在 %s 的週期內暫停了此行程", rule.Pct(l.Throttled))})
	}
	if l.Queue > 0.05 {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "runnable_per_running", Value: l.Queue, Unit: "s/s",
			Text: rule.Say("for each second that goroutines ran, others were ready and waited %.2[1]f s for a processor: %[2]s each time on average, %[3]s at most",
				"goroutine 每執行 1 秒，就有其他可執行的 goroutine 共等待 CPU %.2[1]f 秒：每次平均 %[2]s，最長 %[3]s", l.Queue, rule.Dur(l.Wait), rule.Dur(l.LongestWait)), Moment: longestQueued(e, l.LongestWait)})
	}
	return out
}

// longestQueued is the wait for a processor that is told as the longest; nil = the trace
// names another, of somebody whom the rule leaves out, or none.
func longestQueued(e *evidence.Evidence, told time.Duration) *ops.Moment {
	if e.Trace == nil {
		return nil
	}
	l := e.Trace.Latency
	if l.Longest <= 0 || told <= 0 || l.Max != told {
		return nil
	}
	return &ops.Moment{From: l.LongestFrom, To: l.LongestFrom + l.Max, Goroutines: []int64{int64(l.Longest)}}
}
