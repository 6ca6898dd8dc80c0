package waits

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// slowCall explains single calls that took long: a stall of some tens of
// milliseconds that is nothing on the average of any window.
//
// Evidence: the mark that the agent leaves in the trace when a call that a rule
// watches for has ended, and the longest waits of the trace. A wait that covers
// half of the call or more is what it waited for; where that is a lock, the line
// is the one at which whoever gave the lock back had been meanwhile.
//
// Not to be confused with the rules on what everybody waits for all the time
// (lock-held-across-io, downstream-wait): those speak of a window, this one of a
// moment, and it stays silent about calls that no one told of.
//
// The score is of how long the call took: 50 ms are a warning.
func slowCall() rule.Rule {
	return rule.Rule{
		ID: "slow-call", Scenario: 4,
		Name:  rule.Say("a call took long", "有呼叫耗時過長"),
		Judge: judgeSlowCalls,
	}
}

const (
	// slowX75 is the time of a call at which the score is 75: from 25 ms on it is a
	// notice, from 60 ms on a warning.
	slowX75 = 0.12
	// covers is the share of the call that a wait has to last to be its reason.
	covers = 0.5
	// slack is for clocks and for what a call does before and after its wait.
	slack = 2 * time.Millisecond
)

func judgeSlowCalls(e *evidence.Evidence) rule.Result {
	t := e.Trace
	if t == nil {
		return rule.Needs(e, ops.KindTrace)
	}
	if len(t.Slow) == 0 {
		return rule.OK(rule.Say("no call that the service times was marked as slow in the trace", "trace 裡沒有服務計時的呼叫被標示為緩慢"))
	}
	calls := slices.Clone(t.Slow)
	slices.SortStableFunc(calls, func(a, b evidence.SlowCall) int { return cmp.Compare(b.End-b.From, a.End-a.From) })
	var found []ops.Finding
	for _, c := range calls {
		f := slowFinding(t, c)
		if !slices.ContainsFunc(found, func(o ops.Finding) bool { return o.ID() == f.ID() }) {
			found = append(found, f)
		}
		if len(found) == 3 {
			break
		}
	}
	return rule.Found(rule.Say("calls marked as slow: %[1]d, the slowest %[2]s", "標示為緩慢的呼叫：%[1]d 個，最慢的 %[2]s", len(calls), rule.Dur(calls[0].End-calls[0].From)), found...)
}

// during is how much of a site's longest wait lies within a time.
func during(s *evidence.Site, from, to time.Duration) time.Duration {
	return min(s.LongestFrom+s.Max, to+slack) - max(s.LongestFrom, from-slack)
}

// waitOf is the wait that made a call slow: its own, or that of another goroutine
// at the same place, if the trace lists only the longest of each.
func waitOf(t *evidence.Trace, c evidence.SlowCall) (best *evidence.Site, own bool) {
	need := time.Duration(covers * float64(c.End-c.From))
	var most time.Duration
	for i := range t.Sites {
		s := &t.Sites[i]
		if s.State == trace.StateIdle || s.State == trace.StateRunnable || len(s.Stack) == 0 {
			continue
		}
		d := during(s, c.From, c.End)
		mine := s.Longest == c.Goroutine
		if d < need || own && !mine || !mine && !sharesCaller(s.Stack, c.Stack) {
			continue
		}
		if mine && !own || d > most {
			best, own, most = s, mine, d
		}
	}
	return best, own
}

// sharesCaller reports whether two stacks are in the same function of the program.
func sharesCaller(a, b evidence.Stack) bool {
	return a.Index(func(f *evidence.Frame) bool {
		return f.Origin == evidence.OwnCode && b.Index(func(g *evidence.Frame) bool { return g.Origin == evidence.OwnCode && g.Outer() == f.Outer() }) >= 0
	}) >= 0
}

