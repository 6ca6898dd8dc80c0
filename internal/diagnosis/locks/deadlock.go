package locks

import (
	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// deadlocked finds goroutines that nothing can wake: who locks a lock that it
// holds, several who hold what the others want, a holder who waits for those who
// want its lock, a lock that nobody gave back, goroutines that wait for each other
// over channels. Go itself notices only when the whole process stands; with a
// listener or a timer it never does, and the CPU idles.
//
// Evidence: waits for a lock that lasted all of the trace while nobody else waited
// long for it, or a minute and more by the dump; then who could hold it, by what
// other goroutines are behind a Lock of it. Block and mutex profiles have nothing
// of such waits, which never end.
//
// Not to be confused with holders who wait for something outside, however long
// (lock-held-across-io: that ends some day), with slow consumers of a channel
// (channel-backpressure), with goroutines that wait and miss nobody: idle workers,
// receivers (goroutine-leak if they grow). What stands is one at least, and those
// that come after join it, so that the score is 75 for one.
var deadlocked = rule.Rule{
	ID: Deadlock, Scenario: 4,
	Name:  rule.Say("goroutines wait for each other for ever", "goroutine 互相等待，永遠不會醒來（死結）"),
	Judge: judgeDeadlock,
}

func judgeDeadlock(e *evidence.Evidence) rule.Result {
	if missing(e) {
		return rule.Needs(e, ops.KindGoroutine, ops.KindTrace)
	}
	m := build(e)
	all := m.judge()
	var out []ops.Finding
	for _, s := range m.standstills(all) {
		out = append(out, m.deadlockFinding(s))
	}
	waiting := 0
	for _, v := range all {
		for _, s := range v.sites {
			most := 0
			for _, n := range s.waiting {
				most = max(most, n)
			}
			waiting += most
		}
	}
	if e.Trace == nil && e.Dump == nil && waiting > 0 && len(out) == 0 {
		return rule.CouldNotCheck(rule.Say("%s goroutines wait for locks; how long, only a trace or a dump with ages can tell", "有 %s 個 goroutine 在等鎖；等了多久，只有 trace 或帶等待時間的 dump 才知道", rule.Count(int64(waiting))),
			&ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindGoroutine}})
	}
	if len(out) > 0 {
		return rule.Found(rule.Say("goroutines stand that nothing will wake", "有 goroutine 停在原地，不會再被喚醒"), distinct(out)...)
	}
	for _, v := range all {
		if v.stuck > 0 && v.held.does != idle {
			return rule.OK(rule.Say("%s goroutines waited for a lock for as long as was looked; its holder %s, which can end", "有 %s 個 goroutine 在整段觀察期間都在等一把鎖，但持有者在%s，那有可能結束", rule.Count(int64(v.stuck)), v.held.does.words(v.held.wait)))
		}
	}
	return rule.OK(rule.Say("no goroutine waited for a lock for as long as was looked (%s waited in a snapshot)", "沒有 goroutine 在整段觀察期間都等著同一把鎖（快照中有 %s 個在等）", rule.Count(int64(waiting))))
}

func (m *model) deadlockFinding(s standstill) ops.Finding {
	f := ops.Finding{Rule: Deadlock, Scenario: 4, Score: ops.Score(float64(s.count)+1, 2), Confidence: m.standstillConfidence(s)}
	var where places
	where.add(s.role, s.change)
	for _, o := range s.others {
		if len(where) < 2*maxPlaces {
			where.add(ops.RoleWait, o)
		}
	}
	if s.v != nil {
		where.around(s.v, s.change)
	}
	f.Where = where
	other := s.change
	if len(s.others) > 0 {
		other = s.others[0]
	}
	f.Title, f.Explanation, f.Remedies = s.words(other)
	window := rule.Say("in both snapshots", "兩份快照中都在")
	switch {
	case s.kind == ops.KindTrace:
		window = rule.Say("for all of the trace's %s", "在 trace 的整整 %s 內都在", rule.Dur(m.e.Trace.Duration))
	case s.v != nil:
		window = rule.Say("for a minute and more", "超過一分鐘都在")
	}
	f.Summary = rule.Say("%s goroutines have stood there %s, and nothing in the process will wake them.", "有 %s 個 goroutine %s原地等待，行程裡沒有任何東西會喚醒它們。", rule.Count(int64(s.count)), window)
	f.Evidence = []ops.Proof{{Artifact: s.kind, Metric: "standing_goroutines", Value: float64(s.count), Unit: "goroutines",
		Text: rule.Say("%s goroutines wait there %s", "%s 個 goroutine %s等待", rule.Count(int64(s.count)), window)}}
	if s.v != nil {
		f.Evidence = append(f.Evidence, m.sceneProofs(s.v)...)
	}
	if n := m.leaked(s); n > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindGoroutineLeak, Metric: "leaked_goroutines", Value: float64(n), Unit: "goroutines",
			Text: rule.Say("Go's own leak detector says of %s of them that nothing can reach what they wait for", "Go 內建的洩漏偵測指出，其中 %s 個所等待的東西已無人能觸及", rule.Count(n))})
	}
	f.CounterEvidence = m.standstillLimits(s)
	if f.Confidence == ops.Low {
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindGoroutine}}
	}
	return f
}

