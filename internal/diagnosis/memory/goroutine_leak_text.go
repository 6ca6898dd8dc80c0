package memory

import (
	"fmt"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

func (l *leakSearch) finding(s *leakSuspect) ops.Finding {
	f := ops.Finding{
		Rule: "goroutine-leak", Scenario: scenario,
		Score:      min(ops.Score(s.value, 1), s.most),
		Confidence: ops.Low,
		Evidence:   l.proofs(s),
	}
	switch {
	case s.connected:
	case s.sources >= 2:
		f.Confidence = ops.High
	case s.sources == 1:
		f.Confidence = ops.Medium
	}
	if l.e.Lost(ops.KindTrace) != nil {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
	if s.library != "" {
		l.library(&f, s)
	} else {
		l.own(&f, s)
	}
	l.against(&f, s)
	if f.Confidence != ops.High {
		f.Next = again(ops.KindGoroutine, ops.KindTrace, ops.KindGoroutineLeak)
	}
	return f
}

// own words a leak of goroutines that the program started.
func (l *leakSearch) own(f *ops.Finding, s *leakSuspect) {
	w := wordsOf(s)
	name, line := rule.Short(s.place), rule.Line(s.place)
	f.Where = append(f.Where, rule.At(w.role, s.place))
	created := l.c.created(l.e, s.crowd)
	if created != nil {
		f.Where = append(f.Where, rule.At(ops.RoleCreate, created))
	}
	for _, o := range s.others {
		f.Where = append(f.Where, rule.At(wordsOf(&leakSuspect{crowd: o}).role, o.place))
	}
	f.Where = append(f.Where, callers(s.stack, s.place)...)
	switch {
	case s.connected:
		f.Title = rule.Say("`%s` gains goroutines with every connection, and none goes (%s)", "`%s` 的 goroutine 隨連線增加，沒有減少（%s）", name, line)
	default:
		f.Title = rule.Say("`%s` leaks goroutines: %[3]s (%[2]s)", "`%s` 洩漏 goroutine：%[3]s（%[2]s）", name, line, w.title)
	}
	f.Summary = l.summary(s)
	f.Explanation = rule.Say("%s. A goroutine that never ends is never freed, nor is anything that it refers to: its stack, its request, its session. The process grows until it is killed.",
		"%s。不會結束的 goroutine 永遠不會被釋放，它參考到的一切（stack、請求、session）也一樣，行程就一路長大到被系統殺掉。", w.why)
	if s.connected {
		f.Explanation = rule.Say("As many more goroutines read from the network: these are connections that came on within the window, each with its goroutines. That is right if there are more clients. If there are not, connections that broke are not noticed, and their goroutines stay.",
			"同時也多了差不多數量的 goroutine 在讀網路：這是時窗內新增的連線，每條各帶幾個 goroutine。客戶端真的變多就是正常的；若沒有，就是斷線沒被察覺，goroutine 一直留著。")
	}
	f.Remedies = w.remedies
	if s.connected {
		f.Remedies = []ops.Text{
			rule.Say("Compare with the number of clients. If it did not grow, set read deadlines and ping, so that a connection that broke ends.", "先對照客戶端數量。若沒有增加，就設定讀取期限並定時 ping，讓斷掉的連線能結束。"),
			rule.Say("When one of a connection's goroutines ends, end the others: cancel one context for all of them.", "同一條連線的任一個 goroutine 結束時，其他的也要一起結束：共用一個 context 來取消。"),
		}
	}
	if created != nil && created.Line > 0 {
		f.Remedies = append(f.Remedies, rule.Say("At %s, where they are started, say who ends them: a context that is cancelled when the request or the connection ends, and a place that waits for them.",
			"在啟動它們的 %s，決定由誰負責結束：例如請求或連線結束時就取消的 context，並且有人等它們收尾。", rule.Line(created)))
	}
}

func (l *leakSearch) summary(s *leakSuspect) ops.Text {
	switch {
	case s.growing:
	case s.after == 1:
		return rule.Say("One goroutine stands at %s and does not get on.", "有 1 個 goroutine 停在 %s，一直沒有往前走。", rule.Line(s.place))
	default:
		return rule.Say("%s goroutines stand at %s and none of them gets on.", "有 %s 個 goroutine 停在 %s，沒有一個往前走。", rule.Count(int64(s.after)), rule.Line(s.place))
	}
	perHour := about(l.c.rate(s.crowd) * 3600)
	return rule.Say("%s goroutines stand at %s, %s more than %s before: at this rate %s more an hour.",
		"有 %s 個 goroutine 停在 %s，比 %[4]s 前多了 %[3]s 個；照這個速度，每小時再多 %[5]s 個。",
		rule.Count(int64(s.after)), rule.Line(s.place), rule.Count(int64(s.growth())), rule.Dur(l.c.window), rule.Count(perHour))
}

// callers are the program's own lines that led to a place: how rules about the
// same fault find each other.
func callers(stack evidence.Stack, place *evidence.Frame) (out []ops.Place) {
	past := false
	for _, f := range stack {
		if past && f.Origin == evidence.OwnCode && len(out) < 3 {
			out = append(out, rule.At(ops.RoleCall, f))
		}
		past = past || f == place
	}
	return out
}

func (l *leakSearch) proofs(s *leakSuspect) (out []ops.Proof) {
	kind := ops.KindGoroutine
	if l.e.Goroutines == nil {
		kind = ops.KindGoroutineDump
		if l.e.Dump == nil {
			kind = ops.KindTrace
		}
	}
	share := float64(s.after) / float64(max(1, l.c.total, s.after))
	text := rule.Say("%s of %s goroutines are at %s", "%[2]s 個 goroutine 中有 %[1]s 個在 %[3]s", rule.Count(int64(s.after)), rule.Count(int64(max(l.c.total, s.after))), rule.Line(s.place))
	if l.c.compared {
		text = rule.Say("%s goroutines are at %s; %s before there were %s", "%s 個 goroutine 在 %s；%s 前是 %s 個",
			rule.Count(int64(s.after)), rule.Line(s.place), rule.Dur(l.c.window), rule.Count(int64(s.before)))
	}
	if kind != ops.KindTrace {
		out = append(out, ops.Proof{Artifact: kind, Metric: "goroutines", Value: float64(s.after), Unit: "goroutines", Share: share, Text: text})
	}
	if s.open > 0 && !s.ticking {
		out = append(out, ops.Proof{
			Artifact: ops.KindTrace, Metric: "whole_window_waits", Value: float64(s.whole), Unit: "goroutines",
			Text: rule.Say("in the trace of %s, %s waited there from beginning to end, %s more came to stay, and %s left", "在 %s 的 trace 裡，有 %s 個從頭等到尾，又有 %s 個來了就沒走，離開的有 %s 個",
				rule.Dur(l.c.traced), rule.Count(s.whole), rule.Count(s.open-s.whole), rule.Count(s.ended)),
		})
	}
	if g, ok := l.c.born[s.start]; ok && g.Born > 0 && !s.handler {
		out = append(out, ops.Proof{
			Artifact: ops.KindTrace, Metric: "goroutines_ended", Value: float64(g.Died), Unit: "goroutines",
			Text: rule.Say("of this function %s goroutines began within the trace and %s ended", "trace 期間，這個函式的 goroutine 新開了 %s 個，結束了 %s 個", rule.Count(g.Born), rule.Count(g.Died)),
		})
	}
	if s.leaked > 0 {
		out = append(out, ops.Proof{
			Artifact: ops.KindGoroutineLeak, Metric: "leaked", Value: float64(s.leaked), Unit: "goroutines",
			Text: rule.Say("the collector proved of %s of them that nothing can wake them any more", "垃圾回收器已證明其中 %s 個再也不可能被喚醒", rule.Count(s.leaked)),
		})
	}
	if s.aged > 0 {
		out = append(out, ops.Proof{
			Artifact: ops.KindGoroutineDump, Metric: "age_max", Value: s.oldest.Seconds(), Unit: "s",
			Text: waitedFor(s),
		})
	}
	return out
}

// waitedFor says how long they wait; Go tells it in whole minutes.
func waitedFor(s *leakSuspect) ops.Text {
	if minutes(s.youngest) == minutes(s.oldest) {
		return rule.Say("%s of them have waited for %s", "其中 %s 個已經等了 %s", rule.Count(int64(s.aged)), minutes(s.oldest))
	}
	return rule.Say("%s of them have waited for between %s and %s", "其中 %s 個已經等了 %s 到 %s", rule.Count(int64(s.aged)), minutes(s.youngest), minutes(s.oldest))
}

func minutes(d time.Duration) string { return fmt.Sprintf("%d min", int(d.Minutes())) }

func (l *leakSearch) against(f *ops.Finding, s *leakSuspect) {
	add := func(kind ops.Kind, metric string, value float64, unit string, t ops.Text) {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: kind, Metric: metric, Value: value, Unit: unit, Text: t})
	}
	if !l.c.compared {
		add(ops.KindGoroutine, "snapshots", 1, "", rule.Say("there is one snapshot only: whether the number grows is not known", "只有一次快照，無法確認數量是否在增加"))
	} else if s.growing && l.c.traced == 0 {
		add(ops.KindTrace, "missing", 0, "", rule.Say("there is no trace: a queue that moves on slowly would look the same", "沒有 trace：移動很慢的佇列看起來也會一樣"))
	}
	if s.connected {
		add(ops.KindGoroutine, "network_readers", float64(s.growth()), "goroutines", rule.Say("as many more goroutines wait for the network: they may be new clients", "等待網路的 goroutine 也同樣增加：可能只是新客戶端"))
	}
	if loss := l.e.Lost(ops.KindTrace); loss != nil {
		add(ops.KindTrace, "loss", 0, "", rule.Say("the trace is not whole: %s", "trace 不完整：%s", loss.Message))
	}
}

