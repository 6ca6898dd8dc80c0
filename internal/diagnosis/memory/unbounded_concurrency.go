package memory

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// unboundedConcurrency finds a goroutine per item or request that nothing limits:
// they are started faster than they are done, or are thousands at once that all
// work, or all wait for the same few connections, locks or answers.
//
// Evidence: the goroutines at the window's ends by start function and line; from
// the trace, how many of the function began and ended, where they are started, and
// how many at a time ran or were ready to: crowds come in waves, and a snapshot may
// fall between two.
//
// A function of the program's own is suspected if its goroutines are at work, or
// wait for a pool, a lock, a limit, a file or another service, if they are made all
// the time (the trace saw at least 20 begin, or their number grew by more than
// chance) and there are 200 or more of them. The score is 75 at 1,500 at once or
// 100 more a second, by reasoning: what shares two to sixteen cores, or some tens of
// connections, gains nothing from more. It is no more than a warning below 5,000
// that do not become more.
//
// It must not be confused with: goroutines of connections, which wait for the
// network, a select or a receive; pools of workers, which are not made anew;
// requests, of which a server starts one each (what they wait for is the fault);
// goroutines that never end (a leak); and clients that wait for this very process,
// as a load generator in it does: these have as many requests under way on the
// other side and are not started by a request.
func unboundedConcurrency() rule.Rule {
	return rule.Rule{ID: "unbounded-concurrency", Scenario: scenario, Name: rule.Say("Unbounded concurrency", "並行數沒有上限"), Judge: judgeUnbounded}
}

const (
	crowdLeast = 200
	crowdFull  = 1500
	crowdHuge  = 5000
	bornLeast  = 20
)

func judgeUnbounded(e *evidence.Evidence) rule.Result {
	c := gather(e)
	if c == nil || c.total == 0 {
		return rule.Needs(e, ops.KindGoroutine, ops.KindTrace)
	}
	u := &unboundedSearch{e: e, c: c}
	swarms := u.swarms()
	var found []ops.Finding
	for _, s := range swarms {
		if s.value = u.value(s); s.value > 0 {
			found = append(found, u.finding(s))
		}
	}
	largest := 0
	for _, s := range swarms {
		largest = max(largest, s.after, int(s.average))
	}
	looked := rule.Say("%s goroutines, of those that are started one for each item at most %s of one function", "共有 %s 個 goroutine，其中每個項目各開一個的，同一個函式最多 %s 個", rule.Count(int64(c.total)), rule.Count(int64(largest)))
	if len(found) == 0 && !c.compared && c.traced == 0 && largest >= crowdLeast {
		return rule.CouldNotCheck(rule.Say("%s; whether they are made all the time, one snapshot cannot say", "%s；但只有一次快照，看不出是否一直在增加", looked), again(ops.KindGoroutine, ops.KindTrace))
	}
	return rule.Found(looked, found...)
}

type unboundedSearch struct {
	e *evidence.Evidence
	c *crowds
}

// swarm is the goroutines of one function, at all lines.
type swarm struct {
	start         string
	main          *crowd // where most are
	places        []*crowd
	before, after int
	born, died    int64
	created       *evidence.Frame
	value         float64
	growing       bool
	// average is how many ran, or wanted to, or waited for their turn, at a time by
	// the trace; 0 = it does not tell, or a snapshot shows more. peak is how many that
	// makes at the height of a wave.
	average, peak float64
	// waits is set if most of these waited.
	waits bool
}

// most is how many there were at once, as far as it was seen.
func (s *swarm) most() int { return max(s.before, s.after, int(s.peak)) }

// sighted reports whether a snapshot shows most of them.
func (s *swarm) sighted() bool { return s.average == 0 }

