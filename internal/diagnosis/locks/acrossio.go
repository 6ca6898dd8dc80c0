package locks

import (
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// heldAcrossIO finds locks that are held while their holder waits: for a
// database, the network, a file, a timer, a channel. Whoever wants the lock then
// waits for the same, one after the other, while the CPU idles.
//
// Evidence, from three sources of which each can do without the others: the
// trace, where the Unlock that ends a wait belongs to a goroutine whose own waits
// since its Lock are known; the mutex profile, whose Unlock is in a function that
// the goroutine snapshots show waiting; the snapshots alone, with a crowd at a
// Lock and somebody behind it. The more agree the surer. From the trace alone at
// least half of the time that the lock is held, less that in which its holder waited
// for a processor, has to be such waits, in the function that locks or below it: planted shapes have 0.84 to 0.99 of it, I/O
// beside the lock 0.
//
// Not to be confused with I/O after the Unlock (its line is behind that of the
// Unlock, and there are as many who do it as wait), with a sync.Cond, whose Wait
// gives the lock back, with a pool's own waiting for connections, and with
// holders who compute (lock-contention). Scores: see wait75.
var heldAcrossIO = rule.Rule{
	ID: HeldAcrossIO, Scenario: 4,
	Name:  rule.Say("a lock is held across I/O", "持鎖期間執行 I/O"),
	Judge: judgeHeldAcrossIO,
}

func judgeHeldAcrossIO(e *evidence.Evidence) rule.Result {
	if missing(e) {
		return rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
	}
	m := build(e)
	var out []ops.Finding
	all := m.judge()
	for _, v := range all {
		if v.nature == acrossIO {
			out = append(out, m.acrossIOFinding(v))
		}
	}
	return m.ending(all, out)
}

// unknown reports whether there is a lock of which only is known that somebody
// waits for it.
func (m *model) unknown(all []*verdict) bool {
	if m.e.Trace != nil {
		return false
	}
	for _, v := range all {
		if v.nature == contended && v.impact.wait == 0 && v.impact.waiters > 0 {
			return true
		}
	}
	return false
}

// natures are why a lock makes others wait, for the rules that it is no case of.
var natures = map[nature]ops.Text{
	acrossIO:  rule.Say("its holder waits while it has it", "持有者在持鎖期間等待其他事情"),
	logging:   rule.Say("its holder writes to the log", "持有者在寫日誌"),
	contended: rule.Say("its holder computes, or too much is done under it", "持有者在運算，或太多事情共用這把鎖"),
	stuck:     rule.Say("it is never given back", "鎖一直沒有被釋放"),
}

// missing reports whether nothing could show a wait for a lock.
func missing(e *evidence.Evidence) bool {
	return e.Trace == nil && e.Goroutines == nil && e.GoroutinesBefore == nil && e.Dump == nil
}

// ending of a rule: what it found, or how much is waited for locks at all.
func (m *model) ending(all []*verdict, found []ops.Finding) rule.Result {
	if len(found) == 0 {
		for _, v := range all {
			if why, ok := natures[v.nature]; ok && ops.SeverityOf(v.score) != "" && v.impact.wait+time.Duration(v.stuck) > 0 {
				return rule.OK(rule.Say("whoever waits for a lock, at %s, waits for another reason: %s", "等鎖的 goroutine（%s）是因為別的原因：%s", rule.Line(v.sites0()), why))
			}
		}
	}
	worst := impact{}
	for _, l := range m.locks {
		i := m.impact(l)
		if m.e.Trace != nil {
			i = m.traceImpact(l)
		}
		if i.waiters > worst.waiters {
			worst = i
		}
	}
	snapshots := 0
	for _, sc := range m.scenes {
		if sc.kind != ops.KindTrace {
			snapshots++
		}
	}
	switch {
	case m.e.Trace != nil && worst.waiters == 0:
		return rule.Found(rule.Say("no goroutine waited a millisecond or more for a lock", "沒有 goroutine 為了鎖等待 1 毫秒以上"), distinct(found)...)
	case m.e.Trace != nil && worst.wait > 0:
		return rule.Found(rule.Say("waiting for the busiest lock at any moment: %s, %s each on average", "最忙的鎖在任一時刻平均%s 在等，每次平均等 %s", rule.Goroutines(worst.waiters), rule.Dur(worst.wait)), distinct(found)...)
	}
	if len(found) == 0 && m.unknown(all) {
		return rule.CouldNotCheck(rule.Say("waiting for a lock: %s, on average over %d snapshots; how long and for whom, only a trace can tell", "平均%s 在等鎖（%d 份快照）；等了多久、在等誰，只有 trace 才知道", rule.Goroutines(worst.waiters), max(1, snapshots)),
			&ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindGoroutine}})
	}
	if m.lifelong && len(found) > 0 {
		return rule.Found(rule.Say("only what was counted since the process began is there", "只有從行程啟動開始累計的資料"), distinct(found)...)
	}
	if m.lifelong {
		return rule.OK(rule.Say("since the process began, at no lock did waits of a millisecond and more add up", "從行程啟動至今，沒有任何一把鎖累積出 1 毫秒以上的等待"))
	}
	return rule.Found(rule.Say("waiting for the busiest lock: %s, on average over %d snapshots", "最忙的鎖平均%s 在等（%d 份快照）", rule.Goroutines(worst.waiters), max(1, snapshots)), distinct(found)...)
}

