package cpu

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// timerStorm finds timers, tickers and sleeps that fire so often that waking
// goroutines is what the processors do: polling instead of waiting.
//
// Evidence: the share of CPU time in the runtime's timers, waits that a timer
// ended, per second and by line (the trace), functions of AfterFunc that it started,
// and how much of what the process can get is in use.
//
// A wake-up costs some microseconds, with a thread that must be woken first tens
// of them. Below 5,000 a second (a few per cent of a core) nothing is said. The
// score is of the share of what the process can get that goes into timers and
// into scheduling what they wake, 75 at 40 %, or of what that many wake-ups cost
// a process that the machine does not give its CPU; it stays a warning while
// nobody waits. An idle process spends most of its little CPU time in timers: that is
// no storm.
var timerStorm = rule.Rule{
	ID:    "timer-storm",
	Name:  rule.Say("timers keep the processors busy", "計時器佔住處理器"),
	Judge: judgeTimerStorm,
}

const (
	timerX75 = 0.4
	// leastWakes per second are never too many.
	leastWakes = 5_000
	// perWake is what a wake-up costs where processors are free: 1.3 µs measured with
	// 500 tickers at 60 Hz, 0.5 µs with a thousand times as many, which share the
	// scheduler's rounds. wakesX75 is how many cores that may make together: three
	// quarters of one are lost in any process, however many it may use.
	perWake  = 1300 * time.Nanosecond
	wakesX75 = 0.75
)

// alarm is a line that timers wake.
type alarm struct {
	frame *evidence.Frame
	wakes int64
	slept time.Duration
	cpu   int64 // nanoseconds
	sleep bool  // time.Sleep
	// starts: they are of AfterFunc, and start functions.
	starts bool
}

func judgeTimerStorm(e *evidence.Evidence) rule.Result {
	typ := e.CPU.Type("cpu")
	rate, alarms, ok := wakeups(e)
	if !ok && typ < 0 {
		return rule.Needs(e, ops.KindTrace, ops.KindCPU)
	}
	l := loadOf(e)
	share, all := 0.0, 0.0
	if typ >= 0 && l.Total > 0 {
		sums := byPart(e.CPU, typ)
		share = float64(sums[partTimer]) / float64(l.Total)
		count := int64(0)
		if ok {
			count = int64(rate * e.Trace.Duration.Seconds())
		}
		all = float64(l.withScheduling(sums[partTimer], sums[partSched], count)) / float64(l.Total)
	} else {
		share = min(1, rate*perWake.Seconds()/float64(max(1, l.procs)))
		all = share
	}
	reason := rule.Say("%s of the CPU time went into timers", "CPU 時間有 %s 花在計時器", rule.Pct(share))
	if ok {
		reason = rule.Say("timers woke goroutines %[1]s times a second; %[2]s of the CPU time went into timers", "計時器每秒喚醒 goroutine %[1]s 次；CPU 時間有 %[2]s 花在計時器", rule.Count(int64(rate)), rule.Pct(share))
	}
	score := max(ops.Score(all*l.Use(), timerX75), ops.Score(max(0, rate)*perWake.Seconds(), wakesX75))
	if !l.Others() {
		score = min(score, 74)
	}
	if ok && rate < leastWakes || share < 0.1 || ops.SeverityOf(score) == "" {
		return rule.OK(reason)
	}
	for _, a := range timerCPU(e, typ) {
		if at := slices.IndexFunc(alarms, func(b alarm) bool { return b.frame == a.frame }); at >= 0 {
			alarms[at].cpu += a.cpu
		} else if !ok {
			alarms = append(alarms, a)
		}
	}
	if len(alarms) == 0 {
		alarms = []alarm{{}}
	}
	return rule.Found(reason, timerFinding(e, l, alarms, rate, all, score, ok))
}

