package cpu

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// gcPressure finds processes whose garbage collector takes a good part of the
// CPU, and names who makes the garbage.
//
// Evidence: the collector's share of the CPU profile (marking, the help that
// whoever allocates must give, sweeping; without marking on processors that were
// idle anyway), the runtime's own account, the trace's assists and collections,
// how much of what the process can get is in use, and the window's allocations.
//
// Processors that the program does not use are no help to a goroutine that has to
// wait for the collector before it gets memory: where they lose more time so than
// they run, that share of their time counts as well, up to a warning; but not in a
// process that is idle, where next to no running makes any wait a large share.
//
// Nor is marking on idle processors free: the quota, the autoscaler and whoever else
// is on the machine see that CPU time like any other. Where the process is busy, half
// of what it can get and more, and the collector takes a third of all CPU time that it
// uses, idle marking with it, that counts as well, up to a warning.
//
// While a collection runs Go gives it a quarter of the processors, and a healthy
// service is between collections most of the time: 2 to 10 %, 15 % with a heap of
// a few MB that is collected a hundred times a second, which is cheap to live
// with. A third of what the process can get is a warning; two thirds are critical.
//
// Where the program asks for most collections itself (runtime.GC, which the trace
// shows), that line is to be changed, and not what allocates.
//
// Not to be confused with a heap at its memory limit, which is collected as often
// without anybody allocating much (memory-limit-thrash), nor with a burst of
// allocation at start, of which the average over the window is small.
var gcPressure = rule.Rule{
	ID:    "cpu-gc-pressure",
	Name:  rule.Say("the garbage collector takes the CPU", "垃圾回收佔用 CPU"),
	Judge: judgeGCPressure,
}

// gcX75 is the collector's share of what the process can get at which the score
// is 75.
const gcX75 = 0.65

func judgeGCPressure(e *evidence.Evidence) rule.Result {
	c := collectorOf(e)
	if c.Share < 0 {
		return rule.Needs(e, ops.KindCPU, ops.KindTrace)
	}
	l := loadOf(e)
	of := c.Share * l.Use()
	if c.Profile < 0 && c.Trace < 0 {
		of = c.Share // the runtime's account is of all that there is already
	}
	score := ops.Score(of, gcX75)
	if !l.idle() {
		score = max(score, min(ops.Score(c.delay(), gcX75), mostByDelay))
	}
	all := c.Profile + c.Idle
	if byAll := min(ops.Score(all, gcX75), mostByDelay); c.Profile >= 0 && l.Use() >= halfUsed && all >= third && byAll > score {
		c.Share, of, score = all, all*l.Use(), byAll
	}
	reason := rule.Say("the collector takes %[1]s of the CPU time, %[2]s", "垃圾回收佔 CPU 時間 %[1]s，%[2]s", rule.Pct(c.Share), ofUsable(l, of))
	if c.Profile >= 0 && l.Total < leastCPU || ops.SeverityOf(score) == "" {
		return rule.OK(reason)
	}
	f := gcFinding(e, c, l, of, score)
	if len(f.Where) == 0 {
		next := &ops.NextCapture{Kinds: []ops.Kind{ops.KindAllocs, ops.KindCPU}}
		return rule.CouldNotCheck(rule.Say("%s: too much, but nothing in this capture shows who makes the garbage (it needs allocs, or cpu)", "%s：偏高，但這次擷取看不出是誰製造垃圾（需要 allocs 或 cpu）", reason), next)
	}
	return rule.Found(reason, f)
}

// halfUsed is the use of what the process can get from which on a third of its CPU
// time is somebody's trouble.
const (
	halfUsed = 0.5
	third    = 0.33
)

// mostByDelay is the score of goroutines that wait for the collector while
// processors are free, or that is marked on idle processors: a warning.
const mostByDelay = 60

