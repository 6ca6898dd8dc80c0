package memory

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// heapGrowth finds where the live heap grows: objects that are made and never let
// go, by line and, where known, by type.
//
// Evidence: the heap profiles of the window's ends, which a collection published;
// what was allocated in between; the live heap after each collection in the series
// or the trace; the memory limit. Profiles sample one of 512 KiB: a growth counts
// only above three standard deviations of what sampling alone does, 1 MiB, and
// 3 % of the heap.
//
// Windows are short. Whether a growth goes on is judged by collections within the
// window (judgeFloors) and by whether enough was allocated in its later half; at a
// line that keeps less than half of what it allocates, growth between two moments
// is mostly chance, and without proof by collections it is no finding. In the first
// minutes of a process a growth may be the filling of a cache: it is no more than a
// warning.
//
// Where less than half of a growth is left in the heap as a whole, because as much
// went elsewhere, one thing takes the place of another: a cache that is full.
//
// What grows without a line of the program's own is an effect of something else,
// and no more than a notice; nor is a single new piece more without proof by collections,
// for it may be what has come in since the last batch. The score: 75 if the memory limit is reached within an hour; where no limit is
// known, or it is further away, 75 at 1 GiB an hour, but no more than a warning
// unless the process is older than five minutes. Both by reasoning: an hour is what
// somebody who is called needs. Nor is a limit within the hour more than a warning in
// those first minutes, while less than 70 % of it is used.
//
// It must not be confused with the sawtooth of garbage, with a cold start, with a
// batch, or with a cache that is full; nor is it a leak of goroutines, whose
// stacks are not in the heap but whose sessions are.
func heapGrowth() rule.Rule {
	return rule.Rule{ID: "heap-growth", Scenario: scenario, Name: rule.Say("Growing heap", "堆積持續成長"), Judge: judgeHeapGrowth}
}

// shortest window in which growth can be seen.
const shortestWindow = 3 * time.Second

// What a growth must be at least to be spoken of.
const (
	leastGrowth      = 1 << 20
	leastGrowthShare = 0.03
)

func judgeHeapGrowth(e *evidence.Evidence) rule.Result {
	v := viewHeap(e)
	switch {
	case v == nil:
		return rule.Needs(e, ops.KindHeap)
	case !v.compared:
		return rule.CouldNotCheck(rule.Say("one heap profile (%s) shows no growth: it takes two, some time apart", "只有一份 heap profile（%s），看不出成長；需要相隔一段時間的兩份", rule.Bytes(v.after.bytes)), again(ops.KindHeap, ops.KindRuntime))
	case heapWindow(e) < shortestWindow:
		return rule.CouldNotCheck(rule.Say("a window of %s is too short for growth to show", "時窗只有 %s，太短，看不出成長", rule.Dur(heapWindow(e))), again(ops.KindHeap, ops.KindRuntime))
	}
	g := &growthSearch{e: e, v: v, window: heapWindow(e)}
	if g.frozen() {
		return rule.CouldNotCheck(rule.Say("too little garbage was collected within the window: both heap profiles are of the same moment", "時窗內幾乎沒有垃圾回收，兩份 heap profile 其實是同一個時間點"), again(ops.KindHeap, ops.KindAllocs))
	}
	g.rate = float64(v.after.bytes-v.before.bytes) / g.window.Seconds()
	if g.trend, _ = liveTrend(e, g.rate); g.trend == rising {
		g.choose(2)
	} else {
		g.choose(3)
	}
	looked := rule.Say("the heap holds %s, %s before it held %s", "堆積現有 %s，%s 前為 %s", rule.Bytes(v.after.bytes), rule.Dur(g.window), rule.Bytes(v.before.bytes))
	if len(g.sites) == 0 {
		return rule.OK(rule.Say("%s: no line grew by more than chance", "%s；沒有任何一行的成長超出誤差", looked))
	}
	g.rate = float64(g.total()) / g.window.Seconds()
	expected := g.rate
	enough, _ := g.enough()
	if v.allocs && g.kept() < enough {
		expected *= 2.5 // most of it goes again: collections have to show more than half of the growth, not a quarter
	}
	g.trend, g.proof = liveTrend(e, expected)
	switch {
	case g.trend == settled:
		return rule.OK(rule.Say("%s, but it has stopped growing: %s", "%s，但已經停止成長：%s", looked, g.proof.Text))
	case g.trend == falling:
		return rule.OK(rule.Say("%s, but it is collected again and again: %s", "%s，但會一再被回收：%s", looked, g.proof.Text))
	case g.trend != rising && float64(v.after.bytes-v.before.bytes) < float64(g.total())/2:
		return rule.OK(rule.Say("%s: about as much has gone elsewhere as `%s` has added: one takes the place of the other", "%s；`%s` 增加多少，別處就釋放差不多多少：只是汰換", looked, rule.Short(g.sites[0].frame)))
	case g.trend != rising && v.allocs && g.kept() < enough:
		return rule.OK(rule.Say("%s, but of what `%s` allocated only %s was kept: it comes and goes", "%s，但 `%s` 配置的只留下 %s：有進有出", looked, rule.Short(g.sites[0].frame), rule.Pct(g.kept())))
	}
	return rule.Found(looked, g.finding())
}