// library words a leak of clients: their goroutines are a library's, and the line
// to change is where the program makes them.
func (l *leakSearch) library(f *ops.Finding, s *leakSuspect) {
	maker := l.maker(s.library)
	if s.library == httpLibrary {
		maker = l.caller()
	}
	if maker != nil {
		f.Where = append(f.Where, rule.At(ops.RoleCreate, maker))
		f.Title = rule.Say("`%s` makes new clients of %s and does not close them (%s)", "`%s` 不斷建立 %s 的 client 卻沒有關閉（%s）", rule.Short(maker), s.library, rule.Line(maker))
	} else {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.Title = rule.Say("clients of %s are made and not closed: their goroutines grow in number", "%s 的 client 不斷建立卻沒有關閉：它的 goroutine 一直增加", s.library)
	}
	f.Where = append(f.Where, rule.At(ops.RoleWait, s.place))
	f.Summary = l.summary(s)
	f.Explanation = rule.Say("These goroutines belong to %s, which starts them for every client or connection that is made and ends them when it is closed. A client is made for one use and forgotten, most often one per request.",
		"這些 goroutine 屬於 %s：每建立一個 client 或連線就會啟動，關閉時才結束。看來有人每次使用（通常是每個請求）都新建一個，然後就忘了。", s.library)
	f.Remedies = []ops.Text{
		rule.Say("Make one client when the process starts and share it: these clients are safe for concurrent use and pool their connections.", "在程式啟動時建立一個 client 並共用：這類 client 可以並行使用，而且自帶連線池。"),
		rule.Say("Where a client of its own is needed, close it on every way out (defer client.Close()).", "若真的需要獨立的 client，每條離開的路徑都要關閉（defer client.Close()）。"),
	}
}