func gcFinding(e *evidence.Evidence, c collector, l load, of float64, score int) ops.Finding {
	who, total, byBytes := allocators(e)
	who = byFunction(who)
	f := ops.Finding{
		Rule: "cpu-gc-pressure", Score: score, Confidence: ops.Medium,
		Title:       rule.Say("the garbage collector takes %s of the CPU", "垃圾回收佔 CPU %s", rule.Pct(c.Share)),
		Summary:     gcSummary(c, l, of),
		Explanation: gcExplanation(c),
		Remedies:    gcRemedies(c, who),
		Evidence:    gcProofs(c),
	}
	if len(who) > 0 {
		top, share := who[0], float64(who[0].Value)/float64(max(1, total))
		f.Title = rule.Say("the garbage collector takes %[1]s of the CPU; `%[2]s` makes most of the garbage (%[3]s)", "垃圾回收佔 CPU %[1]s；製造最多垃圾的是 `%[2]s`（%[3]s）", rule.Pct(c.Share), rule.Short(top.Frame), rule.Line(top.Frame))
		for i, p := range who[:min(3, len(who))] {
			if i == 0 || float64(p.Value) >= 0.15*float64(total) {
				f.Where = append(f.Where, rule.At(ops.RoleAlloc, p.Frame))
			}
		}
		f.Evidence = append(f.Evidence, allocProof(top, share, byBytes, e.Window))
		if top.Frame.Origin != evidence.OwnCode {
			f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindAllocs, Metric: "own_frames", Unit: "frames",
				Text: rule.Say("most of it is not allocated by the program's own code, as far as the profile shows", "從分析結果看，大部分並不是程式自己的程式碼配置的")})
		}
	} else {
		stalledPlaces(&f, e)
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindAllocs, ops.KindCPU}}
	}
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	lowGOGC(&f, c, of)
	asksForIt(&f, e, c)
	// Two independent accounts of the same thing make it sure.
	if len(who) > 0 && c.Profile >= 0 && (c.Trace >= c.Profile/2 || c.Runtime >= of/2) {
		f.Confidence = ops.High
	}
	doubts(&f, e, l)
	return f
}

// lowGOGC says which line of the program sets a GOGC below 100. It is the first place
// where the collector's cost at 100 would be nobody's trouble: it goes down as the
// collections do, which is in proportion.
func lowGOGC(f *ops.Finding, c collector, of float64) {
	if len(c.GOGCBy) == 0 || c.GOGC <= 0 || c.GOGC >= 100 {
		return
	}
	f.Evidence = append(f.Evidence, setProof("GOGC", "SetGCPercent", c.GOGCBy))
	if len(c.GOGCBy) > 1 {
		return
	}
	by := rule.At(ops.RoleCall, c.GOGCBy[0])
	if ops.SeverityOf(ops.Score(of*float64(c.GOGC)/100, gcX75)) == "" {
		f.Where = slices.Insert(f.Where, 0, by)
	} else {
		f.Where = append(f.Where, by)
	}
}

// asksForIt puts the line first that has the program's memory collected, if that is
// why most collections begin.
func asksForIt(f *ops.Finding, e *evidence.Evidence, c collector) {
	by, all := collecting(e.Trace)
	var asked int64
	for _, s := range by {
		asked += s.count
	}
	if asked < 5 || 2*asked < all {
		return
	}
	top, rate := by[0], float64(asked)/e.Trace.Duration.Seconds()
	f.Where, f.CounterEvidence, f.Confidence = []ops.Place{rule.At(ops.RoleCall, top.frame)}, nil, ops.High
	f.Title = rule.Say("the garbage collector takes %[1]s of the CPU, for `%[2]s` calls it %.1[4]f times a second (%[3]s)", "垃圾回收佔 CPU %[1]s：`%[2]s` 每秒主動呼叫它 %.1[4]f 次（%[3]s）", rule.Pct(c.Share), rule.Short(top.frame), rule.Line(top.frame), rate)
	f.Explanation = rule.Say("`runtime.GC` (and `debug.FreeOSMemory`) collects the whole heap at once, whether there is garbage or not, and lets its caller wait until that is done. Go collects by itself when the heap has grown by GOGC per cent.",
		"`runtime.GC`（以及 `debug.FreeOSMemory`）不論有沒有垃圾都立刻回收整個堆積，呼叫者要等到完成為止。Go 本來就會在堆積成長 GOGC 百分比時自行回收。")
	f.Remedies = []ops.Text{rule.Say("Remove the call. To bound memory set GOMEMLIMIT; to collect less or more often set GOGC.", "移除這個呼叫。要限制記憶體請設 GOMEMLIMIT；要調整回收頻率請設 GOGC。")}
	f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "asked_collections", Value: float64(asked), Unit: "collections", Share: min(1, float64(asked)/float64(all)),
		Text: rule.Say("%[1]s of %[2]s collections in the trace were asked for by the program, in %[3]s", "追蹤中的 %[2]s 次回收有 %[1]s 次是程式自己要求的，位於 %[3]s", rule.Count(asked), rule.Count(all), rule.Line(top.frame))})
}

