package memory

import (
	"cmp"
	"slices"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// responseBodyLeak finds answers of HTTP servers whose body was neither read to
// its end nor closed: each keeps its connection, two goroutines and some 20 KiB.
//
// Evidence: the goroutines of net/http's client. The readLoop of a connection that
// is idle, or waits for an answer, reads from the network; one whose answer was
// handed over waits in a select until somebody has read the body or closed it. Those
// that read a body now are seen, too. What remains are bodies that nobody reads.
// For HTTP/2 it is the goroutine of each stream that stays.
//
// The caller is in none of these stacks. It is looked for where the program calls
// net/http's client: among those that wait for a new connection, in what is live on
// the heap, and among all calls; less those whose functions are seen in the trace to
// read bodies to their end or to close them.
//
// At least 20 are needed, or ten that no longer come back to a pool which is full.
// The score is 75 at 150 of them or 2 more a second: by reasoning, file descriptors
// often end at 1,024.
//
// It must not be confused with idle keep-alive connections (they read), with
// answers that are being streamed (somebody reads the body), or with many requests
// under way (they have no answer yet).
func responseBodyLeak() rule.Rule {
	return rule.Rule{ID: "response-body-leak", Scenario: scenario, Name: rule.Say("Response body not closed", "HTTP 回應的 body 沒有關閉"), Judge: judgeResponseBody}
}

const bodiesLeast = 20

var (
	readLoops   = evidence.Named("net/http.(*persistConn).readLoop")
	bodyReaders = evidence.Named("net/http.(*bodyEOFSignal).Read", "net/http.(*http2clientStream).Read", "net/http.http2transportResponseBody.Read", "golang.org/x/net/http2.transportResponseBody.Read")
	roundTrips  = evidence.Named("net/http.(*persistConn).roundTrip", "net/http.(*http2ClientConn).RoundTrip", "golang.org/x/net/http2.(*ClientConn).RoundTrip")
	bodyEnds    = evidence.Named("net/http.(*bodyEOFSignal).")
	streams     = evidence.Named("net/http.(*http2clientStream).doRequest", "golang.org/x/net/http2.(*clientStream).doRequest")
	httpCalls   = evidence.Named("net/http.(*Client).", "net/http.(*Transport).", "net/http.Get", "net/http.Post", "net/http.Head", "net/http.NewRequest")
	dials       = evidence.Named("net/http.(*Transport).getConn", "net/http.(*Transport).queueForDial", "net/http.(*Transport).startDialConnForLocked", "net/http.(*Transport).dialConn")
)

func judgeResponseBody(e *evidence.Evidence) rule.Result {
	c := gather(e)
	if c == nil || c.total == 0 {
		return rule.Needs(e, ops.KindGoroutine)
	}
	b := &bodySearch{e: e, c: c}
	b.count()
	looked := rule.Say("%s connections of HTTP clients, %s of which wait for their answer's body to be closed", "HTTP client 的連線有 %s 條，其中 %s 條在等回應的 body 被關閉", rule.Count(int64(b.conns)), rule.Count(int64(b.open)))
	if b.conns == 0 && b.open == 0 {
		return rule.OK(rule.Say("no connections of HTTP clients", "沒有 HTTP client 的連線"))
	}
	if b.left < bodiesLeast && (b.left < 10 || b.waiting < 10) {
		return rule.OK(looked)
	}
	return rule.Found(looked, b.finding())
}

type bodySearch struct {
	e *evidence.Evidence
	c *crowds

	conns   int // all
	open    int // that wait for their body
	before  int // of these at the window's start
	whole   int64
	reading int // goroutines that read one
	left    int // open ones that nobody reads
	waiting int // goroutines that wait for a connection
	loops   *crowd
}

func (b *bodySearch) count() {
	calling := 0
	for _, x := range b.c.all {
		switch {
		case x.stack.Index(readLoops) >= 0:
			b.conns += x.after
			if x.state == goroutines.Select {
				b.open, b.before, b.whole = b.open+x.after, b.before+x.before, b.whole+x.whole
				if b.loops == nil {
					b.loops = x
				}
			}
		case x.stack.Index(streams) >= 0:
			b.open, b.before, b.whole = b.open+x.after, b.before+x.before, b.whole+x.whole
			if b.loops == nil {
				b.loops = x
			}
		case x.stack.Index(bodyReaders) >= 0:
			b.reading += x.after
		case x.stack.Has("net/http.(*http2ClientConn).", "golang.org/x/net/http2.(*ClientConn).roundTrip", "golang.org/x/net/http2.(*ClientConn).RoundTrip"):
			calling += x.after
		case x.wait.Class == goroutines.PoolAcquire && x.wait.Library == "net/http":
			b.waiting += x.after
		}
	}
	b.left = b.open - b.reading - calling
}

// rate is by how many a second they become more.
func (b *bodySearch) rate() float64 {
	if !b.c.compared {
		return 0
	}
	return max(0, float64(b.open-b.before)/b.c.window.Seconds())
}

func (b *bodySearch) finding() ops.Finding {
	value := float64(b.left)/150 + b.rate()/2 + float64(b.waiting)/100
	f := ops.Finding{Rule: "response-body-leak", Scenario: scenario, Score: ops.Score(value, 1), Confidence: ops.Medium}
	if !b.c.compared && b.c.traced == 0 {
		f.Confidence = ops.Low
		f.Score = min(f.Score, 74)
	}
	callers, sure := b.calls()
	if len(callers) > 0 && sure && b.c.compared {
		f.Confidence = ops.High
	}
	if len(callers) > 0 {
		if at := b.drops(callers[0]); at != nil {
			callers = append([]*evidence.Frame{at}, callers...)
		}
	}
	for _, at := range callers[:min(3, len(callers))] {
		f.Where = append(f.Where, rule.At(ops.RoleCall, at))
	}
	if len(callers) > 0 {
		f.Title = rule.Say("`%s` does not close the body of an HTTP response (%s)", "`%s` 沒有關閉 HTTP 回應的 body（%s）", rule.Short(callers[0]), rule.Line(callers[0]))
	} else {
		f.Title = rule.Say("bodies of HTTP responses are not closed: %s connections are held", "HTTP 回應的 body 沒有關閉：占住 %s 條連線", rule.Count(int64(b.left)))
	}
	f.Where = append(f.Where, rule.At(ops.RoleWait, b.loops.place))
	f.Summary = rule.Say("%s connections got their answer and wait for somebody to read or close its body; %s goroutines read one.", "有 %s 條連線已收到回應，等著有人讀完或關閉 body；正在讀的 goroutine 有 %s 個。", rule.Count(int64(b.open)), rule.Count(int64(b.reading)))
	if r := b.rate(); r > 0 {
		f.Summary = rule.Say("%s They become %s more an hour.", "%s每小時再多 %s 條。", f.Summary, rule.Count(about(r*3600)))
	}
	f.Explanation = rule.Say("As long as the body is open, the client cannot use the connection again: every call opens a new one, with two goroutines, buffers and a file descriptor here and a connection on the other side. It ends with \"too many open files\", exhausted ports, or all callers waiting for a connection.",
		"body 不關閉，client 就不能重用這條連線：每次呼叫都開新的，這一端多兩個 goroutine、緩衝區與一個檔案描述子，另一端也多一條連線。最後就是「too many open files」、port 用盡，或所有呼叫端都在等連線。")
	f.Remedies = []ops.Text{
		rule.Say("After the error check: defer resp.Body.Close(). Also where only the status is looked at, and on every early return.", "檢查 err 之後立刻 defer resp.Body.Close()。只看狀態碼、或提早 return 的地方也一樣。"),
		rule.Say("Read the rest (io.Copy(io.Discard, resp.Body), bounded by io.LimitReader), so that the connection is used again.", "把剩下的讀完（io.Copy(io.Discard, resp.Body)，用 io.LimitReader 設上限），連線才能重用。"),
		rule.Say("Set http.Client.Timeout: it ends what was forgotten. The linter bodyclose finds such calls.", "設定 http.Client.Timeout，被遺忘的也會結束；linter bodyclose 可以找出這類呼叫。"),
	}
	b.proofs(&f, len(callers), sure)
	return f
}

func (b *bodySearch) proofs(f *ops.Finding, callers int, sure bool) {
	text := rule.Say("%s of %s client connections wait in (*persistConn).readLoop for their body to be closed, and %s goroutines read one", "%[2]s 條 client 連線中有 %[1]s 條在 (*persistConn).readLoop 等 body 關閉，正在讀的 goroutine 只有 %[3]s 個",
		rule.Count(int64(b.open)), rule.Count(int64(max(b.conns, b.open))), rule.Count(int64(b.reading)))
	if b.c.compared {
		text = rule.Say("%s; %s before there were %s", "%s；%s 前是 %s 條", text, rule.Dur(b.c.window), rule.Count(int64(b.before)))
	}
	f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "open_bodies", Value: float64(b.left), Unit: "connections", Share: float64(b.left) / float64(max(b.conns, b.open)), Text: text})
	if b.whole > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "whole_window_waits", Value: float64(b.whole), Unit: "connections",
			Text: rule.Say("%s of them waited for the whole trace of %s", "其中 %s 條在 %s 的 trace 裡從頭等到尾", rule.Count(b.whole), rule.Dur(b.c.traced)),
		})
	}
	switch {
	case callers == 0:
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "callers", Text: rule.Say("no artifact shows who made these calls", "沒有任何資料顯示是誰發出這些呼叫")})
	case !sure:
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindTrace, Metric: "callers", Value: float64(callers), Unit: "lines", Text: rule.Say("that it is this call is likely by how often it dials or what it holds; the connection's own goroutines do not say", "由它開新連線的次數或持有的物件推測是這個呼叫；連線自己的 goroutine 並不會說")})
	}
}

