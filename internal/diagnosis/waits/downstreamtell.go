package waits

import (
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/ops"
)

// name is the client with its remote, as far as that is known.
func (d *downstream) name() ops.Text {
	switch {
	case d.kind == resolve:
		return rule.Say("DNS", "DNS")
	case d.remote != "":
		return rule.Say("%s at %s", "%s (%s)", d.client, d.remote)
	}
	return rule.Say("%s", "%s", d.client)
}

// service reports whether another service is asked, which can be captured as well.
func (d *downstream) service() bool {
	return d.client == "HTTP" || d.client == "gRPC" || d.client == "net/rpc"
}

func (v *view) tellDownstream(d *downstream) ops.Finding {
	p := &d.places[0]
	h := p.waits[0].helper
	if by := p.asksOneByOne(); h == nil && by != nil {
		above := *p
		above.user, h, p = by, p.user, &above
	}
	f := ops.Finding{Rule: "downstream-wait", Scenario: 2, Score: p.score, Confidence: v.sure(p.waits)}
	f.Where = append(f.Where, rule.At(ops.RoleIO, p.user))
	if h != nil {
		f.Where = []ops.Place{rule.At(ops.RoleCall, p.user), rule.At(ops.RoleIO, h)}
	}
	for _, c := range callers(p.waits[0].stack, p.waits[0].at) {
		f.Where = addPlace(f.Where, c)
	}
	for _, o := range d.places[1:min(5, len(d.places))] {
		f.Where = addPlace(f.Where, rule.At(ops.RoleIO, o.user))
	}
	d.say(&f, p)
	f.Remedies = d.remedies()
	if d.service() && d.remote == "" {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "remote", Unit: "hosts",
			Text: rule.Say("which host is asked this capture does not say: no label (server.address, peer.service) names it", "這次擷取看不出問的是哪一台主機：沒有標籤（server.address、peer.service）指出來")})
	}
	if p.queued {
		f.Remedies = append([]ops.Text{rule.Say("Have more goroutines ask at once, as many as the other side bears, or let each request ask by itself with a limit.", "讓更多 goroutine 同時詢問（以對方能承受為限），或讓每個請求自己詢問並設並行上限。")}, f.Remedies...)
	}
	switch {
	case p.asleep*2 > p.delay:
		f.Remedies = append([]ops.Text{
			rule.Say("Find out why it has to be asked again: what the other side answers to the first try (its status, its log).", "先查為什麼要再問：第一次對方回了什麼（狀態碼、對方的日誌）。"),
			rule.Say("Try again out of the request's way (a queue), or at most once and soon; give up early while the other side fails (a circuit breaker).", "把重試移出請求路徑（佇列），或最多很快地再試一次；對方持續失敗時提早放棄（斷路器）。"),
		}, f.Remedies...)
	case p.times > 0:
		f.Remedies = append([]ops.Text{
			rule.Say("Ask once for all of them: a query with IN or a join, a batch request, a pipeline.", "一次問完全部：用 IN 或 JOIN 查詢、批次請求、pipeline。"),
			rule.Say("Where that cannot be, ask side by side, a few at a time (errgroup with SetLimit), or keep answers that rarely change.", "做不到的話，改成平行詢問並限制數量（errgroup 加 SetLimit），或快取很少變動的結果。"),
		}, f.Remedies...)
	}
	f.Evidence = v.proofsOf(p.waits, p.told)
	if p.last || p.queued {
		f.Evidence = append(f.Evidence, v.requestProof(p)...)
	}
	if p.times > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "waits_per_request", Value: float64(p.times), Unit: "waits",
			Text: rule.Say("a request waits here about %[1]s times, one after the other, %[2]s in all", "一個請求在這裡依序等待約 %[1]s 次，共 %[2]s", rule.Count(p.times), rule.Dur(p.delay))})
	}
	if c, ok := v.cpuProof(); ok && v.saturation() < saturated {
		f.Evidence = append(f.Evidence, c)
	}
	f.CounterEvidence = append(append(v.busyCPU(), v.lossProof()...), f.CounterEvidence...)
	v.temper(&f, p)
	if f.Next == nil { // what is not sure yet is made sure first
		f.Next = d.callee()
	}
	return f
}

// callee is a capture of the service that answers, the one asked most where there
// are several; nil where the other side is no service or nobody names it.
func (d *downstream) callee() *ops.NextCapture {
	name, _, _ := strings.Cut(d.remote, ", ")
	if !d.service() || name == "" {
		return nil
	}
	return &ops.NextCapture{Remote: name}
}

