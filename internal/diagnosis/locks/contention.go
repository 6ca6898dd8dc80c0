package locks

import (
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// contention finds locks that goroutines queue for because their holders compute,
// or because too much happens under one lock.
//
// Evidence: the waits of a millisecond and more in the trace, or those at Lock in
// the block profile and those that an Unlock is blamed for in the mutex profile;
// whose holds they are, by where the longest of them end; what the holder does,
// by the trace and by the CPU profile's lines between Lock and Unlock.
//
// Not to be confused with a busy and healthy lock, whose waits are below a
// millisecond however many there are; with holders who wait for something
// (lock-held-across-io); with a lack of processors, where the owner of the lock is
// ready to run most of the time: that share is taken off. Snapshots alone cannot
// tell a busy lock from a slow one, so that they make a notice at most; so does
// what counts since the process began, where nothing else is there: it may be about
// last week. What is computed may have a rule of its own, such as password hashing:
// then this is its effect. Scores: see wait75.
var contention = rule.Rule{
	ID: Contention, Scenario: 4,
	Name:  rule.Say("goroutines queue for a lock", "goroutine 排隊搶鎖"),
	Judge: judgeContention,
}

func judgeContention(e *evidence.Evidence) rule.Result {
	if missing(e) && (e.Mutex == nil || len(e.Mutex.Rows) == 0) && (e.Block == nil || len(e.Block.Rows) == 0) {
		return rule.Needs(e, ops.KindTrace, ops.KindMutex)
	}
	m := build(e)
	var out []ops.Finding
	all := m.judge()
	for _, v := range all {
		if v.nature == contended && v.score > 0 {
			out = append(out, m.contentionFinding(v))
		}
	}
	return m.ending(all, out)
}

// culprit is the function whose holds are the longest, and its lines.
type culprit struct {
	lock, unlock *evidence.Frame // nil = not known
	hot          *evidence.Frame // the line in it that takes most CPU
	callee       *evidence.Frame // what that line calls
	cpu          float64         // share of the process's CPU
}

func (c culprit) frame() *evidence.Frame {
	if c.lock != nil {
		return c.lock
	}
	return c.unlock
}

func (m *model) culprit(v *verdict) (c culprit) {
	for _, r := range v.releases {
		if r.held > 0 || r.delay > 0 {
			c.unlock = r.user()
			break
		}
	}
	for _, s := range v.sites {
		if u := s.user(); c.unlock == nil || outer(u) == outer(c.unlock) {
			c.lock = u
			break
		}
	}
	if v.held.at >= 0 && v.stuck > 0 {
		c.hot = v.held.change
	}
	m.hottest(&c)
	return c
}

// hottest finds the line between Lock and Unlock that takes most CPU.
func (m *model) hottest(c *culprit) {
	p, f := m.e.CPU, c.frame()
	if p == nil || f == nil {
		return
	}
	typ := p.Type("cpu")
	lines := p.By(typ, func(s evidence.Stack) *evidence.Frame {
		i := s.Index(func(g *evidence.Frame) bool { return outer(g) == outer(f) })
		if i < 0 || c.lock != nil && s[i].Line < c.lock.Line || c.lock != nil && c.unlock != nil && c.unlock.Line > c.lock.Line && s[i].Line > c.unlock.Line {
			return nil
		}
		return s[i]
	})
	if len(lines) == 0 {
		return
	}
	all := p.Total(typ)
	c.cpu = float64(lines[0].Value) / float64(max(1, all))
	if c.cpu < 0.05 {
		c.cpu = 0
		return
	}
	c.hot = lines[0].Frame
	if s := lines[0].Rows[0].Stack; s[0] != c.hot {
		c.callee = s[s.Index(func(g *evidence.Frame) bool { return g == c.hot })-1]
	}
}

func (m *model) contentionFinding(v *verdict) ops.Finding {
	c := m.culprit(v)
	f := ops.Finding{Rule: Contention, Scenario: 4, Score: v.score, Confidence: m.contentionConfidence(v)}
	at := c.frame()
	var where places
	if c.lock != nil {
		where.add(ops.RoleWait, c.lock)
	} else {
		where.add(ops.RoleHold, c.unlock)
	}
	where.add(ops.RoleCall, c.hot)
	where.around(v, at)
	where.add(ops.RoleHold, c.unlock)
	f.Where = where
	f.Summary = m.summary(v)
	f.Title, f.Explanation = m.contentionWords(v, c)
	f.Remedies = contentionRemedies(v, c)
	f.Evidence = append(v.holdProof(), m.waitProofs(v)...)
	if c.cpu > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindCPU, Metric: "cpu_share", Value: c.cpu, Unit: "ratio", Share: c.cpu,
			Text: rule.Say("%s of the CPU time is at %s, while the lock is held", "%s 的 CPU 時間花在 %s，而且是在持鎖期間", rule.Pct(c.cpu), rule.Line(c.hot))})
	}
	f.CounterEvidence = m.limits(v)
	if f.Confidence == ops.Low {
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindMutex, ops.KindCPU}}
	}
	return f
}

