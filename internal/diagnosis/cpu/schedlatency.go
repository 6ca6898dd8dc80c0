package cpu

import (
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// schedulerLatency finds processes whose goroutines are ready to go on but wait
// long for a processor: everything is slow, though nothing blocks.
//
// Evidence: how long goroutines were runnable each time, by what they began with
// (the trace), how many were ready on average, and what kept the processors busy
// (the CPU profile). Without a trace the runtime's histogram and the number of
// runnable goroutines stand in, with less confidence.
//
// Go lets a goroutine run for 10 ms when others wait: one such slice as the
// average wait is a warning, two are critical. It is a notice where only those
// wait that also compute, such as the workers of a batch job, or where the
// processors are not full: then something outside takes the CPU, and no line of
// this program is to blame.
//
// The percentiles over all goroutines are not used: the runtime's own, which
// yield a hundred thousand times a second, thin them out.
//
// It is usually the effect of what keeps the processors busy: a hot path, the
// collector, a quota. Or the program stops its own world, over and over: the trace
// says who asked for each stop, and for how much of the time nothing ran.
var schedulerLatency = rule.Rule{
	ID:    "scheduler-latency",
	Name:  rule.Say("goroutines wait for a processor", "goroutine 等待 CPU"),
	Judge: judgeSchedulerLatency,
}

// waitX75 is the average wait for a processor at which the score is 75: two of
// Go's time slices.
const waitX75 = 20 * time.Millisecond

// queue is who waits for processors, as far as that is known.
type queue struct {
	wait, longest time.Duration // each time
	others        bool          // somebody else than those who compute
	artifact      ops.Kind
	confidence    ops.Confidence
	// group that waits most in all; "" = unknown.
	group string
}

func judgeSchedulerLatency(e *evidence.Evidence) rule.Result {
	l := loadOf(e)
	q, ok := queueOf(e, l)
	if !ok {
		return rule.Needs(e, ops.KindTrace)
	}
	if f, ok := stopFinding(e); ok {
		return rule.Found(rule.Say("the program stops its own world", "程式一再讓自己全面停頓（stop-the-world）"), f)
	}
	reason := rule.Say("a goroutine that was ready waited %[1]s for a processor on average, %[2]s at most", "可執行的 goroutine 平均等待 CPU %[1]s，最長 %[2]s", rule.Dur(q.wait), rule.Dur(q.longest))
	score := ops.Score(float64(q.wait), float64(waitX75))
	ours := l.Use() >= full && (l.queues() || l.ofLimit() >= full)
	switch {
	case !ours || !q.others:
		score = min(score, 49)
	case q.artifact == ops.KindGoroutineDump: // one moment
		score = min(score, 74)
	}
	if ops.SeverityOf(score) == "" {
		return rule.OK(reason)
	}
	return rule.Found(reason, latencyFinding(e, l, q, ours, score))
}

// queueOf measures the waits of those who are not themselves what keeps the
// processors busy; a server's goroutines are somebody's requests even if they are.
func queueOf(e *evidence.Evidence, l load) (queue, bool) {
	if e.Trace != nil && l.Queue >= 0 {
		return tracedQueue(e.Trace), true
	}
	if h, ok := histogram(e.Runtime, "/sched/latencies:seconds"); ok && l.Ready >= 0 {
		p99 := time.Duration(h.Quantile(0.99) * float64(time.Second))
		// The average of those who wait at all is not known; a fifth of the 99th
		// percentile is what it is where waits fall off exponentially.
		return queue{wait: p99 / 5, longest: p99, others: true, artifact: ops.KindRuntime, confidence: ops.Medium}, true
	}
	if l.Ready > 0 && l.procs > 0 && e.Dump != nil {
		// Each waits for a slice of those before it.
		wait := time.Duration(l.Ready / float64(l.procs) * float64(10*time.Millisecond) / 2)
		return queue{wait: wait, longest: 2 * wait, others: true, artifact: ops.KindGoroutineDump, confidence: ops.Low}, true
	}
	return queue{}, false
}

func histogram(r *evidence.Runtime, name string) (evidence.Histogram, bool) {
	if r == nil {
		return evidence.Histogram{}, false
	}
	h, ok := r.Histograms[name]
	return h, ok && len(h.Counts) > 0
}

func tracedQueue(t *evidence.Trace) queue {
	var computes *trace.Group
	for i := range t.Groups {
		if g := &t.Groups[i]; !background(g.Func) && (computes == nil || ran(g) > ran(computes)) {
			computes = g
		}
	}
	var all, others groupWaits
	for i := range t.Groups {
		g := &t.Groups[i]
		if background(g.Func) {
			continue
		}
		all.add(g)
		if g != computes || hasPrefix(g.Func, serverRoots) {
			others.add(g)
		}
	}
	q := queue{artifact: ops.KindTrace, confidence: ops.High, others: true}
	w := others
	// A tenth of a goroutine that waits is nobody.
	if others.runnable < t.Duration/10 {
		q.others, w = false, all
	}
	q.wait, q.longest, q.group = w.runnable/time.Duration(max(1, w.starts)), w.longest, w.most
	return q
}

// groupWaits sums up how long groups of goroutines waited for processors.
type groupWaits struct {
	runnable, longest, mostTime time.Duration
	starts                      int64
	most                        string
}

func (w *groupWaits) add(g *trace.Group) {
	runnable := g.Times[trace.StateRunnable]
	w.runnable += runnable
	w.starts += max(g.Starts, g.Goroutines) // some may never have had their turn
	w.longest = max(w.longest, g.MaxLatency)
	if runnable > w.mostTime {
		w.most, w.mostTime = g.Func, runnable
	}
}

func latencyFinding(e *evidence.Evidence, l load, q queue, ours bool, score int) ops.Finding {
	f := ops.Finding{
		Rule: "scheduler-latency", Score: score, Confidence: q.confidence,
		Title: rule.Say("goroutines wait %s for a processor each time that they are ready", "goroutine 每次可執行時要等待 CPU %s", rule.Dur(q.wait)),
		Summary: rule.Say("A goroutine that is ready to go on waits %[1]s for a processor on average, and up to %[2]s.%[3]s",
			"可以繼續執行的 goroutine 平均等待 CPU %[1]s，最長 %[2]s。%[3]s", rule.Dur(q.wait), rule.Dur(q.longest), whoQueues(q)),
		Explanation: latencyExplanation(ours),
		Remedies:    latencyRemedies(ours),
		Evidence: []ops.Proof{{Artifact: q.artifact, Metric: "runnable_wait_seconds", Value: q.wait.Seconds(), Unit: "s",
			Text: rule.Say("each wait for a processor took %[1]s on average, the longest %[2]s", "每次等待 CPU 平均 %[1]s，最長 %[2]s", rule.Dur(q.wait), rule.Dur(q.longest)), Moment: longestQueued(e, q.longest)}},
	}
	if l.Snapshot {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: q.artifact, Metric: "runnable_goroutines", Value: l.Ready, Unit: "goroutines",
			Text: rule.Say("in a snapshot, %.0f goroutines more than there are processors could have run", "快照中可以執行的 goroutine 比處理器多 %.0f 個", l.Ready)})
	} else if l.Ready >= 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: q.artifact, Metric: "runnable_goroutines", Value: l.Ready, Unit: "goroutines",
			Text: rule.Say("%.1f goroutines were ready and waited at any time", "任何時刻平均有 %.1f 個 goroutine 可執行而在等待", l.Ready)})
	}
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	f.Where = busiest(e)
	if !q.others {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: q.artifact, Metric: "others_waiting", Unit: "goroutines",
			Text: rule.Say("only the goroutines that compute wait for one another: nobody else was seen to wait", "只有負責計算的 goroutine 彼此等待，沒有看到其他工作在等")})
	}
	if q.artifact == ops.KindGoroutineDump {
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindCPU}}
	}
	doubts(&f, e, l)
	return f
}

