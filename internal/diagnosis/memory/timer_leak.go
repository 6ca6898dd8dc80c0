package memory

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// timerLeak finds timers that are made again and again and never stopped.
//
// Evidence: what package time allocated and is still live, by the program's line,
// at the window's ends; and goroutines that become more, do not end, and are woken
// by timers alone, each of which keeps a ticker going.
//
// Before Go 1.23 a ticker that is not stopped stays for ever, and a timer until it
// fires, whether or not anything refers to it. From 1.23 on the collector takes
// what is not referred to: what grows there is still referred to, is an AfterFunc,
// which the runtime itself keeps until it fires, or is a context with a deadline
// that was not cancelled, which has such a timer.
//
// A timer takes some 100 bytes, so that a profile that samples one of 512 KiB sees
// one of five thousand: few samples have to do. Those of AfterFunc are joined by
// those of what is allocated at its very line, which is the function and what that
// refers to. A line counts if of the samples that were taken within the window so
// few are gone that chance would do that once in a hundred times, were as many
// timers let go as are made (seven of which none is gone, eleven of which one is),
// or five of which none is where their list grows there beyond chance as well.
// Where it is not known what was made, the growth has to be three standard
// deviations. The runtime's list of timers, which is an array of 16 bytes each and
// belongs to whoever made it grow, counts for neither; it is a proof of how many
// there were at once.
//
// Where that is too little to count by, a line of AfterFunc still counts if hardly
// any of its samples is gone and the same function, or the one that calls it,
// makes objects that pile up: no more than a warning, of low confidence.
//
// The score is 75 at 500 more a second or 100,000 live ones, by reasoning: each
// costs memory, a place in the heap of timers, and what its function refers to; in
// the first five minutes of a process no more than a warning, for timers that run
// for minutes come to rest later. For goroutines that tick it is that of the
// goroutine leak.
//
// It must not be confused with one ticker for each of many connections (their
// number stays), nor with timers that are few and busy (a storm, not a leak).
func timerLeak() rule.Rule {
	return rule.Rule{ID: "timer-leak", Scenario: scenario, Name: rule.Say("Timers never stopped", "Timer 從未停止"), Judge: judgeTimerLeak}
}

var (
	makesTimer = evidence.Named("time.NewTicker", "time.NewTimer", "time.AfterFunc", "time.After", "time.Tick", "time.newTimer")
	ofContext  = evidence.Named("context.WithTimeout", "context.WithDeadline")
)

func judgeTimerLeak(e *evidence.Evidence) rule.Result {
	heap := e.Heap.Type("inuse_objects") >= 0 && e.HeapBefore.Type("inuse_objects") >= 0
	c := gather(e)
	if !heap && (c == nil || !c.compared) {
		return rule.Needs(e, ops.KindHeap, ops.KindGoroutine, ops.KindTrace)
	}
	t := &timerSearch{e: e}
	var found []ops.Finding
	if heap {
		for _, s := range t.sites() {
			if s.counts() {
				found = append(found, t.byHeap(s))
			} else if f := t.byOwner(s); f != nil {
				found = append(found, *f)
			}
		}
	}
	if c != nil {
		found = append(found, t.ticking(c, found)...)
	}
	var live int64
	for _, s := range t.all {
		live += s.after.objects
	}
	looked := rule.Say("about %s live objects of timers", "存活的 timer 物件約 %s 個", rule.Count(about(float64(live))))
	if res := rule.Found(looked, found...); len(res.Findings) > 0 {
		return res
	}
	return rule.OK(rule.Say("%s: at no line did they grow by more than chance", "%s，沒有任何一行的成長超出誤差", looked))
}

// timerSite is the timers that one line of the program makes.
type timerSite struct {
	heapSite
	maker   string // "time.AfterFunc"
	context bool
	// with is the same of the timers together with what else is allocated at the
	// line of an AfterFunc: its function, and what that refers to.
	with heapSite
	// listed is the same together with the runtime's list of timers.
	listed heapSite
	// room is how many timers the largest of the runtime's lists that grew here can
	// hold; 0 = not known.
	room int64
}

type timerSearch struct {
	e    *evidence.Evidence
	all  []*timerSite
	heap *heapView // nil = not looked at yet
}