func (u *unboundedSearch) swarms() []*swarm {
	by := map[string]*swarm{}
	var out []*swarm
	leaks := leakSearch{e: u.e, c: u.c}
	for _, x := range u.c.all {
		if x.handler || x.place.Origin != evidence.OwnCode || !busy(x) || leaks.suspect(x) != nil {
			continue
		}
		s := by[x.start]
		if s == nil {
			s = &swarm{start: x.start, main: x}
			by[x.start] = s
			out = append(out, s)
		}
		s.places = append(s.places, x)
		s.before, s.after = s.before+x.before, s.after+x.after
	}
	for _, s := range out {
		slices.SortStableFunc(s.places, func(a, b *crowd) int { return cmp.Compare(b.after+b.before, a.after+a.before) })
		s.main = s.places[0]
		if g, ok := u.c.born[s.start]; ok {
			s.born, s.died = g.Born, g.Died
		}
		s.growing = u.c.compared && s.after-s.before >= 50 && 5*(s.after-s.before) >= s.after && u.c.grew(s.main) && u.c.goesOn(u.e, s.main)
	}
	out = u.betweenSnapshots(out, by)
	slices.SortStableFunc(out, func(a, b *swarm) int { return cmp.Compare(b.most(), a.most()) })
	return out
}

// betweenSnapshots adds the goroutines of the program that the trace saw at work, or
// ready for it, in larger numbers than the snapshots.
func (u *unboundedSearch) betweenSnapshots(out []*swarm, by map[string]*swarm) []*swarm {
	if u.c.traced == 0 {
		return out
	}
	for i := range u.e.Trace.Groups {
		g := &u.e.Trace.Groups[i]
		work := float64(g.Times[trace.StateRunning]+g.Times[trace.StateAssist]+g.Times[trace.StateRunnable]+g.Times[trace.StateGC]) / float64(u.c.traced)
		average, peak, waits := work, work, false
		at, waiting, height := u.inWaves(g)
		if work+waiting >= crowdLeast && waiting > work {
			average, peak, waits = work+waiting, work+height, true
		}
		s := by[g.Func]
		if average < crowdLeast || s != nil && peak <= float64(s.most()) {
			continue
		}
		if s == nil {
			x := &crowd{start: g.Func, state: goroutines.Runnable}
			if waits {
				x.state, x.wait, x.stack = stateOf(at), at.Wait, at.Stack
			}
			created := u.c.started(u.e, x)
			if created == nil || u.e.Frames == nil || u.e.Frames.Of(g.Func, created.File, 0).Origin != evidence.OwnCode {
				continue
			}
			x.place = created
			if waits {
				x.place = at.Stack.User()
			}
			s = &swarm{start: g.Func, main: x, places: []*crowd{x}, born: g.Born, died: g.Died}
			by[g.Func] = s
			out = append(out, s)
		}
		s.average, s.peak, s.waits = average, peak, waits
	}
	return out
}

// inWaves looks at goroutines that end as they begin, and wait for their turn or an
// answer in between: where most of them do, how many at a time on average, and how
// many at the height of a wave. Of those that begin together and are served one
// after the other the last waits twice as long as they do on average, and it is
// then that the first was one of twice as many; where all wait equally long there
// are no waves.
func (u *unboundedSearch) inWaves(g *trace.Group) (at *evidence.Site, average, height float64) {
	if g.Born < bornLeast || 2*g.Died < g.Born {
		return nil, 0, 0
	}
	for i := range u.e.Trace.Sites {
		s := &u.e.Trace.Sites[i]
		f := s.Stack.User()
		if s.Start != g.Func || s.Count <= s.Open || f == nil || f.Origin != evidence.OwnCode || s.Stack.Index(servers) >= 0 {
			continue
		}
		if !busy(&crowd{state: stateOf(s), wait: s.Wait, ended: s.Count - s.Open}) {
			continue
		}
		n := float64(s.Total) / float64(u.c.traced)
		average += n
		if at == nil || s.Total > at.Total {
			at = s
		}
		mean := float64(s.Total) / float64(s.Count-s.Open)
		height += n * min(2, max(1, float64(s.Max)/max(1, mean)))
	}
	return at, average, height
}

