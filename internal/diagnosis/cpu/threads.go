package cpu

import (
	"cmp"
	"slices"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// threadExplosion finds processes with far more threads than they can run.
//
// Evidence: the number of threads over the window, and what keeps them:
// goroutines in blocking system calls or C, or locked to their thread (only a
// dump with states says that).
//
// A Go process needs GOMAXPROCS threads and a dozen more, and keeps every thread
// that it ever needed at once. The score is of those beyond, 75 at 400: container
// platforms commonly allow a pod 1,024 processes and threads, each takes a stack
// and kernel memory of at least 16 KB, and Go ends the program at 10,000.
//
// A goroutine that is locked to its thread keeps it wherever it waits, so that the line
// to change is the one that starts so many of them, where the dump says it.
//
// It is a notice where nothing keeps them any more and they are no more becoming:
// a burst in the past. Threads alone do harm slowly; what the goroutines on them wait for is told by
// syscall-blocked.
var threadExplosion = rule.Rule{
	ID:    "thread-explosion",
	Name:  rule.Say("far more threads than processors", "執行緒遠多於處理器"),
	Judge: judgeThreads,
}

const (
	threadsX75 = 400
	// ownThreads are those that any Go process may have beside GOMAXPROCS: sysmon,
	// template thread, signals, profilers, the collector's, a few system calls.
	ownThreads = 16
)

// threadHolder is who keeps threads.
type threadHolder struct {
	frame  *evidence.Frame
	called *evidence.Frame
	count  int
	locked bool // to their threads
	guess  bool // only their number fits
	// by is the program's line that started them, if they are locked; nil = not known.
	by *evidence.Frame
}

func judgeThreads(e *evidence.Evidence) rule.Result {
	threads, ok := e.Runtime.Max("ops/threads:threads")
	artifact := ops.KindRuntime
	holders := threadHolders(e)
	if !ok {
		// Each goroutine in a system call has a thread.
		if e.Goroutines == nil && e.Dump == nil {
			return rule.Needs(e, ops.KindRuntime, ops.KindGoroutine)
		}
		artifact = ops.KindGoroutine
		for _, h := range holders {
			if !h.guess {
				threads += float64(h.count)
			}
		}
		threads += float64(max(1, e.Procs()) + ownThreads)
	}
	beyond := threads - float64(max(1, e.Procs())+ownThreads)
	reason := rule.Say("%[1]s threads for %[2]s", "%[2]s、%[1]s 個執行緒", rule.Count(int64(threads)), processors(e.Procs()))
	score := ops.Score(beyond, threadsX75)
	if ops.SeverityOf(score) == "" {
		return rule.OK(reason)
	}
	holders = withGuess(e, holders, int(beyond))
	slope, _ := e.Runtime.Slope("ops/threads:threads")
	if len(holders) == 0 && slope < 1 {
		score = min(score, 49)
	}
	f := ops.Finding{
		Rule: "thread-explosion", Score: score, Confidence: ops.High,
		Title:   rule.Say("the process has %s threads", "行程有 %s 個執行緒", rule.Count(int64(threads))),
		Summary: rule.Say("%[1]s threads for %[2]s.%[3]s", "%[2]s卻有 %[1]s 個執行緒。%[3]s", rule.Count(int64(threads)), processors(e.Procs()), whoHolds(holders)),
		Explanation: rule.Say("A goroutine in a blocking system call or a C function, or one that called runtime.LockOSThread, keeps a thread for itself, and Go starts another one for those that can run. Threads are never given back. Each costs kernel memory and counts towards the pod's limit of processes; at 10,000 Go ends the program.",
			"停在阻塞式系統呼叫或 C 函式裡的 goroutine，或呼叫過 runtime.LockOSThread 的 goroutine，會獨佔一個執行緒，Go 只好為其他可執行的再開一個。執行緒不會歸還。每個都佔用核心記憶體並計入 Pod 的行程數上限；到 10,000 個時 Go 會終止程式。"),
		Remedies: []ops.Text{
			rule.Say("Bound how many goroutines may be in such calls at once (a semaphore).", "限制同時進行這類呼叫的 goroutine 數量（semaphore）。"),
			rule.Say("Open files, FIFOs and devices non-blocking where they can be, so that Go waits without a thread; replace C or cgo name resolution (GODEBUG=netdns=go).", "能以非阻塞方式開啟的檔案、FIFO 與裝置就用非阻塞，讓 Go 不佔執行緒等待；避免透過 C 解析名稱（GODEBUG=netdns=go）。"),
			rule.Say("Call runtime.LockOSThread only where a C library demands it, and unlock: one such goroutine that serves the others through a channel is enough.", "只有 C 函式庫要求時才呼叫 runtime.LockOSThread，並記得解除：用一個這樣的 goroutine 透過 channel 服務其他人就夠了。"),
		},
		Evidence: []ops.Proof{{Artifact: artifact, Metric: "threads", Value: threads, Unit: "threads", Text: rule.Say("%s threads", "%s 個執行緒", rule.Count(int64(threads)))}},
	}
	threadPlaces(&f, holders)
	if slope >= 1 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "threads_per_second", Value: slope, Unit: "1/s", Text: rule.Say("%.1f more each second", "每秒增加 %.1f 個", slope)})
	}
	if artifact != ops.KindRuntime {
		f.Confidence = ops.Medium
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "threads", Unit: "threads",
			Text: rule.Say("the number of threads was not recorded: it is estimated from the goroutines that need one", "沒有記錄執行緒數量：由需要執行緒的 goroutine 估計")})
	}
	return rule.Found(reason, f)
}

