package waits

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// poolLeaked finds pools whose connections were taken and never given back: all
// callers wait in the acquire, and nobody is seen to use a connection. Either
// somebody forgot to (rows not closed, a transaction neither committed nor rolled
// back, a response body not closed), or those who hold one wait for a second of
// the same pool, which none of them can ever get.
//
// Evidence: waits in the acquire, by trace and snapshots; no goroutine inside the
// driver, nor past an acquire in a function that keeps its connection; no waiter
// woken by a release while the trace ran; the pool's own figures where known. A
// semaphore (of golang.org/x/sync, or a channel that is one by the name of who sends to
// it) is told of if all have waited for the whole trace and nobody could have a place
// (lost).
// Goroutines of database/sql that watch open rows and transactions, and of
// net/http that wait for a body to be closed, say what is still open.
//
// Threshold: one caller that can never go on is a warning, two are critical:
// nothing but a restart brings such a pool back (reasoning). Part of a pool is
// leaked if its figures say that it is full and less than half of its connections
// are in anybody's hands.
//
// Not to be confused with: a pool that is merely too small or behind a slow
// downstream (pool-exhausted): there the holders are in the driver, or wake
// others when they are done.
func poolLeaked() rule.Rule {
	return rule.Rule{
		ID: "pool-leaked", Scenario: 2, Name: rule.Say("connections not given back to their pool", "連線未歸還連線池"),
		Judge: func(e *evidence.Evidence) rule.Result {
			v, ok := viewOf(e)
			if !ok {
				return rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
			}
			return v.judgeLeaked()
		},
	}
}

// leak says how much of a pool is lost.
type leak uint8

const (
	none leak = iota
	partly
	wholly
	unsure // one snapshot, which may have caught the moment between two holders
)

func (v *view) judgeLeaked() rule.Result {
	var findings []ops.Finding
	fine := rule.Say("no goroutine waited for a connection out of a pool", "沒有 goroutine 在等待連線池的連線")
	var doubt ops.Text
	seen := false
	for _, p := range v.pools() {
		if p.client == "" {
			continue
		}
		l := v.leaked(p)
		switch l {
		case none:
			if seen {
				continue
			}
			seen = true
			fine = rule.Say("connections of %[1]s are in use or come back; holding one: %[2]s", "%[1]s 的連線都有人在用或有歸還；持有連線的%[2]s", p.client, rule.Goroutines(max(p.held, float64(v.pastAny(p)))))
			continue
		case unsure:
			if len(findings) == 0 {
				doubt = rule.Say("waiting for a connection of %[2]s: %[1]s, and nobody is seen to have one, but a single snapshot may be the moment between two", "%[1]s 在等 %[2]s 的連線，看不到有人持有，但單一快照可能剛好落在交接的瞬間", rule.Goroutines(v.countedAll(p)), p.client)
			}
			continue
		}
		seen = true
		fine = rule.Say("waiting for %[2]s: %[1]s; using one: %[3]s", "%[1]s 在等 %[2]s，在使用的：%[3]s", rule.Goroutines(max(p.busy, v.countedAll(p))), p.name(), p.users())
		findings = append(findings, v.tellLeaked(p, l))
	}
	if len(findings) == 0 && doubt.EN != "" {
		return rule.CouldNotCheck(doubt, &ops.NextCapture{Kinds: []ops.Kind{ops.KindTrace, ops.KindGoroutine}})
	}
	return rule.Found(fine, unique(findings)...)
}

func (v *view) leaked(p *pool) leak {
	if p.client == "" || p.busy == 0 {
		return none
	}
	if p.client == semaphores {
		return wholly
	}
	held := max(p.held, float64(v.pastAny(p)))
	if p.stats != nil && p.stats.MaxOpen > 0 {
		used := full(p.stats) * float64(p.stats.MaxOpen)
		switch {
		case full(p.stats) < 0.95:
			return none
		case held > used/2:
			return none
		case held > 0 || p.given:
			return partly
		}
		return wholly
	}
	if v.unused(p, held) {
		return partly
	}
	if held > 0 || p.given {
		if n := v.nesting(p); n != nil && n.seen && held*10 < v.busy(n.wait) {
			return wholly
		}
		return none
	}
	if v.e.Trace == nil && v.stuckFor(p) == 0 && (v.before == nil || !slices.ContainsFunc(p.places, func(pl place) bool { return sum(pl.waits).before > 0 })) {
		return unsure
	}
	if v.e.Trace != nil && !slices.ContainsFunc(p.places, func(pl place) bool { return sum(pl.waits).open > 0 }) {
		return none // all waits ended, by whatever
	}
	return wholly
}