// busy reports whether a goroutine works, or waits for its turn or an answer.
func busy(x *crowd) bool {
	switch x.wait.Class {
	case goroutines.PoolAcquire, goroutines.Driver, goroutines.HTTPClient, goroutines.RPCClient, goroutines.DNS, goroutines.Limit, goroutines.Process:
		return true
	case "":
	default:
		return false
	}
	switch x.state {
	case goroutines.Running, goroutines.Runnable, goroutines.Syscall, goroutines.Mutex, goroutines.RWMutexRead, goroutines.RWMutexWrite,
		goroutines.Semaphore, goroutines.ChanSend, goroutines.Sleep, goroutines.FileIO, goroutines.NetConnect, goroutines.Once, goroutines.GC:
		return true
	case goroutines.NetRead, goroutines.NetWrite:
		return x.ended > 0 // an answer that comes, rather than a connection at rest
	}
	return false
}

// value scores a swarm, 1 being 75; 0 = it is none.
func (u *unboundedSearch) value(s *swarm) float64 {
	most := s.most()
	if most < crowdLeast || !s.growing && s.born < bornLeast {
		return 0
	}
	s.created = u.c.created(u.e, s.main)
	if u.ownClient(s) {
		return 0
	}
	value := float64(most) / crowdFull
	if s.growing {
		value += float64(s.after-s.before) / u.c.window.Seconds() / 100
	}
	return value
}

// ownClient reports whether these are clients of this very process that no request
// has started: a test's or a demo's load. Handlers that do nothing but sleep, or wait in
// the same function for those who do, play somebody else's slow service.
func (u *unboundedSearch) ownClient(s *swarm) bool {
	if s.main.wait.Class != goroutines.HTTPClient && s.main.wait.Class != goroutines.RPCClient || u.c.byRequest(u.e, s.start) {
		return false
	}
	sleeps := map[string]bool{} // functions of handlers
	for _, x := range u.c.all {
		if x.handler && x.state == goroutines.Sleep {
			sleeps[x.place.Function] = true
		}
	}
	serving, asleep := 0, 0
	for _, x := range u.c.all {
		if x.handler || x.stack.Index(servers) >= 0 && x.wait.Class != goroutines.HTTPServerIdle {
			serving += x.after
			if x.handler && sleeps[x.place.Function] {
				asleep += x.after
			}
		}
	}
	if s.waits {
		// Between the snapshots the trace knows how many are served.
		var total, rest time.Duration
		var serve []*evidence.Site
		for i := range u.e.Trace.Sites {
			x := &u.e.Trace.Sites[i]
			if f := x.Stack.User(); f != nil && f.Origin == evidence.OwnCode && x.Stack.Index(servers) > 0 {
				serve = append(serve, x)
				if x.Reason == trace.ReasonSleep {
					sleeps[f.Function] = true
				}
			}
		}
		for _, x := range serve {
			total += x.Total
			if sleeps[x.Stack.User().Function] {
				rest += x.Total
			}
		}
		return float64(2*total) >= s.average*float64(u.c.traced) && 2*rest < total
	}
	return 2*serving >= s.after && 2*asleep < serving
}