// leaked counts those that Go's leak profile has at the same places.
func (m *model) leaked(s standstill) int64 {
	return m.e.Leaks.Sum(m.e.Leaks.Type("goroutineleak"), func(st evidence.Stack) bool {
		u := st.User()
		for _, f := range append([]*evidence.Frame{s.change}, s.others...) {
			if u != nil && u == f {
				return true
			}
		}
		return false
	})
}

func (m *model) standstillConfidence(s standstill) ops.Confidence {
	c := ops.Medium
	scenes := 0
	if s.v != nil {
		for k := range m.scenes {
			for _, x := range s.v.sites {
				if x.waiting[k] > 0 {
					scenes++
					break
				}
			}
		}
	}
	switch {
	case s.knot == forgotten, s.knot == eachOther, s.knot == sendCircle, s.proof == sameType && s.knot != lockAndGo:
		c = ops.Medium
	case s.kind == ops.KindTrace && scenes >= 2 && m.e.Lost(ops.KindTrace) == nil && s.proof == pastLock:
		c = ops.High
	}
	if s.kind != ops.KindTrace && s.v == nil {
		c = ops.Low
	}
	return c
}

func (m *model) standstillLimits(s standstill) (out []ops.Proof) {
	if s.knot == forgotten || s.knot == eachOther || s.proof == sameType {
		out = append(out, ops.Proof{Artifact: ops.KindGoroutine, Metric: "holder", Text: rule.Say("nobody was seen behind a Lock of it: who has it is inferred", "沒有看到任何人停在它的 Lock 之後：持有者是推論出來的")})
	}
	if m.e.Trace == nil {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "missing", Text: rule.Say("there is no trace: that nobody got on in the window is inferred", "沒有 trace：時窗內無人前進是推論出來的")})
	}
	return out
}