const (
	// largestTimer is the largest object that makes up a timer or a context, in
	// bytes: what is larger is the runtime's list of them.
	largestTimer = 1 << 10
	// listEntry is what a timer takes in that list, in bytes.
	listEntry = 16
	// chance is how often a line whose timers are let go as fast as they are made
	// may look as if they were not.
	chance = 0.01
	// witnessed is the same where the list of timers grows there, too.
	witnessed = 0.05
)

func (t *timerSearch) sites() []*timerSite {
	by := map[*evidence.Frame]*timerSite{}
	t.eachRow(func(r *evidence.Row, objects, bytes int64, of func(*heapSite) *amount) {
		at := r.Stack.Outermost(makesTimer)
		if c := r.Stack.Outermost(ofContext); c > at {
			at = c
		}
		f := r.Stack.UserAbove(at)
		if at < 0 || f == nil || f.Origin != evidence.OwnCode || r.Stack[:at].Index(func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode }) >= 0 {
			return
		}
		s := by[f]
		if s == nil {
			s = &timerSite{heapSite: heapSite{frame: f, stack: r.Stack}, maker: r.Stack[at].Plain(), context: ofContext(r.Stack[at])}
			by[f] = s
			t.all = append(t.all, s)
		}
		of(&s.listed).add(objects, bytes)
		if size := bytes / max(1, objects); size > largestTimer {
			if of(&s.heapSite) == &s.after {
				s.room = max(s.room, size/listEntry)
			}
			return
		}
		of(&s.heapSite).add(objects, bytes)
		of(&s.with).add(objects, bytes)
	})
	t.eachRow(func(r *evidence.Row, objects, bytes int64, of func(*heapSite) *amount) {
		// The function of an AfterFunc is allocated by the line itself.
		i := r.Stack.Index(func(f *evidence.Frame) bool { return !allocators(f) })
		if i < 0 {
			return
		}
		if s := by[r.Stack[i]]; s != nil && s.maker == "time.AfterFunc" {
			of(&s.with).add(objects, bytes)
		}
	})
	slices.SortStableFunc(t.all, func(a, b *timerSite) int { return cmp.Compare(b.with.growth(), a.with.growth()) })
	return t.all
}

// eachRow visits what was live at the window's ends and what was made in between.
func (t *timerSearch) eachRow(visit func(r *evidence.Row, objects, bytes int64, of func(*heapSite) *amount)) {
	take := func(p *evidence.Profile, objects, bytes string, of func(*heapSite) *amount) {
		o, b := p.Type(objects), p.Type(bytes)
		if o < 0 || b < 0 {
			return
		}
		for i := range p.Rows {
			if r := &p.Rows[i]; r.Values[b] != 0 {
				visit(r, r.Values[o], r.Values[b], of)
			}
		}
	}
	take(t.e.Heap, "inuse_objects", "inuse_space", func(s *heapSite) *amount { return &s.after })
	take(t.e.HeapBefore, "inuse_objects", "inuse_space", func(s *heapSite) *amount { return &s.before })
	if t.e.Allocs != nil && !t.e.Allocs.Whole {
		take(t.e.Allocs, "alloc_objects", "alloc_space", func(s *heapSite) *amount { return &s.allocated })
	}
}

// turnover is how many samples were taken within the window, and how many of them, or of
// those before, are gone at its end.
func (s *heapSite) turnover() (made, gone int) {
	m := s.allocated.samples
	g := m - (s.after.samples - s.before.samples)
	return int(math.Round(m)), max(0, int(math.Round(g)))
}

// counts reports a growth beyond chance.
func (s *timerSite) counts() bool {
	if s.with.allocated.samples <= 0 {
		return float64(s.growth()) >= 3*max(sampleRate, s.deviation(false))
	}
	made, gone := s.turnover()
	if 2*gone > made {
		return false
	}
	c := byChance(s.with.turnover())
	if c < chance {
		return true
	}
	// The list that holds them grows where they do: a second witness.
	grew := float64(s.listed.growth())
	return c < witnessed && grew >= max(leastGrowth, 3*s.listed.deviation(true))
}

// byChance is how likely it is that no more are gone than that, of so many that
// were made, if as many go as are made: each is one or the other, like the throw
// of a coin.
func byChance(made, gone int) float64 {
	if gone >= made {
		return 1
	}
	n := made + gone
	p, sum := math.Pow(0.5, float64(n)), 0.0
	for k := range gone + 1 {
		sum += p
		p *= float64(n-k) / float64(k+1)
	}
	return sum
}

