package locks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// called is what the lock is called in a sentence.
func (l *lock) called() ops.Text {
	kind, once, file := l.kind()
	switch {
	case once:
		return rule.Say("a sync.Once", " sync.Once ")
	case file:
		return rule.Say("the lock of an open file", "檔案的寫入鎖")
	case kind == trace.LockWrite:
		return rule.Say("an RWMutex", "讀寫鎖（RWMutex）")
	}
	return rule.Say("a mutex", "互斥鎖（mutex）")
}

// places adds to the line to change those that wait, unlock, and do the I/O.
type places []ops.Place

func (p *places) add(role ops.Role, f *evidence.Frame) {
	if f == nil || f.Origin == evidence.RuntimeCode {
		return
	}
	x := rule.At(role, f)
	for _, o := range *p {
		if o.Line == x.Line && o.File == x.File {
			return
		}
	}
	*p = append(*p, x)
}

// maxPlaces is how many lines that wait for one lock a finding names.
const maxPlaces = 4

// around adds the places of the lock itself: first those in the function of f.
func (p *places) around(v *verdict, f *evidence.Frame) {
	same := func(g *evidence.Frame) bool { return f != nil && g != nil && outer(g) == outer(f) }
	for _, s := range v.sites {
		if same(s.user()) {
			p.add(ops.RoleWait, s.user())
		}
	}
	for i, s := range v.sites {
		if u := s.user(); i < maxPlaces && u != nil && !same(u) && (u.Origin == evidence.OwnCode || len(*p) == 0) {
			p.add(ops.RoleWait, s.user())
		}
	}
	for _, r := range v.releases {
		if same(r.user()) {
			p.add(ops.RoleHold, r.user())
			return
		}
	}
	if len(v.releases) > 0 {
		p.add(ops.RoleHold, v.releases[0].user())
	}
}

// inner adds the line of the program's own code that waits in the end, if that is
// not the line to change.
func (p *places) inner(v *verdict) {
	if v.held.stack == nil || v.held.at < 0 {
		return
	}
	if f := v.held.stack.User(); f != nil && f.Origin == evidence.OwnCode {
		p.add(v.held.does.role(), f)
	}
}

// waitProofs is what each artifact says of the waits.
func (m *model) waitProofs(v *verdict) (out []ops.Proof) {
	if i := m.traceImpact(v.lock); i.count > 0 {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "wait_seconds", Value: i.total.Seconds(), Unit: "s",
			Text: rule.Say("%s waits of a millisecond and more in %s: %s on average, %s at most; at any moment %s waited",
				"%[2]s 內有 %[1]s 次 1 毫秒以上的等待：平均 %[3]s，最長 %[4]s；任一時刻平均%[5]s 在等",
				rule.Count(i.count), rule.Dur(m.e.Trace.Duration), rule.Dur(i.wait), rule.Dur(i.longest), rule.Goroutines(i.waiters))})
	}
	if i := m.blockImpact(v.lock); i.count > 0 {
		out = append(out, ops.Proof{Artifact: ops.KindBlock, Metric: "delay_seconds", Value: i.total.Seconds(), Unit: "s", Share: share(i.total, m.e.Block),
			Text: rule.Say("%s waits at its Lock ended %[3]s, after %[2]s on average", "%[3]s有 %[1]s 次 Lock 等待結束，平均 %[2]s", rule.Count(i.count), rule.Dur(i.wait), m.since())})
	}
	if i := m.mutexImpact(v.lock); i.count > 0 {
		r := v.releases[0]
		for _, x := range v.releases {
			if x.delay > r.delay {
				r = x
			}
		}
		out = append(out, ops.Proof{Artifact: ops.KindMutex, Metric: "delay_seconds", Value: i.total.Seconds(), Unit: "s", Share: share(i.total, m.e.Mutex),
			Text: rule.Say("its holders made others wait %s in all, most of it by the Unlock in %s (%s)", "持有者總共讓其他 goroutine 等了 %s，主要由 %s（%s）的 Unlock 造成",
				rule.Dur(i.total), rule.Short(r.user()), rule.Line(r.user()))})
	}
	return append(out, m.sceneProofs(v)...)
}