type growthSearch struct {
	e      *evidence.Evidence
	v      *heapView
	window time.Duration
	sites  []*heapSite // that grew by more than chance, most first
	core   *heapSite   // of the first; nil = not looked at yet
	rate   float64     // bytes a second, of these
	trend  trend
	proof  *ops.Proof
}

// frozen reports whether both profiles are as of one collection: none fell into the
// window, or one so early that Go, which publishes a profile one collection later, had
// nothing new to show for all that was allocated.
func (g *growthSearch) frozen() bool {
	if g.v.before.bytes != g.v.after.bytes || g.e.Allocs.Total(g.e.Allocs.Type("alloc_space")) != 0 {
		return false
	}
	n, ok := g.e.Runtime.Gain("/gc/cycles/total:gc-cycles")
	allocated, known := g.e.Runtime.Gain("/gc/heap/allocs:bytes")
	return ok && n == 0 || known && allocated >= unseen*sampleRate
}

// unseen is how many samples are not missed by chance: once in 3,000 times.
const unseen = 8

// choose takes the lines whose growth is more than so many standard deviations.
// Of several that grew much, the program's own come first: a library's line has no
// code of the program above it, and nobody can change it.
func (g *growthSearch) choose(deviations float64) {
	for _, s := range g.v.sites {
		least := max(leastGrowth, leastGrowthShare*float64(g.v.after.bytes))
		if float64(s.growth()) >= max(least, deviations*s.deviation(g.v.allocs)) || g.stays(s, least, deviations) {
			g.sites = append(g.sites, s)
		}
	}
	slices.SortStableFunc(g.sites, func(a, b *heapSite) int { return cmp.Compare(b.growth(), a.growth()) })
	for i, s := range g.sites {
		if s.frame.Origin == evidence.OwnCode && float64(s.growth()) >= 0.3*float64(g.total()) {
			g.sites = slices.Insert(slices.Delete(g.sites, i, i+1), 0, s)
			return
		}
	}
}

// stays reports whether one part of what a line allocates grew beyond chance, next to all
// of which is kept, where what the line makes beside it, and lets go at once, leaves the
// line as a whole in doubt. A few large ones are no such part: they may be a batch that
// waits. Nor is one where as much of what the line made before, called from elsewhere, is
// gone: what a cache was filled with is replaced by what comes.
func (g *growthSearch) stays(s *heapSite, least, deviations float64) bool {
	if !g.v.allocs || float64(s.growth()) < least {
		return false
	}
	core := g.v.core(g.e, s)
	return core != s && core.after.objects > fewArrays && core.kept() >= 0.9 && 10*s.growth() >= 8*core.growth() && float64(core.growth()) >= max(least, deviations*core.deviation(true))
}

// kept is the share of what was made at the first line that is still there.
func (g *growthSearch) kept() float64 {
	if g.core == nil {
		g.core = g.v.core(g.e, g.sites[0])
	}
	return g.core.kept()
}

// enough is the share below which what was made at the first line comes and goes, and
// nearlyAll the one from which on it stays. A slice that is appended to leaves the
// smaller ones behind: of what io.ReadAll allocates for a body less than half is the
// body.
func (g *growthSearch) enough() (share, nearlyAll float64) {
	if s := g.sites[0]; s.stack.Has("io.ReadAll", "io/ioutil.ReadAll") {
		return 0.25, 0.4
	}
	return 0.5, 0.8
}

func (g *growthSearch) total() (sum int64) {
	for _, s := range g.sites {
		sum += s.growth()
	}
	return sum
}

// left is how long it takes until the memory limit; 0 = no limit is known.
func (g *growthSearch) left() (left time.Duration, limit, used int64) {
	limit, used = memoryLimit(g.e)
	if limit <= 0 {
		return 0, 0, used
	}
	used = max(used, g.v.after.bytes)
	seconds := max(1, float64(limit-used)/g.rate)
	return time.Duration(min(seconds, 1e9) * float64(time.Second)), limit, used
}