func (u *unboundedSearch) finding(s *swarm) ops.Finding {
	f := ops.Finding{Rule: "unbounded-concurrency", Scenario: scenario, Score: ops.Score(s.value, 1), Confidence: ops.Medium}
	if !s.growing && s.most() < crowdHuge {
		f.Score = min(f.Score, 74)
	}
	if s.born >= bornLeast && (s.growing || s.died > 0) {
		f.Confidence = ops.High
	}
	at := s.main.place
	if s.created != nil {
		f.Where = append(f.Where, rule.At(ops.RoleCreate, s.created))
		if s.created.Line > 0 {
			at = s.created
		}
	}
	for _, x := range s.places[:min(3, len(s.places))] {
		if x.place == s.created {
			continue
		}
		f.Where = append(f.Where, rule.At(busyRole(x), x.place))
		f.Where = append(f.Where, callers(x.stack, x.place)...)
	}
	if s.created != nil && s.created.Line == 0 {
		f.Where[0], f.Where[1] = f.Where[1], f.Where[0]
	}
	what := doing(s.main)
	f.Title = rule.Say("`%[1]s` starts goroutines without a limit: %[3]s at once (%[2]s)", "`%[1]s` 無限制地啟動 goroutine：同時 %[3]s 個（%[2]s）", rule.Short(at), rule.Line(at), rule.Count(int64(s.most())))
	f.Summary = rule.Say("%s goroutines of `%s` %[3]s at %[4]s.", "有 %s 個 `%s` 的 goroutine 在 %[4]s %[3]s。", rule.Count(int64(s.after)), rule.Short(&evidence.Frame{Function: s.start}), what, rule.Line(s.main.place))
	if !s.sighted() {
		f.Summary = rule.Say("On average %s goroutines of `%s` are ready and wait for a processor, or run.", "平均有 %s 個 `%s` 的 goroutine 在執行或等著執行。", rule.Count(int64(s.average)), rule.Short(&evidence.Frame{Function: s.start}))
	}
	if s.waits {
		f.Summary = rule.Say("On average %[1]s goroutines of `%[2]s` %[3]s at %[4]s, in waves of about %[5]s.", "平均有 %[1]s 個 `%[2]s` 的 goroutine 在 %[4]s %[3]s，每一波約 %[5]s 個。",
			rule.Count(int64(s.average)), rule.Short(&evidence.Frame{Function: s.start}), what, rule.Line(s.main.place), rule.Count(about(s.peak)))
	}
	if s.growing {
		f.Summary = rule.Say("%s They are %s more than %s before: they are started faster than they are done.", "%s比 %[3]s 前多了 %[2]s 個：開始的比做完的快。", f.Summary, rule.Count(int64(s.after-s.before)), rule.Dur(u.c.window))
	}
	f.Explanation = rule.Say("Each item starts a goroutine at once, whether or not the ones before are done. More of them do not make the cores, the connections or the other service faster: they wait, each with its stack and its data, and when whatever they wait for slows down, they pile up until the memory is gone.",
		"每個項目都立刻開一個 goroutine，不管前面的做完沒。數量再多，CPU、連線或對方服務也不會變快：它們只是帶著各自的 stack 與資料在等；一旦等的對象變慢，就會一直堆積到記憶體耗盡。")
	f.Remedies = []ops.Text{
		rule.Say("Set a limit where they are started: errgroup.SetLimit, a semaphore that is acquired before the go statement, or a fixed number of workers.", "在啟動的地方設上限：errgroup.SetLimit、在 go 之前先取得的 semaphore，或固定數量的 worker。"),
		rule.Say("Decide what happens beyond it: make the caller wait, queue up to a bound, or refuse (429, drop).", "決定超過上限時怎麼辦：讓呼叫端等、排進有上限的佇列，或拒絕（429、丟棄）。"),
		rule.Say("Give what they wait for a timeout, lest a slow downstream keeps them all.", "替它們等待的對象設逾時，免得下游一慢就全部卡住。"),
	}
	u.proofs(&f, s)
	return f
}

func busyRole(x *crowd) ops.Role {
	switch {
	case x.wait.Class == goroutines.PoolAcquire, x.wait.Class == goroutines.Limit, x.state == goroutines.Semaphore:
		return ops.RoleAcquire
	case x.wait.Class != "", x.state == goroutines.Sleep, x.state == goroutines.Syscall, x.state == goroutines.FileIO, x.state == goroutines.NetRead:
		return ops.RoleIO
	case x.state == goroutines.ChanSend:
		return ops.RoleSend
	case x.state == goroutines.Running, x.state == goroutines.Runnable:
		return ops.RoleCall
	}
	return ops.RoleWait
}