// goMinor is the minor version of Go; 0 = unknown.
func goMinor(e *evidence.Evidence) int {
	v := e.Instance.Build.GoVersion
	if e.Runtime != nil {
		v = cmp.Or(e.Runtime.Build.GoVersion, v)
	}
	v = strings.TrimPrefix(v, "go1.")
	if i := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		v = v[:i]
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0
	}
	return n
}

func (t *timerSearch) byHeap(s *timerSite) ops.Finding {
	more := float64(s.after.objects - s.before.objects)
	rate := max(0, more) / heapWindow(t.e).Seconds()
	f := ops.Finding{Rule: "timer-leak", Scenario: scenario, Score: ops.Score(rate/500+float64(s.after.objects)/100_000, 1), Confidence: ops.Medium}
	if s.with.growth() >= 10*sampleRate && s.allocated.bytes > 0 {
		f.Confidence = ops.High
	}
	if age := processAge(t.e); age < young {
		f.Score = min(f.Score, 74)
		text := rule.Say("how old the process is, is not known: in its first minutes, timers that run for long only become more", "不知道行程啟動多久：剛啟動的幾分鐘裡，時間長的 timer 本來就只增不減")
		if age > 0 {
			text = rule.Say("the process is only %s old: timers that run for long still only become more", "行程才啟動 %s：時間長的 timer 此時本來就只增不減", rule.Dur(age))
		}
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindRuntime, Metric: "process_age", Value: age.Seconds(), Unit: "s", Text: text})
	}
	f.Where = append([]ops.Place{rule.At(ops.RoleAlloc, s.frame)}, callers(s.stack, s.frame)...)
	name, line := rule.Short(s.frame), rule.Line(s.frame)
	if s.context {
		f.Title = rule.Say("`%s` does not cancel contexts that have a deadline (%s)", "`%s` 建立了有期限的 context 卻沒有取消（%s）", name, line)
	} else {
		f.Title = rule.Say("`%s` makes timers that are not stopped: %[3]s (%[2]s)", "`%s` 建立的 timer 沒有停止：%[3]s（%[2]s）", name, line, s.maker)
	}
	f.Summary = rule.Say("About %s objects of timers from %s are live, %s more than %s before.", "來自 %[2]s 的 timer 物件約有 %[1]s 個存活，比 %[4]s 前多了約 %[3]s 個。",
		rule.Count(about(float64(s.after.objects))), line, rule.Count(about(more)), rule.Dur(heapWindow(t.e)))
	f.Explanation, f.Remedies = t.words(s)
	f.Evidence = []ops.Proof{{
		Artifact: ops.KindHeap, Metric: "inuse_objects_growth", Value: more, Unit: "objects",
		Text: rule.Say("live objects that package time made for %s: about %s, before %s", "time 套件為 %s 建立、仍存活的物件：約 %s 個，之前 %s 個", line, rule.Count(about(float64(s.after.objects))), rule.Count(about(float64(s.before.objects)))),
	}}
	if made, gone := s.with.turnover(); made > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindAllocs, Metric: "kept_share", Value: max(0, 1-float64(gone)/float64(made)), Unit: "ratio",
			Text: rule.Say("of %s samples of what was made there within the window, %s are gone", "時窗內在那裡建立的，取樣到 %s 次，其中 %s 次已經釋放", rule.Count(int64(made)), rule.Count(int64(gone))),
		})
	}
	if s.room >= fewTimers {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindHeap, Metric: "timer_list", Value: float64(s.room), Unit: "timers",
			Text: rule.Say("the runtime's list of pending timers, which grew here, has room for %s on one processor alone", "runtime 的 timer 清單在這裡變大，光是一個處理器就有 %s 個位置", rule.Count(s.room)),
		})
	}
	if strings.HasSuffix(s.maker, "After") && !s.context {
		f.Score = min(f.Score, 60)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindHeap, Metric: "bounded", Text: rule.Say("each of these goes when it fires: the number is bounded by how long they are", "這些 timer 觸發後就會消失：數量受等待時間限制")})
	}
	return f
}

// fewTimers are as many as a program may well have pending.
const fewTimers = 4096

