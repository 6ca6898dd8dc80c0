package cpu

import (
	"slices"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// limitThrash finds processes that collect garbage all the time because what
// lives in the heap has come near to the memory limit (GOMEMLIMIT): there is no
// room left to allocate in between.
//
// Evidence: the limit, the live heap and the goal of the next collection, how
// often it collects and what that costs, and the line of the program that sets the
// limit where the environment does not: that is then the first place. Where the limit is not known, as from
// outside the process, a goal that leaves less than a tenth of room above a live
// heap of more than 32 MiB says the same: GOGC would have to be below 10 for it.
//
// The score is of what the collector takes of what the process can get, 75 at
// 40 %: Go's own limiter gives up the memory limit at 50 %, so that there is
// little left between the two.
//
// Not to be confused with cpu-gc-pressure, where the heap is small and what is
// allocated much; nor with a heap that grows towards its limit but is still far
// from it (heap-growth).
var limitThrash = rule.Rule{
	ID:    "memory-limit-thrash",
	Name:  rule.Say("the memory limit makes the collector run all the time", "記憶體上限讓垃圾回收不停執行"),
	Judge: judgeLimitThrash,
}

const (
	limitX75 = 0.4
	// noRoom is the goal over the live heap below which a heap has no room; GOGC=100
	// makes 2.
	noRoom = 1.1
	// nearLimit is the share of the limit that lives from which on it, and not
	// GOGC=100, decides when to collect: 2 × live > limit.
	nearLimit = 0.7
	// leastLive is the live heap below which a small goal is Go's minimum heap of
	// 4 MiB, or noise.
	leastLive = 32 << 20
	// oftenCollected is how many collections a second are back to back for a heap of
	// that size: each takes tens of milliseconds.
	oftenCollected = 2.0
)

func judgeLimitThrash(e *evidence.Evidence) rule.Result {
	c := collectorOf(e)
	known := e.Runtime != nil && !e.Runtime.Instance.Agentless && !e.Instance.Agentless
	if known && c.Limit == 0 {
		return rule.NotApplicable(rule.Say("no memory limit (GOMEMLIMIT) is set", "沒有設定記憶體上限（GOMEMLIMIT）"))
	}
	if c.Cycles >= 0 && c.Cycles < oftenCollected {
		return rule.OK(rule.Say("%.1f collections a second", "每秒回收 %.1f 次", c.Cycles))
	}
	if c.Live == 0 || c.Share < 0 || c.Cycles < 0 {
		return rule.Needs(e, ops.KindRuntime, ops.KindTrace)
	}
	room := float64(c.Goal) / float64(c.Live)
	var reason ops.Text
	near := false
	if c.Limit > 0 {
		near = float64(c.Live) >= nearLimit*float64(c.Limit)
		reason = rule.Say("%[1]s live under a limit of %[2]s; %.1[3]f collections a second", "存活 %[1]s，上限 %[2]s；每秒回收 %.1[3]f 次", rule.Bytes(c.Live), rule.Bytes(c.Limit), c.Cycles)
	} else {
		near = room <= noRoom && c.Live >= leastLive
		reason = rule.Say("the next collection comes at %.2[1]f times the live heap of %[2]s; %.1[3]f collections a second", "下次回收在存活堆積 %[2]s 的 %.2[1]f 倍時觸發；每秒回收 %.1[3]f 次", room, rule.Bytes(c.Live), c.Cycles)
	}
	l := loadOf(e)
	of := c.Share * l.Use()
	if c.Profile < 0 && c.Trace < 0 {
		of = c.Share
	}
	if !near || ops.SeverityOf(ops.Score(of, limitX75)) == "" {
		return rule.OK(reason)
	}
	return rule.Found(reason, limitFinding(e, c, l, of))
}

func limitFinding(e *evidence.Evidence, c collector, l load, of float64) ops.Finding {
	f := ops.Finding{
		Rule: "memory-limit-thrash", Score: ops.Score(of, limitX75), Confidence: ops.High,
		Title: rule.Say("the memory limit leaves no room: %[1]s live under %[2]s, collected %.0[3]f times a second", "記憶體上限已無空間：上限 %[2]s 下存活 %[1]s，每秒回收 %.0[3]f 次", rule.Bytes(c.Live), rule.Bytes(c.Limit), c.Cycles),
		Summary: rule.Say("The collector runs %.1[1]f times a second and takes %[2]s of the CPU time, %[3]s of what the process can get: nearly all that it could free is in use.",
			"垃圾回收每秒執行 %.1[1]f 次，佔 CPU 時間 %[2]s，為可用 CPU 的 %[3]s：能釋放的幾乎都還在使用中。", c.Cycles, rule.Pct(c.Share), rule.Pct(of)),
		Explanation: rule.Say("As total memory nears GOMEMLIMIT, Go collects earlier and earlier to stay below it, whatever GOGC says. When what lives alone fills the limit, each collection frees next to nothing and the next one begins at once: all CPU goes into looking at the same objects. Go stops obeying the limit when that takes half of the CPU; then memory grows beyond it.",
			"總記憶體接近 GOMEMLIMIT 時，Go 會不顧 GOGC 越來越早回收以維持在上限之下。當存活物件本身就塞滿上限，每次回收幾乎釋放不了東西，下一次又立刻開始：CPU 全花在重複檢查相同的物件。回收佔到一半 CPU 時，Go 會放棄遵守上限，記憶體隨即超出。"),
		Remedies: []ops.Text{
			rule.Say("Now: raise GOMEMLIMIT (and the pod's memory) to at least 1.5 times what lives, %s; without room in the pod, add pods so that each holds less.", "立即：把 GOMEMLIMIT（與 Pod 記憶體）提高到存活量的至少 1.5 倍，即 %s；Pod 沒有空間時，增加 Pod 讓每個持有較少資料。", rule.Bytes(c.Live*3/2)),
			rule.Say("Hold less: bound the caches by bytes, and see what fills the heap (the first place, inuse_space in the heap flame graph).", "減少持有：以位元組限制快取大小，並查看堆積被什麼佔滿（第一個位置，heap 火焰圖的 inuse_space）。"),
			rule.Say("Leave 10 % of the pod's memory above GOMEMLIMIT for stacks, threads and C, and never set it as low as what the service needs at rest.", "GOMEMLIMIT 之上為堆疊、執行緒與 C 保留 Pod 記憶體的 10 %，而且不要設到接近服務平時的需求。"),
		},
		Where:    heldAt(e),
		Evidence: append(limitProofs(c), gcProofs(c)...),
	}
	if c.Limit == 0 {
		f.Confidence = ops.Medium
		f.Title = rule.Say("the heap has no room: %[1]s live, the next collection comes at %[2]s, %.0[3]f times a second", "堆積沒有空間：存活 %[1]s，達 %[2]s 就再次回收，每秒 %.0[3]f 次", rule.Bytes(c.Live), rule.Bytes(c.Goal), c.Cycles)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "memory_limit_bytes", Unit: "B",
			Text: rule.Say("the memory limit itself is not visible from outside of the process: a GOGC below 10 would look the same", "從行程外部看不到記憶體上限本身：GOGC 小於 10 看起來也一樣")})
	}
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	setItself(&f, c)
	doubts(&f, e, l)
	return f
}