// since is the time that profiles count.
func (m *model) since() ops.Text {
	if m.lifelong {
		return rule.Say("since the process began", "從行程啟動至今")
	}
	return rule.Say("in the window", "時窗內")
}

// crowdedScene is the snapshot in which the most wait, with how many; at is −1 if nobody does.
func (m *model) crowdedScene(v *verdict, earlier bool) (best, at int) {
	at = -1
	for k, sc := range m.scenes {
		n := 0
		for _, s := range v.sites {
			n += s.waiting[k]
		}
		if n > best && sc.kind != ops.KindTrace && sc.earlier == earlier {
			best, at = n, k
		}
	}
	return best, at
}

// sceneProofs is how many wait in the snapshot that shows the most: of those that a
// reader is led to, if it shows any.
func (m *model) sceneProofs(v *verdict) []ops.Proof {
	best, at := m.crowdedScene(v, false)
	if at < 0 {
		best, at = m.crowdedScene(v, true)
	}
	if at < 0 {
		return nil
	}
	total := 0
	for _, a := range m.scenes[at].actors {
		total += a.count
	}
	p := ops.Proof{Artifact: m.scenes[at].kind, Metric: "waiting_goroutines", Value: float64(best), Unit: "goroutines", Share: float64(best) / float64(max(total, best)),
		Text: rule.Say("%s of %s goroutines of a snapshot wait for it, at %s", "快照的 %[2]s 個 goroutine 中有 %[1]s 個在等它（%[3]s）", rule.Count(int64(best)), rule.Count(int64(total)), v.linesOf(at))}
	if v.sighted && v.fromScenes && v.seen.change != nil {
		p.Text = rule.Say("%s of %s goroutines of a snapshot wait for it at %s, while %s is at %s and %s", "快照的 %[2]s 個 goroutine 中有 %[1]s 個在等它（%[3]s），而 %[4]s 停在 %[5]s，正在%[6]s",
			rule.Count(int64(best)), rule.Count(int64(total)), v.linesOf(at), rule.Short(v.seen.change), rule.Line(v.seen.change), v.seen.does.words(v.seen.wait))
	}
	return []ops.Proof{p}
}

// linesOf are those at which goroutines of a snapshot wait for the lock, with how many
// there are at each if there are several.
func (v *verdict) linesOf(scene int) ops.Text {
	var lines []string
	n := map[string]int{}
	for _, s := range v.sites {
		if s.waiting[scene] == 0 {
			continue
		}
		line := rule.Line(s.user())
		if n[line] == 0 {
			lines = append(lines, line)
		}
		n[line] += s.waiting[scene]
	}
	if len(lines) < 2 {
		return rule.Say("%s", "%s", strings.Join(lines, ""))
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(n[b], n[a]) })
	en, zh := make([]string, len(lines)), make([]string, len(lines))
	for i, line := range lines {
		en[i], zh[i] = fmt.Sprintf("%s (%d)", line, n[line]), fmt.Sprintf("%s 有 %d 個", line, n[line])
	}
	return ops.Text{EN: strings.Join(en, ", "), ZH: strings.Join(zh, "、")}
}

func share(d time.Duration, p *evidence.Profile) float64 {
	if all := p.Total(p.Type("delay")); all > 0 {
		return min(1, float64(d)/float64(all))
	}
	return 0
}

