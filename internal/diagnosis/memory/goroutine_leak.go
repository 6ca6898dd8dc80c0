package memory

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

// goroutineLeak finds goroutines that are started again and again and never end:
// each keeps its stack and all that it refers to.
//
// Evidence, of which every part may be missing: the numbers of goroutines at the
// window's ends by start function and line; from the trace, how many waits at that
// line lasted all of it, began in it and ended in it, and how many goroutines of
// the function began and ended; from a dump, ages; Go's own leak profile.
//
// A place is suspected if the number grew by more than chance (crowds.grew), goes
// on growing at the end of the window, and either hardly any wait at the line ends
// (fewer than 1 in 5 of those that came on; a queue's waits end, only late) or
// hardly any goroutine of the function ends (fewer than 1 in 10 of those that
// began), which is what those do that tick on for ever. Without a trace the kind
// of wait decides alone. Without growth only what is strange by itself counts:
// what Go's leak profile names, nil channels (fewer than five are a notice, for that
// may be how a thing is turned off), senders of whom none got on for a whole trace (from
// three more of them on a notice), and waits of many minutes that began one after the
// other.
//
// The score is by the rate, 75 at 3 a second (a quarter of a million a day), and
// by how many are stuck already, 75 at 4,000: both by reasoning, at 2 to 8 KiB
// each and what they hold.
//
// It must not be confused with: workers that wait for work (their number stays);
// connections that come on, each with its goroutines (as many more goroutines read
// from the network: at most a notice); requests that pile up behind a lock, a pool,
// a limit or a slow downstream (they are left to the rules about these); a start
// that is still under way (nothing came on in the last seconds).
func goroutineLeak() rule.Rule {
	return rule.Rule{
		ID: "goroutine-leak", Scenario: scenario,
		Name:  rule.Say("Goroutine leak", "Goroutine 洩漏"),
		Judge: judgeGoroutineLeak,
	}
}

func judgeGoroutineLeak(e *evidence.Evidence) rule.Result {
	c := gather(e)
	if c == nil {
		return rule.Needs(e, ops.KindGoroutine, ops.KindTrace)
	}
	l := &leakSearch{e: e, c: c}
	for _, x := range c.all {
		if s := l.suspect(x); s != nil {
			l.suspects = append(l.suspects, s)
		}
	}
	l.suspects = append(l.suspects, l.clients()...)
	l.merge()
	var found []ops.Finding
	for _, s := range l.suspects {
		found = append(found, l.finding(s))
	}
	if len(found) == 0 && !c.compared && c.traced == 0 {
		return rule.CouldNotCheck(rule.Say(
			"%s goroutines, none of them stuck for certain; whether their number grows, one snapshot cannot say",
			"共有 %s 個 goroutine，沒有一個能確定卡死；但只有一次快照，看不出數量是否在增加", rule.Count(int64(c.total))), again(ops.KindGoroutine, ops.KindTrace))
	}
	if res := rule.Found(l.looked(), found...); len(res.Findings) > 0 {
		return res
	}
	return rule.OK(rule.Say("%s: none of them looks forgotten", "%s，看不出有被遺忘的", l.looked()))
}

// leakSearch looks through the crowds of a window.
type leakSearch struct {
	e        *evidence.Evidence
	c        *crowds
	suspects []*leakSuspect
}

// leakSuspect is goroutines that do not seem to end.
type leakSuspect struct {
	*crowd
	growing bool
	// stuck: hardly any wait at the line ends; ticking: they do, and the
	// goroutines go on.
	stuck, ticking bool
	// connected: as many more goroutines read from the network.
	connected bool
	// deserted: they serve requests whose clients have left.
	deserted bool
	library  string  // whose goroutines these are, if not the program's
	value    float64 // 1 scores 75
	most     int     // the score is no higher
	sources  int     // that agree
	others   []*crowd
}

// suspect judges a crowd; nil = it is all right, or another rule's.
func (l *leakSearch) suspect(x *crowd) *leakSuspect {
	if x.place.Origin != evidence.OwnCode || !leakable(x) {
		return nil
	}
	s := &leakSuspect{crowd: x, most: 100}
	s.growing = l.c.grew(x) && l.c.goesOn(l.e, x)
	s.stuck, s.ticking = l.progress(x)
	if s.growing && l.c.traced > 0 && x.open+x.ended > 0 && !s.stuck && !s.ticking && !l.clientsGone(x) {
		s.growing = false // a queue that moves on
	}
	if s.growing && l.c.moved(x) {
		s.growing = false // goroutines that were there before have come to wait here
	}
	if s.growing && x.handler && x.state == goroutines.Sleep {
		s.growing = false // a slow handler, which ends
	}
	switch {
	case s.growing:
		l.byGrowth(s)
	case x.leaked > 0 || x.forever || x.aged > 0 || x.state == goroutines.ChanSend:
		l.byStanding(s)
	default:
		if !l.c.compared && x.after >= 1000 {
			l.byNumber(s)
		}
	}
	if s.value == 0 {
		return nil
	}
	if s.leaked > 0 {
		// Proved by the collector: nothing can reach what they wait for.
		s.sources, s.most = s.sources+2, 100
		s.value += float64(s.leaked) / 100
	}
	return s
}