// calls are the program's lines that call an HTTP client and are suspicious, the
// most first. sure says that no other comes near.
func (b *bodySearch) calls() (out []*evidence.Frame, sure bool) {
	weight := map[*evidence.Frame]float64{}
	for _, w := range []struct {
		of map[*evidence.Frame]float64
		by float64
	}{
		{b.waits(dials), 4}, {b.rows(b.e.Heap, "inuse_space", httpCalls), 3}, {b.rows(b.e.Allocs, "alloc_space", dials), 3},
		{b.rows(b.e.CPU, "cpu", dials), 2}, {b.waits(httpCalls), 1}, {b.rows(b.e.Allocs, "alloc_space", httpCalls), 1}, {b.rows(b.e.CPU, "cpu", httpCalls), 1},
	} {
		total := 0.0
		for _, v := range w.of {
			total += v
		}
		for f, v := range w.of {
			weight[f] += w.by * v / total
		}
	}
	dialed := b.dialed()
	for f := range weight {
		weight[f] *= b.leaves(f)
		if dialed != nil {
			weight[f] *= max(0.05, dialed[f])
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y *evidence.Frame) int {
		return cmp.Or(cmp.Compare(weight[y], weight[x]), cmp.Compare(x.Function, y.Function), cmp.Compare(x.Line, y.Line))
	})
	for i, f := range out {
		if weight[f] < weight[out[0]]/2 {
			return out[:i], i == 1
		}
	}
	return out, len(out) == 1
}