// distinct leaves one finding for each place, the worst.
func distinct(in []ops.Finding) (out []ops.Finding) {
	at := map[string]int{}
	for _, f := range in {
		i, ok := at[f.ID()]
		switch {
		case !ok:
			at[f.ID()] = len(out)
			out = append(out, f)
		case out[i].Score < f.Score:
			out[i] = f
		}
	}
	return out
}

func (m *model) acrossIOFinding(v *verdict) ops.Finding {
	f := ops.Finding{Rule: HeldAcrossIO, Scenario: 4, Score: v.score, Confidence: m.confidence(v)}
	change := v.held.change
	if change == nil {
		change = v.sites[0].user()
		f.Confidence = rule.Lower(f.Confidence, ops.Low)
	}
	does := v.held.does.words(v.held.wait)
	var where places
	where.add(v.held.does.role(), change)
	where.around(v, change)
	where.inner(v)
	m.addVictims(&where, v)
	f.Where = where
	f.Title = rule.Say("%s holds %s while it %s (%s)", "%[1]s 持有%[2]s時%[3]s（%[4]s）", rule.Code(change), v.called(), does, rule.Line(change))
	f.Summary = m.summary(v)
	f.Explanation = explainAcrossIO(v, change)
	f.Remedies = remediesAcrossIO(v, change)
	f.Evidence = append(v.holdProof(), m.waitProofs(v)...)
	f.CounterEvidence = m.limits(v)
	if f.Confidence != ops.High && m.e.Trace == nil {
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindGoroutine}}
	}
	return f
}

// addVictims adds where others wait for locks whose holders wait for this one.
func (m *model) addVictims(p *places, v *verdict) {
	for _, l := range m.locks {
		if l == v.lock || !m.matters(l) {
			continue
		}
		h, ok := m.inTrace(l)
		if !ok || h.most.does != otherLock {
			if x, seen := m.sight(l, false); !seen || x.does != otherLock || m.wanted(l, x) != v.lock {
				continue
			}
		} else if m.of[h.other] != v.lock {
			continue
		}
		p.add(ops.RoleWait, l.sites[0].user())
	}
}

// summary says how bad it is.
func (m *model) summary(v *verdict) ops.Text {
	i := v.impact
	if v.stuck > 0 {
		n := rule.Count(int64(v.stuck))
		if m.e.Trace != nil {
			return rule.Say("%s goroutines have waited for it for all of the %s that were traced, and everyone who comes joins them.", "在 trace 的 %[2]s 內，有 %[1]s 個 goroutine 從頭等到尾，之後進來的也會卡住。", n, rule.Dur(m.e.Trace.Duration))
		}
		return rule.Say("%s goroutines have waited for it for a minute and more, and everyone who comes joins them.", "已有 %s 個 goroutine 等了一分鐘以上，之後進來的也會卡住。", n)
	}
	if i.lifelong {
		return rule.Say("Since the process began %s waits for it took %s in all, %s each on average.", "從行程啟動至今，等它的次數共 %s 次、總計 %s，每次平均 %s。", rule.Count(i.count), rule.Dur(i.total), rule.Dur(i.wait))
	}
	if i.wait == 0 {
		return rule.Say("Waiting for it: %s at a time.", "同一時間%s 在等它。", rule.Goroutines(i.waiters))
	}
	waiting := rule.Say("Waiting for it: %s at any moment, each for %s on average.", "任一時刻平均%s 在等，每次平均等 %s。", rule.Goroutines(i.waiters), rule.Dur(i.wait))
	if i.count > 0 {
		// Of a stall the average over the window tells little: it is the crowd that counts.
		waiting = rule.Say("%[1]s waits for it, %[2]s each on average: %[3]s at any moment.", "等它 %[1]s 次，每次平均 %[2]s；任一時刻平均%[3]s 在等。", rule.Count(i.count), rule.Dur(i.wait), rule.Goroutines(i.waiters))
	}
	if v.traced && v.trace.mean > 0 {
		least := rule.Say("", "")
		if !v.trace.exact {
			least = rule.Say("at least ", "至少")
		}
		return rule.Say("It is held for %s%s at a time. %s", "每次%s持有 %s。%s", least, rule.Dur(v.trace.mean), waiting)
	}
	return waiting
}

