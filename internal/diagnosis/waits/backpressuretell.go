package waits

import (
	"math"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/ops"
)

func (v *view) tellSender(s *sender) ops.Finding {
	f := ops.Finding{Rule: "channel-backpressure", Scenario: 3, Score: s.score, Confidence: v.sure(s.waits)}
	f.Where = []ops.Place{rule.At(ops.RoleSend, s.user)}
	role := ops.RoleReceive
	if s.workers != nil {
		f.Where, role = []ops.Place{rule.At(ops.RoleIO, s.workers.user), rule.At(ops.RoleReceive, s.user)}, ops.RoleSend
	}
	for i := range s.receivers {
		if i == 2 {
			break
		}
		r := &s.receivers[i]
		if r.slow != nil && r.slow.user != nil {
			f.Where = addPlace(f.Where, rule.At(ops.RoleIO, r.slow.user))
		}
		f.Where = addPlace(f.Where, rule.At(role, r.at))
	}
	w := s.waits[0]
	for _, c := range callers(w.stack, w.at) {
		f.Where = addPlace(f.Where, c)
	}
	f.Title = rule.Say("%[1]s waits to send (%[2]s): %[3]s", "%[1]s 卡在 channel 送出（%[2]s）：%[3]s", rule.Code(s.user), rule.Line(s.user), s.reason())
	if s.room {
		f.Title = rule.Say("%[1]s waits for room in a full queue (%[2]s): %[3]s", "%[1]s 等待佇列有空位（%[2]s）：%[3]s", rule.Code(s.user), rule.Line(s.user), s.reason())
	}
	if s.workers != nil {
		f.Title = rule.Say("%[1]s waits for workers that are all busy (%[2]s): each %[3]s (%[4]s)", "%[1]s 在等全都忙著的 worker（%[2]s）：每一個都%[3]s（%[4]s）",
			rule.Code(s.user), rule.Line(s.user), doing(s.workers), rule.Line(s.workers.user))
	}
	f.Summary = v.summarize(s)
	f.Explanation = s.explain()
	f.Remedies = s.remedies()
	f.Evidence = append(v.proofs(s.waits), s.receiverProofs(v)...)
	f.CounterEvidence = v.lossProof()
	v.temperSender(&f, s)
	if s.cause != nil {
		f.CausedBy = ops.Finding{Rule: f.Rule, Where: []ops.Place{rule.At(ops.RoleSend, s.cause)}}.ID()
		f.Where = addPlace(f.Where, rule.At(ops.RoleSend, s.cause))
	}
	return f
}

// reason is why nobody takes what is sent, for a title.
func (s *sender) reason() ops.Text {
	switch {
	case len(s.receivers) == 0 && s.cause != nil:
		return rule.Say("who should receive is stuck at %s", "該接收的一方自己卡在 %s", rule.Line(s.cause))
	case len(s.receivers) == 0:
		return rule.Say("nobody is seen to receive", "看不到有人接收")
	}
	r := &s.receivers[0]
	switch {
	case r.does == atWork:
		return rule.Say("%s cannot keep up", "%s 處理不及", rule.Code(r.at))
	case r.slow != nil && r.slow.user != nil:
		return rule.Say("%[1]s %[2]s (%[3]s)", "%[1]s %[2]s（%[3]s）", rule.Code(r.at), doing(r.slow), rule.Line(r.slow.user))
	}
	return rule.Say("%s receives too slowly", "%s 接收太慢", rule.Code(r.at))
}

func (v *view) summarize(s *sender) ops.Text {
	out := rule.Say("Waiting for somebody to receive: %[1]s at a time, %[2]s each", "同一時間%[1]s 在等人接收，每次%[2]s", rule.Goroutines(s.busy), s.lasting())
	if s.workers != nil {
		out = rule.Say("Waiting for the result: %[1]s at a time, %[2]s each", "同一時間%[1]s 在等結果，每次%[2]s", rule.Goroutines(s.busy), s.lasting())
	}
	if s.share > 0 && s.role != answering {
		out = rule.Say("%[1]s; that is %[2]s of the sender's time", "%[1]s；占送出端 %[2]s 的時間", out, rule.Pct(s.share))
	}
	switch s.role {
	case spreading:
		return rule.Say("%[1]s. Meanwhile other receivers of the same kind have nothing to do: everybody waits for the slowest.", "%[1]s。同時其他接收端卻沒事做：所有人都被最慢的那一個拖住。", out)
	case answering:
		return rule.Say("%s. Requests are held up by it.", "%s。請求因此被卡住。", out)
	}
	return rule.Say("%s.", "%s。", out)
}

func (s *sender) explain() ops.Text {
	switch {
	case s.workers != nil:
		return rule.Say("Requests hand their work to a few goroutines and wait for the result. These never rest, so that work queues before them: a request waits for all that came before it, and then for its own.",
			"請求把工作交給少數幾個 goroutine 並等待結果。它們從不休息，所以工作在前面排隊：請求要先等完前面所有的工作，才輪到自己。")
	case s.room:
		return rule.Say("The queue is full because what takes from it is slower than what puts in: whoever puts something in waits at the condition until there is room, as long as the other side needs for all that is before it.",
			"佇列滿了，因為取出處理比放入慢：要放入的人在 condition 上等空位，時間等於另一端處理完前面所有項目所需。")
	case s.role == spreading:
		return rule.Say("The sender goes from receiver to receiver. As soon as the channel of one is full, because that one is slow, the sender stops there, and whatever all the others should get stops with it.",
			"送出端逐一送給每個接收端。只要其中一個因為慢而 channel 滿了，送出端就停在那裡，其他人該收到的也跟著停住。")
	case s.cause != nil:
		return rule.Say("The channel is full, or has no buffer, and the goroutine that should receive from it cannot: it waits in a send of its own, at %s.", "channel 已滿（或沒有緩衝），而該來接收的 goroutine 無法接收：它自己也卡在 %s 的送出。", rule.Line(s.cause))
	case s.stuck && len(s.receivers) == 0:
		return rule.Say("The channel is full, or has no buffer, and nobody received from it in the whole window: the receiver is gone, or is itself stuck.", "channel 已滿（或沒有緩衝），而且整個時窗內沒有人接收：接收端已經不在，或它自己也卡住了。")
	}
	return rule.Say("The channel is full because what comes out of it takes longer than what goes in. From then on every send takes as long as the receiver needs for an item.", "channel 滿了，因為取出處理比送入慢。從此每次送出都要等接收端處理完一筆。")
}