func gcSummary(c collector, l load, of float64) ops.Text {
	rate := ops.Text{}
	switch {
	case c.Cycles >= 0 && c.Allocated >= 0:
		rate = rule.Say(" The program allocates %[1]s per second and is collected %.1[2]f times a second.", "程式每秒配置 %[1]s，每秒回收 %.1[2]f 次。", rule.Bytes(int64(c.Allocated)), c.Cycles)
	case c.Cycles >= 0:
		rate = rule.Say(" It is collected %.1f times a second.", "每秒回收 %.1f 次。", c.Cycles)
	}
	return rule.Say("%[1]s of the CPU time went into collecting garbage: that is %[2]s.%[3]s", "CPU 時間有 %[1]s 花在垃圾回收，%[2]s。%[3]s", rule.Pct(c.Share), ofUsable(l, of), rate)
}

func gcExplanation(c collector) ops.Text {
	text := rule.Say("A collection starts whenever the heap has grown by GOGC per cent of what lives, and walks over all that lives: the cost is the live heap times the collections, and those follow from how much is allocated.",
		"每當堆積比存活量多出 GOGC 百分比就會觸發回收，並走訪所有存活物件：成本等於存活堆積乘以回收次數，而次數取決於配置量。")
	if c.Assist >= 0.1 {
		text = rule.Say("%[1]s Goroutines allocate faster than the collector marks, so that they must mark themselves before they get memory (assist): requests pay for it directly.",
			"%[1]sgoroutine 配置的速度超過回收器標記的速度，因此必須先幫忙標記才能拿到記憶體（assist）：請求直接為此付出時間。", text)
	}
	return text
}

func gcRemedies(c collector, who []evidence.Portion) (out []ops.Text) {
	switch {
	case c.GOGC > 0 && c.GOGC < 100:
		out = append(out, rule.Say("GOGC is %[1]d, which means many collections: back to 100 costs memory for at most the live heap (%[2]s) once more and cuts the collections to %[3]s.",
			"GOGC 目前是 %[1]d，回收次數很多：改回 100 最多只會多用一份存活堆積（%[2]s）的記憶體，回收次數降為 %[3]s。", c.GOGC, rule.Bytes(c.Live), rule.Pct(float64(c.GOGC)/100)))
	case c.Limit > 0:
		out = append(out, rule.Say("Raise GOMEMLIMIT (%s now) if the pod has room.", "Pod 還有空間的話，調高 GOMEMLIMIT（目前 %s）。", rule.Bytes(c.Limit)))
	default:
		out = append(out, rule.Say("Now, without a change to the code: GOGC=200 halves the number of collections, GOGC=400 halves it again; set GOMEMLIMIT to 90 %% of the pod's memory so that this cannot end in an OOM kill.%s",
			"立即可做、不改程式：GOGC=200 讓回收次數減半，GOGC=400 再減半；並把 GOMEMLIMIT 設為 Pod 記憶體的 90 %%，避免因此 OOM。%s", heapNow(c)))
	}
	if len(who) > 0 {
		out = append(out, rule.Say("Allocate less in `%s`: reuse buffers (`sync.Pool`), make slices and maps with their final size, pass values instead of pointers, decode into structs instead of `map[string]any`.",
			"減少 `%s` 的配置：重複使用緩衝區（`sync.Pool`）、以最終大小建立 slice 與 map、以值取代指標、解碼到 struct 而不是 `map[string]any`。", rule.Short(who[0].Frame)))
	}
	return append(out, rule.Say("Look at the allocs flame graph of this capture (alloc_space): it shows what to save, line by line; `go build -gcflags=-m` says why a value escapes to the heap.",
		"看這次擷取的 allocs 火焰圖（alloc_space）：逐行顯示可以省下什麼；`go build -gcflags=-m` 會說明變數為何逃逸到堆積。"))
}

