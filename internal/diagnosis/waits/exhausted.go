package waits

import (
	"fmt"
	"math"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// poolExhausted finds pools in which all connections are in use while others
// queue for one, and semaphores of the program's own that do the same to requests.
//
// Evidence: waits in the acquire of database/sql, pgxpool, Redis, MongoDB and of
// net/http's MaxConnsPerHost, by trace, block profile and snapshots; what those
// that have a connection wait for; the pools' own figures where the agent was
// handed them. A semaphore is known by who ends the waits: those who passed it
// earlier in the same function.
//
// Thresholds: a queue of 200 ms with several goroutines in it at a time is
// critical, 100 ms a warning, as for downstream-wait: it comes on top of the
// answer's time. Goroutines that no server's handler runs in may be a batch that
// is bounded on purpose: then it is at most a warning, unless the queue takes
// 2 s; at a semaphore of the program's own it is at most a notice.
//
// Not to be confused with: a connection that is being made (downstream-wait); a
// pool from which nobody returns anything (pool-leaked); rate limiters and
// bounded groups, which pace their callers on purpose; workers without work.
func poolExhausted() rule.Rule {
	return rule.Rule{
		ID: "pool-exhausted", Scenario: 2, Name: rule.Say("connection pool exhausted", "連線池耗盡"),
		Judge: func(e *evidence.Evidence) rule.Result {
			v, ok := viewOf(e)
			if !ok {
				return poolsWithoutStacks(e)
			}
			return v.judgeExhausted()
		},
	}
}

const (
	slowAcquire = 200 * time.Millisecond // x75 of a queue for a connection
	longAcquire = 2 * time.Second        // beyond what a batch would accept
)

// poolsWithoutStacks says what the pools' own figures alone tell: that, but not
// where.
func poolsWithoutStacks(e *evidence.Evidence) rule.Result {
	res := rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
	if e.Runtime == nil {
		return res
	}
	for i := range e.Runtime.Pools {
		p := &e.Runtime.Pools[i]
		if n, ok := p.Gain("wait_count"); ok && n > 0 && full(p) >= 0.95 {
			res.Reason = rule.Say("the pool %[1]s is at its limit of %[2]d and callers waited %[3]s times, but without a trace or goroutine profile nothing says where",
				"連線池 %[1]s 已達上限 %[2]d，呼叫端等待了 %[3]s 次，但沒有 trace 或 goroutine profile，無法指出位置", p.Name, p.MaxOpen, rule.Count(int64(n)))
		}
	}
	return res
}

func (v *view) judgeExhausted() rule.Result {
	var findings []ops.Finding
	fine := rule.Say("no goroutine waited for a connection out of a pool", "沒有 goroutine 在等待連線池的連線")
	down := v.downstreams()
	for i, p := range v.pools() {
		if i == 0 {
			fine = rule.Say("waiting for %[2]s at %[3]s: %[1]s at a time, %[4]s each", "同一時間%[1]s 在 %[3]s 等待 %[2]s，%[4]s", rule.Goroutines(p.busy), p.name(), rule.Line(p.places[0].user), p.places[0].lasting())
		}
		if l := v.leaked(p); l == wholly || l == partly {
			fine = rule.Say("nobody gives back %s: pool-leaked tells of it", "沒有人歸還%s：由「連線未歸還連線池」說明", p.name())
			continue
		}
		f := v.tellExhausted(p)
		if f.Severity() != "" && v.behindAnswer(p, down) {
			fine = rule.Say("whoever has %s waits for a slow downstream: downstream-wait tells of both", "持有%s的人都在等慢下游：由「等待下游回應」一併說明", p.name())
			continue
		}
		if f.Severity() != "" {
			findings = append(findings, f)
		}
	}
	return rule.Found(fine, unique(findings)...)
}

// name is what is waited for.
func (p *pool) name() ops.Text {
	if p.client == "" {
		return rule.Say("a turn at a semaphore of the program's own", "semaphore（程式自己的號誌）")
	}
	if p.client == semaphores {
		return rule.Say("a place of a semaphore", "semaphore 的名額")
	}
	name := p.client
	if p.stats != nil {
		name = fmt.Sprintf("%s %q", p.client, p.stats.Name)
	}
	return rule.Say("a connection of %s", "%s 的連線", name)
}

func (v *view) scoreQueue(p *pool, pl *place) int {
	alone := 1 - math.Exp2(-pl.busy)
	handler := sum(pl.waits).handler
	score := min(ops.Score(pl.busy, 40), 60)
	if pl.known {
		score = part(ops.Score(pl.delay.Seconds(), slowAcquire.Seconds()), alone)
	}
	switch {
	case handler:
	case p.client == "":
		score = min(score/2, 45)
	case pl.delay < longAcquire:
		score = min(score, 70)
	}
	return score
}

func (v *view) tellExhausted(p *pool) ops.Finding {
	f := ops.Finding{Rule: "pool-exhausted", Scenario: 2}
	pl := p.worst(v)
	f.Score = v.scoreQueue(p, pl)
	f.Confidence = v.sure(pl.waits)
	if p.stats != nil && full(p.stats) >= 0.95 && f.Confidence == ops.Medium {
		f.Confidence = ops.High // the pool's own figures are a source of their own
	}
	if p.client == "" {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
	p.exhaustedWhere(&f, pl)
	f.Title = rule.Say("%[1]s queues %[3]s for %[4]s (%[2]s)", "%[1]s 排隊 %[3]s 等待 %[4]s（%[2]s）", rule.Code(pl.user), rule.Line(pl.user), pl.each(), p.name())
	if !pl.known {
		f.Title = rule.Say("%[1]s queues for %[3]s (%[2]s)", "%[1]s 正在排隊等待 %[3]s（%[2]s）", rule.Code(pl.user), rule.Line(pl.user), p.name())
	}
	f.Summary = rule.Say("Waiting for %[2]s: %[1]s at a time, %[3]s each.", "同一時間%[1]s 在等 %[2]s，每次%[3]s。", rule.Goroutines(p.busy), p.name(), pl.lasting())
	f.Explanation = v.explainQueue(p)
	f.Remedies = p.remedies()
	f.Evidence = append(v.proofs(pl.waits), v.holderProofs(p)...)
	f.Evidence = append(f.Evidence, p.statsProof()...)
	f.CounterEvidence = append(v.busyCPU(), v.lossProof()...)
	if !sum(pl.waits).handler {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "no_handler", Value: pl.busy, Unit: "goroutines",
			Text: rule.Say("no server's handler waits here: in a batch this may be the intended bound", "等待者不在伺服器的請求處理之中：若是批次工作，這可能是刻意的上限")})
	}
	return f
}