// dialed is the share of the new connections in the trace that a call had made: while
// bodies are left open, those calls have to dial whose client has no connection left. nil
// if there are too few to tell.
func (b *bodySearch) dialed() map[*evidence.Frame]float64 {
	if b.e.Trace == nil {
		return nil
	}
	out, all := map[*evidence.Frame]float64{}, 0.0
	for _, x := range b.e.Trace.Creations {
		if f := callOf(x.Stack, dials); f != nil && dials(&evidence.Frame{Function: x.Start}) {
			out[f] += float64(x.Count)
			all += float64(x.Count)
		}
	}
	if all < 10 {
		return nil
	}
	for f := range out {
		out[f] /= all
	}
	return out
}

// drops is the one of several http.RoundTrippers around a call that keeps an answer to
// itself: a goroutine is seen to wait in it after the call, as it does who tries again.
// nil = there is one only, or none is seen to.
func (b *bodySearch) drops(call *evidence.Frame) *evidence.Frame {
	if b.e.Trace == nil {
		return nil
	}
	var asks evidence.Stack
	for i := range b.e.Trace.Sites {
		if s := b.e.Trace.Sites[i].Stack; callOf(s, httpCalls) == call {
			asks = s
			break
		}
	}
	at := slices.Index(asks, call)
	if at < 0 {
		return nil
	}
	within := asks[at:]
	send := within.Index(evidence.Named("net/http.send"))
	if send < 0 {
		return nil
	}
	within = within[:send]
	for i := range b.e.Trace.Sites {
		s := b.e.Trace.Sites[i].Stack
		in, after, ok := evidence.Shared(asks, s)
		if ok && in != call && in.Line < after.Line && slices.Contains(within, in) && s[:slices.Index(s, after)].Index(httpCalls) < 0 {
			return in
		}
	}
	return nil
}