// maker is the program's line that makes most of what a library holds.
func (l *leakSearch) maker(library string) *evidence.Frame {
	for _, p := range []struct {
		of  *evidence.Profile
		typ string
	}{{l.e.Heap, "inuse_space"}, {l.e.Allocs, "alloc_space"}, {l.e.CPU, "cpu"}} {
		by := p.of.By(p.of.Type(p.typ), func(s evidence.Stack) *evidence.Frame {
			if f := s.User(); f != nil && f.Origin == evidence.OwnCode && s.Index(func(f *evidence.Frame) bool { return f.Package == library }) >= 0 {
				return f
			}
			return nil
		})
		if len(by) > 0 {
			return by[0].Frame
		}
	}
	return nil
}

// leakWords are what is said of a leak by its kind of wait.
type leakWords struct {
	role       ops.Role
	title, why ops.Text
	remedies   []ops.Text
}

func wordsOf(s *leakSuspect) leakWords {
	switch {
	case s.forever:
		return leakWords{ops.RoleWait,
			rule.Say("they wait for what can never come", "在等永遠不可能發生的事"),
			rule.Say("They wait on a nil channel, or in a select without cases: nothing can ever wake them", "它們等在 nil channel，或沒有任何 case 的 select 上：沒有東西能喚醒它們"),
			[]ops.Text{rule.Say("Make the channel before it is used, and give the goroutine a way out: a case <-ctx.Done().", "channel 要先 make 再使用，並給 goroutine 一條退路：加上 case <-ctx.Done()。")}}
	case s.deserted && !s.stuck:
		return leakWords{ops.RoleWait,
			rule.Say("requests go on after their clients have left", "客戶端已經離開，請求卻還在跑"),
			rule.Say("Each of them belongs to a request whose client has gone (net/http no longer watches its connection), and the handler's loop does not notice", "它們各自屬於一個請求，而客戶端已經離開（net/http 已不再監看那條連線），handler 的迴圈卻沒有察覺"),
			[]ops.Text{
				rule.Say("Select on r.Context().Done() beside what the loop waits for, and return: it ends when the client goes.", "在迴圈等待的地方同時 select r.Context().Done() 並返回：客戶端離開時它就會結束。"),
				rule.Say("Stop when a write or a flush fails (http.ResponseController.Flush returns the error).", "寫入或 flush 失敗時就停止（http.ResponseController.Flush 會回傳錯誤）。"),
			}}
	case s.ticking:
		return leakWords{ops.RoleReceive,
			rule.Say("they go on for ever", "一直跑下去，沒有人叫停"),
			rule.Say("They wake up, do their turn and wait again, but nothing tells them to end: new ones begin and none goes", "它們醒來、做一輪、再等下一輪，但沒有人叫它們結束：只有新的開始，沒有舊的離開"),
			[]ops.Text{
				rule.Say("Give the loop an end: select on ctx.Done() beside the ticker or channel, and cancel it when the session or request ends.", "讓迴圈能結束：除了 ticker 或 channel，也要 select ctx.Done()，並在 session 或請求結束時取消。"),
				rule.Say("One goroutine that walks over all sessions does the work of one per session.", "也可以改成一個 goroutine 走訪所有 session，而不是每個 session 一個。"),
			}}
	}
	switch s.state {
	case goroutines.ChanSend:
		return leakWords{ops.RoleSend,
			rule.Say("they wait to send and nobody receives", "等著送出，但沒有人接收"),
			rule.Say("They send to a channel whose receiver has gone, for instance because it gave up after a timeout", "它們要送進的 channel 已經沒有接收者，例如對方逾時後就離開了"),
			[]ops.Text{
				rule.Say("Give the channel room for the answer (make(chan T, 1)): the sender then ends even if nobody waits any more.", "替結果的 channel 留一格緩衝（make(chan T, 1)）：就算沒有人在等，送的人也能結束。"),
				rule.Say("Or send in a select with case <-ctx.Done().", "或在 select 裡送，並加上 case <-ctx.Done()。"),
			}}
	case goroutines.ChanReceive, goroutines.Chan:
		return leakWords{ops.RoleReceive,
			rule.Say("they wait for a value that nobody sends", "等著不會有人送來的值"),
			rule.Say("They receive from a channel that nobody sends to and nobody closes", "它們在接收的 channel，沒有人會送值，也沒有人關閉"),
			[]ops.Text{
				rule.Say("Close the channel when there is nothing more to come (the sender does, with defer close(ch)).", "不再有資料時要關閉 channel（由送的一方 defer close(ch)）。"),
				rule.Say("Receive in a select with case <-ctx.Done(), so that they end with the request or connection they serve.", "接收時用 select 加上 case <-ctx.Done()，讓它跟著請求或連線一起結束。"),
			}}
	case goroutines.Select:
		return leakWords{ops.RoleWait,
			rule.Say("they wait in a select that nothing wakes", "卡在 select，沒有東西能喚醒"),
			rule.Say("They wait in a select of which no case happens any more: the done channel is never closed, or the context never cancelled", "它們卡在 select，沒有任何一個 case 會再發生：done channel 從沒被關閉，或 context 從沒被取消"),
			[]ops.Text{
				rule.Say("Close the done channel, or cancel the context, on every way on which the session or request ends, also when the connection breaks.", "session 或請求不論怎麼結束（包含斷線），都要關閉 done channel 或取消 context。"),
				rule.Say("Take the object out of its registry (map, hub) at the same place, lest it stays although its goroutine ends.", "同時把物件從登記處（map、hub）移除，否則 goroutine 結束了物件還在。"),
			}}
	case goroutines.WaitGroup:
		return leakWords{ops.RoleWait,
			rule.Say("they wait for others that never finish", "等著永遠做不完的人"),
			rule.Say("They wait for a WaitGroup whose Done is missed on some way, or whose goroutines never end", "它們等的 WaitGroup 在某條路徑漏了 Done，或它的 goroutine 永遠不結束"),
			[]ops.Text{rule.Say("Call Done by defer, or use (*sync.WaitGroup).Go, and see what the goroutines that are waited for are stuck in.", "用 defer 呼叫 Done，或改用 (*sync.WaitGroup).Go，並查出被等的 goroutine 卡在哪裡。")}}
	case goroutines.Sleep:
		return leakWords{ops.RoleWait,
			rule.Say("they sleep, more and more of them", "越來越多都在 sleep"),
			rule.Say("They sleep in a loop that nothing ends, or for far longer than it takes until the next one comes", "它們在沒有人會停止的迴圈裡 sleep，或睡的時間遠比下一個到來的間隔長"),
			[]ops.Text{rule.Say("Replace the sleep by a select on a timer and ctx.Done(), and cancel the context when the work is no longer wanted.", "把 sleep 換成同時等 timer 與 ctx.Done() 的 select，工作不再需要時取消 context。")}}
	}
	return leakWords{ops.RoleWait,
		rule.Say("they wait and none of them ends", "一直等待，沒有一個結束"),
		rule.Say("They wait for something that does not come", "它們在等不會到來的東西"),
		[]ops.Text{rule.Say("Give the wait an end: a deadline, a context that is cancelled, or a close on the other side.", "讓等待有個盡頭：期限、會被取消的 context，或由另一方關閉。")}}
}