// holdProof is what the trace says of the holds; nil = nothing.
func (v *verdict) holdProof() []ops.Proof {
	if !v.traced {
		return nil
	}
	h := v.trace
	what := v.held.does.words(v.held.wait)
	part := h.most.share
	if v.held.does == idle || h.most.does == running {
		what, part = running.words(v.held.wait), h.running
	}
	p := ops.Proof{Artifact: ops.KindTrace, Metric: "hold_seconds", Value: h.mean.Seconds(), Unit: "s", Share: part}
	n := rule.Count(h.count)
	if h.exact {
		p.Text = rule.Say("%s holds of %s on average, both ends seen; %s of that time the holder %s", "觀察到 %s 次完整的持有，平均 %s；其中 %s 的時間持有者在%s", n, rule.Dur(h.mean), rule.Pct(part), what)
	} else {
		p.Text = rule.Say("%s holds of at least %s on average; %s of that time the holder %s", "觀察到 %s 次持有，平均至少 %s；其中 %s 的時間持有者在%s", n, rule.Dur(h.mean), rule.Pct(part), what)
	}
	return []ops.Proof{p}
}

// limits is what speaks against a finding, or limits it.
func (m *model) limits(v *verdict) (out []ops.Proof) {
	if l := m.e.Lost(ops.KindTrace); l != nil && m.e.Trace != nil {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "loss", Text: rule.Say("the trace is not whole: %s", "trace 不完整：%s", l.Message)})
	}
	if m.lifelong {
		out = append(out, ops.Proof{Artifact: v.impact.kind, Metric: "lifelong", Text: rule.Say("the profile counts since the process began: this may be about last week", "這份 profile 從行程啟動就開始累計：說的可能是上週的事")})
	}
	if m.e.Trace == nil {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "missing", Text: rule.Say("there is no trace: how long the lock is held is not known", "沒有 trace：無法得知鎖被持有多久")})
	}
	if conflicts := v.overlapping(); v.several() {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "overlapping_holds", Value: float64(conflicts), Unit: "holds",
			Text: rule.Say("%s holds overlapped another: these are several locks that are locked at one line", "%s 次持有互相重疊：同一行其實鎖了好幾把鎖", rule.Count(conflicts))})
	}
	if b := m.blockImpact(v.lock); b.count > 0 && m.e.Mutex != nil && !m.e.Mutex.Whole && m.mutexImpact(v.lock).count == 0 {
		out = append(out, ops.Proof{Artifact: ops.KindMutex, Metric: "contentions", Unit: "contentions",
			Text: rule.Say("the mutex profile has nothing of it: Go does not charge the Unlocks of a lock whose queue stood before profiling began and never emptied", "mutex profile 沒有紀錄：若佇列在開始量測前就存在且從未清空，Go 不會把等待計入 Unlock")})
	}
	if v.blame < 0.8 {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "runnable_share", Value: 1 - v.blame, Unit: "ratio", Share: 1 - v.blame,
			Text: rule.Say("for %s of the time its owner was ready to run and had no processor: that part is the CPU's shortage, not the lock's", "有 %s 的時間，輪到持鎖的 goroutine 可執行卻分不到 CPU：這部分是 CPU 不足，不是鎖的問題", rule.Pct(1-v.blame))})
	}
	return out
}

// overlapping counts holds that overlapped another.
func (v *verdict) overlapping() (n int64) {
	for _, c := range v.classes {
		n += c.Conflicts
	}
	return n
}

// several reports whether what is locked at one line is seen to be several locks: a
// twentieth of the holds may overlap by how a trace is read.
func (v *verdict) several() bool {
	var exact int64
	for _, c := range v.classes {
		exact += c.Exact.Count
	}
	n := v.overlapping()
	return n > 0 && n*20 > exact
}

// confidence by how many sources agree.
func (m *model) confidence(v *verdict) ops.Confidence {
	n := 0
	for _, yes := range []bool{v.fromTrace, v.fromScenes, v.fromMutex} {
		if yes {
			n++
		}
	}
	lost := m.e.Trace != nil && m.e.Lost(ops.KindTrace) != nil
	switch {
	case v.fromTrace && n >= 2 && !lost && (v.trace.exact && v.trace.waiting >= surely || v.fromScenes && v.seen.agreeing >= 2):
		return ops.High
	case v.fromTrace, n >= 2, v.fromScenes && v.seen.proof == pastLock && v.seen.agreeing >= 2:
		return ops.Medium
	}
	return ops.Low
}
