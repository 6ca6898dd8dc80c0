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

// channelBackpressure finds senders that wait because a receiver is slow: a
// broadcaster that one bad connection holds up, requests that wait for room in a
// queue whose worker does not keep up, be that a channel or a slice with a condition,
// or for the results of a few workers that never rest.
//
// Evidence: waits in sends, and in selects that a receive ended, by trace, block
// profile and snapshots; who ended them (the receivers), and what these do the
// rest of their time. Senders that never woke are in no delta: they are read from
// the snapshots and from the trace's open waits.
//
// Thresholds: for senders within a server's handler 200 ms with several at a time
// are critical, 100 ms a warning, as for any wait within a request. For senders
// that react to something (a connection, a timer, another channel), and for those
// that wait for one receiver while others of its kind idle, it is critical if
// half of their time is spent in waits of 5 ms and more, a warning at a quarter.
// For producers that do nothing but produce it is at most a notice: a bounded
// queue is there to pace them. It is a warning if their receivers wait for somebody
// else rather than work and each wait is long, if eight and more of them wait for
// one receiver, or if they are stuck for the whole trace while others in the
// package wait as well. All of this is reasoning, none of it a measured limit.
//
// Not to be confused with: workers parked in a receive; a semaphore that is made
// of a channel (pool-exhausted); results that nobody takes any more
// (goroutine-leak); hand-offs over unbuffered channels, which wait for moments.
func channelBackpressure() rule.Rule {
	return rule.Rule{
		ID: "channel-backpressure", Scenario: 3, Name: rule.Say("channel backpressure", "channel 背壓"),
		Judge: func(e *evidence.Evidence) rule.Result {
			v, ok := viewOf(e)
			if !ok {
				return rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
			}
			return v.judgeSends()
		},
	}
}

const (
	slowSend   = 200 * time.Millisecond // x75 of a send within a request
	mostOfTime = 0.5                    // x75 of a sender's time in sends
	realWait   = 5 * time.Millisecond   // shorter ones are hand-offs
	// pacedAtMost bounds what producers that only produce are worth.
	pacedAtMost = 45
	// crowdOfProducers at one receiver are more likely events than a batch.
	crowdOfProducers = 8
)

// sender is a line that sends.
type sender struct {
	place
	role      role
	receivers []receiver
	stuck     bool // nobody received in the whole trace
	room      bool // it waits at a condition for room in a queue, not at a channel
	// workers is what keeps those busy whose answer a request waits for; nil = it sends.
	workers *wait
	share   float64
	maybe   bool            // it is a select, and may as well receive
	cause   *evidence.Frame // where its receiver is itself held up in a send
	blamed  bool            // it is that receiver, of others
}

// role is who waits in the send.
type role uint8

const (
	producer  role = iota // does nothing but produce
	reacting              // would do something else, were it not for the send
	answering             // somebody outside waits for its answer
	spreading             // waits for one receiver while others of its kind idle
	forgotten             // has nothing else to do: a leak
	unasked               // offers what nobody wants right now
)

func (v *view) judgeSends() rule.Result {
	var all []sender
	for _, w := range v.waits {
		if v.sends(w) {
			var workers *wait
			if w.kind == receive || w.kind == choose {
				workers = v.queuesForWorkers(w)
			}
			all = addSender(all, w, workers)
			w.kind = send // of a select, which could have been either
		}
	}
	if len(all) == 0 {
		return rule.OK(rule.Say("no goroutine waited in a send to a channel", "沒有 goroutine 卡在 channel 的送出"))
	}
	for i := range all {
		v.judgeSender(&all[i])
	}
	blame(all)
	slices.SortStableFunc(all, func(a, b sender) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.busy, a.busy), compareFrames(a.user, b.user))
	})
	var findings []ops.Finding
	for i := range all {
		findings = append(findings, v.tellSender(&all[i]))
	}
	s := &all[0]
	reason := rule.Say("waiting in sends at %[2]s: %[1]s at a time, %[3]s each", "同一時間%[1]s 在 %[2]s 等待送出，%[3]s", rule.Goroutines(s.busy), rule.Line(s.user), s.lasting())
	if s.workers != nil {
		reason = rule.Say("waiting for results at %[2]s: %[1]s at a time, %[3]s each", "同一時間%[1]s 在 %[2]s 等待結果，%[3]s", rule.Goroutines(s.busy), rule.Line(s.user), s.lasting())
	}
	if ops.SeverityOf(s.score) == "" {
		reason = rule.Say("%[1]s: %[2]s", "%[1]s：%[2]s", reason, s.role.fine())
	}
	return rule.Found(reason, unique(findings)...)
}