// unlike is how many times its mean the longest wait is where the mean is one of two
// kinds of waits, such as quick answers and a database that stood still; by reasoning.
const unlike = 5

// say writes title, summary and explanation.
func (d *downstream) say(f *ops.Finding, p *place) {
	who, at := rule.Code(p.user), rule.Line(p.user)
	switch {
	case d.kind == resolve:
		f.Title = rule.Say("%[1]s waits for DNS, %[3]s each time (%[2]s)", "%[1]s 卡在 DNS 解析，每次 %[3]s（%[2]s）", who, at, p.each())
		f.Explanation = rule.Say("Before a connection can be made the host's name has to be resolved, and the answer is slow. Go does not cache names: every new connection asks again.",
			"建立連線前必須先解析主機名稱，而 DNS 回應很慢。Go 不會快取解析結果，每條新連線都會重新查詢。")
	case d.kind == dial:
		f.Title = rule.Say("%[1]s waits for new connections of %[4]s, %[3]s each time (%[2]s)", "%[1]s 卡在建立 %[4]s 的新連線，每次 %[3]s（%[2]s）", who, at, p.each(), d.name())
		f.Explanation = rule.Say("No connection is at hand, so one is made, and making it is slow: the other side does not accept, or the way to it loses packets. Connections that are kept would not have to be made.",
			"手上沒有可用連線，必須新建，而建立連線很慢：對方來不及接受，或網路路徑掉封包。保留並重用連線就不必一再重建。")
	case !p.known:
		f.Title = rule.Say("%[1]s waits for %[3]s (%[2]s)", "%[1]s 正在等待 %[3]s（%[2]s）", who, at, d.name())
	case p.last:
		f.Title = rule.Say("%[1]s asks %[4]s for requests that wait %[3]s for the last answer (%[2]s)", "%[1]s 替請求詢問 %[4]s，請求要等 %[3]s 才拿到最後一個回應（%[2]s）", who, at, p.each(), d.name())
	case p.queued:
		f.Title = rule.Say("%[1]s waits %[5]s for every answer of %[4]s, and requests queue %[3]s for whoever asks (%[2]s)", "%[1]s 每次等 %[4]s 回應 %[5]s，請求則要排隊 %[3]s 才輪到（%[2]s）", who, at, p.each(), d.name(), rule.Dur(p.answer))
		f.Explanation = rule.Say("Requests hand their work to a few goroutines, and these spend most of their time waiting for answers, which uses no CPU. As many answers as there are of them are under way at most, and everybody else waits in the queue before them.",
			"請求把工作交給少數幾個 goroutine，而它們大部分時間都停著等回應，不耗 CPU。同時進行的詢問最多就這幾個，其他請求都排在前面的佇列裡等。")
	case p.asleep*2 > p.delay:
		f.Title = rule.Say("%[1]s tries %[4]s about %[5]s times for a request, and sleeps in between: %[3]s in all (%[2]s)", "%[1]s 每個請求要試 %[4]s 約 %[5]s 次，中間還 sleep，共 %[3]s（%[2]s）", who, at, p.each(), d.name(), rule.Count(p.times))
		f.Explanation = rule.Say("Each answer takes %[1]s, but many have to be asked for again, and before that the request sleeps: %[2]s of its time, at %[3]s. Whoever waits for the request waits for that as well.",
			"每個回應 %[1]s，但很多要再問一次，而且再問之前請求會先 sleep：共 %[2]s，在 %[3]s。等這個請求的人也跟著等。", rule.Dur(p.answer), rule.Dur(p.asleep), rule.Line(p.sleeps))
		f.Where = addPlace(f.Where, rule.At(ops.RoleIO, p.sleeps))
	case p.times > 0 && p.lines > 1:
		f.Title = rule.Say("requests ask %[4]s at %[5]d lines, one after the other: %[3]s of waiting (%[1]s, %[2]s)", "請求依序在 %[5]d 處詢問 %[4]s，共等待 %[3]s（%[1]s，%[2]s）", who, at, p.each(), d.name(), p.lines)
		f.Explanation = rule.Say("Each answer takes about %[1]s, which may be quick enough; but the next is asked for only when the one before is there, so that a request waits for the sum of them. The goroutine is parked meanwhile and uses no CPU.",
			"每個回應約 %[1]s，單看也許不慢；但要等前一個回來才問下一個，請求就得等全部加總。期間 goroutine 停著不耗 CPU。", rule.Dur(p.answer))
	case p.times > 0:
		f.Title = rule.Say("%[1]s asks %[4]s about %[5]s times for a request, one after the other: %[3]s of waiting (%[2]s)", "%[1]s 每個請求要依序詢問 %[4]s 約 %[5]s 次，共等待 %[3]s（%[2]s）", who, at, p.each(), d.name(), rule.Count(p.times))
		f.Explanation = rule.Say("Each answer takes %[1]s, which may be quick enough; but the next is asked for only when the one before is there, so that a request waits for the sum of them: as many round trips as it has items (N+1). The goroutine is parked meanwhile and uses no CPU.",
			"每個回應 %[1]s，單看也許不慢；但要等前一個回來才問下一個，請求就得等全部加總：有幾筆就往返幾次（N+1）。期間 goroutine 停著不耗 CPU。", rule.Dur(p.answer))
	default:
		f.Title = rule.Say("%[1]s waits %[3]s for every answer of %[4]s (%[2]s)", "%[1]s 每次等待 %[4]s 回應要 %[3]s（%[2]s）", who, at, p.each(), d.name())
	}
	if f.Explanation.EN == "" {
		f.Explanation = rule.Say("The request has been sent; the goroutine is parked until the answer arrives and uses no CPU meanwhile. That is why the process looks idle while its callers wait. More CPU or more replicas do not help: the time passes on the other side, or on the way there.",
			"請求已經送出，goroutine 停在那裡等回應，期間不耗 CPU，所以行程看起來很閒，呼叫端卻在等。加 CPU 或加副本都沒有用：時間花在對方，或花在路上。")
	}
	f.Summary = rule.Say("Waiting for %[2]s: %[1]s at a time, %[3]s each.", "同一時間%[1]s 在等 %[2]s，每次%[3]s。", rule.Goroutines(d.busy), d.name(), p.lasting())
	if p.queued {
		f.Summary = rule.Say("Waiting for %[2]s: %[1]s at a time, %[3]s for each answer; a request waits %[4]s until it has its own.", "同一時間%[1]s 在等 %[2]s，每個回應平均 %[3]s；一個請求要等 %[4]s 才拿到自己的。", rule.Goroutines(d.busy), d.name(), rule.Dur(p.answer), rule.Dur(p.delay))
	}
	if p.times > 0 {
		f.Summary = rule.Say("Waiting for %[2]s: %[1]s at a time, %[3]s for each answer and %[4]s for all that a request asks for.", "同一時間%[1]s 在等 %[2]s，每個回應平均 %[3]s，一個請求合計 %[4]s。", rule.Goroutines(d.busy), d.name(), rule.Dur(p.answer), rule.Dur(p.delay))
	}
	if most := sum(p.waits).max; p.known && !p.upTo && !p.atLeast && most >= unlike*max(p.delay, p.answer) {
		f.Summary = rule.Say("%s Some take much longer than that, up to %s: look at these in the timeline.", "%s有些久得多，最長 %s：在時間軸上看這幾次。", f.Summary, rule.Dur(most))
	}
	if len(d.places) > 1 {
		f.Summary = rule.Say("%[1]s The lines that ask: %[2]s.", "%[1]s發出請求的程式碼：%[2]s。", f.Summary, list(d.places))
	}
}