// exhaustedWhere puts in the acquire, what the holders are at, and who calls.
func (p *pool) exhaustedWhere(f *ops.Finding, pl *place) {
	f.Where = []ops.Place{rule.At(ops.RoleAcquire, pl.user)}
	for i, h := range p.holders {
		if i < 2 {
			f.Where = addPlace(f.Where, rule.At(ops.RoleIO, p.keeper(h)))
			f.Where = addPlace(f.Where, rule.At(ops.RoleIO, h.user))
		}
	}
	for _, c := range callers(pl.waits[0].stack, pl.waits[0].stack.Index(func(x *evidence.Frame) bool { return x == pl.user })) {
		f.Where = addPlace(f.Where, c)
	}
	for _, o := range p.places {
		if o.user != pl.user && len(f.Where) < 8 {
			f.Where = addPlace(f.Where, rule.At(ops.RoleAcquire, o.user))
		}
	}
}

// keeper is the line at which a holder keeps what it acquired: in the function
// that did, if it is further on there, else its own line.
func (p *pool) keeper(h *wait) *evidence.Frame {
	if b := p.beyond(h); b != nil {
		return b
	}
	return h.user
}

func (v *view) explainQueue(p *pool) ops.Text {
	why := rule.Say("Nobody who has one is seen to wait for anything: they work, or have it only for moments.", "看不到持有者在等什麼：他們在做事，或只短暫持有。")
	if len(p.holders) > 0 {
		h := p.holders[0]
		d, _, known := v.mean(h)
		at := rule.Line(p.keeper(h))
		switch {
		case p.client == "":
			why = rule.Say("Those that have passed it are at %[1]s, where each %[2]s.", "已經通過的人停在 %[1]s，%[2]s。", at, doing(h))
		case !p.uses(h):
			why = rule.Say("Those that have one keep it while they do something else: at %[1]s the holder %[2]s.", "持有者拿著它去做別的事：在 %[1]s，持有者%[2]s。", at, doing(h))
		case known && d >= slowAnswer/2:
			why = rule.Say("Those that have one wait %[2]s for each answer (%[1]s): the downstream is slow, and the queue is what follows.", "持有者每次要等 %[2]s 才得到回應（%[1]s）：慢的是下游，排隊只是結果。", at, rule.Dur(d))
		case known:
			why = rule.Say("Those that have one wait %[2]s for each answer (%[1]s): for so many callers that is too long, or the pool is too small.", "持有者每次等 %[2]s 得到回應（%[1]s）：以這麼多呼叫端來說，不是太久，就是連線池太小。", at, rule.Dur(d))
		default:
			why = rule.Say("Those that have one are at %[1]s, where the holder %[2]s.", "持有者停在 %[1]s，%[2]s。", at, doing(h))
		}
	}
	return rule.Say("All are in use, so whoever comes has to wait until one is given back. %s", "全部都在使用中，後來的人只能等別人歸還。%s", why)
}