// leaves is the share of a call's answers that are not seen to be read or closed,
// at least 0.02: in a trace whoever does either wakes the connection's readLoop. A
// call waits about twice, to send and for the answer; the body may be closed by the
// function that it was returned to.
func (b *bodySearch) leaves(call *evidence.Frame) float64 {
	if b.e.Trace == nil {
		return 1
	}
	waits, users := int64(0), map[string]bool{}
	for i := range b.e.Trace.Sites {
		if s := &b.e.Trace.Sites[i]; callOf(s.Stack, roundTrips) == call {
			waits += s.Count
			for _, name := range nearest(s.Stack) {
				users[name] = true
			}
		}
	}
	ends := int64(0)
	for i := range b.e.Trace.Wakes {
		w := &b.e.Trace.Wakes[i]
		if w.Waiter.Index(readLoops) >= 0 && w.Waker.Index(bodyEnds) >= 0 && slices.ContainsFunc(nearest(w.Waker), func(n string) bool { return users[n] }) {
			ends += w.Count
		}
	}
	if waits == 0 {
		return 1
	}
	return max(0.02, 1-2*float64(ends)/float64(waits))
}

// nearest are the innermost two functions of the program's own.
func nearest(s evidence.Stack) (out []string) {
	for _, f := range s {
		if f.Origin == evidence.OwnCode && len(out) < 2 && !slices.Contains(out, f.Function) {
			out = append(out, f.Function)
		}
	}
	return out
}

// waits counts the waits and the waiting below a call of net/http by the program's
// own line.
func (b *bodySearch) waits(in func(*evidence.Frame) bool) map[*evidence.Frame]float64 {
	out := map[*evidence.Frame]float64{}
	count := func(s evidence.Stack, n float64) {
		if f := callOf(s, in); f != nil && n > 0 {
			out[f] += n
		}
	}
	if b.e.Trace != nil {
		for i := range b.e.Trace.Sites {
			count(b.e.Trace.Sites[i].Stack, float64(b.e.Trace.Sites[i].Count))
		}
	}
	if len(out) == 0 {
		for _, x := range b.c.all {
			count(x.stack, float64(x.after))
		}
	}
	return out
}

func (b *bodySearch) rows(p *evidence.Profile, typ string, in func(*evidence.Frame) bool) map[*evidence.Frame]float64 {
	out := map[*evidence.Frame]float64{}
	for _, x := range p.By(p.Type(typ), func(s evidence.Stack) *evidence.Frame { return callOf(s, in) }) {
		if x.Value > 0 {
			out[x.Frame] = float64(x.Value)
		}
	}
	return out
}

// callOf is the program's own line that calls one of the functions; nil if it does
// not, or only by way of a server that it runs as a proxy.
func callOf(s evidence.Stack, in func(*evidence.Frame) bool) *evidence.Frame {
	i := s.Index(in)
	if i < 0 {
		return nil
	}
	if f := s.UserAbove(i); f != nil && f.Origin == evidence.OwnCode {
		return f
	}
	return nil
}