// setItself says which line of the program sets the limit, where one does: whoever
// raises GOMEMLIMIT there changes nothing. Which of several lines did so last is not
// known, so that these are no places.
func setItself(f *ops.Finding, c collector) {
	if len(c.LimitBy) == 0 {
		return
	}
	f.Evidence = append(f.Evidence, setProof("GOMEMLIMIT", "SetMemoryLimit", c.LimitBy))
	if len(c.LimitBy) > 1 {
		return
	}
	by := c.LimitBy[0]
	f.Where = slices.Insert(f.Where, 0, rule.At(ops.RoleCall, by))
	f.Remedies[0] = rule.Say("Now: raise the limit that `%[1]s` (%[2]s) sets, and the pod's memory, to at least 1.5 times what lives, %[3]s; better still leave it to GOMEMLIMIT in the pod's environment. Without room in the pod, add pods so that each holds less.",
		"立即：把 `%[1]s`（%[2]s）設定的上限與 Pod 記憶體提高到存活量的至少 1.5 倍，即 %[3]s；更好的做法是交給 Pod 環境變數 GOMEMLIMIT。Pod 沒有空間時，增加 Pod 讓每個持有較少資料。", rule.Short(by), rule.Line(by), rule.Bytes(c.Live*3/2))
	f.Remedies[1] = rule.Say("Hold less: bound the caches by bytes, and see what fills the heap (the second place, inuse_space in the heap flame graph).", "減少持有：以位元組限制快取大小，並查看堆積被什麼佔滿（第二個位置，heap 火焰圖的 inuse_space）。")
}

func limitProofs(c collector) (out []ops.Proof) {
	if c.Limit > 0 {
		out = append(out, ops.Proof{Artifact: ops.KindRuntime, Metric: "live_heap_bytes", Value: float64(c.Live), Unit: "B", Share: min(1, float64(c.Live)/float64(c.Limit)),
			Text: rule.Say("%[1]s live after a collection, of a limit of %[2]s", "回收後存活 %[1]s，上限 %[2]s", rule.Bytes(c.Live), rule.Bytes(c.Limit))})
	}
	if c.Goal > 0 {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "goal_per_live", Value: float64(c.Goal) / float64(c.Live), Unit: "ratio",
			Text: rule.Say("the next collection is due at %[1]s, %.2[2]f times what lives", "下次回收在 %[1]s 時觸發，為存活量的 %.2[2]f 倍", rule.Bytes(c.Goal), float64(c.Goal)/float64(c.Live))})
	}
	return out
}

// heldAt are the places whose objects fill the heap, then those that allocate
// most: at least one place, if only an empty one.
func heldAt(e *evidence.Evidence) (out []ops.Place) {
	own := func(s evidence.Stack) *evidence.Frame {
		if at, isOwn := place(s); isOwn {
			return s[at]
		}
		return s.User()
	}
	typ := e.Heap.Type("inuse_space")
	held := byFunction(e.Heap.By(typ, own))
	for _, p := range held[:min(2, len(held))] {
		if len(out) == 0 || 5*p.Value >= e.Heap.Total(typ) {
			out = append(out, rule.At(ops.RoleAlloc, p.Frame))
		}
	}
	if who, _, _ := allocators(e); len(who) > 0 {
		if p := rule.At(ops.RoleAlloc, byFunction(who)[0].Frame); len(out) == 0 || out[0] != p {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		out = []ops.Place{{Role: ops.RoleAlloc}}
	}
	return out
}