func latencyExplanation(ours bool) ops.Text {
	if !ours {
		return rule.Say("This program does not fill its processors by itself: its threads are ready, but the machine gives the CPU to something else (other processes, other pods, the host), or the quota stops them.",
			"這個程式自己並沒有用滿處理器：它的執行緒已可執行，但機器把 CPU 給了別人（其他行程、其他 Pod 或宿主機），或被配額暫停。")
	}
	return rule.Say("There is more to compute than there are processors (GOMAXPROCS). Whoever is woken joins a queue behind goroutines that may each run for 10 ms: every step of a request, however short, pays that wait again, and so do timers and heartbeats.",
		"要計算的工作比處理器（GOMAXPROCS）多。被喚醒的 goroutine 要排在每個最多可跑 10 毫秒的其他 goroutine 後面：請求的每一步不論多短都要重新等一次，計時器與心跳也一樣。")
}

func latencyRemedies(ours bool) []ops.Text {
	if !ours {
		return []ops.Text{
			rule.Say("Look at the machine, not at this program: who else uses its CPU (`top`, the node's dashboards), and does this pod request as much CPU as it needs?", "先看機器而不是這個程式：還有誰在用它的 CPU（`top`、節點儀表板）？這個 Pod 的 CPU request 是否足夠？"),
			rule.Say("Move the neighbours, or this pod, to another node.", "把鄰居或這個 Pod 移到其他節點。"),
		}
	}
	return []ops.Text{
		rule.Say("Look at what keeps the processors busy (the first place): making that cheaper, or less frequent, makes everything else quicker.", "先看是什麼佔住處理器（第一個位置）：讓它更省或更少執行，其他工作就會變快。"),
		rule.Say("Bound how many goroutines compute at once (a semaphore of GOMAXPROCS − 1, and of 1 at least), so that short work gets a processor at once.", "限制同時計算的 goroutine 數量（GOMAXPROCS − 1、至少為 1 的 semaphore），讓短工作能立刻取得處理器。"),
		rule.Say("Move batch work to a process of its own, or add pods.", "把批次工作移到獨立的行程，或增加 Pod。"),
	}
}