func threadPlaces(f *ops.Finding, holders []threadHolder) {
	if len(holders) == 0 {
		f.Where = []ops.Place{{Role: ops.RoleCall}}
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "goroutines_on_threads", Unit: "goroutines",
			Text: rule.Say("nothing keeps them now: Go does not give back threads that a burst of system calls once needed", "目前沒有東西佔住它們：一陣系統呼叫曾需要的執行緒，Go 不會歸還")})
		return
	}
	top := holders[0]
	for i, h := range holders[:min(3, len(holders))] {
		if i > 0 && 5*h.count < top.count {
			break
		}
		if h.by != nil {
			f.Where = append(f.Where, rule.At(ops.RoleCreate, h.by))
		}
		f.Where = append(f.Where, rule.At(ops.RoleCall, h.frame))
		artifact, text := ops.KindGoroutine, rule.Say("%[1]s goroutines are in `%[2]s`, called at %[3]s", "%[1]s 個 goroutine 在 `%[2]s` 中，呼叫位置為 %[3]s", rule.Count(int64(h.count)), rule.Short(h.called), rule.Line(h.frame))
		switch {
		case h.locked:
			artifact, text = ops.KindGoroutineDump, rule.Say("%[1]s goroutines at %[2]s are locked to their threads", "%[2]s 的 %[1]s 個 goroutine 鎖定在自己的執行緒上", rule.Count(int64(h.count)), rule.Line(h.frame))
		case h.guess:
			f.Confidence = ops.Low
			text = rule.Say("%[1]s goroutines wait at %[2]s: about as many as there are threads too many", "%[1]s 個 goroutine 停在 %[2]s：與多出的執行緒數量相近", rule.Count(int64(h.count)), rule.Line(h.frame))
			f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindGoroutineDump}}
		}
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: artifact, Metric: "goroutines_on_threads", Value: float64(h.count), Unit: "goroutines", Text: text})
	}
	if top.by != nil {
		f.Title = rule.Say("%[1]s; most are locked to goroutines that `%[2]s` starts (%[3]s)", "%[1]s，多數被 `%[2]s` 啟動的 goroutine 鎖定（%[3]s）", f.Title, rule.Short(top.by), rule.Line(top.by))
		return
	}
	f.Title = rule.Say("%[1]s; most are kept at `%[2]s` (%[3]s)", "%[1]s，多數卡在 `%[2]s`（%[3]s）", f.Title, rule.Short(top.frame), rule.Line(top.frame))
}

func whoHolds(holders []threadHolder) ops.Text {
	if len(holders) == 0 {
		return ops.Text{}
	}
	h := holders[0]
	switch {
	case h.locked:
		return rule.Say(" %[1]s goroutines of `%[2]s` are locked to theirs.", "`%[2]s` 的 %[1]s 個 goroutine 鎖定在自己的執行緒上。", rule.Count(int64(h.count)), rule.Short(h.frame))
	case h.guess:
		return rule.Say(" About as many goroutines, %[1]s, wait in `%[2]s`.", "數量相近的 %[1]s 個 goroutine 停在 `%[2]s`。", rule.Count(int64(h.count)), rule.Short(h.frame))
	}
	return rule.Say(" %[1]s goroutines stand in `%[2]s`.", "%[1]s 個 goroutine 停在 `%[2]s`。", rule.Count(int64(h.count)), rule.Short(h.called))
}

// threadHolders are who keeps threads for sure, most first: goroutines in system
// calls or C, and those that are locked to their thread.
func threadHolders(e *evidence.Evidence) (out []threadHolder) {
	add := func(s evidence.Stack, n int, locked bool, by *evidence.Frame) {
		f := written(s)
		if f == nil || f.Origin != evidence.OwnCode && f.Origin != evidence.LibraryCode {
			return
		}
		for i := range out {
			if out[i].frame == f && out[i].locked == locked && out[i].by == by {
				out[i].count += n
				return
			}
		}
		_, called := kindOfCall(s)
		out = append(out, threadHolder{frame: f, called: called, count: n, locked: locked, by: by})
	}
	end := e.Goroutines
	if end == nil {
		end = e.Dump
	}
	if end != nil {
		for i := range end.Groups {
			if g := &end.Groups[i]; g.State == goroutines.Syscall {
				add(g.Stack, g.Count, false, nil)
			}
		}
	}
	if e.Dump != nil {
		for i := range e.Dump.Groups {
			if g := &e.Dump.Groups[i]; g.Locked > 0 && g.State != goroutines.Syscall {
				by := g.CreatedBy
				if by != nil && by.Origin != evidence.OwnCode {
					by = nil
				}
				add(g.Stack, g.Locked, true, by)
			}
		}
	}
	sortHolders(out)
	return out
}

// withGuess adds those who may keep the threads where nobody surely does: the
// largest group of goroutines at one line of the program that is about as large.
// Nothing but a dump shows that goroutines are locked to threads.
func withGuess(e *evidence.Evidence, sure []threadHolder, beyond int) []threadHolder {
	g := e.Goroutines
	if len(sure) > 0 && 2*sure[0].count >= beyond || g == nil {
		return sure
	}
	by := map[*evidence.Frame]int{}
	for i := range g.Groups {
		if f := g.Groups[i].Stack.User(); f != nil && f.Origin == evidence.OwnCode {
			by[f] += g.Groups[i].Count
		}
	}
	var guesses []threadHolder
	for f, n := range by {
		if 4*n >= 3*beyond && 4*n <= 5*beyond {
			guesses = append(guesses, threadHolder{frame: f, count: n, guess: true})
		}
	}
	sortHolders(guesses)
	return append(guesses, sure...)
}

func sortHolders(all []threadHolder) {
	slices.SortStableFunc(all, func(a, b threadHolder) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.frame.Function, b.frame.Function), cmp.Compare(a.frame.Line, b.frame.Line))
	})
}
