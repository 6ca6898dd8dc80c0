package cpu

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// stopper is a line of the program that has the world stopped.
type stopper struct {
	frame      *evidence.Frame
	reason     string // of the most time
	count      int64
	total, max time.Duration
}

// stoppers are the lines that stop the world by what they call, longest total first:
// to read the memory statistics, take a dump or set GOMAXPROCS. The collector's own
// stops are not among them.
func stoppers(t *evidence.Trace) []stopper {
	return stops(t, func(s *evidence.Stop) bool { return !strings.HasPrefix(s.Reason, "GC ") })
}

// collecting are the lines that call runtime.GC, or what does, most time first, and the
// number of all collections that began in the trace.
func collecting(t *evidence.Trace) (by []stopper, all int64) {
	begins := func(s *evidence.Stop) bool { return s.Reason == "GC sweep termination" }
	for _, s := range stops(t, begins) {
		all += s.count
	}
	return stops(t, func(s *evidence.Stop) bool {
		return begins(s) && s.Stack.Index(func(f *evidence.Frame) bool { return f.Function == "runtime.GC" }) >= 0
	}), all
}

func stops(t *evidence.Trace, which func(*evidence.Stop) bool) []stopper {
	if t == nil {
		return nil
	}
	by, out := map[*evidence.Frame]int{}, []stopper(nil)
	for i := range t.Stops {
		s := &t.Stops[i]
		f := s.Stack.User()
		if f == nil || !which(s) {
			continue
		}
		at, ok := by[f]
		if !ok {
			at, by[f] = len(out), len(out)
			out = append(out, stopper{frame: f, reason: s.Reason})
		}
		x := &out[at]
		x.count += s.Count
		x.total += s.Total
		x.max = max(x.max, s.Max)
	}
	slices.SortStableFunc(out, func(a, b stopper) int { return cmp.Compare(b.total, a.total) })
	return out
}

// stoppedX75 is the share of the time in which the world is stopped at which the score
// is 75: a tenth of every request, of whatever kind, is lost then, and what it takes to
// stop and to go on comes on top of that.
const stoppedX75 = 0.1

// stopFinding is about a program that stops its own world; ok is false if it does not,
// or so seldom that nobody can feel it.
func stopFinding(e *evidence.Evidence) (f ops.Finding, ok bool) {
	all := stoppers(e.Trace)
	var total time.Duration
	var count int64
	for _, s := range all {
		total, count = total+s.total, count+s.count
	}
	if total == 0 {
		return f, false
	}
	share := float64(total) / float64(e.Trace.Duration)
	score := ops.Score(share, stoppedX75)
	if ops.SeverityOf(score) == "" {
		return f, false
	}
	top, rate := all[0], float64(count)/e.Trace.Duration.Seconds()
	f = ops.Finding{
		Rule: "scheduler-latency", Score: score, Confidence: ops.High,
		Title: rule.Say("`%[1]s` stops the whole program %.0[3]f times a second (%[2]s)", "`%[1]s` 每秒讓整個程式停頓 %.0[3]f 次（%[2]s）", rule.Short(top.frame), rule.Line(top.frame), rate),
		Summary: rule.Say("For %[1]s of the time nothing of the program ran, because the world was stopped (%[2]s): %[3]s each time on average, %[4]s at most.",
			"有 %[1]s 的時間整個程式都不能執行，因為所有 goroutine 都被停住（stop-the-world，%[2]s）：每次平均 %[3]s，最長 %[4]s。", rule.Pct(share), top.reason, rule.Dur(total/time.Duration(count)), rule.Dur(top.max)),
		Explanation: rule.Say("Some calls of the runtime need all goroutines to stand still: `runtime.ReadMemStats`, a dump of all goroutines, `runtime.GOMAXPROCS(n)`, `debug.SetGCPercent`. Each processor is interrupted, waits until the last one has stopped, and is started again; callers queue for it, one after the other.",
			"runtime 的某些呼叫需要所有 goroutine 靜止：`runtime.ReadMemStats`、傾印全部 goroutine、`runtime.GOMAXPROCS(n)`、`debug.SetGCPercent`。每個處理器都要被打斷、等最後一個停下，再重新啟動；呼叫者之間也要一個一個排隊。"),
		Remedies: []ops.Text{
			rule.Say("Take it out of the request's path: once every ten seconds in a goroutine of its own is enough for figures.", "把它移出請求路徑：只是要數據的話，由獨立的 goroutine 每十秒做一次就夠了。"),
			rule.Say("Read figures with `runtime/metrics`, which stops nothing.", "改用 `runtime/metrics` 讀取數據，它不會停住任何東西。"),
		},
		Evidence: []ops.Proof{{Artifact: ops.KindTrace, Metric: "stopped_seconds", Value: total.Seconds(), Unit: "s", Share: min(1, share),
			Text: rule.Say("the world was stopped %[1]s times for %[2]s in all, in %[3]s of trace", "在 %[3]s 的追蹤中，全面停頓（stop-the-world）%[1]s 次，共 %[2]s", rule.Count(count), rule.Dur(total), rule.Dur(e.Trace.Duration))}},
	}
	for i, s := range all[:min(3, len(all))] {
		if i == 0 || 5*s.total >= total {
			f.Where = append(f.Where, rule.At(ops.RoleCall, s.frame))
		}
	}
	return f, true
}