// doing is what the goroutines of a swarm are at, as a verb.
func doing(x *crowd) ops.Text {
	switch x.wait.Class {
	case goroutines.PoolAcquire:
		return rule.Say("wait for a connection of a pool", "等連線池的連線")
	case goroutines.Limit:
		return rule.Say("wait for their turn at a limit", "在並行上限前排隊")
	case goroutines.Driver, goroutines.HTTPClient, goroutines.RPCClient, goroutines.DNS:
		return rule.Say("wait for an answer", "等對方回應")
	case goroutines.Process:
		return rule.Say("wait for a child process", "等子行程")
	}
	switch x.state {
	case goroutines.Running, goroutines.Runnable, goroutines.GC:
		return rule.Say("run or want to run", "在執行或等著執行")
	case goroutines.Mutex, goroutines.RWMutexRead, goroutines.RWMutexWrite, goroutines.Once:
		return rule.Say("wait for a lock", "等鎖")
	case goroutines.ChanSend, goroutines.Semaphore:
		return rule.Say("wait for their turn", "排隊等輪到自己")
	case goroutines.Sleep:
		return rule.Say("sleep", "在 sleep")
	}
	return rule.Say("wait for I/O", "等 I/O")
}

func (u *unboundedSearch) proofs(f *ops.Finding, s *swarm) {
	kind := ops.KindGoroutine
	if u.e.Goroutines == nil {
		kind = ops.KindTrace
	}
	text := rule.Say("%s goroutines of this function, %s of them at %s", "這個函式的 goroutine 有 %s 個，其中 %s 個在 %s", rule.Count(int64(s.after)), rule.Count(int64(s.main.after)), rule.Line(s.main.place))
	if u.c.compared {
		text = rule.Say("%s; %s before there were %s", "%s；%s 前是 %s 個", text, rule.Dur(u.c.window), rule.Count(int64(s.before)))
	}
	if s.sighted() {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: kind, Metric: "goroutines", Value: float64(s.after), Unit: "goroutines", Share: float64(s.after) / float64(max(1, u.c.total, s.after)), Text: text})
	} else {
		f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "goroutines", Value: s.average, Unit: "goroutines", Share: min(1, s.average/max(1, s.average+float64(u.c.total-s.after))),
			Text: rule.Say("on average over the trace %s goroutines of this function were at work, ready or waiting their turn; when the snapshots were taken there were %s and %s", "trace 期間平均有 %s 個此函式的 goroutine 在執行、等著執行或排隊；兩次快照當下分別是 %s 與 %s 個", rule.Count(int64(s.average)), rule.Count(int64(s.before)), rule.Count(int64(s.after)))})
	}
	if s.born > 0 {
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "goroutines_started", Value: float64(s.born) / u.c.traced.Seconds(), Unit: "goroutines/s",
			Text: rule.Say("in the trace of %s, %s began and %s ended", "在 %s 的 trace 裡，開始了 %s 個，結束了 %s 個", rule.Dur(u.c.traced), rule.Count(s.born), rule.Count(s.died)),
		})
	}
	if u.c.traced > 0 && s.main.endedMean() > 0 {
		mean := s.main.endedMean().Round(time.Microsecond)
		f.Evidence = append(f.Evidence, ops.Proof{
			Artifact: ops.KindTrace, Metric: "wait_mean", Value: mean.Seconds(), Unit: "s",
			Text: rule.Say("those who got on at %s had waited for %s on average", "在 %s 等到的，平均等了 %s", rule.Line(s.main.place), rule.Dur(mean)),
		})
	}
	if !s.growing {
		f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: kind, Metric: "growth", Value: float64(s.after - s.before), Unit: "goroutines",
			Text: rule.Say("their number does not grow at present: they are done about as fast as they come", "目前數量沒有增加：做完的速度大致跟得上")})
	}
}
