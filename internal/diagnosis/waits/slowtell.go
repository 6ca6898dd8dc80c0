package waits

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

const (
	// busyWait is what a goroutine that is ready waits for a processor at p99 where the
	// machine is short of them: one of Go's time slices.
	busyWait = 10 * time.Millisecond
	// noLine is the highest score of a call that had no processor: no line of the
	// program is to blame for it.
	noLine = 49
)

// followed says what became of a call whose goroutine the trace shows.
func followed(t *evidence.Trace, c *evidence.SlowCall, f ops.Finding) ops.Finding {
	took := c.Took()
	ready, ran := c.Spent[trace.StateRunnable], c.Spent[trace.StateRunning]+c.Spent[trace.StateAssist]
	var wait evidence.CallWait
	if len(c.Waits) > 0 {
		wait = c.Waits[0]
	}
	f.Confidence = ops.High
	f.Evidence = append(f.Evidence, ops.Proof{
		Artifact: ops.KindTrace, Metric: "call_ready_seconds", Value: ready.Seconds(), Unit: "s",
		Text: rule.Say("meanwhile its goroutine ran for %[1]s, was ready without a processor for %[2]s, and waited for %[3]s", "這段時間它的 goroutine 執行了 %[1]s、可執行但沒有 CPU %[2]s、等待了 %[3]s",
			spent(ran), spent(ready), spent(c.Spent.Total()-ready-ran)),
	})
	if missing := took - c.Spent.Total(); missing > took/4 {
		f.Confidence = ops.Medium
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "call_unseen_seconds", Value: missing.Seconds(), Unit: "s",
			Text: rule.Say("%s of the call are not in the trace, which begins in its middle", "呼叫有 %s 不在 trace 裡：trace 從它的中途才開始", rule.Dur(missing)),
		})
	}
	switch {
	case ready >= max(ran, wait.Total):
		hadNoProcessor(c, ready, &f)
	case ran >= wait.Total || wait.Stack.User() == nil:
		computed(c, ran, &f)
	default:
		waited(t, c, &wait, &f)
	}
	moment := &ops.Moment{From: max(c.From, 0), To: c.End, Goroutines: []int64{int64(c.Goroutine)}}
	for i := range f.Evidence {
		f.Evidence[i].Moment = moment
	}
	return f
}

// spent is rule.Dur, where nothing is no less than a millisecond.
func spent(d time.Duration) string {
	if d < time.Microsecond {
		return "0 ms"
	}
	return rule.Dur(d)
}

func (s subject) at(f *ops.Finding) {
	if s.told != nil {
		f.Where = []ops.Place{rule.At(ops.RoleCall, s.told)}
	}
}

// subject is a call as sentences have it.
type subject struct {
	name, took string
	told       *evidence.Frame
}

func subjectOf(c *evidence.SlowCall) subject {
	return subject{c.Name, rule.Dur(c.Took()), c.Stack.User()}
}

func hadNoProcessor(c *evidence.SlowCall, ready time.Duration, f *ops.Finding) {
	s := subjectOf(c)
	s.at(f)
	f.Score = min(f.Score, noLine)
	f.Title = rule.Say("%[1]s took %[2]s: for %[3]s of it there was no processor", "%[1]s 花了 %[2]s，其中 %[3]s 沒有 CPU 可用", s.name, s.took, rule.Dur(ready))
	f.Summary = rule.Say("For %[1]s of the call its goroutine was ready to go on and no processor was free. No line of the program is to blame: the process, or the machine, had too much to do.",
		"呼叫中有 %[1]s，它的 goroutine 已可執行，但沒有空閒的 CPU。不是哪一行程式的錯：行程或機器太忙了。", rule.Dur(ready))
	f.Remedies = []ops.Text{
		rule.Say("Look for what keeps the processors busy, in this process or beside it, or give it more of them.", "查明是什麼佔著 CPU（行程本身或旁邊的程式），或給它更多 CPU。"),
		rule.Say("If such calls are usual here, a higher threshold leaves the rule for those that are not.", "如果這種呼叫在這裡很常見，把規則的門檻調高，留給真正少見的呼叫。"),
	}
	f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindCPU, ops.KindTrace}}
}

func computed(c *evidence.SlowCall, ran time.Duration, f *ops.Finding) {
	s := subjectOf(c)
	s.at(f)
	f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	f.Title = rule.Say("%[1]s took %[2]s, of which it computed for %[3]s", "%[1]s 花了 %[2]s，其中 %[3]s 在運算", s.name, s.took, rule.Dur(ran))
	f.Summary = rule.Say("The call ended at %[1]s. No wait explains it: its goroutine was running.", "呼叫在 %[1]s 結束。沒有等待可以解釋：它的 goroutine 一直在執行。", rule.Line(s.told))
	f.Remedies = []ops.Text{rule.Say("Capture a CPU profile while such calls happen: it says what they compute.", "在這種呼叫發生時擷取 CPU profile：它會說明在運算什麼。")}
	f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindCPU, ops.KindTrace}}
}