// blame finds senders whose receiver is itself held up in a send: that one is the
// cause, and as bad as what it causes. A receiver that was seen shows it by what
// it does; of one that is stuck for good, all that is left is that a goroutine of
// the same type, or else of the same package, is stuck in a send of its own.
func blame(all []sender) {
	for i := range all {
		e := &all[i]
		for j := range all {
			c := &all[j]
			if i == j || c.cause == e.user {
				continue
			}
			guessed := e.stuck && c.stuck && e.role == answering && c.role != answering && len(e.receivers) == 0 && related(e, c)
			if !heldUpBy(e, c) && !guessed {
				continue
			}
			e.cause, c.blamed = c.user, true
			c.score = max(c.score, e.score)
			e.score = min(e.score, c.score-1)
			break
		}
	}
}

// heldUpBy reports whether the receiver of e spends its time in the sends of c.
func heldUpBy(e, c *sender) bool {
	return len(e.receivers) > 0 && e.receivers[0].slow != nil && slices.Contains(c.waits, e.receivers[0].slow)
}

func related(a, b *sender) bool {
	if t := typeOf(a.user.Plain()); t != "" && typeOf(b.user.Plain()) != "" {
		return t == typeOf(b.user.Plain())
	}
	return a.user.Package == b.user.Package
}

func (r role) fine() ops.Text {
	switch r {
	case producer:
		return rule.Say("a producer that its queue paces", "生產者由佇列調節速度")
	case unasked:
		return rule.Say("nobody asks for what it offers", "沒有人需要它提供的東西")
	case forgotten:
		return rule.Say("nobody receives any more, which goroutine-leak looks at", "已無人接收，由 goroutine-leak 判斷")
	}
	return rule.Say("too short, or too seldom, to matter", "時間太短或太少，沒有影響")
}

// sends reports whether a wait is for a receiver, and no gate.
func (v *view) sends(w *wait) bool {
	switch {
	case w.user == nil || w.at < 0 || v.busy(w) == 0 && v.counted(w) == 0 && w.blocked == 0:
		return false
	case w.kind == send:
	case w.kind == choose && v.wokenBy(w, "runtime.chanrecv"):
	case w.kind == choose && w.handler && v.handsOver(w):
	case w.kind == choose && v.backedUp(w):
	case w.kind == choose && v.pushes(w):
	case w.kind == cond && v.waitsForRoom(w):
	case (w.kind == receive || w.kind == choose) && v.queuesForWorkers(w) != nil:
	default:
		return false
	}
	return v.gate(w) == nil && !v.fansOut(w)
}

// handsOver reports whether a select within a handler waits for a worker that
// takes its work by a select as well: which of the two sends cannot be seen, but
// the worker would idle there if it were the one that waits.
func (v *view) handsOver(w *wait) bool {
	if !v.wokenBy(w, "runtime.selectgo") {
		return false
	}
	for _, x := range v.wakers(w) {
		start, between := startOf(x.Waker), int64(0)
		for _, y := range v.waits {
			switch {
			case y.start != start:
			case y.kind == choose && y.user == x.Waker.User():
				if v.busy(y) > v.busyStart(start)/10 {
					return false
				}
			default:
				between += y.count
			}
		}
		// A worker does something for each item; who publishes wakes many at once.
		if between*2 < x.Count {
			return false
		}
	}
	return true
}

// backedUp reports whether a select that takes long is a send to somebody whose
// connection is stuck, although both sides select: it is in a function that a loop
// calls (a loop's own select is where it rests); the goroutines next to it that
// take from channels spend their time in writes to the network while their
// siblings wait for something to write; and nobody else ever ended the wait.
func (v *view) backedUp(w *wait) bool {
	if w.handler || strings.HasPrefix(w.start, w.user.Function) || v.busy(w) < 1 && !v.still(w) {
		return false
	}
	s := &sender{place: place{user: w.user, waits: []*wait{w}}}
	for _, r := range v.guessReceivers(s) {
		others := slices.ContainsFunc(v.wakers(w), func(x evidence.Wake) bool { return startOf(x.Waker) != r.start })
		writing := slices.ContainsFunc(v.waits, func(x *wait) bool {
			return x.start == r.start && x.state == goroutines.NetWrite && (v.busy(x) >= 0.5 || v.still(x))
		})
		if writing && !others {
			return true
		}
	}
	return false
}