// wakeups are the waits that timers ended, per second and by line, most first.
// ok is false if no trace tells.
func wakeups(e *evidence.Evidence) (perSecond float64, out []alarm, ok bool) {
	t := e.Trace
	if t == nil || t.Duration < time.Second/2 {
		return 0, nil, false
	}
	sum := int64(0)
	for i := range t.Wakes {
		w := &t.Wakes[i]
		f := w.Waiter.User()
		if len(w.Waker) > 0 || f == nil || w.Waiter.Watched() || networkWait(w.Waiter) {
			continue
		}
		sum += w.Count
		if f.Origin == evidence.OwnCode || f.Origin == evidence.LibraryCode {
			out = addAlarm(out, alarm{frame: f, wakes: w.Count, slept: w.Total, sleep: w.Waiter.Has("time.Sleep")})
		}
	}
	for i := range t.Creations {
		c := &t.Creations[i]
		// What the runtime starts of the program's own are functions of AfterFunc.
		if f := afterFunc(e, c); f != nil {
			sum += c.Count
			out = addAlarm(out, alarm{frame: f, wakes: c.Count, starts: true})
		}
	}
	sortAlarms(out)
	return float64(sum) / t.Duration.Seconds(), out, true
}

// afterFunc is the line that sets the timers which start a function, by what they
// allocate; nil if nothing says so.
func afterFunc(e *evidence.Evidence, c *evidence.Creation) *evidence.Frame {
	if e.Allocs == nil || c.Start == "" || c.Count < leastWakes || c.Stack.Index(func(f *evidence.Frame) bool { return f.Origin != evidence.RuntimeCode && f.Package != "time" }) >= 0 {
		return nil
	}
	for i := range e.Allocs.Rows {
		s := e.Allocs.Rows[i].Stack
		at := s.Outermost(evidence.Named("time.AfterFunc"))
		if f := s.UserAbove(at); at >= 0 && f != nil && f.Origin == evidence.OwnCode && outer(f.Function) == outer(c.Start) {
			return f
		}
	}
	return nil
}

// networkWait tells waits that the network ends, not a timer.
func networkWait(s evidence.Stack) bool {
	return s.Has("internal/poll.", "runtime.netpollblock") || len(s) == 0
}

func addAlarm(all []alarm, a alarm) []alarm {
	for i := range all {
		if all[i].frame == a.frame {
			all[i].wakes, all[i].slept, all[i].cpu, all[i].sleep = all[i].wakes+a.wakes, all[i].slept+a.slept, all[i].cpu+a.cpu, all[i].sleep || a.sleep
			return all
		}
	}
	return append(all, a)
}

func sortAlarms(all []alarm) {
	slices.SortStableFunc(all, func(a, b alarm) int {
		return cmp.Or(cmp.Compare(b.wakes, a.wakes), cmp.Compare(b.cpu, a.cpu), cmp.Compare(a.frame.Function, b.frame.Function), cmp.Compare(a.frame.Line, b.frame.Line))
	})
}

// timerCPU are the program's lines that set timers or sleep, by CPU time.
func timerCPU(e *evidence.Evidence, typ int) (out []alarm) {
	for _, p := range e.CPU.By(typ, func(s evidence.Stack) *evidence.Frame {
		if partOf(s) != partTimer {
			return nil
		}
		return s.User()
	}) {
		if p.Frame.Origin == evidence.OwnCode {
			out = append(out, alarm{frame: p.Frame, cpu: p.Value})
		}
	}
	return out
}