// hourly is the growth that scores 75: a gibibyte an hour.
const hourly = float64(1<<30) / 3600

// young is how long a process may be filling its caches, and nearLimit the use of its
// memory from which on it does not matter what it is filling.
const (
	young     = 5 * time.Minute
	nearLimit = 0.7
)

// onePiece reports whether the growth is a single new object of which there was none: it
// may be what has come in since the last batch.
func (g *growthSearch) onePiece() bool {
	s := g.sites[0]
	return len(g.sites) == 1 && s.before.bytes == 0 && s.after.objects == 1
}

func (g *growthSearch) score() int {
	score := ops.Score(g.rate, hourly)
	if _, nearlyAll := g.enough(); g.foreign() || g.trend != rising && (g.v.allocs && g.kept() < nearlyAll || g.onePiece()) {
		return min(score, 45)
	}
	if age := processAge(g.e); age < young || g.trend != rising {
		score = min(score, 74)
	}
	if left, limit, used := g.left(); limit > 0 {
		near := ops.Score(float64(time.Hour)/float64(left), 1)
		if age := processAge(g.e); age > 0 && age < young && float64(used) < nearLimit*float64(limit) {
			near = min(near, 74) // it may be a cache that fills: there is room for one
		}
		score = max(min(score, 74), near)
	}
	return score
}

// foreign reports whether what grows is not the program's own: buffers of more
// connections, goroutines of more requests. That is the effect of something else.
func (g *growthSearch) foreign() bool { return g.sites[0].frame.Origin != evidence.OwnCode }

// processAge is 0 where it is not known.
func processAge(e *evidence.Evidence) time.Duration {
	started, at := e.Instance.Process.StartTime, e.Start
	if r := e.Runtime; r != nil && !r.Process.Started.IsZero() {
		started = r.Process.Started
	}
	if started.IsZero() || at.IsZero() {
		return 0
	}
	return max(0, at.Sub(started))
}

func (g *growthSearch) confidence() ops.Confidence {
	s := g.sites[0]
	switch {
	case g.foreign():
		return ops.Low
	case g.trend == rising && s.after.samples-s.before.samples >= 10:
		return ops.High
	case g.trend == rising, g.v.allocs && g.kept() >= 0.8:
		return ops.Medium
	}
	return ops.Low
}

func (g *growthSearch) finding() ops.Finding {
	top := g.sites[0]
	t := typeAt(g.e, top.frame)
	f := ops.Finding{Rule: "heap-growth", Scenario: scenario, Score: g.score(), Confidence: g.confidence(), Evidence: g.proofs(t)}
	g.against(&f)
	f.Where = g.where()
	name, line := rule.Short(top.frame), rule.Line(top.frame)
	perHour := rule.Bytes(about(g.rate * 3600))
	f.Title = rule.Say("what `%s` allocates is kept and grows: %[3]s an hour (%[2]s)", "`%s` 配置的物件一直留著，每小時增加 %[3]s（%[2]s）", name, line, perHour)
	if t != nil {
		f.Title = rule.Say("`%[3]s` pile up, made in `%[1]s`: %[4]s an hour (%[2]s)", "`%[3]s` 越積越多，由 `%[1]s` 建立：每小時增加 %[4]s（%[2]s）", name, line, typeName(t), perHour)
	}
	f.Summary = g.summary(t)
	f.Explanation = rule.Say("What is allocated there is still referred to after a collection: by a map or slice that is only added to, by sessions that were closed but not taken out, or by goroutines that never end. The live heap rises with every request until the process is killed for its memory.",
		"在那裡配置的物件，垃圾回收之後仍然有人參考：可能是只進不出的 map 或 slice、已關閉卻沒移除的 session，或永遠不結束的 goroutine。存活的堆積 隨請求不斷上升，直到行程因記憶體用盡被殺掉。")
	f.Remedies = g.remedies(t)
	if g.foreign() {
		f.Explanation = rule.Say("These are a library's own objects, which it keeps for each connection, request or goroutine: they grow because there are more of these at once. Whatever holds those up, or forgets them, is the cause.",
			"這些是函式庫自己的物件，每條連線、每個請求或 goroutine 都會有：同時存在的變多，它就變多。卡住或遺忘它們的地方才是原因。")
		f.Remedies = []ops.Text{rule.Say("See which requests or connections became more, and what they wait for; nothing is to be changed at this line.", "查出是哪些請求或連線變多、在等什麼；這一行本身不用改。")}
	}
	if f.Confidence != ops.High {
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindHeap, ops.KindAllocs, ops.KindRuntime, ops.KindGoroutine}, Duration: time.Minute}
	}
	return f
}