func whoQueues(q queue) ops.Text {
	if q.group == "" {
		return ops.Text{}
	}
	return rule.Say(" Most of that time is spent by goroutines of `%s`.", "其中等最久的是 `%s` 的 goroutine。", q.group)
}

// busiest are the places that keep the processors busy, most first: at least one
// place, if only an empty one.
func busiest(e *evidence.Evidence) (out []ops.Place) {
	if typ := e.CPU.Type("cpu"); typ >= 0 {
		hash := hashCallers(e, typ)
		if len(hash) > 0 && e.CPU.Sum(typ, func(s evidence.Stack) bool { at, _ := hashOf(s); return at >= 0 })*2 > e.CPU.Total(typ) {
			return []ops.Place{rule.At(ops.RoleCall, hash[0].frame)}
		}
		all := spots(e, typ)
		for _, sp := range all[:min(3, len(all))] {
			if len(out) == 0 || 5*sp.value >= e.CPU.Total(typ) {
				out = append(out, rule.At(ops.RoleCall, sp.frame))
			}
		}
	}
	if len(out) == 0 && e.Trace != nil {
		for _, s := range e.Trace.Samples {
			if f := s.Stack.User(); f != nil {
				return []ops.Place{rule.At(ops.RoleCall, f)}
			}
		}
	}
	if len(out) == 0 && e.Dump != nil {
		if f := computing(e.Dump); f != nil {
			out = []ops.Place{rule.At(ops.RoleCall, f)}
		}
	}
	if len(out) == 0 {
		out = []ops.Place{{Role: ops.RoleCall}}
	}
	return out
}

// computing is where most goroutines of a dump are that run or could.
func computing(d *evidence.Goroutines) *evidence.Frame {
	lines := map[*evidence.Frame]int64{}
	for i := range d.Groups {
		g := &d.Groups[i]
		if f := g.Stack.User(); f != nil && (g.State == goroutines.Runnable || g.State == goroutines.Running) {
			lines[f] += int64(g.Count)
		}
	}
	return most(lines)
}