// unused reports whether most of what is open in database/sql is in nobody's
// hands: rows and transactions, each of which keeps a connection, were at least
// twice as many as the goroutines that could be using one, at both ends of the
// window. (They are counted by the goroutines that watch them, which only those
// with a context that can end have: where there are none, nothing is known.)
func (v *view) unused(p *pool, held float64) bool {
	if p.client != "database/sql" || v.before == nil {
		return false
	}
	// Rows within a transaction have a watcher each, and one connection together.
	least := func(u unclosed) int { return max(u.rows-u.transactions, u.transactions) }
	open := min(least(openIn(v.before)), least(v.unclosed()))
	return open >= 4 && float64(open) >= 2*max(1, held)
}

// givers are the functions of the program that were seen to give connections
// back to those who wait: they are not who forgets to.
func (v *view) givers(p *pool) map[string]bool {
	out := map[string]bool{}
	for _, pl := range p.places {
		for _, w := range pl.waits {
			for _, x := range v.wakers(w) {
				if f := x.Waker.User(); f != nil && f.Origin == evidence.OwnCode {
					out[f.Function] = true
				}
			}
		}
	}
	return out
}

// nested is an acquire within another of the same pool.
type nested struct {
	outer, inner *evidence.Frame
	wait         *wait // at the inner one
	// seen is set if others wait at the outer one now: else it is only known that
	// the function takes connections there.
	seen bool
}

// nesting finds goroutines that wait for a connection while they have one: their
// function has acquired one at an earlier line, where others wait right now or
// where memory was allocated by an acquire.
//
// Whoever gives back does not hold it at a later line, unless so few are seen to use a
// connection while others wait for one that nobody but those can have them: then it
// is their deadlines that give back.
func (v *view) nesting(p *pool) *nested {
	if n := v.nestingBut(p, p.givers); n != nil {
		return n
	}
	n := v.nestingBut(p, nil)
	if n == nil || !n.seen || max(p.held, float64(v.pastAny(p)))*10 >= v.busy(n.wait) {
		return nil
	}
	if d, _, known := v.mean(n.wait); !known || d < notInPassing {
		return nil
	}
	return n
}

// notInPassing is how long an acquire waits where connections do not simply go from
// hand to hand, which takes microseconds and the time of a query; by reasoning.
const notInPassing = 100 * time.Millisecond

func (v *view) nestingBut(p *pool, givers map[string]bool) *nested {
	var inner []*wait
	for _, pl := range p.places {
		inner = append(inner, pl.waits...)
	}
	for _, b := range inner {
		for _, a := range inner {
			if !keeps(a) || givers[a.user.Function] {
				continue
			}
			for _, t := range b.all {
				for _, s := range a.all {
					if in, at, ok := evidence.Shared(s, t); ok && in.Line < at.Line && in.Function == at.Function && mayHandOver(s, in) {
						return &nested{outer: in, inner: within(t, at), wait: b, seen: true}
					}
				}
			}
		}
	}
	for _, b := range inner {
		for _, f := range v.acquiredAt(p) {
			i := b.stack.Index(func(x *evidence.Frame) bool { return x.Function == f.frame.Function })
			if i >= b.at && !givers[f.frame.Function] && f.frame.Line < b.stack[i].Line {
				return &nested{outer: f.frame, inner: within(b.stack, b.stack[i]), wait: b}
			}
		}
	}
	return nil
}

// mayHandOver reports whether what is acquired below line in may still be held when that
// goes on: it is acquired by the line itself, or by what it calls if the name of that says
// that it acquires, rather than that it does all there is to do.
func mayHandOver(s evidence.Stack, in *evidence.Frame) bool {
	for i := slices.Index(s, in) - 1; i >= 0; i-- {
		if own(s[i]) && s[i].Outer() != in.Outer() {
			return calledLike(s[i], handing)
		}
	}
	return true
}

var handing = []string{"begin", "acquire", "conn", "open", "tx", "query", "rows", "cursor", "get", "take", "checkout", "lease", "session", "start", "lock", "with", "select", "find"}

// within is where a function that has a connection asks for another: its own line,
// or that of what it was given to run meanwhile.
func within(s evidence.Stack, at *evidence.Frame) *evidence.Frame {
	if f := s.CalledBack(slices.Index(s, at)); f != nil {
		return f
	}
	return at
}

// acquired is a line that takes connections and keeps them, and what is still
// allocated from there.
type acquired struct {
	frame *evidence.Frame
	inUse int64
}