// where is the line that allocates most of the growth, its callers, and the other
// lines with a tenth of it or more: those where a container grows are where the
// objects are kept.
func (g *growthSearch) where() (out []ops.Place) {
	top := g.sites[0]
	out = append(out, rule.At(ops.RoleAlloc, top.frame))
	out = append(out, callers(top.stack, top.frame)...)
	for _, s := range g.sites[1:] {
		if s.frame.Origin == evidence.OwnCode && (s.container() || s.growth() >= g.total()/10) && len(out) < 8 {
			out = append(out, rule.At(ops.RoleAlloc, s.frame))
		}
	}
	return out
}

func (g *growthSearch) summary(t *evidence.HeapType) ops.Text {
	s := g.sites[0]
	what := rule.Say("about %s objects, %s,", "約 %s 個物件（%s）", rule.Count(about(float64(s.after.objects))), rule.Bytes(s.after.bytes))
	if t != nil {
		what = rule.Say("about %s live `%s`, %s,", "約 %s 個存活的 `%s`（%s）", rule.Count(about(float64(s.after.objects))), typeName(t), rule.Bytes(s.after.bytes))
	}
	text := rule.Say("%s come from %s, %s more than %s before.", "%s來自 %s，比 %[4]s 前多了 %[3]s。", what, rule.Line(s.frame), rule.Bytes(s.growth()), rule.Dur(g.window))
	if left, limit, used := g.left(); limit > 0 && left < 30*24*time.Hour {
		text = rule.Say("%s The process uses %s of its %s: at this rate it reaches the limit in about %s.", "%s行程已用 %[2]s，上限 %[3]s；照這個速度，大約 %[4]s 後到頂。", text, rule.Bytes(used), rule.Bytes(limit), roughly(left))
	}
	return text
}

func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return rule.Count(int64(math.Round(d.Hours()/24))) + " d"
	case d >= 2*time.Hour:
		return rule.Count(int64(math.Round(d.Hours()))) + " h"
	case d >= 2*time.Minute:
		return rule.Count(int64(math.Round(d.Minutes()))) + " min"
	}
	return rule.Dur(d)
}

func (g *growthSearch) proofs(t *evidence.HeapType) (out []ops.Proof) {
	s := g.sites[0]
	out = append(out, ops.Proof{
		Artifact: ops.KindHeap, Metric: "inuse_space_growth", Value: float64(s.growth()), Unit: "bytes",
		Text: rule.Say("in use from %s: %s, before %s (± %s by sampling)", "%s 的 in-use：%s，之前 %s（取樣誤差 ± %s）",
			rule.Line(s.frame), rule.Bytes(s.after.bytes), rule.Bytes(s.before.bytes), rule.Bytes(int64(s.deviation(g.v.allocs)))),
	})
	if !s.container() {
		out = append(out, ops.Proof{
			Artifact: ops.KindHeap, Metric: "inuse_objects", Value: float64(s.after.objects), Unit: "objects",
			Text: rule.Say("about %s objects from there are in use, before about %s", "來自那裡的物件約 %s 個，之前約 %s 個", rule.Count(about(float64(s.after.objects))), rule.Count(about(float64(s.before.objects)))),
		})
	}
	if s.appended() {
		out = append(out, ops.Proof{
			Artifact: ops.KindHeap, Metric: "array_size", Value: float64(s.after.bytes / s.after.objects), Unit: "bytes",
			Text: rule.Say("slices are appended to: their arrays are of %s on average, before %s", "這裡一直 append：底層陣列平均 %s，之前 %s", rule.Bytes(s.after.bytes/s.after.objects), rule.Bytes(s.before.bytes/s.before.objects)),
		})
	} else if kept := g.kept(); g.v.allocs && s.allocated.bytes > 0 {
		s = g.core
		out = append(out, ops.Proof{
			Artifact: ops.KindAllocs, Metric: "kept_share", Value: kept, Unit: "ratio",
			Text: rule.Say("of %s that were allocated there within the window, %s stayed", "時窗內在那裡配置了 %s，留下 %s", rule.Bytes(s.allocated.bytes), rule.Pct(kept)),
		})
	}
	if g.proof != nil {
		out = append(out, *g.proof)
	}
	if t != nil {
		out = append(out, typeProof(t)...)
	}
	return out
}