func (p *pool) remedies() []ops.Text {
	slow := rule.Say("Make those that have one faster: shorter queries and transactions, batches (batch write) so that several records share a round trip.", "縮短持有時間：縮短查詢與交易、批量寫入（Batch Write）讓多筆資料共用一次往返（RTT）。")
	keep := rule.Say("Do nothing else while holding one: no other service's call, no sleep, no second query of another connection; give it back first.", "持有期間不要做別的事：不要呼叫其他服務、不要睡眠、不要再取第二條連線；先歸還再做。")
	out := []ops.Text{slow}
	if p.client == "" {
		out[0] = rule.Say("Make what it protects faster: look at what those wait for who have passed it.", "讓它所保護的工作變快：看已通過的人在等什麼。")
	} else if len(p.holders) > 0 && !p.uses(p.holders[0]) {
		out = []ops.Text{keep, slow}
	}
	grow := rule.Say("Then size the pool (SetMaxOpenConns, MaxConns, PoolSize): a larger one helps only if the other side can do more at a time.", "再調整連線池大小（SetMaxOpenConns、MaxConns、PoolSize）：只有在對方能同時處理更多時，加大才有用。")
	switch p.client {
	case "":
		grow = rule.Say("Then widen the limit, if what it protects can bear that.", "再放寬上限，前提是它所保護的資源承受得起。")
	case "HTTP":
		grow = rule.Say("Then raise MaxConnsPerHost of the http.Transport, and read and close every response body.", "再提高 http.Transport 的 MaxConnsPerHost，並確實讀完且關閉每個回應內容。")
	}
	return append(out, grow, rule.Say("Acquire with a timeout (a context with a deadline), so that callers are refused early instead of piling up.", "取用時設定逾時（帶期限的 context），早點拒絕，而不是讓請求越堆越多。"))
}

// holderProofs say what those that have a connection do.
func (v *view) holderProofs(p *pool) (out []ops.Proof) {
	for i, h := range p.holders {
		if i == 2 {
			break
		}
		artifact := ops.KindTrace
		if v.e.Trace == nil {
			artifact = ops.KindGoroutine
		}
		n := v.busy(h)
		out = append(out, ops.Proof{Artifact: artifact, Metric: "holders", Value: math.Round(n*100) / 100, Unit: "goroutines", Share: min(1, n/max(p.held, 1e-9)),
			Text: rule.Say("of those that have one, %[1]s at a time: each %[2]s (%[3]s)", "持有者之中，同一時間%[1]s %[2]s（%[3]s）", rule.Goroutines(n), doing(h), rule.Line(h.user))})
	}
	return out
}

// statsProof is what the pool itself says.
func (p *pool) statsProof() []ops.Proof {
	if p.stats == nil {
		return nil
	}
	used, _ := p.stats.Mean("in_use")
	waits, _ := p.stats.Gain("wait_count")
	secs, _ := p.stats.Gain("wait_seconds")
	text := rule.Say("the pool %[1]s has %.1[2]f of %[3]d connections in use", "連線池 %[1]s 的 %[3]d 條連線用了 %.1[2]f 條", p.stats.Name, used, p.stats.MaxOpen)
	if waits > 0 {
		text = rule.Say("%[1]s; waits for one that ended in the window: %[2]s, together %[3]s", "%[1]s；時窗內結束的等待 %[2]s 次、合計 %[3]s", text, rule.Count(int64(waits)), rule.Dur(time.Duration(secs*float64(time.Second))))
	}
	return []ops.Proof{{Artifact: ops.KindRuntime, Metric: "pool_in_use", Value: math.Round(used*100) / 100, Unit: "connections", Share: min(1, full(p.stats)), Text: text}}
}