// pushes reports whether a select is the send of somebody who hands things on, where
// the other side selects as well. What the trace shows would fit workers at rest and
// whoever gives them work; but those rest in their loop, or in a function whose name
// says that it takes, while here the select is in a function that they merely call:
// what else they do, they do outside of it. And who ends the wait does what it took
// from where it selects, and hardly ever waits there.
func (v *view) pushes(w *wait) bool {
	if w.handler || v.busy(w) < 1 || !v.wokenBy(w, "runtime.selectgo") || namedTaker(w.user) {
		return false
	}
	inside := func(x *wait, f *evidence.Frame) bool {
		return x.stack.Index(func(g *evidence.Frame) bool { return g.Outer() == f.Outer() }) >= 0
	}
	elsewhere := slices.ContainsFunc(v.waits, func(x *wait) bool {
		return x != w && x.start == w.start && x.user != nil && v.busy(x) > 0 && !inside(x, w.user)
	})
	// Whoever is always behind waits nowhere else: then the name has to say it.
	if !elsewhere && (!namedGiver(w.user) || strings.HasPrefix(w.start, w.user.Function)) {
		return false
	}
	for _, x := range v.wakers(w) {
		at, start, works := x.Waker.User(), startOf(x.Waker), false
		if at == nil {
			return false
		}
		for _, y := range v.waits {
			if y.start != start {
				continue
			}
			if y.kind == choose && y.user == at && v.busy(y) > v.busyStart(start)/10 {
				return false
			}
			works = works || y.user != at && v.busy(y) > 0 && inside(y, at)
		}
		if !works {
			return false
		}
	}
	return true
}

// waitsForRoom reports whether a wait at a condition is for room in a queue of the
// program's own: by the name of its function, which puts something in, and of the one
// that ends it, which takes something out on a goroutine of another kind.
func (v *view) waitsForRoom(w *wait) bool {
	if !namedGiver(w.user) || namedTaker(w.user) {
		return false
	}
	var all, taken int64
	for _, x := range v.wakers(w) {
		all += x.Count
		if at := x.Waker.User(); at != nil && namedTaker(at) && startOf(x.Waker) != w.start {
			taken += x.Count
		}
	}
	return all > 0 && 2*taken > all
}

// queuesForWorkers returns what keeps a few workers busy that requests wait for: they
// stay, end next to all waits of the requests there, and never rest, because each thing
// that they do takes its time (a sleep, a file, a call of the system); nil = it is not so.
// Where they ask somebody else, or want a lock, those rules tell of it.
func (v *view) queuesForWorkers(w *wait) *wait {
	if !w.handler || !w.direct() || v.traced() == 0 {
		return nil
	}
	by, all, most := map[string]int64{}, int64(0), ""
	for _, x := range v.wakers(w) {
		start := startOf(x.Waker)
		if by[start] += x.Count; by[start] > by[most] {
			most = start
		}
		all += x.Count
	}
	if most == "" || 10*by[most] < 9*all {
		return nil
	}
	var workers float64
	for i := range v.e.Trace.Groups {
		if g := &v.e.Trace.Groups[i]; g.Func == most {
			if g.Born > 0 {
				return nil
			}
			workers += float64(g.Goroutines)
		}
	}
	var slow *wait
	for _, x := range v.waits {
		busy := x.state == goroutines.Sleep || x.state == goroutines.FileIO || x.state == goroutines.Syscall
		if x.start == most && !x.handler && busy && v.busy(x) >= neverRest*workers {
			slow = x
		}
	}
	if workers == 0 || slow == nil || v.busy(w) < 2*workers {
		return nil
	}
	if d, atLeast, ok := v.mean(slow); !ok || atLeast || d >= soonThere {
		return nil
	}
	return slow
}

// neverRest is the share of their time from which on workers are always at it.
const neverRest = 0.9

// namedTaker and namedGiver report whether a function's name says that it receives, or sends.
func namedTaker(f *evidence.Frame) bool { return calledLike(f, takers) }
func namedGiver(f *evidence.Frame) bool { return calledLike(f, givers) }

func calledLike(f *evidence.Frame, words []string) bool {
	name := f.Outer()
	name = strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
}

var (
	takers = []string{
		"pop", "recv", "receive", "next", "take", "get", "poll", "wait", "fetch", "dequeue", "read", "consume", "acquire", "await", "listen",
		"subscribe", "idle", "sleep", "run", "loop", "serve", "work", "watch", "drain", "pull", "claim",
	}
	givers = []string{
		"push", "send", "publish", "emit", "submit", "enqueue", "offer", "put", "post", "dispatch", "write", "add", "broadcast", "notify", "deliver",
		"produce", "record", "track", "append", "report", "schedule", "forward", "feed", "hand",
	}
)