// progress says whether the waits at a line end at all, and whether goroutines
// that go on there ever end.
func (l *leakSearch) progress(x *crowd) (stuck, ticking bool) {
	if l.c.traced == 0 || x.open == 0 {
		return false, false
	}
	stuck = float64(x.ended) < 0.2*float64(x.arrived()) || x.arrived() == 0
	if !stuck && x.whole >= 10 {
		// Many pass by quickly, and some stay: those who left took a moment.
		stuck = x.endedMean() < l.c.traced/20 && float64(x.whole) >= 0.2*float64(x.after)
	}
	g, known := l.c.born[x.start]
	ticking = !stuck && known && !x.handler && g.Born >= 3 && float64(g.Died) < 0.1*float64(g.Born)
	return stuck, ticking
}

// clientsGone reports whether most requests at a line are for clients that have
// left: beside each HTTP/1 handler net/http has a goroutine that watches the
// connection, which ends when the client goes and the handler does not notice.
// (Of a connection that was taken over there is none, but somebody reads it.)
func (l *leakSearch) clientsGone(x *crowd) bool {
	if !x.handler || x.after < 50 || !x.stack.Has("net/http.(*conn).serve") || l.connections(x, (*crowd).growth) {
		return false
	}
	watched := 0
	for _, o := range l.c.all {
		if o.wait.Class == goroutines.HTTPServerWatch {
			watched += o.after
		}
	}
	return 2*watched < x.after
}

// leakable reports whether a goroutine that is where x is may have been
// forgotten. Who waits for a lock, a pool, a limit or another service is held up
// by it, and who works is at work.
func leakable(x *crowd) bool {
	if x.wait.Class != "" {
		return x.leaked > 0
	}
	switch x.state {
	case goroutines.ChanSend, goroutines.ChanReceive, goroutines.Chan, goroutines.Select, goroutines.WaitGroup, goroutines.Cond,
		goroutines.Semaphore, goroutines.Sleep, goroutines.NetRead, goroutines.NetWrite, goroutines.FileIO, goroutines.Waiting:
		return true
	}
	return x.leaked > 0
}

func (l *leakSearch) byGrowth(s *leakSuspect) {
	s.sources = 1
	s.value = l.c.rate(s.crowd)/3 + float64(s.after)/4000
	s.deserted = l.clientsGone(s.crowd)
	if s.stuck || s.ticking || s.deserted {
		s.sources++
	}
	s.connected = s.state == goroutines.NetRead || s.state == goroutines.NetWrite || l.connections(s.crowd, (*crowd).growth)
	switch {
	case s.connected && s.state == goroutines.NetRead && s.stuck && l.c.byRequest(l.e, s.start):
		// Not somebody who has connected, but whom a request has connected to.
		s.connected, s.most = false, 74
	case s.connected:
		s.most = 45
	case s.state == goroutines.Sleep && !s.ticking:
		s.most = 60 // they may only be late
	}
}

// byStanding judges goroutines that do not grow in number but are strange.
func (l *leakSearch) byStanding(s *leakSuspect) {
	switch {
	case s.leaked > 0:
		s.value = 0.01
	case s.forever && s.after >= 5:
		s.value, s.sources = float64(s.after)/100, 1
	case s.forever && (s.state == goroutines.ChanReceive || s.state == goroutines.ChanSend) && s.start != "runtime.main" && s.start != "main.main":
		// A few on a nil channel: perhaps how something is turned off (a select without
		// cases is always on purpose).
		s.value, s.sources, s.most = 0.25, 1, 49
	case s.aged >= 50 && s.oldest >= 5*time.Minute && s.youngest <= s.oldest/2:
		// They came one after the other and none left.
		s.value, s.sources, s.most = float64(s.aged)/500, 1, 70
		if l.connections(s.crowd, func(x *crowd) int { return x.after }) {
			s.connected, s.most = true, 45
		}
	case s.state == goroutines.ChanSend && s.after >= 50 && l.c.traced > 0 && s.stuck && float64(s.whole) >= 0.8*float64(s.after):
		s.value, s.sources, s.most = float64(s.after)/1000, 1, 60
	case s.state == goroutines.ChanSend && l.c.compared && s.growth() >= 3 && l.c.traced > 0 && s.open > 0 && s.ended == 0:
		// Too few for chance to be ruled out by their number, but nobody receives.
		s.growing, s.value, s.sources, s.most = true, max(0.25, l.c.rate(s.crowd)/3), 1, 49
	case s.state == goroutines.ChanSend && s.after >= 100 && l.c.traced == 0 && !l.c.compared:
		s.value, s.most = float64(s.after)/1000, 60
	}
}

// byNumber judges a single snapshot: thousands at one line may be what the
// program is for.
func (l *leakSearch) byNumber(s *leakSuspect) {
	if s.handler || s.state == goroutines.Sleep || s.state == goroutines.NetRead || l.connections(s.crowd, func(x *crowd) int { return x.after }) {
		return
	}
	s.value, s.most = float64(s.after)/5000, 49
}

