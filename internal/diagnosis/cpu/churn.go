package cpu

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// goroutineChurn finds go statements that run so often, for so little, that
// starting, scheduling and ending goroutines costs more than what they do.
//
// Evidence: how many goroutines the program's own code starts per second, where
// (the trace), and the share of CPU time in starting and ending them.
//
// To start, schedule and end a goroutine costs about a microsecond: 10,000 a
// second are 1 % of a core, which is what a server with a goroutine per request
// does at its best. Below that the rule says nothing. The score is of the share
// of what the process can get, 75 at 30 %; it stays a warning while nobody waits.
//
// Not to be confused with goroutines that pile up: those that churn are gone at
// once (unbounded-concurrency, goroutine-leak).
var goroutineChurn = rule.Rule{
	ID:    "goroutine-churn",
	Name:  rule.Say("goroutines are started for next to nothing", "為極小的工作不斷啟動 goroutine"),
	Judge: judgeChurn,
}

const (
	churnX75 = 0.3
	// leastChurn are goroutines per second that are never too many.
	leastChurn = 10_000
	// perGoroutine is what one costs in all: 0.3 µs to start, as much to end, and the
	// scheduler's part in between (measured with empty goroutines on Go 1.22–1.26).
	perGoroutine = time.Microsecond
)

// birthplace is where goroutines are started.
type birthplace struct {
	frame *evidence.Frame
	start string
	count int64
	cpu   int64 // nanoseconds
}

func judgeChurn(e *evidence.Evidence) rule.Result {
	rate, places, ok := births(e)
	typ := e.CPU.Type("cpu")
	if !ok && typ < 0 {
		return rule.Needs(e, ops.KindTrace)
	}
	l := loadOf(e)
	if !ok {
		rate = -1
		places = spawnPlaces(e, typ)
	}
	created := int64(0)
	for _, p := range places {
		created += p.count
	}
	share, of := spawnShare(e, typ, l, rate, created)
	reason := rule.Say("%[1]s of the CPU time went into starting and ending goroutines", "CPU 時間有 %[1]s 用於啟動與結束 goroutine", rule.Pct(share))
	if ok {
		reason = rule.Say("%[1]s goroutines per second are started by the program's own code", "程式自己的程式碼每秒啟動 %[1]s 個 goroutine", rule.Count(int64(rate)))
	}
	score := ops.Score(of, churnX75)
	if !l.Others() {
		score = min(score, 74)
	}
	if ok && rate < leastChurn || len(places) == 0 || ops.SeverityOf(score) == "" {
		return rule.OK(reason)
	}
	return rule.Found(reason, churnFinding(e, l, places, rate, share, score))
}

// spawnShare is the share of CPU time that goes into starting and ending
// goroutines, and what that is of what the process can get: by the profile, or by the
// rate where that says more, as on a machine that others fill. Without a profile it is
// estimated from the rate.
func spawnShare(e *evidence.Evidence, typ int, l load, rate float64, created int64) (share, of float64) {
	if typ >= 0 && l.Total > 0 {
		sums := byPart(e.CPU, typ)
		cost := l.withScheduling(sums[partSpawn], sums[partSched], created)
		share = float64(cost) / float64(l.Total)
		return share, max(share*l.Use(), min(1, max(0, rate)*perGoroutine.Seconds()/float64(max(1, l.processors()))))
	}
	share = min(1, max(0, rate)*perGoroutine.Seconds()/float64(max(1, l.procs)))
	return share, share
}

// births is how many goroutines the program's own code starts per second, and
// where, most first. ok is false if no trace tells.
func births(e *evidence.Evidence) (perSecond float64, out []birthplace, ok bool) {
	t := e.Trace
	if t == nil || t.Duration < time.Second/2 {
		return 0, nil, false
	}
	sum := int64(0)
	for i := range t.Creations {
		c := &t.Creations[i]
		f := c.Stack.User()
		if f == nil || f.Origin != evidence.OwnCode {
			continue
		}
		sum += c.Count
		at := slices.IndexFunc(out, func(b birthplace) bool { return b.frame == f })
		if at < 0 {
			at = len(out)
			out = append(out, birthplace{frame: f, start: c.Start})
		}
		out[at].count += c.Count
	}
	sortBirths(out)
	return float64(sum) / t.Duration.Seconds(), out, true
}