// byOwner finds timers that are too small for the profile to count by what they
// hold: the function that makes them, or its caller, also makes objects, which pile
// up, and none of the timers that the profile does show is let go.
func (t *timerSearch) byOwner(s *timerSite) *ops.Finding {
	made, gone := s.with.turnover()
	if s.maker != "time.AfterFunc" || s.with.growth() < 0 || s.with.after.samples < 1 || 4*gone > made {
		return nil
	}
	if t.heap == nil {
		t.heap = viewHeap(t.e)
	}
	seconds := heapWindow(t.e).Seconds()
	for _, o := range t.heap.sites {
		if !t.holds(s, o) || o.frame == s.frame {
			continue
		}
		o = t.heap.core(t.e, o)
		rate, deviations := float64(o.growth())/seconds, 3.0
		tr, _ := liveTrend(t.e, rate)
		if tr == rising {
			deviations = 2 // as where the growth itself is told
		}
		if float64(o.growth()) < max(leastGrowth, deviations*o.deviation(t.heap.allocs)) || o.kept() < 0.7 {
			continue
		}
		if tr == settled || tr == falling {
			return nil
		}
		f := t.byHeap(s)
		f.Score, f.Confidence = min(74, ops.Score(rate, hourly)), ops.Low
		f.Where = append(f.Where, rule.At(ops.RoleAlloc, o.frame))
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindHeap, Metric: "inuse_space_growth", Value: float64(o.growth()), Unit: "bytes",
			Text: rule.Say("what `%s` makes piles up at %s as well: %s more within the window", "`%s` 在 %s 建立的物件也越積越多：時窗內多了 %s", rule.Short(o.frame), rule.Line(o.frame), rule.Bytes(o.growth())),
		})
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindHeap, Metric: "samples", Value: s.after.samples, Unit: "samples",
			Text: rule.Say("the timers themselves are too small to count: something else may hold the objects as well", "timer 本身太小，數不準：物件也可能是被別的東西留住")})
		return &f
	}
	return nil
}

// holds reports whether what is made at a line may be what the timers refer to: it
// is made in the same function, or in the one that calls it, where not one of the
// timers may be gone, or about as many are live as there are objects, each of which then
// has its own.
func (t *timerSearch) holds(s *timerSite, o *heapSite) bool {
	if o.frame.Function == s.frame.Function {
		return true
	}
	made, gone := s.with.turnover()
	i := s.stack.Index(func(f *evidence.Frame) bool { return f == s.frame })
	caller := s.stack.UserAbove(i)
	alike := s.after.samples >= 2 && s.after.objects <= 4*o.after.objects && o.after.objects <= 4*s.after.objects
	return (made >= 3 && gone == 0 || alike) && i >= 0 && caller != nil && caller.Origin == evidence.OwnCode && o.frame.Function == caller.Function
}

func (t *timerSearch) words(s *timerSite) (why ops.Text, remedies []ops.Text) {
	switch {
	case s.context:
		return rule.Say("A context with a timeout or deadline has a timer, and its parent keeps it, until the time is up or its cancel function is called. Where cancel is not called, each stays for its whole timeout.",
				"有逾時或期限的 context 會帶一個 timer，並被父 context 記住，直到時間到或呼叫 cancel。沒有呼叫 cancel，就會留滿整個逾時時間。"),
			[]ops.Text{rule.Say("Keep the cancel function and call it: ctx, cancel := context.WithTimeout(…); defer cancel(). go vet (lostcancel) finds where it is dropped.", "保留 cancel 並呼叫它：ctx, cancel := context.WithTimeout(…); defer cancel()。go vet（lostcancel）能找出被丟掉的地方。")}
	case s.maker == "time.AfterFunc":
		return rule.Say("The runtime keeps an AfterFunc, its function and all that this refers to until it fires or is stopped. Those that are set far ahead, or set themselves again, pile up with each session or request.",
				"AfterFunc 在觸發或停止之前，runtime 會一直留著它的函式與函式參考到的一切。設得很遠、或會重新設定自己的，就會隨 session 或請求越積越多。"),
			[]ops.Text{
				rule.Say("Keep the *time.Timer and call Stop when the session or request ends.", "保留 *time.Timer，在 session 或請求結束時呼叫 Stop。"),
				rule.Say("For many deadlines: one ticker that looks for what has expired.", "期限很多時：改用一個 ticker 定期檢查誰到期。"),
			}
	}
	why = rule.Say("Timers and tickers of this line are still referred to by something that was not let go, so that the collector leaves them.", "這一行建立的 timer 或 ticker 還有人參考著，垃圾回收器不會收走。")
	if n := goMinor(t.e); n > 0 && n < 23 {
		why = rule.Say("Before Go 1.23 (this is 1.%s) a ticker that is not stopped stays for ever, and a timer until it fires, whether or not anything refers to it.", "Go 1.23 之前（這裡是 1.%s），沒有 Stop 的 ticker 會永遠留著，timer 則留到觸發為止，不論有沒有人參考。", strconv.Itoa(n))
	}
	return why, []ops.Text{
		rule.Say("Stop what is made: t := time.NewTicker(…); defer t.Stop().", "建立就要停止：t := time.NewTicker(…); defer t.Stop()。"),
		rule.Say("In a loop, make one timer and Reset it, instead of time.After in every turn.", "迴圈裡建一個 timer 重複 Reset，不要每一輪都 time.After。"),
		rule.Say("From Go 1.23 on, timers that nothing refers to are collected.", "升級到 Go 1.23 以上，沒人參考的 timer 會被回收。"),
	}
}