func (s *sender) remedies() []ops.Text {
	faster := rule.Say("Make the receiver faster: look at what it waits for, take several items at a time, or run more of it.", "讓接收端變快：看它在等什麼、一次取多筆處理，或增加接收端數量。")
	drop := rule.Say("Do not let the sender wait: send with select and default (or a short timeout), and disconnect or skip a receiver whose channel is full (drop slow consumer).", "不要讓送出端等待：用 select 加 default（或短逾時）送出，channel 滿的接收端就主動斷線或略過（Drop Slow Consumer）。")
	buffer := rule.Say("A larger channel buffer rides out bursts; it does not help against a receiver that is always slower.", "加大 channel 緩衝可以吸收瞬間尖峰；但接收端若一直比較慢，再大也沒用。")
	if s.workers != nil {
		return []ops.Text{
			rule.Say("Make each piece of work shorter: look at what the workers wait for.", "縮短每件工作的時間：看 worker 在等什麼。"),
			rule.Say("Run more workers: they mostly wait, and cost no CPU meanwhile.", "增加 worker：它們大多在等待，等待時不耗 CPU。"),
			rule.Say("Refuse early: bound the queue, and answer with an error when it is full.", "早點拒絕：限制佇列長度，滿了就回錯誤。"),
		}
	}
	if s.room {
		return []ops.Text{faster, rule.Say("Refuse early: if there is no room in time, answer with an error instead of waiting (a sync.Cond cannot: a channel with select can).", "早點拒絕：期限內沒有空位就回錯誤，不要一直等（sync.Cond 做不到，channel 搭配 select 可以）。"),
			rule.Say("A longer queue rides out bursts; it does not help against a side that is always slower.", "加長佇列可以吸收瞬間尖峰；但處理端若一直比較慢，再長也沒用。")}
	}
	if s.role == spreading || s.role == reacting || s.stuck && s.role != answering {
		return []ops.Text{drop, rule.Say("Set a write deadline (SetWriteDeadline) on connections, so that a peer that does not read is noticed.", "為連線設定寫入期限（SetWriteDeadline），才能察覺不讀資料的對方。"), buffer}
	}
	return []ops.Text{faster, rule.Say("Refuse early: if there is no room in time, answer with an error instead of waiting.", "早點拒絕：期限內沒有空位就回錯誤，不要一直等。"), buffer}
}

// receiverProofs say who receives, and what these do.
func (s *sender) receiverProofs(v *view) (out []ops.Proof) {
	artifact := ops.KindTrace
	if v.e.Trace == nil {
		artifact = ops.KindGoroutine
	}
	for i := range s.receivers {
		if i == 2 {
			break
		}
		r := &s.receivers[i]
		text := rule.Say("%[1]s receives at %[2]s", "%[1]s 在 %[2]s 接收", rule.Short(r.at), rule.Line(r.at))
		if s.workers != nil {
			text = rule.Say("%[1]s gives the results at %[2]s", "%[1]s 在 %[2]s 交出結果", rule.Short(r.at), rule.Line(r.at))
		}
		if r.guessed {
			text = rule.Say("%[1]s, which receives at %[2]s, is likely the other end", "%[1]s 在 %[2]s 接收，很可能就是另一端", rule.Short(r.at), rule.Line(r.at))
		}
		n := 0.0
		switch {
		case r.does == atWork:
			text = rule.Say("%s; most of the rest of its time it works", "%s；其餘時間大多在執行", text)
		case r.slow != nil && r.slow.user != nil:
			n = v.busy(r.slow)
			text = rule.Say("%[1]s; there are %[4]d of them, and %[5]s at a time: each %[2]s (%[3]s)", "%[1]s；這樣的 goroutine 共 %[4]d 個，同一時間%[5]s %[2]s（%[3]s）", text, doing(r.slow), rule.Line(r.slow.user), r.n, rule.Goroutines(n))
		}
		out = append(out, ops.Proof{Artifact: artifact, Metric: "receiver", Value: math.Round(n*100) / 100, Unit: "goroutines", Text: text})
	}
	return out
}

func (v *view) temperSender(f *ops.Finding, s *sender) {
	if len(s.receivers) == 0 || s.receivers[0].guessed {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
	if len(s.receivers) == 0 && s.role == producer && !s.blamed {
		f.Confidence = ops.Low
	}
	if s.maybe {
		f.Confidence = ops.Low
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "select", Value: s.busy, Unit: "goroutines",
			Text: rule.Say("both sides use select: which one sends cannot be seen", "兩邊都用 select，看不出哪一邊是送出")})
	}
	if s.role == producer && !s.blamed {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "producer", Value: s.busy, Unit: "goroutines",
			Text: rule.Say("the sender does nothing but send: if it is a batch, the channel may be there to pace it", "送出端除了送出沒有別的事：若是批次工作，channel 可能正是用來調節速度")})
	}
	if !s.known {
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindBlock, ops.KindGoroutine}}
	}
}
