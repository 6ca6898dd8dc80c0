package cpu

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

func hotFinding(e *evidence.Evidence, l load, sp *spot) ops.Finding {
	l.byWork = !sp.own
	c := sp.class()
	share := float64(sp.value) / float64(l.Total)
	cores := share * l.Cores
	f := ops.Finding{
		Rule: "cpu-hot-path", Scenario: 1, Score: hotScore(l, share, c), Confidence: ops.High,
		Title: hotTitle(sp, c, share),
		Summary: rule.Say("%[1]s of %[2]s CPU time in this window went into it: %.2[3]f cores on average%[4]s. %[5]s",
			"這段時間 %[2]s 的 CPU 中有 %[1]s 花在這裡，平均 %.2[3]f 核心%[4]s。%[5]s",
			rule.Dur(time.Duration(sp.value)), rule.Dur(l.Total), cores, ofLimit(l), whoWaits(l)),
		Explanation: c.why,
		Remedies:    slices.Clone(c.fix),
		Where:       []ops.Place{rule.At(ops.RoleCall, sp.frame)},
		Evidence: []ops.Proof{{
			Artifact: ops.KindCPU, Metric: "cpu_seconds", Value: time.Duration(sp.value).Seconds(), Unit: "s", Share: share,
			Text: rule.Say("%[1]s of %[2]s CPU time (%[3]s) is under %[4]s%[5]s", "%[2]s 的 CPU 時間中有 %[1]s（%[3]s）在%[4]s之下%[5]s",
				rule.Dur(time.Duration(sp.value)), rule.Dur(l.Total), rule.Pct(share), sp.what(), sp.leftOut()),
		}},
	}
	if at := sp.lines[sp.frame]; sp.own && at < sp.value {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindCPU, Metric: "line_cpu_seconds", Value: time.Duration(at).Seconds(), Unit: "s", Share: float64(at) / float64(l.Total),
			Text: rule.Say("%[1]s of it is in line %[2]s", "其中 %[1]s 在 %[2]s 這一行", rule.Dur(time.Duration(at)), rule.Line(sp.frame)),
		})
	}
	if step := most(sp.steps); step != nil {
		at := sp.steps[step]
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindCPU, Metric: "step_cpu_seconds", Value: time.Duration(at).Seconds(), Unit: "s", Share: float64(at) / float64(l.Total),
			Text: rule.Say("%[1]s of it is in `%[2]s`, which it calls for one element after the other", "其中 %[1]s 在 `%[2]s`，由它對每個元素逐一呼叫", rule.Dur(time.Duration(at)), rule.Short(step)),
		})
	}
	if v := sp.classes[c]; v > 0 && c != &own && sp.functions == 0 {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindCPU, Metric: "class_cpu_seconds", Value: time.Duration(v).Seconds(), Unit: "s", Share: float64(v) / float64(l.Total),
			Text: rule.Say("at least %[1]s of it is %[2]s", "其中至少 %[1]s 屬於「%[2]s」", rule.Dur(time.Duration(v)), c.name),
		})
	}
	if sp.functions > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindCPU, Metric: "functions", Value: float64(sp.functions), Unit: "functions", Share: share,
			Text: rule.Say("%d functions of the program have that work done", "程式中有 %d 個函式都做這種工作", sp.functions),
		})
	}
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	f.Where = append(f.Where, alsoAt(sp)...)
	doubts(&f, e, l)
	if !sp.own {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindCPU, Metric: "own_frames", Unit: "frames",
			Text: rule.Say("no function of the program itself is in these stacks: the work is done on goroutines of a library", "這些堆疊中沒有程式自己的函式：工作在函式庫的 goroutine 上進行")})
	}
	return f
}

// what is the thing that the time went into: a function, or a kind of work.
func (sp *spot) what() ops.Text {
	if sp.functions > 0 {
		return rule.Say("%[2]d functions that do it", "執行它的 %[2]d 個函式", "", sp.functions)
	}
	return rule.Say("`%s`", " `%s` ", rule.Short(sp.frame))
}

// leftOut says what a flame graph shows under the function beyond what counts as
// its own.
func (sp *spot) leftOut() ops.Text {
	if sp.beside < int64(10*time.Millisecond) {
		return ops.Text{}
	}
	return rule.Say("; %s more, which the runtime's timers and scheduler (such as waking the collector) took there, is left out", "；runtime 的計時器與排程（例如喚醒回收器）在此另外用掉的 %s 不計入", rule.Dur(time.Duration(sp.beside)))
}