// ticking are goroutines that become more, never end, and are woken by timers
// alone: the ticker of each goes on as well.
func (t *timerSearch) ticking(c *crowds, known []ops.Finding) (out []ops.Finding) {
	l := &leakSearch{e: t.e, c: c}
	for _, x := range c.all {
		s := l.suspect(x)
		if s == nil || !s.growing || !s.ticking || x.ended == 0 || 5*x.timed < 4*x.ended {
			continue
		}
		f := l.finding(s)
		f.Rule = "timer-leak"
		if made := t.madeFor(c, x); made != nil {
			f.Where = slices.Insert(f.Where, 0, rule.At(ops.RoleAlloc, made))
		}
		if slices.ContainsFunc(append(known, out...), func(k ops.Finding) bool { return k.ID() == f.ID() }) {
			continue
		}
		f.Title = rule.Say("`%s` waits for a ticker for ever: %[3]s goroutines (%[2]s)", "`%s` 永遠在等 ticker：%[3]s 個 goroutine（%[2]s）", rule.Short(x.place), rule.Line(x.place), rule.Count(int64(x.after)))
		f.Explanation = rule.Say("Each of these goroutines is woken by its own timer, does its turn and waits again. Nothing stops the ticker or ends the goroutine, so that both stay when the session or request that they were made for is long gone. A ticker that a goroutine waits for is never collected, in no version of Go.",
			"每個 goroutine 都被自己的 timer 喚醒、做一輪、再繼續等。沒有人停止 ticker 或結束 goroutine，原本的 session 或請求早就結束了，兩者卻還在。只要有 goroutine 在等，任何版本的 Go 都不會回收它的 ticker。")
		f.Remedies = append([]ops.Text{rule.Say("Stop the ticker and end the loop together: defer t.Stop(), and a select with case <-ctx.Done(): return beside case <-t.C.", "ticker 與迴圈要一起結束：defer t.Stop()，並在 case <-t.C 之外加上 case <-ctx.Done(): return。")}, f.Remedies[1:]...)
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "timer_wakes", Value: float64(x.timed), Unit: "wakes", Share: min(1, float64(x.timed)/float64(x.ended)),
			Text: rule.Say("in the trace of %s timers woke them %s times", "在 %s 的 trace 裡，timer 喚醒了它們 %s 次", rule.Dur(c.traced), rule.Count(x.timed)),
		})
		out = append(out, f)
	}
	return out
}

// madeFor is the line that makes the ticker of a goroutine: one in its own
// function, or in the one that starts it.
func (t *timerSearch) madeFor(c *crowds, x *crowd) *evidence.Frame {
	created := c.created(t.e, x)
	var best *timerSite
	for _, s := range t.all {
		mine := s.frame.Function == x.place.Function || created != nil && s.frame.Function == created.Function
		if mine && (best == nil || s.after.bytes+s.allocated.bytes > best.after.bytes+best.allocated.bytes) {
			best = s
		}
	}
	if best == nil {
		return nil
	}
	return best.frame
}