func timerFinding(e *evidence.Evidence, l load, alarms []alarm, rate, share float64, score int, traced bool) ops.Finding {
	top := alarms[0]
	f := ops.Finding{
		Rule: "timer-storm", Score: score, Confidence: ops.High,
		Title:   rule.Say("timers take %s of the CPU", "計時器佔 CPU %s", rule.Pct(share)),
		Summary: rule.Say("%[1]s of the CPU time goes into timers and into scheduling what they wake.%[2]s", "CPU 時間有 %[1]s 花在計時器與排程被它們喚醒的 goroutine。%[2]s", rule.Pct(share), wakesOf(top, rate, traced)),
		Explanation: rule.Say("Each tick or sleep that ends takes a timer from a heap, makes a goroutine ready and finds it a processor, a microsecond at least, to find in most cases that there is nothing to do. With many goroutines, or short periods, that is all that the process does.",
			"每次 tick 或 sleep 結束，都要從 heap 取出計時器、把 goroutine 設為可執行並找到處理器，至少 1 微秒，而多半發現沒事可做。goroutine 很多或週期很短時，行程就只在做這件事。"),
		Remedies: []ops.Text{
			rule.Say("Wait instead of looking: a channel, a condition variable or a context tells when there is something to do.", "改成等待而不是反覆查看：用 channel、條件變數或 context 通知有事可做。"),
			rule.Say("One ticker for all: a single loop that walks over a list, instead of a ticker per object.", "共用一個 ticker：由單一迴圈走訪清單，而不是每個物件一個 ticker。"),
			rule.Say("Make the period longer: ten times as long costs a tenth.", "拉長週期：十倍的週期只要十分之一的成本。"),
		},
	}
	if top.frame != nil {
		f.Title = rule.Say("timers take %[1]s of the CPU: `%[2]s` is woken all the time (%[3]s)", "計時器佔 CPU %[1]s：`%[2]s` 不斷被喚醒（%[3]s）", rule.Pct(share), rule.Short(top.frame), rule.Line(top.frame))
		if top.starts {
			f.Title = rule.Say("timers take %[1]s of the CPU: `%[2]s` sets them all the time (%[3]s)", "計時器佔 CPU %[1]s：`%[2]s` 不斷設定計時器（%[3]s）", rule.Pct(share), rule.Short(top.frame), rule.Line(top.frame))
			f.Remedies = []ops.Text{rule.Say("Call what is due at once directly, or hand it to a few workers by a channel; keep one timer for what is due next.", "要立刻做的直接呼叫，或用 channel 交給少數 worker；只為下一個到期的保留一個 timer。")}
		}
		for i, a := range alarms[:min(3, len(alarms))] {
			if i == 0 || 5*a.wakes >= top.wakes && traced {
				f.Where = append(f.Where, rule.At(ops.RoleWait, a.frame))
			}
		}
	} else {
		f.Where = []ops.Place{{Role: ops.RoleWait}}
	}
	if e.CPU != nil {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindCPU, Metric: "timer_cpu_share", Value: share, Unit: "share", Share: min(1, share),
			Text: rule.Say("%s of the CPU time is in the runtime's timers and in scheduling what they wake", "CPU 時間有 %s 在 runtime 的計時器與相關排程", rule.Pct(share))})
	}
	if traced {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "timer_wakes_per_second", Value: rate, Unit: "1/s",
			Text: rule.Say("timers woke goroutines %s times a second", "計時器每秒喚醒 goroutine %s 次", rule.Count(int64(rate)))})
	} else {
		f.Confidence = ops.Medium
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace}}
	}
	f.Evidence = append(f.Evidence, timersLive(e)...)
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	doubts(&f, e, l)
	return f
}

func wakesOf(top alarm, rate float64, traced bool) ops.Text {
	if !traced {
		return ops.Text{}
	}
	if top.frame == nil || top.wakes == 0 {
		return rule.Say(" They fire %s times a second.", "每秒觸發 %s 次。", rule.Count(int64(rate)))
	}
	if top.starts {
		return rule.Say(" They fire %[1]s times a second, most to start a function that `%[2]s` hands to AfterFunc, each in a goroutine of its own.", "每秒觸發 %[1]s 次，多數是啟動 `%[2]s` 交給 AfterFunc 的函式，每次都開一個 goroutine。", rule.Count(int64(rate)), rule.Short(top.frame))
	}
	return rule.Say(" They fire %[1]s times a second, most for `%[2]s`, which sleeps %[3]s each time.", "每秒觸發 %[1]s 次，多數是 `%[2]s`，每次只睡 %[3]s。",
		rule.Count(int64(rate)), rule.Short(top.frame), rule.Dur(top.slept/time.Duration(top.wakes)))
}

// timersLive says how many goroutines sleep at once.
func timersLive(e *evidence.Evidence) []ops.Proof {
	if e.Trace == nil {
		return nil
	}
	var asleep time.Duration
	for i := range e.Trace.Groups {
		asleep += e.Trace.Groups[i].Times[trace.StateSleep]
	}
	n := float64(asleep) / float64(max(1, e.Trace.Duration))
	if n < 10 {
		return nil
	}
	return []ops.Proof{{Artifact: ops.KindTrace, Metric: "sleeping_goroutines", Value: n, Unit: "goroutines",
		Text: rule.Say("%.0f goroutines were in time.Sleep at any time", "任何時刻約有 %.0f 個 goroutine 在 time.Sleep", n)}}
}