// acquiredAt are the lines that have ever taken a connection of the pool to keep,
// as far as the heap profile has seen memory of it.
func (v *view) acquiredAt(p *pool) (out []acquired) {
	names := map[string][]string{
		"database/sql": {"database/sql.(*DB).Begin", "database/sql.(*DB).Query", "database/sql.(*DB).Conn"},
		"pgxpool":      {"github.com/jackc/pgx/v5/pgxpool.(*Pool).Begin", "github.com/jackc/pgx/v5/pgxpool.(*Pool).Query", "github.com/jackc/pgx/v5/pgxpool.(*Pool).Acquire"},
		"HTTP":         {"net/http.(*Client).Do", "net/http.(*Client).do", "net/http.(*Transport).RoundTrip"},
	}[p.client]
	h := v.e.Heap
	typ := h.Type("inuse_space")
	if h == nil || names == nil || typ < 0 {
		return nil
	}
	for i := range h.Rows {
		s := h.Rows[i].Stack
		at := s.Outermost(evidence.Named(names...))
		if at < 0 || strings.Contains(s[at].Function, "QueryRow") {
			continue
		}
		user := s[at:].Index(own)
		if user < 0 {
			continue
		}
		f := s[at+user]
		k := slices.IndexFunc(out, func(a acquired) bool { return a.frame == f })
		if k < 0 {
			k = len(out)
			out = append(out, acquired{frame: f})
		}
		out[k].inUse += h.Rows[i].Values[typ]
	}
	slices.SortStableFunc(out, func(a, b acquired) int {
		return cmp.Or(cmp.Compare(b.inUse, a.inUse), compareFrames(a.frame, b.frame))
	})
	return out
}

// unclosed counts what is still open, by the goroutines that watch over it.
type unclosed struct{ rows, transactions, bodies int }

func (v *view) unclosed() unclosed { return openIn(v.now) }

func openIn(s *evidence.Goroutines) (u unclosed) {
	if s == nil {
		return u
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		switch {
		case g.Stack.Has("database/sql.(*Rows).awaitDone"):
			u.rows += g.Count
		case g.Stack.Has("database/sql.(*Tx).awaitDone"):
			u.transactions += g.Count
		case g.State == goroutines.Select && g.Stack.Has("net/http.(*persistConn).readLoop"):
			u.bodies += g.Count
		}
	}
	return u
}

func (v *view) tellLeaked(p *pool, l leak) ops.Finding {
	f := ops.Finding{Rule: "pool-leaked", Scenario: 2, Confidence: v.sure(p.places[0].waits)}
	f.Score = part(100, 1-math.Exp2(-max(p.busy, v.countedAll(p))))
	if l == partly {
		f.Score = min(f.Score, 74)
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
	n := v.nesting(p)
	if n != nil && !n.seen {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	}
	user := v.keptAt(p, n)
	v.leakedWhere(&f, p, n, user)
	if p.client == semaphores {
		v.sayLost(&f, p, user)
	} else {
		v.sayLeaked(&f, p, l, n, user)
	}
	f.Evidence = append(v.proofs(p.places[0].waits), v.openProofs()...)
	f.Evidence = append(f.Evidence, p.statsProof()...)
	f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "holders", Value: p.held, Unit: "goroutines",
		Text: rule.Say("inside the driver, or past the acquire: %[1]s; %[2]s", "在驅動程式裡、或已取得連線的：%[1]s；%[2]s", p.users(), givenBack(p))})
	f.CounterEvidence = v.lossProof()
	if n == nil && len(p.places) > 1 {
		f.Confidence = rule.Lower(f.Confidence, ops.Medium)
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindGoroutine, Metric: "acquiring_lines", Value: float64(len(p.places)), Unit: "lines",
			Text: rule.Say("several lines take from this pool (%s): who kept the connections is no longer to be seen", "有多處程式碼會取用這個連線池（%s）：是誰沒歸還，此刻已看不出來", list(p.places))})
	}
	return f
}

// users are those who have a connection in their hands.
func (p *pool) users() ops.Text {
	if p.held == 0 {
		return rule.Say("nobody", "沒有人")
	}
	return rule.Goroutines(p.held)
}

func givenBack(p *pool) ops.Text {
	if p.given {
		return rule.Say("some connections still come back", "仍有部分連線歸還")
	}
	return rule.Say("nothing was given back", "沒有任何連線歸還")
}