// connections reports whether about as many goroutines read from the network for
// the program, by number or by growth: each connection has several goroutines.
func (l *leakSearch) connections(x *crowd, n func(*crowd) int) bool {
	readers := 0
	for _, o := range l.c.all {
		switch {
		case o == x:
		case o.wait.Class == "" && (o.state == goroutines.NetRead || o.state == goroutines.IO):
			readers += n(o)
		case x.handler && x.state == goroutines.Select && o.wait.Class == goroutines.HTTPServerWatch:
			readers += n(o)
		}
	}
	return float64(readers) >= 0.8*float64(n(x))
}

// clients finds goroutines of libraries that come on: somebody makes a new client
// for each request and does not close it.
func (l *leakSearch) clients() []*leakSuspect {
	by := map[string]*leakSuspect{}
	var order []*leakSuspect
	for _, x := range l.c.all {
		if x.place.Origin == evidence.OwnCode || x.place.Package == "net/http" || x.place.Package == "time" || !ofClient(x) ||
			!l.c.grew(x) || !l.c.goesOn(l.e, x) || l.c.rate(x) < 1 {
			continue
		}
		if g, known := l.c.born[x.start]; known && g.Born >= 10 && 2*g.Died > g.Born {
			continue // they end, only that there are many
		}
		s := by[x.place.Package]
		if s == nil {
			s = &leakSuspect{crowd: x, growing: true, library: x.place.Package, most: 70, sources: 1, value: l.c.rate(x) / 3}
			if x.open > 0 && x.ended < x.open {
				s.stuck, s.sources = true, 2
			}
			by[s.library] = s
			order = append(order, s)
		}
	}
	if s := l.idleConnections(); s != nil {
		order = append(order, s)
	}
	return order
}

func ofClient(x *crowd) bool {
	if x.place.Origin == evidence.RuntimeCode || x.stack.Has("google.golang.org/grpc/internal/transport.(*http2Server)", "google.golang.org/grpc.(*Server)") ||
		x.stack.Index(servers) >= 0 {
		return false
	}
	if x.place.Origin == evidence.StdCode {
		return x.place.Package == "database/sql"
	}
	return x.wait.Class != goroutines.PoolAcquire && x.wait.Class != goroutines.Limit
}

// urgency says which of several goroutines that leak together is the cause.
var urgency = map[goroutines.State]int{goroutines.ChanSend: 5, goroutines.Chan: 4, goroutines.ChanReceive: 4, goroutines.Select: 3, goroutines.Cond: 2, goroutines.WaitGroup: -1, goroutines.NetRead: -2, goroutines.NetWrite: -2}

// merge makes one suspect of goroutines that are started together: a session's
// reader and its writer, a request and what it started. The one that others wait
// for comes first.
func (l *leakSearch) merge() {
	slices.SortStableFunc(l.suspects, func(a, b *leakSuspect) int {
		return cmp.Or(cmp.Compare(nested(b.start), nested(a.start)), cmp.Compare(urgency[b.state], urgency[a.state]), cmp.Compare(b.after, a.after))
	})
	var kept []*leakSuspect
next:
	for _, s := range l.suspects {
		for _, k := range kept {
			if l.together(k, s) {
				k.others = append(k.others, s.crowd)
				k.value, k.sources = max(k.value, s.value), max(k.sources, s.sources)
				continue next
			}
		}
		kept = append(kept, s)
	}
	slices.SortStableFunc(kept, func(a, b *leakSuspect) int { return cmp.Compare(b.value, a.value) })
	l.suspects = kept
}

func nested(start string) int { return strings.Count(start[len(outer(start)):], ".") }

func (l *leakSearch) together(a, b *leakSuspect) bool {
	n, m := a.after, b.after
	if a.growing && b.growing {
		n, m = a.growth(), b.growth()
	}
	if b.state == goroutines.WaitGroup && a.library == "" && b.library == "" && m <= n && outer(a.place.Function) == outer(b.place.Function) {
		return true // it waits for these
	}
	if a.connected != b.connected || a.library != "" || b.library != "" || n-m > max(5, n/5) || m-n > max(5, n/5) {
		return false
	}
	if a.connected && b.connected || a.place.Function == b.place.Function || outer(a.start) == outer(b.start) || receiver(a.start) != "" && receiver(a.start) == receiver(b.start) {
		return true
	}
	from, to := l.c.created(l.e, a.crowd), l.c.created(l.e, b.crowd)
	return from != nil && to != nil && from.Function == to.Function || from != nil && from.Function == b.place.Function
}

// looked says what was looked at.
func (l *leakSearch) looked() ops.Text {
	if !l.c.compared {
		return rule.Say("%s goroutines in one snapshot", "一次快照，共 %s 個 goroutine", rule.Count(int64(l.c.total)))
	}
	before := 0
	for _, x := range l.c.all {
		before += x.before
	}
	return rule.Say("%s goroutines, %s before there were %s", "共有 %s 個 goroutine，%s 前是 %s 個", rule.Count(int64(l.c.total)), rule.Dur(l.c.window), rule.Count(int64(before)))
}