// words of a standstill; other is a second place of it.
func (s standstill) words(other *evidence.Frame) (title, explanation ops.Text, remedies []ops.Text) {
	fn, line, at := rule.Code(s.change), rule.Line(s.change), rule.Line(other)
	switch s.knot {
	case selfLock:
		return rule.Say("%[1]s locks %[2]s that it already holds (%[3]s)", "%[1]s 重複鎖住自己已持有的%[2]s（%[3]s）", fn, s.v.called(), line),
			rule.Say("It holds the lock and comes, by way of %[1]s, to %[2]s, which locks again. Go's locks are not reentrant: it waits for itself, and everybody else behind it. Of an RWMutex even a second RLock waits, as soon as a writer stands between.",
				"它已持有鎖，又經由 %[1]s 走到 %[2]s 再鎖一次。Go 的鎖不可重入：它在等自己，其他人都排在它後面。RWMutex 的第二次 RLock 也一樣，只要中間有寫入者在等就會卡住。", line, at),
			[]ops.Text{
				rule.Say("Split what is called at %s: an inner function that expects the lock to be held, and an outer one that locks.", "把 %s 呼叫的函式拆成兩個：假設已持鎖的內部函式，以及負責上鎖的外部函式。", line),
				rule.Say("Restart the process to get it going; it will stand again on the same path.", "先重啟行程恢復服務；走到同一條路徑時仍會再次卡住。"),
			}
	case lockOrder:
		return rule.Say("goroutines lock in different order and wait for each other: %s (%s)", "goroutine 以不同順序上鎖而互相等待：%s（%s）", fn, line),
			rule.Say("One holds a lock and wants a second at %[1]s, another holds that one and wants the first (%[2]s). Neither can go on, and everybody who wants either waits behind them.",
				"一個持有鎖，又在 %[1]s 要第二把；另一個持有那把，卻要第一把（%[2]s）。兩邊都動不了，其他要任一把鎖的人都排在後面。", line, at),
			[]ops.Text{
				rule.Say("Lock in one order everywhere, for instance by the smaller id first; treat two equal ones as one.", "所有地方都用同一順序上鎖，例如先鎖 id 較小的；兩者相同時只鎖一次。"),
				rule.Say("Or hold only one at a time: take from the first, Unlock, then give to the second.", "或者一次只持有一把：先處理第一個並 Unlock，再處理第二個。"),
				rule.Say("Restart the process to get it going.", "先重啟行程恢復服務。"),
			}
	case lockAndGo:
		return rule.Say("%[1]s holds %[2]s while it %[3]s, and who should come waits for that lock (%[4]s)", "%[1]s 持有%[2]s時%[3]s，而對方正在等這把鎖（%[4]s）", fn, s.v.called(), s.v.seen.does.words(s.v.seen.wait), line),
			rule.Say("At %[1]s the holder waits for another goroutine; that one stands at a Lock of the same lock (%[2]s). Each waits for the other.",
				"持有者在 %[1]s 等另一個 goroutine，而那個 goroutine 停在同一把鎖的 Lock（%[2]s）。雙方互等。", line, at),
			[]ops.Text{
				rule.Say("Unlock before %s: no waiting for other goroutines under a lock.", "在 %s 之前先 Unlock：持鎖時不要等待其他 goroutine。", line),
				rule.Say("Restart the process to get it going.", "先重啟行程恢復服務。"),
			}
	case sendAndGo:
		return rule.Say("%s waits for goroutines that wait to send to it (%s)", "%s 在等 goroutine 結束，而它們在等它接收（%s）", fn, line),
			rule.Say("The goroutines stand at the send in %[2]s, and who would receive waits at %[1]s until they have ended.", "那些 goroutine 停在 %[2]s 的送出，而會接收的一方卻在 %[1]s 等它們結束。", line, at),
			[]ops.Text{
				rule.Say("Receive while they work: do the Wait at %s in a goroutine of its own that then closes the channel.", "邊做邊收：把 %s 的 Wait 放到另一個 goroutine，等完再關閉 channel。", line),
				rule.Say("Or make the channel large enough for all results.", "或讓 channel 的緩衝區足以容納所有結果。"),
			}
	case sendCircle:
		return rule.Say("%s and those it feeds wait to send to each other (%s)", "%s 與它餵資料的 goroutine 互相等待送出（%s）", fn, line),
			rule.Say("Everybody stands at a send, at %[1]s and at %[2]s, and nobody receives: each side would receive only after its own send.", "大家都停在送出（%[1]s 與 %[2]s），沒有人在接收：雙方都要先送完才會去收。", line, at),
			[]ops.Text{
				rule.Say("Send and receive in one select at %s, or receive in a goroutine of its own.", "在 %s 用同一個 select 同時送與收，或用另一個 goroutine 接收。", line),
			}
	case fullGroup:
		return rule.Say("%s starts tasks in the full errgroup that it is itself a task of (%s)", "%s 在已滿的 errgroup 裡再啟動任務，而它自己就是其中一個任務（%s）", fn, line),
			rule.Say("The group has a limit. All who have a place stand at Go, at %s, for a place that only one of them could free by ending.", "這個 errgroup 有上限。占著位置的全都停在 %s 的 Go，等一個位置，而只有它們之一結束才會空出來。", line),
			[]ops.Text{
				rule.Say("Do not start tasks of a group within its tasks: do the inner ones in place, or collect them and start them from outside, level by level.", "不要在 errgroup 的任務裡再對同一個 group 呼叫 Go：內層直接執行，或先收集起來由外面一層一層啟動。"),
				rule.Say("Or use TryGo, and do it in place when there is no room.", "或改用 TryGo，沒有空位時就地執行。"),
				rule.Say("Restart the process to get it going.", "先重啟行程恢復服務。"),
			}
	case eachOther:
		return rule.Say("%[1]s and %[2]s wait for locks that nobody else can hold: probably for each other's (%[3]s)", "%[1]s 與 %[2]s 都在等沒有其他人持有的鎖：很可能在互相等待（%[3]s）", fn, rule.Code(other), line),
			rule.Say("Goroutines stand at Lock at %[1]s and at %[2]s, and no other is seen that could hold either lock. Most likely each took one of the two before and now wants the other: two orders. Else a path returns or panics without Unlock.",
				"goroutine 停在 %[1]s 與 %[2]s 的 Lock，卻看不到其他可能持有這些鎖的 goroutine。最可能是各自先拿了一把，又要對方那把：上鎖順序相反。否則就是某條路徑在 return 或 panic 前沒有 Unlock。", line, at),
			[]ops.Text{
				rule.Say("See which locks are held at %[1]s and at %[2]s, and lock in one order everywhere; or hold only one at a time.", "看看走到 %[1]s 與 %[2]s 時各持有哪些鎖，所有地方用同一順序上鎖；或者一次只持有一把。", line, at),
				rule.Say("If only one lock is in it: look for a return or a panic between its Lock and Unlock, and unlock with defer.", "若只牽涉一把鎖：檢查它的 Lock 與 Unlock 之間是否有 return 或 panic，改用 defer 解鎖。"),
				rule.Say("Restart the process to get it going.", "先重啟行程恢復服務。"),
			}
	case forgotten:
	}
	return rule.Say("%s that %s waits for was never given back (%s)", "%[2]s 等待的%[1]s一直沒有被釋放（%[3]s）", s.v.called(), fn, line),
		rule.Say("Everybody stands at Lock, at %[1]s, and no goroutine is seen that could hold it: a path returns or panics without Unlock, or who waits here already holds it.",
			"大家都停在 %[1]s 的 Lock，卻看不到任何可能持有它的 goroutine：某條路徑在 return 或 panic 前沒有 Unlock，或是等待者自己就持有它。", line),
		[]ops.Text{
			rule.Say("Look for a return or a panic between Lock and Unlock of this lock, and unlock with defer.", "檢查這把鎖的 Lock 與 Unlock 之間是否有 return 或 panic，改用 defer 解鎖。"),
			rule.Say("Restart the process to get it going.", "先重啟行程恢復服務。"),
		}
}