func (v *view) countedAll(p *pool) (n float64) {
	for _, pl := range p.places {
		n += v.counted(&wait{now: sum(pl.waits).now, before: sum(pl.waits).before})
	}
	return n
}

// keptAt is the line to change first: the second acquire of a nested pair; else, of
// those that can have left what is open, the line from which most is still allocated, if
// it is one that acquires; else the line where most wait.
func (v *view) keptAt(p *pool, n *nested) *evidence.Frame {
	if n != nil {
		return n.inner
	}
	places := v.openers(p)
	for _, a := range v.acquiredAt(p) {
		if a.inUse > 0 && !p.givers[a.frame.Function] && slices.ContainsFunc(places, func(pl place) bool { return pl.user.Function == a.frame.Function }) {
			return a.frame
		}
	}
	givers := p.givers
	for _, takesBack := range []bool{true, false} {
		for _, pl := range places {
			if keeps(pl.waits[0]) && (!takesBack || !givers[pl.user.Function]) {
				return pl.user // what gives back before it returns leaks nothing
			}
		}
	}
	return p.places[0].user
}

// openers are the places that can have left open what is open. database/sql watches rows
// and transactions whose context can end, each by a goroutine: if there is none, they were
// made without a context, and if there are, with one.
func (v *view) openers(p *pool) []place {
	if p.client != "database/sql" || v.now == nil {
		return p.places
	}
	u := v.unclosed()
	without := func(pl place) bool {
		return slices.ContainsFunc(pl.waits, func(w *wait) bool {
			return w.stack.Index(func(f *evidence.Frame) bool {
				switch f.Function {
				case "database/sql.(*DB).Query", "database/sql.(*DB).QueryRow", "database/sql.(*DB).Begin", "database/sql.(*Stmt).Query", "database/sql.(*Stmt).QueryRow":
					return true
				}
				return false
			}) >= 0
		})
	}
	out := slices.DeleteFunc(slices.Clone(p.places), func(pl place) bool { return without(pl) != (u.rows+u.transactions == 0) })
	if len(out) == 0 {
		return p.places
	}
	return out
}

func (v *view) leakedWhere(f *ops.Finding, p *pool, n *nested, user *evidence.Frame) {
	f.Where = []ops.Place{rule.At(ops.RoleAcquire, user)}
	if n != nil {
		f.Where = addPlace(f.Where, rule.At(ops.RoleHold, n.outer))
		f.Where = addPlace(f.Where, rule.At(ops.RoleAcquire, n.wait.user))
	}
	for _, pl := range p.places[:min(4, len(p.places))] {
		f.Where = addPlace(f.Where, rule.At(ops.RoleAcquire, pl.user))
	}
	w := p.places[0].waits[0]
	for _, c := range callers(w.stack, w.at) {
		f.Where = addPlace(f.Where, c)
	}
}