func waited(t *evidence.Trace, c *evidence.SlowCall, wait *evidence.CallWait, f *ops.Finding) {
	s := subjectOf(c)
	if float64(wait.Total) < covers*float64(c.Took()) {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
	at, cause := wait.Stack.User(), wait
	f.Where = []ops.Place{rule.At(roleOf(wait.State), at)}
	what := rule.Say("it %[1]s at %[2]s", "它%[1]s，位置在 %[2]s", didWait(wait.State), rule.Line(at))
	if wait.Count > 1 {
		what = rule.Say("%[1]s (%[2]s times, %[3]s at most)", "%[1]s（%[2]s 次，最長 %[3]s）", what, rule.Count(wait.Count), rule.Dur(wait.To-wait.From))
	}
	blamed := at
	if holder := wait.Ender.User(); holder != nil && wait.State == trace.StateSync {
		blamed = holder
		f.Where = append(f.Where, rule.At(ops.RoleHold, holder))
		what = rule.Say("it waited for a lock at %[1]s, which %[2]s gave back", "它在 %[1]s 等鎖，而釋放鎖的是 %[2]s", rule.Line(at), rule.Line(holder))
		behind := wait.Behind
		switch {
		case behind != nil && behind.Stack.User() != nil:
			cause, at, blamed = behind, behind.Stack.User(), behind.Stack.User()
			// The line of the holder that says why it held the lock so long.
			if i := behind.Stack.Index(func(g *evidence.Frame) bool { return g.Outer() == holder.Outer() }); i >= 0 {
				blamed = behind.Stack[i]
				f.Where[1] = rule.At(ops.RoleHold, blamed)
			}
			f.Where = append([]ops.Place{rule.At(roleOf(behind.State), at)}, f.Where...)
			what = rule.Say("%[1]s, and whose holder %[2]s at %[3]s meanwhile", "%[1]s；持有者當時%[2]s，位置在 %[3]s", what, didWait(behind.State), rule.Line(at))
		case behind != nil:
			at = holder
			f.Where[0], f.Where[1] = f.Where[1], f.Where[0]
			what = rule.Say("%[1]s after it had run for %[2]s", "%[1]s，釋放前執行了 %[2]s", what, rule.Dur(behind.Total))
		}
	}
	f.Title = rule.Say("%[1]s took %[2]s because of %[3]s", "%[1]s 花了 %[2]s，原因在 %[3]s", s.name, s.took, rule.Code(blamed))
	f.Summary = rule.Say("For %[1]s of that, %[2]s.", "其中 %[1]s：%[2]s。", rule.Dur(wait.Total), what)
	f.Evidence = append(f.Evidence, ops.Proof{
		Artifact: ops.KindTrace, Metric: "longest_wait_seconds", Value: (cause.To - cause.From).Seconds(), Unit: "s",
		Text: rule.Say("the longest wait at %[1]s in that time took %[2]s", "這段時間裡，%[1]s 最長的等待為 %[2]s", rule.Line(at), rule.Dur(cause.To-cause.From)),
	})
	if n, mean := usually(t, at); n > 1 {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "mean_wait_seconds", Value: mean.Seconds(), Unit: "s",
			Text: rule.Say("all %[1]s waits at %[2]s took %[3]s on average", "%[2]s 的全部 %[1]s 次等待平均為 %[3]s", rule.Count(n), rule.Line(at), rule.Dur(mean)),
		})
	}
	if p99 := t.Latency.P99; p99 >= busyWait {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "ready_p99_seconds", Value: p99.Seconds(), Unit: "s",
			Text: rule.Say("the machine was busy: goroutines that were ready waited %s for a processor at p99, and what this call waited for may have been slow for the same reason", "機器很忙：可執行的 goroutine 等待 CPU 的 p99 為 %s，這個呼叫所等的東西可能也因此變慢", rule.Dur(p99)),
		})
	}
	f.Remedies = []ops.Text{rule.Say("Do what is slow at %[1]s outside of what others wait for: before the lock, after it, or in a goroutine of its own.", "把 %[1]s 的慢動作移到別人不必等的地方：上鎖之前、解鎖之後，或放進自己的 goroutine。", rule.Line(at))}
	if wait.State == trace.StateNetwork {
		f.Remedies = []ops.Text{rule.Say("What answered %[1]s was slow: look there at the same moment. Here, ask in fewer round trips, with a deadline, or not on the way of a request.", "回應 %[1]s 的一方太慢：查看它在同一時刻的情況。在這裡則減少來回次數、設定期限，或不要放在請求的路徑上。", rule.Line(at))}
	}
}

// usually is how often goroutines waited at a line of the program, and how long on
// average.
func usually(t *evidence.Trace, at *evidence.Frame) (n int64, mean time.Duration) {
	var total time.Duration
	for i := range t.Sites {
		if s := &t.Sites[i]; s.State != trace.StateRunnable && s.Stack.User() == at {
			n, total = n+s.Count, total+s.Total
		}
	}
	if n == 0 {
		return 0, 0
	}
	return n, total / time.Duration(n)
}