// requestProof is what the requests wait that others ask for.
func (v *view) requestProof(p *place) (out []ops.Proof) {
	var longest *wait
	var most time.Duration
	for _, w := range p.waits {
		for _, h := range w.parents {
			if d, _, known := v.mean(h); known && d > most {
				longest, most = h, d
			}
		}
	}
	if longest != nil {
		out = append(out, ops.Proof{Artifact: ops.KindTrace, Metric: "request_wait_seconds", Value: longest.total.Seconds(), Unit: "s",
			Text: rule.Say("requests, at %[1]s: %[2]s", "請求端（%[1]s）：%[2]s", rule.Line(longest.user), v.traceText(longest))})
	}
	return out
}

// temper adds what limits the finding.
func (v *view) temper(f *ops.Finding, p *place) {
	if p.doubt {
		f.Confidence = ops.Low
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "long_poll", Value: p.delay.Seconds(), Unit: "s",
			Text: rule.Say("a few goroutines that nobody waits for and long waits: a long poll, which is healthy, looks just like this", "少數幾個沒有人在等的 goroutine 長時間等待：健康的長輪詢（long poll）看起來也是這樣")})
	}
	if p.aside {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "requests_waiting", Unit: "goroutines",
			Text: rule.Say("requests start these goroutines and do not wait for them: nobody's answer is late because of it", "這些 goroutine 由請求啟動，但請求並不等它們：沒有人的回應因此變慢")})
	}
	if sum(p.waits).count == 0 {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.Next = &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindGoroutine, ops.KindCPU}}
		text := rule.Say("how long one wait takes is not measured: that needs a trace", "每次等待多久並未量到，需要 trace 才知道")
		if p.known && p.atLeast && p.waits[0].aged == 0 {
			text = rule.Say("how long one wait takes is estimated: no call costs less than %s of CPU, so %s in %s of CPU use cannot be waiting for less than %s each", "每次等待的時間是推估的：每次呼叫至少耗 %s CPU，以同時%s 在等、CPU 用量 %s 計算，每次等待不可能少於 %s",
				rule.Dur(callCost), rule.Goroutines(p.busy), v.cores(), rule.Dur(p.delay))
		}
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "estimate", Value: p.delay.Seconds(), Unit: "s", Text: text})
	}
	if p.waits[0].unlisted {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
}

