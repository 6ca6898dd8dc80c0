package waits

import (
	"cmp"
	"slices"
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
// watches for has ended, and what its goroutine did until then: whatever took most of
// the call is the answer, be it a place where it waited, its own computing, or that no
// processor was free. Where it is a lock, the line is the one at which whoever held the
// lock first had been meanwhile. Of a trace too long to be followed there are only the
// longest waits: one that covers half of the call is what it waited for then.
//
// The call on which a rule fired is answered for before all others, or it is said that
// the trace does not have it.
//
// Not to be confused with the rules on what everybody waits for all the time
// (lock-held-across-io, downstream-wait): those speak of a window, this one of a
// moment, and it stays silent about calls that no one told of.
//
// The score is of how long the call took: 50 ms are a warning.
func slowCall() rule.Rule {
	return rule.Rule{
		ID: "slow-call", Scenario: 6,
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
	trigger := evidence.Triggering(t.Slow, e.Trigger)
	if e.Trigger != nil && trigger == nil && len(t.Slow) == 0 {
		return rule.CouldNotCheck(notThere(e.Trigger), &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace}})
	}
	if len(t.Slow) == 0 {
		return rule.OK(rule.Say("no call that the service times was marked as slow in the trace", "trace 裡沒有服務計時的呼叫被標示為緩慢"))
	}
	// The one because of which somebody looks is answered for before the others.
	calls := make([]*evidence.SlowCall, len(t.Slow))
	for i := range t.Slow {
		calls[i] = &t.Slow[i]
	}
	slices.SortStableFunc(calls, func(a, b *evidence.SlowCall) int {
		return cmp.Or(bothWays(b == trigger, a == trigger), cmp.Compare(b.Took(), a.Took()))
	})
	reason := rule.Say("calls marked as slow: %[1]d, the slowest %[2]s", "標示為緩慢的呼叫：%[1]d 個，最慢的 %[2]s", len(calls), rule.Dur(slowest(calls)))
	if trigger != nil {
		reason = rule.Say("%[1]s; the rule fired on %[2]s, which took %[3]s", "%[1]s；規則因 %[2]s 花了 %[3]s 而觸發", reason, trigger.Name, rule.Dur(trigger.Took()))
	}
	var found []ops.Finding
	var told []*evidence.SlowCall
	isFollowed := func(c *evidence.SlowCall) bool { return c.Spent.Total() > 0 }
	anyFollowed := slices.ContainsFunc(calls, isFollowed)
	for _, c := range calls {
		if anyFollowed && !isFollowed(c) {
			continue // there are slower ones of which more is known
		}
		if slices.ContainsFunc(told, func(o *evidence.SlowCall) bool { return partOf(c, o) || partOf(o, c) }) {
			continue // one call that is timed in two places
		}
		told = append(told, c)
		f := slowFinding(t, c, c == trigger)
		if e.Trigger != nil && trigger == nil {
			f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "trigger_seconds", Value: e.Trigger.Took.Seconds(), Unit: "s", Text: notThere(e.Trigger)})
		}
		if trigger != nil && len(found) > 0 && found[0].Score > noLine {
			f.Score = min(f.Score, found[0].Score-1) // somebody looks because of the first
		}
		if !slices.ContainsFunc(found, func(o ops.Finding) bool { return o.ID() == f.ID() }) {
			found = append(found, f)
		}
		if len(found) == 3 {
			break
		}
	}
	return rule.Found(reason, found...)
}

// notThere says that the call because of which a rule fired cannot be answered for.
func notThere(c *ops.Call) ops.Text {
	return rule.Say("the rule fired on %[1]s, which took %[2]s, and that call is not in the trace: the flight recorder had forgotten it, or was read before it was marked",
		"規則因 %[1]s 花了 %[2]s 而觸發，但這個呼叫不在 trace 裡：飛行記錄器已經忘了它，或在標記之前就被讀取", c.Name, rule.Dur(c.Took))
}

func bothWays(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func slowest(calls []*evidence.SlowCall) (d time.Duration) {
	for _, c := range calls {
		d = max(d, c.Took())
	}
	return d
}

// partOf reports whether a call was a part of another.
func partOf(c, of *evidence.SlowCall) bool {
	return c.Goroutine == of.Goroutine && c.From >= of.From-slack && c.End <= of.End+slack
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
func didWait(s trace.State) ops.Text {
	switch s {
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

func roleOf(s trace.State) ops.Role {
	switch s {
	case trace.StateSync, trace.StateChan, trace.StateGC:
		return ops.RoleWait
	}
	return ops.RoleIO
}

func slowFinding(t *evidence.Trace, c *evidence.SlowCall, trigger bool) ops.Finding {
	took := c.Took()
	f := ops.Finding{Rule: "slow-call", Scenario: 6, Score: ops.Score(took.Seconds(), slowX75), Confidence: ops.Medium}
	said := rule.Say("%[1]s took %[2]s, as the service told when it ended", "%[1]s 花了 %[2]s（服務在結束時回報）", c.Name, rule.Dur(took))
	if trigger {
		said = rule.Say("%s: the rule fired on this call", "%s：規則就是因這個呼叫而觸發", said)
	}
	f.Evidence = []ops.Proof{{Artifact: ops.KindTrace, Metric: "call_seconds", Value: took.Seconds(), Unit: "s", Text: said}}
	f.Explanation = rule.Say("A stall like this is nothing on average and is felt by whoever is in it. It was in the flight recorder, or in the trace, when the service told of the call.", "這樣的停頓在平均值裡看不見，但遇上的人有感。服務回報這個呼叫時，飛行記錄器（或 trace）裡正好有它。")
	if c.Spent.Total() > 0 {
		return followed(t, c, f)
	}
	wait, own := waitOf(t, *c)
	if wait == nil {
		s := subjectOf(c)
		s.at(&f)
		f.Confidence = ops.Low
		f.Title = rule.Say("%[1]s took %[2]s without a long wait", "%[1]s 花了 %[2]s，但沒有長時間的等待", s.name, s.took)
		f.Summary = rule.Say("The call ended at %[1]s. The trace shows no single wait that explains it, and is too long for the call to be followed through it.", "呼叫在 %[1]s 結束。trace 中沒有單一等待足以解釋，而且 trace 太長，無法逐步追蹤這個呼叫。", rule.Line(s.told))
		f.Remedies = []ops.Text{rule.Say("Capture a CPU profile while such calls happen: it says what they compute.", "在這種呼叫發生時擷取 CPU profile：它會說明在運算什麼。")}
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindCPU, ops.KindTrace}}
		return f
	}
	// A trace too long to be followed knows of each place the longest wait alone.
	guess := evidence.CallWait{Stack: wait.Stack, State: wait.State, Count: 1, Total: wait.Max, From: wait.LongestFrom, To: wait.LongestFrom + wait.Max}
	if wait.State == trace.StateSync {
		inside, gave := holderOf(t, wait)
		guess.Ender = gave
		if inside != nil {
			guess.Behind = &evidence.CallWait{Stack: inside.Stack, State: inside.State, From: inside.LongestFrom, To: inside.LongestFrom + inside.Max, Total: inside.Max}
		}
	}
	if own {
		f.Confidence = ops.High
	}
	waited(t, c, &guess, &f)
	return f
}