func (m *model) contentionConfidence(v *verdict) ops.Confidence {
	kinds := 0
	if m.traceImpact(v.lock).score() >= 25 {
		kinds++
	}
	if m.blockImpact(v.lock).score() >= 25 || m.mutexImpact(v.lock).score() >= 25 {
		kinds++
	}
	if len(m.sceneProofs(v)) > 0 {
		kinds++
	}
	switch {
	case v.impact.wait == 0 || kinds == 0 || m.lifelong:
		return ops.Low
	case kinds >= 2 && v.traced && m.e.Lost(ops.KindTrace) == nil:
		return ops.High
	}
	return ops.Medium
}

func (m *model) contentionWords(v *verdict, c culprit) (title, explanation ops.Text) {
	at := c.frame()
	where := rule.Line(at)
	hot := rule.Say("", "")
	if c.hot != nil {
		hot = rule.Say(" Most of the CPU in it goes to %s.", "其中 CPU 主要花在 %s。", rule.Line(c.hot))
		if c.callee != nil {
			hot = rule.Say(" Most of the CPU in it goes to %s, at %s.", "其中 CPU 主要花在 %s（%s）。", rule.Short(c.callee), rule.Line(c.hot))
		}
	}
	if v.traced && v.trace.running >= mostly && v.trace.mean > 0 {
		title = rule.Say("goroutines queue for %s that %s holds while it computes (%s)", "goroutine 排隊搶 %[2]s 持有的%[1]s，它在持鎖時做運算（%[3]s）", v.called(), rule.Code(at), where)
		return title, rule.Say("%[1]s keeps the lock for %[2]s at a time and computes for %[3]s of it; only one goroutine can do that at a time, on one core, while the others stand at Lock.%[4]s",
			"%[1]s 每次持鎖 %[2]s，其中 %[3]s 的時間在運算；同一時間只有一個 goroutine、一個核心能做這件事，其他的都停在 Lock。%[4]s", rule.Short(at), rule.Dur(v.trace.mean), rule.Pct(v.trace.running), hot)
	}
	title = rule.Say("goroutines queue for %s that %s takes (%s)", "goroutine 排隊搶 %[2]s 要的%[1]s（%[3]s）", v.called(), rule.Code(at), where)
	return title, rule.Say("Whoever needs the lock waits until everybody before has been through the code between Lock and Unlock: it is held too long, or for too many things.%s",
		"要這把鎖的人，得等前面的人全都走完 Lock 到 Unlock 之間的程式碼：持有太久，或太多事情共用同一把鎖。%s", hot)
}

func contentionRemedies(v *verdict, c culprit) (out []ops.Text) {
	if c.hot != nil {
		out = append(out, rule.Say("Move what %s computes out of the lock: compute first, Lock only to read or store the result.", "把 %s 的運算移到鎖外：先算好，只在讀取或寫回結果時才 Lock。", rule.Line(c.hot)))
	} else {
		out = append(out, rule.Say("Shrink the critical section at %s: only what touches the shared data belongs between Lock and Unlock.", "縮小 %s 的鎖範圍（Critical Section）：Lock 與 Unlock 之間只放會碰到共享資料的部分。", rule.Line(c.frame())))
	}
	if !v.several() {
		out = append(out, rule.Say("Split the lock: one per key (per room, per wallet), so that only those who share data wait for each other (sharding).", "改用分片鎖（Sharding）：每個房間或每個錢包一把鎖，讓真正共享資料的人才互相等待。"))
	}
	if len(v.sites) > 1 {
		out = append(out, rule.Say("Where most only read, publish a copy through an atomic.Pointer, or use an RWMutex.", "若多半只是讀取，可用 atomic.Pointer 發佈唯讀副本，或改用 RWMutex。"))
	}
	return out
}