func hotTitle(sp *spot, c *class, share float64) ops.Text {
	fn := rule.Short(sp.frame)
	switch {
	case sp.functions > 0:
		return rule.Say("%[2]s of the CPU goes into one kind of work, %[1]s, in %[5]d functions; most of it in `%[3]s` (%[4]s)", "CPU 有 %[2]s 花在同一種工作（%[1]s），分布在 %[5]d 個函式，最多的是 `%[3]s`（%[4]s）",
			c.name, rule.Pct(share), fn, rule.Line(sp.frame), sp.functions)
	case !sp.own:
		return rule.Say("%[2]s of the CPU goes into %[1]s, in `%[3]s`", "CPU 有 %[2]s 花在「%[1]s」，位於 `%[3]s`", c.name, rule.Pct(share), fn)
	case c == &own:
		return rule.Say("`%[1]s` takes %[2]s of the CPU with its own statements (%[3]s)", "`%[1]s` 自身的運算佔 CPU %[2]s（%[3]s）", fn, rule.Pct(share), rule.Line(sp.frame))
	case c == &library:
		return rule.Say("`%[1]s` takes %[2]s of the CPU with the library that it calls (%[3]s)", "`%[1]s` 所呼叫的函式庫佔 CPU %[2]s（%[3]s）", fn, rule.Pct(share), rule.Line(sp.frame))
	}
	return rule.Say("`%[1]s` takes %[2]s of the CPU: %[3]s (%[4]s)", "`%[1]s` 佔 CPU %[2]s：%[3]s（%[4]s）", fn, rule.Pct(share), c.name, rule.Line(sp.frame))
}

// whoWaits says what the rest of the process feels of it.
func whoWaits(l load) ops.Text {
	switch {
	case l.queues() && l.Snapshot:
		return rule.Say("The processors are fully used: in a snapshot %.0f goroutines more than there are processors could have run.", "處理器已滿載：快照中可以執行的 goroutine 比處理器多 %.0f 個。", l.Ready)
	case l.queues():
		return rule.Say("The processors are fully used: on average %.1f goroutines were ready and waited for one.", "處理器已滿載：平均有 %.1f 個 goroutine 可以執行卻在等 CPU。", l.Ready)
	case l.Others() && l.Limit == 0:
		return rule.Say("%s requests are under way that need the CPU as well; whether processors are free for them is not known.", "同時有 %s 個請求在進行，也需要 CPU；不知道是否還有閒置的處理器。", rule.Count(int64(l.Requests)))
	case l.Others():
		return rule.Say("The processors are fully used, and %s requests are under way that need them.", "處理器已滿載，同時有 %s 個請求在進行。", rule.Count(int64(l.Requests)))
	case l.Use() < full && l.Limit > 0:
		return rule.Say("Nobody waits for it yet: processors are free.", "目前還沒有人因此等待：仍有閒置的處理器。")
	}
	return rule.Say("Nobody else was seen to wait for a processor.", "沒有看到其他工作在等 CPU。")
}

// alsoAt are further places: who calls the function, largest part first, or, for
// a kind of work, where else it is done.
func alsoAt(sp *spot) (out []ops.Place) {
	callers := make([]*evidence.Frame, 0, len(sp.callers))
	for f, v := range sp.callers {
		if float64(v) >= 0.1*float64(sp.value) {
			callers = append(callers, f)
		}
	}
	slices.SortFunc(callers, func(a, b *evidence.Frame) int {
		return cmp.Or(cmp.Compare(sp.callers[b], sp.callers[a]), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Line, b.Line))
	})
	for _, f := range callers[:min(4, len(callers))] {
		out = append(out, rule.At(ops.RoleCall, f))
	}
	return out
}

// assumed says what was taken for a limit that is not known.
func assumed(l load) ops.Text {
	if l.Assumed > 1 {
		return rule.Say("how many cores the process may use is not known: %.0[1]f were assumed, because %.2[2]f were in use on average; if there are more, this weighs less",
			"不知道此行程可用的核心數：平均使用 %.2[2]f 核心，因此以 %.0[1]f 核心估計；實際若更多，影響就較小", l.Assumed, l.Cores)
	}
	return rule.Say("how many cores the process may use is not known: one was assumed; if there are more, this weighs less", "不知道此行程可用的核心數：以一個核心估計；實際若更多，影響就較小")
}

// doubts adds what limits any finding about CPU time, and lowers its confidence.
func doubts(f *ops.Finding, e *evidence.Evidence, l load) {
	if e.Trace == nil && e.Runtime == nil {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium) // one source
	}
	if l.Limit == 0 {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "cpu_limit_cores", Value: l.Assumed, Unit: "cores", Text: assumed(l)})
	}
	if e.CPU != nil && l.Total < time.Second {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindCPU, Metric: "samples", Value: float64(l.Total / (10 * time.Millisecond)), Unit: "samples",
			Text: rule.Say("only %s of CPU time were sampled", "只取樣到 %s 的 CPU 時間", rule.Dur(l.Total))})
	}
	if s := l.Stolen(); s >= 0.3 {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "stolen_share", Value: s, Unit: "share", Share: s,
			Text: rule.Say("in %s of the time in which goroutines had a processor, something else had the CPU: other processes on the machine, the host, or the quota", "goroutine 佔有處理器的時間中，有 %s 其實拿不到 CPU：被機器上的其他行程、宿主機或配額佔走", rule.Pct(s))})
	}
}