// typeProof says how many of a type live, and what can hold them.
func typeProof(t *evidence.HeapType) []ops.Proof {
	text := rule.Say("about %s live `%s` (%s, from %s samples)", "存活的 `%[2]s` 約 %[1]s 個（%[3]s，來自 %[4]s 個樣本）", rule.Count(about(float64(t.Objects))), t.Name, rule.Bytes(t.Bytes), rule.Count(t.Samples))
	if len(t.Containers) > 0 {
		text = rule.Say("%s; live types that can hold them: `%s`", "%s；可能持有它們的型別：`%s`", text, joined(t.Containers))
	}
	return []ops.Proof{{Artifact: ops.KindHeapTypes, Metric: "live_objects", Value: float64(t.Objects), Unit: "objects", Text: text}}
}

func joined(names []string) string {
	out := ""
	for i, n := range names[:min(3, len(names))] {
		if i > 0 {
			out += "`, `"
		}
		out += n
	}
	return out
}

func (g *growthSearch) against(f *ops.Finding) {
	add := func(kind ops.Kind, metric string, value float64, unit string, t ops.Text) {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: kind, Metric: metric, Value: value, Unit: unit, Text: t})
	}
	if g.foreign() {
		add(ops.KindHeap, "own_code", 0, "", rule.Say("no line of the program's own is in the stack: more connections or requests at once take more of this", "stack 裡沒有程式自己的程式碼：同時的連線或請求變多，這裡就會變多"))
	}
	if g.trend == unknownTrend {
		add(ops.KindRuntime, "collections", 0, "", rule.Say("too few collections fell into the window to tell whether it goes on", "時窗內的垃圾回收次數太少，無法確認是否會繼續"))
	}
	if age := processAge(g.e); age > 0 && age < young {
		add(ops.KindRuntime, "process_age", age.Seconds(), "s", rule.Say("the process is only %s old: a cache may still be filling", "行程才啟動 %s：也可能是快取還在填", rule.Dur(age)))
	}
	if g.v.allocs && g.kept() < 0.8 {
		add(ops.KindAllocs, "kept_share", g.kept(), "ratio", rule.Say("a part of what is allocated there is let go again", "在那裡配置的有一部分會被放掉"))
	}
}

// rawPiece is from which size on a text or buffer is one of which a part may be
// all that is needed, in bytes.
const rawPiece = 4 << 10

// raw reports whether what grows is large texts or buffers; where types are not
// known, large pieces may be.
func (g *growthSearch) raw(t *evidence.HeapType) bool {
	s := g.sites[0]
	if s.container() || s.after.objects == 0 || s.after.bytes/s.after.objects < rawPiece {
		return false
	}
	if t == nil {
		return true
	}
	return t.Form == "string" || strings.HasSuffix(t.Name, "uint8") || strings.HasSuffix(t.Name, "byte") || t.Name == "string"
}

func (g *growthSearch) remedies(t *evidence.HeapType) []ops.Text {
	out := []ops.Text{}
	for _, s := range g.sites {
		if s.container() && s.frame.Origin == evidence.OwnCode {
			out = append(out, rule.Say("A map or slice grows at %s: take entries out when they are done with (delete when the session ends), or bound it (LRU, expiry).", "%s 的 map 或 slice 一直長大：用完就要移除（session 結束時 delete），或設上限（LRU、過期時間）。", rule.Line(s.frame)))
			break
		}
	}
	if len(out) == 0 {
		out = append(out, rule.Say("Find who keeps them: take out of the map, list or hub what has ended, or bound it (LRU, expiry).", "找出是誰留著它們：結束的要從 map、list 或 hub 移除，或設上限（LRU、過期時間）。"))
	}
	if g.raw(t) {
		out = append(out, rule.Say("If only a part of each is needed, copy that part (bytes.Clone, strings.Clone): a slice of it, or a substring, keeps all of it.", "如果每塊只需要其中一小段，就把那段複製出來（bytes.Clone、strings.Clone）：切出的 slice 或子字串會讓整塊都留著。"))
	}
	if t != nil && len(t.Containers) > 0 {
		out = append(out, rule.Say("Begin with what can hold them: `%s`.", "先看可能持有它們的：`%s`。", joined(t.Containers)))
	}
	return append(out, rule.Say("Until it is fixed, restart before the limit is reached and keep GOMEMLIMIT below it; raising the limit only buys time.", "修好之前，在到頂前重啟，並讓 GOMEMLIMIT 低於上限；調高上限只是延後。"))
}