func (v *view) sayLeaked(f *ops.Finding, p *pool, l leak, n *nested, user *evidence.Frame) {
	who, at := rule.Code(user), rule.Line(user)
	f.Summary = rule.Say("Waiting for a connection of %[2]s: %[1]s, and nobody is using one. Only a restart brings it back.", "%[1]s 在等 %[2]s 的連線，卻沒有人在使用連線。只有重啟才會恢復。", rule.Goroutines(max(p.busy, v.countedAll(p))), p.client)
	if p.given {
		f.Summary = rule.Say("Waiting for a connection of %[2]s: %[1]s, and hardly anybody is using one. Only deadlines free them, and then it begins anew.", "%[1]s 在等 %[2]s 的連線，卻幾乎沒有人在使用連線。只有逾時才會放開，然後又重新卡住。", rule.Goroutines(max(p.busy, v.countedAll(p))), p.client)
	}
	if l == partly {
		f.Summary = rule.Say("Waiting for a connection of %[2]s: %[1]s; the pool says that all are in use, but less than half are in anybody's hands.", "%[1]s 在等 %[2]s 的連線；連線池說全部使用中，但真正有人拿著的不到一半。", rule.Goroutines(p.busy), p.client)
		if p.stats == nil {
			u := v.unclosed()
			f.Summary = rule.Say("Waiting for a connection of %[2]s: %[1]s. Open at both ends of the window: %[3]d sets of rows and %[4]d transactions, far more than anybody was using.", "%[1]s 在等 %[2]s 的連線。時窗前後都開著：%[3]d 組 rows、%[4]d 個交易，遠多於真正在使用的。", rule.Goroutines(p.busy), p.client, u.rows, u.transactions)
		}
	}
	if n != nil {
		f.Title = rule.Say("%[1]s waits for a second connection of %[3]s while it holds one (%[2]s)", "%[1]s 持有一條 %[3]s 連線時又去要第二條（%[2]s）", who, at, p.client)
		f.Explanation = rule.Say("The first connection is taken at %[1]s and still held when a second one is asked for at %[2]s. As soon as as many goroutines have their first one as the pool has connections, none can ever get its second, and none gives back its first.",
			"第一條連線在 %[1]s 取得，尚未歸還就在 %[2]s 又要第二條。一旦拿著第一條的 goroutine 數量等於連線池上限，就沒有人能拿到第二條，也沒有人會歸還第一條，全部互等。", rule.Line(n.outer), rule.Line(n.inner))
		f.Remedies = []ops.Text{
			rule.Say("Do the inner query on the connection at hand (tx.Query, conn.Query) instead of on the pool.", "內層查詢改用手上那條連線（tx.Query、conn.Query），不要再向連線池要。"),
			rule.Say("Or give the first one back before: read all rows and close them, commit, then go on.", "或先歸還第一條：讀完並關閉 rows、commit 之後再往下做。"),
			rule.Say("Set a timeout for the acquire, so that a pool that is stuck frees itself.", "為取用連線設定逾時，卡死的連線池才能自行恢復。"),
		}
		return
	}
	f.Title = rule.Say("Connections of %[3]s are not given back; all callers wait (%[1]s, %[2]s)", "%[3]s 的連線沒有歸還，所有呼叫端都在等（%[1]s，%[2]s）", who, at, p.client)
	if l == partly {
		f.Title = rule.Say("Some connections of %[3]s are not given back, and callers queue for the rest (%[1]s, %[2]s)", "%[3]s 有部分連線沒有歸還，呼叫端在排隊搶剩下的（%[1]s，%[2]s）", who, at, p.client)
	}
	f.Explanation = rule.Say("Connections have been taken and are not in use: somebody took them and went on without giving them back, often on a path that returns early because of an error. Each time costs one connection, until none is left.",
		"連線被取走了，卻沒有在使用：有人取得後沒歸還就走了，常見於因錯誤提早 return 的路徑。每發生一次就少一條，直到用光。")
	f.Remedies = p.leakRemedies()
}

func (p *pool) leakRemedies() []ops.Text {
	if p.client == "HTTP" {
		return []ops.Text{
			rule.Say("Read every response body to its end and close it (defer resp.Body.Close()), on error paths too.", "每個回應內容都要讀完並關閉（defer resp.Body.Close()），錯誤路徑也一樣。"),
			rule.Say("Give requests a timeout (http.Client.Timeout, or a context), which also frees a connection that was forgotten.", "為請求設定逾時（http.Client.Timeout 或 context），被遺忘的連線也會因此釋放。"),
		}
	}
	return []ops.Text{
		rule.Say("Right after each successful acquire: defer rows.Close(), defer tx.Rollback(), defer conn.Close() or conn.Release().", "每次成功取得後立刻寫上 defer rows.Close()、defer tx.Rollback()、defer conn.Close() 或 conn.Release()。"),
		rule.Say("Restart to get going again; until it is fixed, contexts with a deadline give back rows and transactions that were forgotten.", "先重啟恢復服務；修好之前，帶期限的 context 能收回被遺忘的 rows 與交易。"),
		rule.Say("Have it checked: linters such as sqlclosecheck and rowserrcheck find this in the code.", "用工具檢查：sqlclosecheck、rowserrcheck 之類的 linter 可在程式碼中找出這種錯誤。"),
	}
}

// openProofs say what is still open.
func (v *view) openProofs() (out []ops.Proof) {
	u := v.unclosed()
	for _, x := range []struct {
		n    int
		name string
		text ops.Text
	}{
		{u.rows, "open_rows", rule.Say("%d sets of rows are open (sql.Rows that were not closed)", "有 %d 組 rows 未關閉（sql.Rows）", u.rows)},
		{u.transactions, "open_transactions", rule.Say("%d transactions are open, neither committed nor rolled back", "有 %d 個交易未結束，既沒有 commit 也沒有 rollback", u.transactions)},
		{u.bodies, "open_bodies", rule.Say("%d response bodies were not read to their end or closed", "有 %d 個 HTTP 回應內容沒讀完或沒關閉", u.bodies)},
	} {
		if x.n > 0 {
			out = append(out, ops.Proof{Artifact: ops.KindGoroutine, Metric: x.name, Value: float64(x.n), Unit: "objects", Text: x.text})
		}
	}
	return out
}