// still reports whether nobody of those who wait went on while it was looked.
func (v *view) still(w *wait) bool {
	if v.e.Trace != nil {
		return w.whole > 0 && w.count == w.open
	}
	return w.now > 0 && w.before > 0
}

// busyStart is how many goroutines that began with a function wait at a time.
func (v *view) busyStart(start string) (n float64) {
	for _, w := range v.waits {
		if w.start == start {
			n += v.busy(w)
		}
	}
	return n
}

// fansOut reports whether the channel bounds how many goroutines the sender has
// started: each of them receives once, when it is done.
func (v *view) fansOut(w *wait) bool {
	if w.handler || v.e.Trace == nil {
		return false
	}
	for _, x := range v.wakers(w) {
		start := startOf(x.Waker)
		if !strings.HasPrefix(start, w.user.Function+".func") {
			continue
		}
		for _, g := range v.e.Trace.Groups {
			if g.Func == start && g.Goroutines > 2 && g.Goroutines*2 >= x.Count {
				return true
			}
		}
	}
	return false
}

func addSender(all []sender, w *wait, workers *wait) []sender {
	at := slices.IndexFunc(all, func(s sender) bool { return s.user == w.user })
	if at < 0 {
		at, all = len(all), append(all, sender{place: place{user: w.user}})
	}
	s := &all[at]
	s.waits = append(s.waits, w)
	s.room = s.room || w.kind == cond
	s.workers = cmp.Or(s.workers, workers)
	return all
}

func (v *view) judgeSender(s *sender) {
	t := sum(s.waits)
	s.maybe = !slices.ContainsFunc(s.waits, func(w *wait) bool {
		return w.state != goroutines.Select || v.wokenBy(w, "runtime.chanrecv") || v.backedUp(w) || namedGiver(w.user) && (v.pushes(w) || w.handler && v.handsOver(w))
	})
	s.busy = v.busyAll(s.waits)
	if s.busy == 0 {
		s.busy = float64(t.delay) / float64(max(v.e.Window, time.Second))
	}
	s.delay, s.atLeast, s.known = v.queueTime(s.waits)
	s.upTo = v.capped(s.waits)
	s.stuck = v.e.Trace != nil && t.whole > 0 && t.count == t.open || t.aged > 0
	s.receivers = v.receiversOf(s)
	s.share = v.shareOf(s)
	s.role = v.roleOf(s, &t)
	s.score = v.scoreSender(s)
}

// shareOf is how much of their time the senders spend here.
func (v *view) shareOf(s *sender) float64 {
	starts := map[string]bool{}
	for _, w := range s.waits {
		starts[w.start] = true
	}
	n := 0.0
	if v.e.Trace != nil {
		for _, g := range v.e.Trace.Groups {
			if d := v.traced(); starts[g.Func] && d > 0 {
				n += float64(g.Times.Total()) / float64(d)
			}
		}
	}
	if n == 0 {
		return min(1, s.busy)
	}
	return min(1, s.busy/max(n, 1))
}

func (v *view) roleOf(s *sender, t *wait) role {
	switch {
	case len(s.receivers) > 0 && v.unasked(s):
		return unasked
	case t.handler:
		return answering
	case v.strays(s, t):
		return forgotten
	case slices.ContainsFunc(s.receivers, func(r receiver) bool { return r.spare }):
		return spreading
	case s.stuck && v.forgotten(s, t):
		return forgotten
	case v.reacts(s):
		return reacting
	}
	return producer
}

// unasked reports whether the receivers are at rest most of the time that the
// sender waits, and not in the receive: they come for an item when they need one,
// as for a token of a limiter or the next number.
func (v *view) unasked(s *sender) bool {
	if s.busy == 0 || v.e.Trace == nil {
		return false
	}
	busy, waiting := 0.0, 0.0
	for i := range s.receivers {
		r := &s.receivers[i]
		busy += r.busy
		waiting += r.idling
	}
	return busy+waiting < min(1, s.busy)/2
}

// forgotten reports whether senders that nobody will receive from are leaked:
// the send is in the very function that they began with, and there are several,
// or more by the end than at the start.
func (v *view) forgotten(s *sender, t *wait) bool {
	direct := slices.ContainsFunc(s.waits, func(w *wait) bool { return w.start == w.user.Function })
	return direct && len(s.receivers) == 0 && (t.now > 1 || t.now > t.before && v.before != nil)
}