// spawnPlaces are the program's go statements by the CPU time that starting takes.
func spawnPlaces(e *evidence.Evidence, typ int) (out []birthplace) {
	for _, p := range e.CPU.By(typ, func(s evidence.Stack) *evidence.Frame {
		if partOf(s) != partSpawn || !s.Has("runtime.newproc") {
			return nil
		}
		return s.User()
	}) {
		if p.Frame.Origin == evidence.OwnCode {
			out = append(out, birthplace{frame: p.Frame, cpu: p.Value})
		}
	}
	sortBirths(out)
	return out
}

func sortBirths(out []birthplace) {
	slices.SortStableFunc(out, func(a, b birthplace) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(b.cpu, a.cpu), cmp.Compare(a.frame.Function, b.frame.Function), cmp.Compare(a.frame.Line, b.frame.Line))
	})
}

func churnFinding(e *evidence.Evidence, l load, places []birthplace, rate, share float64, score int) ops.Finding {
	top := places[0]
	f := ops.Finding{
		Rule: "goroutine-churn", Score: score, Confidence: ops.High,
		Title: rule.Say("`%[1]s` starts goroutines for next to nothing (%[2]s)", "`%[1]s` 為極小的工作不斷啟動 goroutine（%[2]s）", rule.Short(top.frame), rule.Line(top.frame)),
		Summary: rule.Say("%[1]s of the CPU time goes into starting, scheduling and ending goroutines.%[2]s", "CPU 時間有 %[1]s 花在啟動、排程與結束 goroutine。%[2]s",
			rule.Pct(share), perSecond(rate)),
		Explanation: rule.Say("A goroutine is cheap, not free: a stack, a place in a run queue, often the waking of a thread, and the same again at its end, together about a microsecond. Where each does less than some ten microseconds of work, most of the time goes into the goroutines themselves, and the processors fight for the queues.",
			"goroutine 很便宜但不是免費：要有堆疊、排入執行佇列、常要喚醒執行緒，結束時再來一次，合計約 1 微秒。如果每個的工作不到十幾微秒，時間就大多花在 goroutine 本身，處理器還要互相搶佇列。"),
		Remedies: []ops.Text{
			rule.Say("Do the work in place, without `go`, where it takes microseconds.", "只要幾微秒的工作，直接在原地執行，不要用 `go`。"),
			rule.Say("Divide it into as many parts as there are processors (GOMAXPROCS), one goroutine each, instead of one per element.", "依處理器數（GOMAXPROCS）切成幾份，每份一個 goroutine，而不是每個元素一個。"),
			rule.Say("Or start workers once and hand them batches through a channel.", "或啟動固定數量的 worker，透過 channel 一次交付一批。"),
		},
		Evidence: []ops.Proof{},
	}
	for i, p := range places[:min(3, len(places))] {
		if i == 0 || 5*p.count >= top.count && 5*p.cpu >= top.cpu {
			f.Where = append(f.Where, rule.At(ops.RoleCreate, p.frame))
		}
	}
	if rate >= 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "goroutines_created_per_second", Value: rate, Unit: "1/s",
			Text: rule.Say("%[1]s goroutines per second are started by the program's own code, most of them at %[2]s", "程式自己的程式碼每秒啟動 %[1]s 個 goroutine，大多在 %[2]s", rule.Count(int64(rate)), rule.Line(top.frame))})
	}
	if e.CPU != nil {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindCPU, Metric: "spawn_cpu_share", Value: share, Unit: "share", Share: share,
			Text: rule.Say("%s of the CPU time is in the runtime's functions that start, schedule and end goroutines", "CPU 時間有 %s 在 runtime 啟動、排程與結束 goroutine 的函式裡", rule.Pct(share))})
	} else {
		f.Confidence = ops.Medium
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindCPU, Metric: "samples", Unit: "samples",
			Text: rule.Say("without a CPU profile the cost is estimated at a microsecond for each", "沒有 CPU profile，成本以每個 1 微秒估計")})
	}
	if rate < 0 {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace}}
	}
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	doubts(&f, e, l)
	return f
}

func perSecond(rate float64) ops.Text {
	if rate < 0 {
		return ops.Text{}
	}
	return rule.Say(" The program's own code starts %s of them per second.", "程式自己的程式碼每秒啟動 %s 個。", rule.Count(int64(rate)))
}