func heapNow(c collector) ops.Text {
	if c.Live <= 0 {
		return ops.Text{}
	}
	return rule.Say(" The live heap is %s.", "目前存活堆積為 %s。", rule.Bytes(c.Live))
}

func gcProofs(c collector) (out []ops.Proof) {
	if c.Profile >= 0 {
		out = append(out, ops.Proof{Artifact: ops.KindCPU, Metric: "gc_cpu_share", Value: c.Profile, Unit: "share", Share: min(1, max(c.Profile, c.Share)),
			Text: rule.Say("%[1]s of the CPU time is marking, helping and sweeping (%[2]s more on processors that were idle)", "CPU 時間有 %[1]s 用於標記、協助標記與清掃（另有 %[2]s 用的是閒置的處理器）", rule.Pct(c.Profile), rule.Pct(c.Idle))})
	}
	if c.Runtime >= 0 {
		out = append(out, ops.Proof{Artifact: ops.KindRuntime, Metric: "gc_cpu_share", Value: c.Runtime, Unit: "share", Share: min(1, c.Runtime),
			Text: rule.Say("by the runtime's own account the collector had %s of the processors' time", "依 runtime 自己的統計，回收器用掉處理器時間的 %s", rule.Pct(c.Runtime))})
	}
	if c.Trace >= 0 {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "gc_running_share", Value: c.Trace, Unit: "share", Share: c.Trace,
			Text: rule.Say("%[1]s of the running time is the collector's; %[2]s of the program's own went into helping it, and goroutines waited %[3]s per second for it", "執行時間有 %[1]s 屬於回收器；程式自己的執行時間有 %[2]s 用於協助回收，goroutine 每秒共等待回收 %[3]s", rule.Pct(c.Trace), rule.Pct(max(0, c.Assist)), rule.Dur(c.Stalled))})
	}
	if c.Cycles >= 0 {
		k := ops.KindTrace
		if c.Runtime >= 0 || c.Trace < 0 {
			k = ops.KindRuntime
		}
		out = append(out, ops.Proof{Artifact: k, Metric: "gc_cycles_per_second", Value: c.Cycles, Unit: "1/s", Text: rule.Say("%.1f collections per second", "每秒回收 %.1f 次", c.Cycles)})
	}
	if c.Allocated >= 0 {
		out = append(out, ops.Proof{Artifact: ops.KindRuntime, Metric: "allocated_bytes_per_second", Value: c.Allocated, Unit: "B/s", Text: rule.Say("%s allocated per second", "每秒配置 %s", rule.Bytes(int64(c.Allocated)))})
	}
	return out
}

func allocProof(p evidence.Portion, share float64, byBytes bool, window time.Duration) ops.Proof {
	if byBytes {
		return ops.Proof{Artifact: ops.KindAllocs, Metric: "allocated_bytes", Value: float64(p.Value), Unit: "B", Share: min(1, share),
			Text: rule.Say("`%[1]s` allocated %[2]s in %[3]s, %[4]s of all", "`%[1]s` 在 %[3]s 內配置了 %[2]s，佔全部的 %[4]s", rule.Short(p.Frame), rule.Bytes(p.Value), rule.Dur(window), rule.Pct(share))}
	}
	return ops.Proof{Artifact: ops.KindCPU, Metric: "allocating_cpu_seconds", Value: time.Duration(p.Value).Seconds(), Unit: "s", Share: min(1, share),
		Text: rule.Say("`%[1]s` spent %[2]s of CPU time in allocating, %[3]s of all such time", "`%[1]s` 花了 %[2]s 的 CPU 時間配置記憶體，佔這類時間的 %[3]s", rule.Short(p.Frame), rule.Dur(time.Duration(p.Value)), rule.Pct(share))}
}

func sortPortions(out []evidence.Portion) {
	slices.SortStableFunc(out, func(a, b evidence.Portion) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Frame.Function, b.Frame.Function))
	})
}