// holderOf is where the goroutine that ended a wait for a lock had itself been
// waiting meanwhile; nil = it ran, or nothing shows. Those who waited give the
// lock to each other when the stall is over: who is not one of them comes first.
func holderOf(t *evidence.Trace, wait *evidence.Site) (inside *evidence.Site, gave evidence.Stack) {
	waiter := wait.Stack.User()
	var wakers []evidence.Wake
	for _, w := range t.Wakes {
		if len(w.Waker) > 0 && w.Waiter.User() == waiter {
			wakers = append(wakers, w)
		}
	}
	queue := func(w evidence.Wake) int {
		if f := w.Waker.User(); f != nil && waiter != nil && f.Outer() == waiter.Outer() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(wakers, func(a, b evidence.Wake) int {
		return cmp.Or(queue(a)-queue(b), cmp.Compare(b.Total, a.Total))
	})
	for _, w := range wakers {
		if inside = insideOf(t, wait, w.Waker); inside != nil {
			return inside, w.Waker
		}
	}
	if len(wakers) > 0 {
		return nil, wakers[0].Waker
	}
	return nil, nil
}

// insideOf is the wait of a holder that lasted while others waited for the lock,
// and was over when it gave the lock back.
func insideOf(t *evidence.Trace, wait *evidence.Site, gave evidence.Stack) (inside *evidence.Site) {
	holder := gave.User()
	from, to := wait.LongestFrom, wait.LongestFrom+wait.Max
	need := time.Duration(covers * float64(wait.Max))
	var most time.Duration
	for i := range t.Sites {
		s := &t.Sites[i]
		if s == wait || s.Longest == wait.Longest || s.State == trace.StateSync || s.State == trace.StateIdle || len(s.Stack) == 0 ||
			s.LongestFrom+s.Max > to+slack || holder == nil ||
			s.Stack.Index(func(f *evidence.Frame) bool { return f.Outer() == holder.Outer() }) < 0 {
			continue
		}
		if d := during(s, from, to); d >= need && d > most {
			inside, most = s, d
		}
	}
	return inside
}

// didWait says what a wait is, in a few words.
func didWait(s *evidence.Site) ops.Text {
	switch s.State {
	case trace.StateSync:
		return rule.Say("waited for a lock", "在等鎖")
	case trace.StateChan:
		return rule.Say("waited for a channel", "在等 channel")
	case trace.StateNetwork:
		return rule.Say("waited for the network", "在等網路")
	case trace.StateSyscall:
		return rule.Say("was in a system call", "在系統呼叫中")
	case trace.StateSleep:
		return rule.Say("slept", "在睡眠（time.Sleep）")
	case trace.StateGC:
		return rule.Say("waited for the garbage collector", "在等垃圾回收")
	}
	return rule.Say("waited", "在等待")
}

func roleOf(s *evidence.Site) ops.Role {
	switch s.State {
	case trace.StateSync, trace.StateChan, trace.StateGC:
		return ops.RoleWait
	}
	return ops.RoleIO
}

func slowFinding(t *evidence.Trace, c evidence.SlowCall) ops.Finding {
	took := c.End - c.From
	f := ops.Finding{Rule: "slow-call", Scenario: 4, Score: ops.Score(took.Seconds(), slowX75), Confidence: ops.Medium}
	told := c.Stack.User()
	name := strings.TrimSpace(c.Name)
	f.Evidence = []ops.Proof{{
		Artifact: ops.KindTrace, Metric: "call_seconds", Value: took.Seconds(), Unit: "s",
		Text: rule.Say("%[1]s took %[2]s, as the service told when it ended", "%[1]s 花了 %[2]s（服務在結束時回報）", name, rule.Dur(took)),
	}}
	f.Explanation = rule.Say("A stall like this is nothing on average and is felt by whoever is in it. It was in the flight recorder, or in the trace, when the service told of the call.", "這樣的停頓在平均值裡看不見，但遇上的人有感。服務回報這個呼叫時，飛行記錄器（或 trace）裡正好有它。")
	wait, own := waitOf(t, c)
	if wait == nil {
		f.Confidence = ops.Low
		f.Title = rule.Say("%[1]s took %[2]s without a long wait", "%[1]s 花了 %[2]s，但沒有長時間的等待", name, rule.Dur(took))
		f.Summary = rule.Say("The call ended at %[1]s. The trace shows no wait that explains it: it computed, or waited many times for short.", "呼叫在 %[1]s 結束。trace 中沒有足以解釋的等待：它在運算，或是等了很多次短的。", rule.Line(told))
		f.Remedies = []ops.Text{rule.Say("Capture a CPU profile while such calls happen: it says what they compute.", "在這種呼叫發生時擷取 CPU profile：它會說明在運算什麼。")}
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindCPU, ops.KindTrace}}
		if told != nil {
			f.Where = []ops.Place{rule.At(ops.RoleCall, told)}
		}
		return f
	}
	at, site := wait.Stack.User(), wait
	f.Where = []ops.Place{rule.At(roleOf(wait), at)}
	what := rule.Say("it %[1]s at %[2]s", "它%[1]s，位置在 %[2]s", didWait(wait), rule.Line(at))
	if wait.State == trace.StateSync {
		inside, gave := holderOf(t, wait)
		if holder := gave.User(); holder != nil {
			f.Where = append(f.Where, rule.At(ops.RoleHold, holder))
			what = rule.Say("it waited for a lock at %[1]s, which %[2]s gave back", "它在 %[1]s 等鎖，而釋放鎖的是 %[2]s", rule.Line(at), rule.Line(holder))
		}
		if inside != nil {
			site, at = inside, inside.Stack.User()
			f.Where = append([]ops.Place{rule.At(roleOf(inside), at)}, f.Where...)
			what = rule.Say("%[1]s, and whose holder %[2]s at %[3]s meanwhile", "%[1]s；持有者當時%[2]s，位置在 %[3]s", what, didWait(inside), rule.Line(at))
		}
	}
	if own {
		f.Confidence = ops.High
	}
	f.Title = rule.Say("%[1]s took %[2]s because of %[3]s", "%[1]s 花了 %[2]s，原因在 %[3]s", name, rule.Dur(took), rule.Code(at))
	f.Summary = rule.Say("For %[1]s of that, %[2]s.", "其中 %[1]s：%[2]s。", rule.Dur(wait.Max), what)
	f.Evidence = append(f.Evidence, ops.Proof{
		Artifact: ops.KindTrace, Metric: "longest_wait_seconds", Value: site.Max.Seconds(), Unit: "s",
		Text: rule.Say("the longest wait at %[1]s took %[2]s, at the same time", "同一時間，%[1]s 最長的等待為 %[2]s", rule.Line(at), rule.Dur(site.Max)),
	})
	f.Remedies = []ops.Text{rule.Say("Do what is slow at %[1]s outside of what others wait for: before the lock, after it, or in a goroutine of its own.", "把 %[1]s 的慢動作移到別人不必等的地方：上鎖之前、解鎖之後，或放進自己的 goroutine。", rule.Line(at))}
	return f
}
