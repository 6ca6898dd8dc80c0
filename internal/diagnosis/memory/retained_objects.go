package memory

import (
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// retainedObjects finds what fills the heap although it does not grow now: one
// line, or type, to which most of what is live belongs.
//
// Evidence: the heap profile at the window's end by line, its types where known,
// the memory limit, and what was allocated at the line within the window.
//
// A line is spoken of from 40 % of the live heap on. Where a limit is known, the
// score is 75 at half of it: with GOGC=100 the heap is twice what is live before it
// is collected; critical only from 80 % of it on. Where none is, 75 at 400 MiB, and never critical. No more than a
// notice: what is being replaced all the time (a full cache: as much was allocated
// within the window as a hundredth of it, and its size stayed), and what is few
// large pieces (buffers, an arena): neither looks forgotten. Thresholds by
// reasoning.
//
// Where about as many goroutines of the same package wait at one line, and there are no
// connections for them, that line comes first: each holds one of the objects until
// what it waits for happens.
//
// It must not be confused with growth, which has a rule of its own, nor with a
// healthy cache of modest size.
func retainedObjects() rule.Rule {
	return rule.Rule{ID: "retained-objects", Scenario: scenario, Name: rule.Say("Retained objects", "物件殘留"), Judge: judgeRetainedObjects}
}

const (
	dominantShare = 0.4
	halfOfLimit   = 0.5
	nearlyAll     = 0.8
	largeHeap     = 400 << 20
	fewPieces     = 1000
)

func judgeRetainedObjects(e *evidence.Evidence) rule.Result {
	v := viewHeap(e)
	if v == nil {
		return rule.Needs(e, ops.KindHeap)
	}
	if len(v.sites) == 0 {
		return rule.OK(rule.Say("the heap profile is empty: next to nothing is live", "heap profile 是空的：幾乎沒有存活的物件"))
	}
	s := v.sites[0]
	share := float64(s.after.bytes) / float64(max(1, v.after.bytes))
	looked := rule.Say("%s are live; the most at one line is %s (%s)", "存活 %s；單一行最多的是 %s（%s）", rule.Bytes(v.after.bytes), rule.Bytes(s.after.bytes), rule.Line(s.frame))
	if share < dominantShare || s.frame.Origin == evidence.RuntimeCode {
		return rule.OK(looked)
	}
	limit, _ := memoryLimit(e)
	score := min(ops.Score(float64(s.after.bytes), largeHeap), 74)
	if limit > 0 {
		score = ops.Score(float64(s.after.bytes)/float64(limit), halfOfLimit)
		if float64(s.after.bytes) < nearlyAll*float64(limit) {
			score = min(score, 74)
		}
	}
	objects := s.after.objects
	if t := typeAt(e, s.frame); t != nil {
		objects = t.Objects
	}
	held := holdersOf(e, s.frame, objects)
	turnover := v.compared && v.allocs && s.replaced > s.after.bytes/100 && s.kept() < 0.5 && held == nil
	few := s.after.objects <= fewPieces && held == nil
	if turnover || few {
		score = min(score, 45)
	}
	r := &retained{e: e, v: v, site: s, share: share, limit: limit, turnover: turnover, few: few, held: held}
	return rule.Found(looked, r.finding(score))
}

type retained struct {
	e             *evidence.Evidence
	v             *heapView
	site          *heapSite
	share         float64
	limit         int64
	turnover, few bool
	held          *holders // nil = nobody in particular
}

func (r *retained) finding(score int) ops.Finding {
	s, t := r.site, typeAt(r.e, r.site.frame)
	name, line := rule.Short(s.frame), rule.Line(s.frame)
	count, size := rule.Count(about(float64(s.after.objects))), rule.Bytes(s.after.bytes)
	f := ops.Finding{Rule: "retained-objects", Scenario: scenario, Score: score, Confidence: ops.Medium}
	f.Where = append([]ops.Place{rule.At(ops.RoleAlloc, s.frame)}, callers(s.stack, s.frame)...)
	f.Title = rule.Say("%[3]s from `%[1]s` stay in memory (%[2]s)", "`%[1]s` 配置的 %[3]s 一直留在記憶體裡（%[2]s）", name, line, size)
	if t != nil {
		// Of the objects of a line some may be of another type, such as their buffers.
		count, size := rule.Count(about(float64(t.Objects))), rule.Bytes(t.Bytes)
		f.Title = rule.Say("%[4]s live `%[3]s` (%[5]s), made in `%[1]s` (%[2]s)", "%[4]s 個 `%[3]s` 留在記憶體（%[5]s），由 `%[1]s` 建立（%[2]s）", name, line, typeName(t), count, size)
	}
	f.Summary = rule.Say("About %s objects from %s are live: %s, %s of all that the process holds.", "來自 %[2]s 的物件約有 %[1]s 個存活：%[3]s，占行程所有存活物件的 %[4]s。", count, line, size, rule.Pct(r.share))
	if t != nil && 10*t.Objects < 9*s.after.objects {
		f.Summary = rule.Say("What %s made and is live takes %s, %s of all that the process holds: about %s `%s` and what belongs to them.", "%s 建立且仍存活的物件占 %s，是行程所有存活物件的 %s：約 %s 個 `%s`，以及屬於它們的物件。",
			line, size, rule.Pct(r.share), rule.Count(about(float64(t.Objects))), typeName(t))
	}
	if r.limit > 0 {
		f.Summary = rule.Say("%s That is %s of the memory limit of %s.", "%s相當於記憶體上限 %[3]s 的 %[2]s。", f.Summary, rule.Pct(float64(s.after.bytes)/float64(r.limit)), rule.Bytes(r.limit))
	}
	f.Explanation = rule.Say("The collector finds that all of these can still be reached, so that they stay, used or not. Hundreds of thousands of sessions, clients or rows are often ones that have ended but were never taken out of a map. Before the next collection the heap grows to about twice what is live (GOGC=100), and the limit has to hold that.",
		"垃圾回收器認為這些物件都還有人參考，所以不論有沒有用都會留著。幾十萬個 session、client 或資料列，往往是早已結束卻沒從 map 移除的。在下一次回收之前，堆積會長到存活量的兩倍左右（GOGC=100），記憶體上限必須容得下。")
	f.Remedies = []ops.Text{
		rule.Say("Compare their number with how many there should be (players online, open orders). If there are more, delete them where they end.", "拿數量跟應該有的比（在線玩家、未結訂單）。多出來的，在它們結束的地方刪除。"),
		rule.Say("If it is a cache, bound it by number or size (LRU) and by age.", "如果是快取，就限制數量或大小（LRU）與存活時間。"),
	}
	if t != nil && len(t.Containers) > 0 {
		f.Remedies = append([]ops.Text{rule.Say("Look at what can hold them: `%s`.", "先看可能持有它們的：`%s`。", joined(t.Containers))}, f.Remedies...)
	}
	r.proofs(&f, t)
	if r.held != nil {
		name := rule.Line(s.frame)
		if t != nil {
			name = "`" + typeName(t) + "`"
		}
		r.held.tell(&f, name)
	}
	return f
}

func (r *retained) proofs(f *ops.Finding, t *evidence.HeapType) {
	s := r.site
	f.Evidence = append(f.Evidence, ops.Proof{
		Artifact: ops.KindHeap, Metric: "inuse_space", Value: float64(s.after.bytes), Unit: "bytes", Share: r.share,
		Text: rule.Say("in use from %s: %s of %s, seen in about %s samples", "%s 的 in-use：%[3]s 之中占 %[2]s，約 %[4]s 個樣本", rule.Line(s.frame), rule.Bytes(s.after.bytes), rule.Bytes(r.v.after.bytes), rule.Count(int64(s.after.samples))),
	})
	if t != nil {
		f.Evidence = append(f.Evidence, typeProof(t)...)
	}
	add := func(kind ops.Kind, metric string, value float64, unit string, text ops.Text) {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: kind, Metric: metric, Value: value, Unit: unit, Text: text})
	}
	if r.turnover {
		add(ops.KindAllocs, "allocated", float64(s.replaced), "bytes", rule.Say("%s were allocated there within the window and as much was let go: a full cache does that", "時窗內在那裡配置了 %s，也放掉差不多的量：裝滿的快取就是這樣", rule.Bytes(s.replaced)))
	}
	if r.few {
		add(ops.KindHeap, "inuse_objects", float64(s.after.objects), "objects", rule.Say("these are only %s pieces: buffers rather than forgotten objects", "只有 %s 塊：比較像緩衝區，不像被遺忘的物件", rule.Count(s.after.objects)))
	}
	if r.limit <= 0 {
		if r.held == nil {
			f.Confidence = ops.Low
		}
		add(ops.KindRuntime, "memory_limit", 0, "bytes", rule.Say("no memory limit is known: whether this is much, only you can say", "不知道記憶體上限：這樣算不算多，只有你能判斷"))
	}
}