func explainAcrossIO(v *verdict, change *evidence.Frame) ops.Text {
	at := v.sites0()
	_, once, _ := v.kind()
	switch {
	case once:
		return rule.Say("A sync.Once makes everybody wait until its first call has returned. That call %[1]s at %[2]s, and until then all others stand at %[3]s.",
			"sync.Once 會讓所有人等到第一次呼叫返回為止。那次呼叫在 %[2]s %[1]s，在此之前其他 goroutine 全都停在 %[3]s。", v.held.does.words(v.held.wait), rule.Line(change), rule.Line(at))
	case !v.held.does.outside():
		return rule.Say("Between Lock and Unlock it %[1]s at %[2]s. Until another goroutine comes to it, everybody at %[3]s stands still; if that goroutine needs the lock too, nothing will ever move again.",
			"在 Lock 與 Unlock 之間，它在 %[2]s %[1]s。在另一個 goroutine 處理之前，所有停在 %[3]s 的人都動不了；如果那個 goroutine 也需要這把鎖，就永遠不會再動。", v.held.does.words(v.held.wait), rule.Line(change), rule.Line(at))
	case v.stuck > 0:
		return rule.Say("Between Lock and Unlock it %[1]s at %[2]s, and that has not ended. Until it does nobody else, at %[3]s, gets the lock; without a deadline that may be never.",
			"在 Lock 與 Unlock 之間，它在 %[2]s %[1]s，而且一直沒有結束。在那之前沒有人拿得到鎖（%[3]s）；沒有逾時的話，可能永遠等不到。", v.held.does.words(v.held.wait), rule.Line(change), rule.Line(at))
	}
	return rule.Say("Between Lock and Unlock it %[1]s at %[2]s. Everybody else who wants the lock, at %[3]s, waits for that too, one after the other: throughput is one over the time of that call, however many goroutines and cores there are.",
		"在 Lock 與 Unlock 之間，它在 %[2]s %[1]s。其他要這把鎖的人（%[3]s）也得跟著等，而且是一個接一個：不論有多少 goroutine 和核心，吞吐量就是那次呼叫耗時的倒數。", v.held.does.words(v.held.wait), rule.Line(change), rule.Line(at))
}

// sites0 is where most wait.
func (v *verdict) sites0() *evidence.Frame {
	if len(v.sites) == 0 {
		return v.releases[0].user()
	}
	return v.sites[0].user()
}

func remediesAcrossIO(v *verdict, change *evidence.Frame) []ops.Text {
	_, once, _ := v.kind()
	line := rule.Line(change)
	deadline := rule.Say("Until then: give the call at %s a deadline, so that one slow answer does not stop everybody.", "在那之前：為 %s 的呼叫設定逾時，避免一次慢回應就卡住所有人。", line)
	switch {
	case once:
		return []ops.Text{
			rule.Say("Do it before the service takes requests, not in the first one.", "在服務開始接受請求之前就先做好，不要留給第一個請求。"),
			deadline,
		}
	case v.held.does == send:
		return []ops.Text{
			rule.Say("Copy the receivers under the lock, Unlock, then send.", "在鎖內先複製接收者清單，Unlock 之後再送。"),
			rule.Say("Do not wait for slow receivers at %s: send in a select with a default, and drop or disconnect who cannot keep up.", "不要在 %s 等慢的接收端：用帶 default 的 select 送出，跟不上的就丟棄訊息或主動斷線。", line),
		}
	case v.held.does == receive, v.held.does == workers:
		return []ops.Text{
			rule.Say("Wait at %s without the lock: Unlock before, Lock again for the result.", "在 %s 等待時不要持有鎖：先 Unlock，拿到結果後再 Lock。", line),
		}
	case v.held.does == sleep:
		return []ops.Text{
			rule.Say("Do not sleep under a lock: Unlock before %s.", "不要在持鎖時睡眠：在 %s 之前先 Unlock。", line),
			rule.Say("If it is a retry or a rate limit, wait for it before Lock.", "如果是重試或限速，請在 Lock 之前等待。"),
		}
	}
	if v.stuck > 0 {
		deadline = rule.Say("Give the call at %s a deadline, and restart the process to get it going.", "為 %s 的呼叫設定逾時；先重啟行程恢復服務。", line)
	}
	all := []ops.Text{
		rule.Say("Shrink the critical section: copy what %[1]s needs under the lock, Unlock, make the call at %[2]s, and Lock again only to store the result.", "縮小鎖的範圍（Critical Section）：在鎖內複製 %[1]s 需要的資料，Unlock 後才執行 %[2]s 的呼叫，最後只為了寫回結果再 Lock 一次。", rule.Short(change), line),
		rule.Say("If the order must be kept, have a lock per key (per room, per wallet) instead of one for all: sharding.", "若必須維持順序，改用分片鎖（Sharding）：每個房間或每個錢包一把鎖，而不是全部共用一把。"),
		deadline,
	}
	if v.several() {
		all[1] = rule.Say("There are several of these locks already, so that sharding (a lock per room, per wallet) would change little: if the order must be kept, let one goroutine for each take the calls from a queue.", "這裡已經有好幾把鎖，再分片（每個房間或每個錢包一把鎖，Sharding）幫助不大：若必須維持順序，讓每把鎖改由一個 goroutine 從佇列依序處理。")
	}
	if v.stuck > 0 {
		slices.Reverse(all)
	}
	return all
}