// strays reports whether some of those who began with the send are taken and the
// others never, more and more of them: each call has a channel of its own, and who
// would receive has left. It shows by that those who are taken wait for moments only,
// while of a queue that moves on everybody waits about as long; or by that they are
// started where they are received from, and hardly any is.
func (v *view) strays(s *sender, t *wait) bool {
	direct := slices.ContainsFunc(s.waits, func(w *wait) bool { return w.start == w.user.Function })
	if !direct || t.whole < 10 || t.now-t.before < 10 || v.before == nil {
		return false
	}
	var count int64
	var total time.Duration
	perCall := true
	for _, w := range s.waits {
		for _, x := range v.wakers(w) {
			count, total = count+x.Count, total+x.Total
			perCall = perCall && startedIn(w, x.Waker)
		}
	}
	quick := count > 0 && total/time.Duration(count) < v.traced()/20
	return quick || count > 0 && perCall && (t.count-t.open)*5 < t.count-t.whole
}

// siblings reports whether others in the sender's package wait to receive, or to
// send, while it is stuck: a hub whose client is gone, beside those that are there.
func (v *view) siblings(s *sender) bool {
	return slices.ContainsFunc(v.waits, func(w *wait) bool {
		if w.user == nil || w.user == s.user || w.user.Package != s.user.Package || w.handler && w.kind != send {
			return false
		}
		return w.kind == send && v.busy(w) > 0.5 || w.kind == receive && v.busy(w) >= 3
	})
}

// reacts reports whether the senders also wait for something else: the network, a
// timer, another channel. Those who do nothing but send are producers.
func (v *view) reacts(s *sender) bool {
	for _, w := range v.waits {
		if slices.Contains(s.waits, w) || w.user == nil || v.busy(w) == 0 || !slices.ContainsFunc(s.waits, func(x *wait) bool { return x.start == w.start }) {
			continue
		}
		switch {
		case w.kind == receive, w.kind == choose, w.kind == rawRead, w.kind == idle,
			w.state == goroutines.Sleep, w.state == goroutines.NetRead, w.state == goroutines.NetAccept:
			return true
		}
	}
	return false
}

func (v *view) scoreSender(s *sender) int {
	crowd := min(ops.Score(s.busy, 20), 60) // where nothing tells how long
	if s.role == forgotten || s.role == unasked {
		return 0
	}
	if !s.known {
		switch s.role {
		case answering, spreading:
			return max(crowd, 55)
		}
		return min(crowd, pacedAtMost)
	}
	byTime := part(ops.Score(s.delay.Seconds(), slowSend.Seconds()), 1-math.Exp2(-s.busy))
	byShare := part(ops.Score(s.share, mostOfTime), min(1, float64(s.delay)/float64(realWait)))
	if s.stuck {
		byShare = max(byShare, 80)
	}
	score := v.scoreProducer(s, byTime, byShare)
	switch s.role {
	case answering:
		score = byTime
	case spreading, reacting:
		score = byShare
	}
	switch {
	case s.maybe && s.role == answering && v.behindSlow(s):
		score = min(score, 74)
	case s.maybe:
		score = min(score, pacedAtMost)
	}
	return score
}

// behindSlow reports whether requests that hand something over, or get it, wait for a
// few goroutines that spend all of their time waiting for answers, each soon there: with
// more of them the requests would wait less, whichever side sends. One that polls for
// what somebody will say waits longer for each.
func (v *view) behindSlow(s *sender) bool {
	if len(s.receivers) != 1 {
		return false
	}
	r := &s.receivers[0]
	if r.slow == nil || !r.slow.asks() || r.n == 0 || r.busy < 0.9*float64(r.n) || s.busy < 2*r.busy {
		return false
	}
	d, atLeast, ok := v.mean(r.slow)
	return ok && !atLeast && d < soonThere
}

// soonThere is an answer that nobody held back on purpose: long polls are held for
// seconds.
const soonThere = 500 * time.Millisecond

// scoreProducer judges senders that only produce: what counts is why their
// receivers are slow.
func (v *view) scoreProducer(s *sender, byTime, byShare int) int {
	low := min(byTime, byShare)
	switch {
	case len(s.receivers) == 0 && s.stuck && v.siblings(s):
		return 55
	case len(s.receivers) == 0:
		return min(low, 40) // who offers something until it is wanted waits just so
	case s.stuck:
		low = max(low, 60)
	}
	switch r := s.receivers[0]; r.does {
	case atWork:
		return part(low, 0.2) // the receiver cannot do more
	case paced:
		if s.busy >= crowdOfProducers && r.n == 1 {
			return min(low, 60)
		}
		return min(part(low, 0.5), pacedAtMost)
	default:
		return min(low, 65)
	}
}
