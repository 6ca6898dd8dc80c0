package cpu

import (
	"math"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// throttled finds processes that their cgroup's CPU quota stops again and again:
// every thread stands still until the next period, usually of 100 ms, begins.
//
// Evidence: the share of the window's periods in which the cgroup was stopped,
// and for how long (cpu.stat), the quota against GOMAXPROCS, and who waits
// meanwhile.
//
// A period now and then is what a quota is for. The score is of the share of
// periods: a warning at a quarter, from which on one request in four meets a stop
// of up to a tenth of a second, 75 at half. It is a notice where nobody waits: a
// batch job that is throttled takes longer, and that is all.
//
// Not to be confused with a slow downstream: throttled processes wait for
// everything a little longer. What uses up the quota is the cause.
var throttled = rule.Rule{
	ID:    "cpu-throttled",
	Name:  rule.Say("the CPU quota stops the process", "CPU 配額暫停了行程"),
	Judge: judgeThrottled,
}

// throttledX75 is the share of throttled periods at which the score is 75.
const throttledX75 = 0.5

func judgeThrottled(e *evidence.Evidence) rule.Result {
	switch r := e.Runtime; {
	case r == nil:
		return rule.Needs(e, ops.KindRuntime)
	case r.Instance.Agentless || e.Instance.Agentless:
		return rule.CouldNotCheck(rule.Say("the cgroup is not visible from outside of the process: it needs the agent", "從行程外部看不到 cgroup：需要安裝 agent"), nil)
	case r.Cgroup.Version == 0:
		return rule.NotApplicable(rule.Say("no cgroup", "沒有 cgroup"))
	case r.Cgroup.CPUQuotaCores <= 0 && r.Cgroup.Periods == 0:
		return rule.NotApplicable(rule.Say("the cgroup has no CPU quota", "cgroup 沒有設定 CPU 配額"))
	case r.Cgroup.Periods == 0:
		return rule.OK(rule.Say("the quota of %.4g cores was never needed: no period was counted", "%.4g 核心的配額從未用到：沒有任何計費週期", r.Cgroup.CPUQuotaCores))
	}
	l := loadOf(e)
	c := e.Runtime.Cgroup
	reason := rule.Say("throttled in %[1]s of %[2]d periods, for %.2[3]f s in all", "%[2]d 個週期中有 %[1]s 被暫停，共 %.2[3]f 秒", rule.Pct(l.Throttled), c.Periods, c.ThrottledSeconds)
	score := ops.Score(l.Throttled, throttledX75)
	if !l.Others() {
		score = min(score, 49)
	}
	if ops.SeverityOf(score) == "" {
		return rule.OK(reason)
	}
	f := ops.Finding{
		Rule: "cpu-throttled", Score: score, Confidence: ops.High,
		Title: rule.Say("the CPU quota of %[2]s stops the process in %[1]s of all periods", "%[2]s的 CPU 配額在 %[1]s 的週期內暫停了行程", rule.Pct(l.Throttled), quotaOf(c.CPUQuotaCores)),
		Summary: rule.Say("In %[1]s of the periods (usually of 100 ms) the quota was used up before their end, and the whole process stood still until the next one: %.2[2]f s of standing threads in this window. %[3]s",
			"有 %[1]s 的週期（通常為 100 毫秒）在結束前就用完配額，整個行程停到下一個週期：這段時間執行緒共停了 %.2[2]f 秒。%[3]s", rule.Pct(l.Throttled), c.ThrottledSeconds, whoStands(l)),
		Explanation: rule.Say("The kernel lets all threads of the cgroup together use a budget of CPU time in each period. With %[1]s (GOMAXPROCS) in parallel the budget of %.4[2]g cores is spent in a part of the period; then every thread stops, also those that only had to answer a ping or hold a lock. From outside it looks like a slow network or database.",
			"核心讓 cgroup 的所有執行緒在每個週期共用一份 CPU 時間。以 %[1]s（GOMAXPROCS）並行時，%.4[2]g 核心的額度只要週期的一部分就用完；之後所有執行緒都停住，包括只是要回應 ping 或正持有鎖的。從外面看就像網路或資料庫變慢。", processors(l.procs), c.CPUQuotaCores),
		Remedies: throttledRemedies(l, c.CPUQuotaCores),
		Where:    busiest(e),
		Evidence: []ops.Proof{{
			Artifact: ops.KindRuntime, Metric: "throttled_periods", Value: float64(c.ThrottledPeriods), Unit: "periods", Share: min(1, l.Throttled),
			Text: rule.Say("%[1]d of %[2]d periods were throttled", "%[2]d 個週期中有 %[1]d 個被暫停", c.ThrottledPeriods, c.Periods),
		}, {
			Artifact: ops.KindRuntime, Metric: "throttled_seconds", Value: c.ThrottledSeconds, Unit: "s",
			Text: rule.Say("threads stood still for %.2f s in all", "執行緒共停止 %.2f 秒", c.ThrottledSeconds),
		}},
	}
	for _, p := range loadProofs(e, l) {
		if p.Metric != "throttled_periods" {
			f.Evidence = append(f.Evidence, p)
		}
	}
	if !l.Others() {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "others_waiting", Unit: "goroutines",
			Text: rule.Say("nobody was seen to wait for it: a job without deadlines merely takes longer", "沒有看到有人因此等待：沒有期限的工作只是花更久時間")})
	}
	return rule.Found(reason, f)
}

func quotaOf(cores float64) ops.Text {
	if cores <= 0 {
		return rule.Say("its cgroup", "cgroup ")
	}
	return rule.Say("%.4g cores", "%.4g 核心", cores)
}

func whoStands(l load) ops.Text {
	switch {
	case l.Requests > 0:
		return rule.Say("Up to %s requests were under way, which stood still with it.", "當時最多有 %s 個請求在進行，也一起停住。", rule.Count(int64(l.Requests)))
	case l.Others():
		return rule.Say("%.1f goroutines were ready to run on average, and stood still with it.", "平均有 %.1f 個 goroutine 可以執行，也一起停住。", max(0, l.Ready))
	}
	return rule.Say("Nobody was seen to wait for it.", "沒有看到有人因此等待。")
}

func throttledRemedies(l load, quota float64) (out []ops.Text) {
	out = append(out, rule.Say("Now: raise the CPU limit, or remove it and keep the request: without a limit the kernel shares by request and stops nobody.", "立即：提高 CPU limit，或移除 limit 只保留 request：沒有 limit 時核心依 request 分配，不會暫停任何人。"))
	if up := math.Ceil(quota); quota > 0 && float64(l.procs) > up {
		out = append(out, rule.Say("Set GOMAXPROCS to %.0[1]f (it is %[2]d): fewer threads spend the quota more evenly, and so does the collector. Go 1.25 and later do that by themselves where go.mod says go 1.25.",
			"把 GOMAXPROCS 設為 %.0[1]f（目前 %[2]d）：執行緒少，配額會用得更平均，垃圾回收也是。go.mod 宣告 go 1.25 以上時 Go 會自動處理。", up, l.procs))
	}
	return append(out, rule.Say("Need less CPU: see what keeps the processors busy (the first place, and the findings about the CPU).", "減少 CPU 用量：看是什麼佔住處理器（第一個位置，以及其他關於 CPU 的發現）。"))
}