func (v *view) cores() ops.Text {
	c, _ := v.e.CPUCores()
	return rule.Say("%.2f cores", "%.2f 核", c)
}

// remedies are the quickest first.
func (d *downstream) remedies() []ops.Text {
	limits := rule.Say("Give each call a timeout by its context, so that a slow downstream costs a request an error rather than a goroutine.", "為每次呼叫設定 context 逾時，讓下游變慢時只是請求失敗，而不是一直佔住 goroutine。")
	switch {
	case d.kind == resolve:
		return []ops.Text{
			rule.Say("Keep connections open instead of making new ones: then names are resolved once.", "保持連線並重用，不要一直新建，名稱就只需解析一次。"),
			rule.Say("Look at the resolver: /etc/resolv.conf, its search list (ndots) and the cluster's DNS; a local cache helps.", "檢查解析設定：/etc/resolv.conf、search 清單（ndots）與叢集 DNS；加一層本機快取會有幫助。"),
			limits,
		}
	case d.kind == dial:
		return []ops.Text{
			rule.Say("Keep more idle connections (MaxIdleConnsPerHost of http.Transport, MinConns or SetMaxIdleConns of a pool), and read response bodies to their end so that they can be used again.", "保留更多閒置連線（http.Transport 的 MaxIdleConnsPerHost、連線池的 MinConns 或 SetMaxIdleConns），並把回應內容讀完，連線才能重用。"),
			rule.Say("Find out whether the other side still accepts: its backlog, its connection limit, the network in between.", "確認對方是否還能接受連線：accept 佇列、連線數上限、中間的網路。"),
			limits,
		}
	case d.service():
		return []ops.Text{
			rule.Say("Capture the service that is called next (ops capture SERVICE): its own verdict says why it is slow.", "接著擷取被呼叫的服務（ops capture SERVICE），看它自己的診斷為什麼慢。"),
			limits,
			rule.Say("Ask less: cache answers, join several requests into one, ask in parallel what does not depend on each other.", "減少呼叫：快取結果、合併請求，互不相依的請求改為平行送出。"),
		}
	case d.client == "Redis" || d.client == "memcached":
		return []ops.Text{
			rule.Say("Send several commands at once (a pipeline, MGET) instead of waiting for each answer.", "一次送出多個命令（pipeline、MGET），不要一個一個等。"),
			rule.Say("Look for slow commands on the server (SLOWLOG, KEYS, large values).", "在伺服器上找慢命令（SLOWLOG、KEYS、過大的值）。"),
			limits,
		}
	case d.client == "TCP":
		return []ops.Text{limits, rule.Say("Send several requests before waiting for the first answer, or join them into one.", "先連續送出多個請求再等回應，或把它們合併成一個。"),
			rule.Say("Find out on the other side why it answers slowly.", "到對方那一端查明為什麼回應慢。")}
	}
	return []ops.Text{
		rule.Say("Write in batches (batch write: one multi-row INSERT, CopyFrom, SendBatch or a bulk write) so that many records share one round trip to the database.", "啟用批量寫入（Batch Write：多列 INSERT、CopyFrom、SendBatch 或 bulk write），讓多筆資料共用一次資料庫往返（RTT）。"),
		rule.Say("Look at what the database waits for: its slow-query log, locks on the same rows (pg_stat_activity, SHOW PROCESSLIST), a missing index.", "看資料庫在等什麼：慢查詢紀錄、同一列上的鎖（pg_stat_activity、SHOW PROCESSLIST）、缺少的索引。"),
		limits,
	}
}
