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
	"github.com/opscenter/opscenter/internal/trace"
)

// downstreamWait finds the "idle" service that waits for somebody else: requests
// were sent to a database, a cache, another service, and the answers are slow.
//
// Evidence: the trace's network waits by client library and line, with how many
// waited at a time and how long one wait lasts; the goroutine snapshots at both
// ends of the window; CPU use; what pools and labels know of the remote.
//
// Thresholds: a wait of 200 ms with several goroutines in it at a time is
// critical, 100 ms a warning; twice as much for HTTP, which more often crosses
// the internet. People notice a tenth of a second, and a request usually asks
// more than once (reasoning). Where a request is seen to ask at one line many times,
// one after the other, the sum of it counts, with what it sleeps between two tries. One goroutine at a time counts half as much as
// many. Without a trace the wait is estimated from below: no call is taken to cost
// its process less than 20 µs of CPU, so N waiting goroutines in a process that
// uses c cores wait at least N · 20 µs / c. Small requests over loopback were
// measured to cost 37 to 43 µs, serving and asking together; half of that is an
// assumption, which is why such a finding is never critical.
//
// Not to be confused with: subscriptions, streams, long polls and WebSockets,
// where nobody promised to answer soon; connections at rest; a load generator
// that waits for a handler of this very process; waiting for a free connection,
// which is pool-exhausted; a process that is itself too busy to read answers.
func downstreamWait() rule.Rule {
	return rule.Rule{
		ID: "downstream-wait", Scenario: 2, Name: rule.Say("waits for a downstream", "等待下游回應"),
		Judge: func(e *evidence.Evidence) rule.Result {
			v, ok := viewOf(e)
			if !ok {
				return rule.Needs(e, ops.KindTrace, ops.KindGoroutine)
			}
			return v.judgeDownstream()
		},
	}
}

// downstream is a client library and what was asked by it.
type downstream struct {
	kind   kind
	client string
	places []place // the most waiting first
	busy   float64 // goroutines at a time, of all places
	remote string  // "" = unknown
}

// place is a line that asks.
type place struct {
	user    *evidence.Frame
	waits   []*wait
	told    []*wait // those of them whose mean is delay; nil = all
	busy    float64
	delay   time.Duration // how long one wait lasts
	atLeast bool
	known   bool // delay is
	// upTo is set if delay is the longest that was seen, because waits outlast the trace
	// or more begin than end: how long those take that have not ended, nobody knows.
	upTo  bool
	score int
	doubt bool // may be a long poll
	// aside is set if requests have this done without waiting for it.
	aside bool
	// last is set if requests ask for several answers at once: delay is how long they
	// wait for the last of them.
	last bool
	// times is how many answers a request asks for, one after the other: delay is how
	// long it waits for all of them, and answer for one. 0 = one, or unknown.
	times  int64
	answer time.Duration
	lines  int // of the program at which it asks so; 0 or 1 = this one
	// asleep is how much of delay a request sleeps between two tries, and sleeps where.
	asleep time.Duration
	sleeps *evidence.Frame
	// queued is set if requests hand their work to a few goroutines that ask here, and
	// queue for those: delay is how long, and answer what one answer takes.
	queued bool
}

// single is how long one answer takes.
func (p *place) single() time.Duration {
	if p.times > 0 || p.queued {
		return p.answer
	}
	return p.delay
}

const (
	slowAnswer = 200 * time.Millisecond // x75 of a database, a cache, an RPC
	slowHTTP   = 400 * time.Millisecond
	// callCost is the least CPU time that asking over a network takes.
	callCost = 20 * time.Microsecond
	// saturated is the share of its CPU from which on a process is not idle.
	saturated = 0.85
)

func (v *view) judgeDownstream() rule.Result {
	all := v.downstreams()
	if len(all) == 0 {
		if v.e.Trace == nil {
			return rule.OK(rule.Say("none of %s goroutines was waiting for an answer over the network", "%s 個 goroutine 中沒有任何一個在等待網路回應", rule.Count(int64(v.now.Total))))
		}
		return rule.OK(rule.Say("no goroutine waited for an answer over the network in %s of trace", "在 %s 的追蹤中，沒有 goroutine 在等待網路回應", rule.Dur(v.traced())))
	}
	var findings []ops.Finding
	pools, reason := v.pools(), v.fineDownstream(&all[0])
	for i := range all {
		d := &all[i]
		p := v.queueBehind(d, pools)
		if p != nil && v.poolLeads(p, d) {
			if i == 0 {
				reason = rule.Say("%s; pool-exhausted tells of it", "%s；由「連線池耗盡」一併說明", reason)
			}
			continue
		}
		f := v.tellDownstream(d)
		if p != nil {
			v.tellQueue(&f, p)
		}
		findings = append(findings, f)
	}
	return rule.Found(reason, unique(findings)...)
}

// fineDownstream says what was looked at, if it is all right.
func (v *view) fineDownstream(d *downstream) ops.Text {
	p := d.places[0]
	if !p.known {
		return rule.Say("waiting for %[2]s (%[3]s): %[1]s, and nothing says for how long", "%s 在 %[3]s 等待 %[2]s，但沒有資料說明等了多久",
			rule.Goroutines(d.busy), d.name(), rule.Line(p.user))
	}
	one := place{delay: p.single(), atLeast: p.atLeast, known: true, upTo: p.upTo}
	return rule.Say("the slowest answers are those of %[1]s (%[2]s): %[3]s, %[4]s waiting at a time", "回應最慢的是 %[2]s 呼叫的 %[1]s：%[3]s，同一時間%[4]s 在等",
		d.name(), rule.Line(p.user), one.lasting(), rule.Goroutines(p.busy))
}

// downstreams are sorted by score, then by how many wait.
func (v *view) downstreams() (out []downstream) {
	at := map[op]int{}
	for _, w := range v.pick(func(w *wait) bool { return w.asks() && v.busy(w) > 0 }) {
		if v.effect(w) {
			continue
		}
		k := op{kind: w.kind, client: w.client}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, downstream{kind: w.kind, client: w.client})
		}
		out[i].add(w)
	}
	for i := range out {
		d := &out[i]
		chains := v.chains(d)
		for j := range d.places {
			v.judgePlace(d, &d.places[j], chains[d.places[j].user])
			d.busy += d.places[j].busy
		}
		slices.SortStableFunc(d.places, func(a, b place) int {
			return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.busy, a.busy), compareFrames(a.user, b.user))
		})
		d.remote = v.remote(d)
	}
	slices.SortStableFunc(out, func(a, b downstream) int {
		return cmp.Or(cmp.Compare(b.places[0].score, a.places[0].score), cmp.Compare(b.busy, a.busy), cmp.Compare(a.client, b.client))
	})
	return out
}

func (w *wait) asks() bool { return w.kind == ask || w.kind == dial || w.kind == resolve }

func (d *downstream) add(w *wait) {
	for i := range d.places {
		if d.places[i].user == w.user {
			d.places[i].waits = append(d.places[i].waits, w)
			return
		}
	}
	d.places = append(d.places, place{user: w.user, waits: []*wait{w}})
}

func (v *view) judgePlace(d *downstream, p *place, c chain) {
	s := sum(p.waits)
	p.busy = v.busyAll(p.waits) + v.busyAll(v.sharers(p))
	p.delay, p.atLeast, p.known, p.told = v.answerTime(p.waits)
	p.upTo = v.capped(p.told)
	if d, queued := v.forRequests(p); d > p.delay {
		p.answer, p.delay, p.atLeast, p.known, p.last, p.queued = p.delay, d, false, true, !queued, queued
		p.upTo = false
	}
	if (c.times >= 2 || c.asleep > 0) && c.delay > p.delay*3/2 {
		p.answer, p.delay, p.times, p.lines = p.delay, c.delay, max(1, c.times), c.lines
		p.asleep, p.sleeps = c.asleep, c.sleeps
		if c.asleep > 0 {
			p.busy = max(p.busy, p.busy*float64(c.delay)/float64(max(1, c.delay-c.asleep)))
		}
		p.atLeast, p.known, p.last, p.queued, p.upTo = false, true, false, false, false
	}
	x75 := slowAnswer
	if d.client == "HTTP" {
		x75 = slowHTTP
	}
	alone := 1 - math.Exp2(-p.busy)
	switch {
	case p.known:
		p.score = part(ops.Score(p.delay.Seconds(), x75.Seconds()), alone)
	case s.aged > 0:
		p.score, p.delay, p.atLeast, p.known = part(ops.Score(s.aged.Seconds(), x75.Seconds()), alone), s.aged, true, true
	default:
		if cores, ok := v.e.CPUCores(); ok && cores > 0 {
			p.delay, p.atLeast, p.known = time.Duration(p.busy*float64(callCost)/cores), true, true
			p.score = min(part(ops.Score(p.delay.Seconds(), x75.Seconds()), alone), 74)
		} else {
			p.score = min(ops.Score(p.busy, 60), 60) // so many at once are rarely well
		}
	}
	if v.saturation() >= saturated {
		p.score /= 2
	}
	if p.doubt = v.mayBePoll(d, p, &s); p.doubt {
		p.score = min(p.score, 45)
	}
	if p.aside = v.isAside(p, &s); p.aside {
		p.score = min(p.score, 45)
	}
}

// isAside reports whether a few goroutines at a time ask what requests have them ask, and
// nobody waits for: these were started by requests, which go on.
func (v *view) isAside(p *place, s *wait) bool {
	if s.handler || v.e.Trace == nil || p.busy >= 10 || len(v.sharers(p)) > 0 {
		return false
	}
	starts := map[string]bool{}
	for _, w := range p.waits {
		starts[w.start] = true
	}
	var all, served int64
	for _, b := range v.e.Trace.Creations {
		if starts[b.Start] {
			all += b.Count
			if b.Stack.Index(inHandler) >= 0 {
				served += b.Count
			}
		}
	}
	return all > 0 && 10*served >= 9*all
}

func part(score int, share float64) int { return int(math.Round(float64(score) * share)) }

// answerTime is how long one answer takes: the mean of those waits that make up
// most of the time. Short ones beside them are the rest of the same answer,
// which was already there.
func (v *view) answerTime(ws []*wait) (d time.Duration, atLeast, ok bool, of []*wait) {
	of = ws
	for _, w := range ws {
		m, least, known := v.mean(w)
		if known && m > d && 5*w.total >= sumTotal(ws) {
			d, atLeast, ok, of = m, least, true, []*wait{w}
		}
	}
	return d, atLeast, ok, of
}

func sumTotal(ws []*wait) (t time.Duration) {
	for _, w := range ws {
		t += w.total
	}
	return t
}

// saturation is the share of its CPU that the process uses; 0 = unknown.
func (v *view) saturation() float64 {
	cores, ok := v.e.CPUCores()
	limit := v.e.CPULimit()
	if !ok || limit == 0 {
		return 0
	}
	return cores / limit
}

// mayBePoll reports whether long waits could be long polls: over a protocol that
// is used for them, by goroutines that nobody is known to wait for. These are few,
// or are always the same ones that get their answers and ask again.
func (v *view) mayBePoll(d *downstream, p *place, s *wait) bool {
	if s.handler || p.busy >= 10 && !v.askAgain(p) || d.kind != ask || d.client != "HTTP" && d.client != "TCP" && !p.waits[0].unlisted {
		return false
	}
	if p.known && p.delay < 2*time.Second {
		return false
	}
	// Workers that also wait for work have a queue behind them.
	for _, w := range v.waits {
		if (w.kind == receive || w.kind == choose) && w.count > 0 && w.direct() && slices.ContainsFunc(p.waits, func(x *wait) bool { return x.start == w.start }) {
			return false
		}
	}
	return true
}

// direct reports whether the program's own line waits, and not a library below it.
func (w *wait) direct() bool {
	return !slices.ContainsFunc(w.stack[:max(0, w.at)], func(f *evidence.Frame) bool { return f.Origin != evidence.RuntimeCode })
}

// askAgain reports whether those who wait at a line are goroutines that stay, some
// of which got their answer within the trace.
func (v *view) askAgain(p *place) bool {
	if v.e.Trace == nil {
		return false
	}
	var answers, born int64
	starts := map[string]bool{}
	for _, w := range p.waits {
		answers += w.count - w.open
		starts[w.start] = true
	}
	for i := range v.e.Trace.Groups {
		if g := &v.e.Trace.Groups[i]; starts[g.Func] {
			born += g.Born
		}
	}
	return answers > 0 && born == 0
}

// effect reports whether the wait is for this very process: a load generator or
// a loopback client within it waits for handlers that are not done. It is none
// if those handlers do nothing but sleep, which plays a slow downstream; one that asks
// itself in the same function sleeps between two tries.
func (v *view) effect(w *wait) bool {
	if w.handler || w.client != "HTTP" && w.client != "gRPC" && w.client != "net/rpc" && w.client != "TCP" {
		return false
	}
	outside := v.busyAll(v.pick(func(x *wait) bool { return x.asks() && !x.handler && x.client == w.client }))
	// A snapshot shows those at work as well; but of a crowd that comes and goes at
	// once it may show the pause.
	snapshot := v.now != nil && v.busyNow(w.client)*2 >= outside
	inside, asleep, asking := 0.0, 0.0, 0.0
	handlers := v.handlers()
	asks := map[string]bool{}
	for _, h := range handlers {
		if h.asks() && h.user != nil {
			asks[h.user.Function] = true
		}
	}
	for _, h := range handlers {
		if h.parent && !h.queued {
			continue // it waits for those who ask, each for one
		}
		n := v.busy(h)
		if snapshot {
			n = v.counted(h)
		}
		inside += n
		switch {
		case h.asks(), h.parent:
			asking += n // of a driver that sleeps as well
		case h.state == goroutines.Sleep && (h.user == nil || !asks[h.user.Function]):
			asleep += n
		}
	}
	if v.now != nil {
		inside += v.running()
	}
	if snapshot {
		outside = v.busyNow(w.client)
	}
	switch {
	case inside*2 < outside:
		return false
	case asking*3 >= outside:
		return true
	}
	return asleep*2 < inside
}

// busyNow is how many goroutines outside of handlers were waiting for a client.
func (v *view) busyNow(client string) (n float64) {
	for _, x := range v.waits {
		if x.asks() && !x.handler && x.client == client {
			n += v.counted(x)
		}
	}
	return n
}

// handlers are the waits below a server's handler.
func (v *view) handlers() []*wait {
	return v.pick(func(w *wait) bool { return w.handler && w.kind != idle })
}

// running is how many goroutines below handlers were at work, or were ready for it:
// by the snapshots, or where it shows more, by what the trace says of those that serve.
func (v *view) running() (n float64) {
	snapshots := []*evidence.Goroutines{v.now}
	if v.before != nil {
		snapshots = append(snapshots, v.before)
	}
	for _, s := range snapshots {
		for i := range s.Groups {
			g := &s.Groups[i]
			if (g.State == goroutines.Running || g.State == goroutines.Runnable) && g.Stack.Index(inHandler) >= 0 {
				n += float64(g.Count) / float64(len(snapshots))
			}
		}
	}
	return max(n, v.serving())
}

// serving is how many goroutines that serve requests ran, or were ready to, at a
// time of the trace; 0 = there is none.
func (v *view) serving() (n float64) {
	if v.traced() == 0 {
		return 0
	}
	for i := range v.e.Trace.Groups {
		switch g := &v.e.Trace.Groups[i]; g.Func {
		case "net/http.(*conn).serve", "net/http.(*http2serverConn).runHandler", "golang.org/x/net/http2.(*serverConn).runHandler",
			"google.golang.org/grpc.(*Server).serveStreams.func2.1", "google.golang.org/grpc.(*Server).serverWorker", "net/rpc.(*service).call":
			n += float64(g.Times[trace.StateRunning]+g.Times[trace.StateAssist]+g.Times[trace.StateRunnable]) / float64(v.traced())
		}
	}
	return n
}

// remote is where the client leads, where a pool handed to the agent or a label
// says so. It is never guessed.
func (v *view) remote(d *downstream) string {
	var found []string
	if r := v.e.Runtime; r != nil {
		for _, p := range r.Pools {
			if p.Remote != "" && poolServes(p.Kind, d) && !slices.Contains(found, p.Remote) {
				found = append(found, p.Remote)
			}
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	labels := map[string]int{}
	for _, p := range d.places {
		for _, w := range p.waits {
			for _, l := range w.labels {
				if r := labelled(l.Set); r != "" {
					labels[r] += l.Count
				}
			}
		}
	}
	names := make([]string, 0, len(labels))
	for r := range labels {
		names = append(names, r)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(labels[b], labels[a]), cmp.Compare(a, b)) })
	return strings.Join(names[:min(2, len(names))], ", ")
}

// labelled reads a remote from profiler labels, under the names that OpenTelemetry
// and people give it.
func labelled(set map[string]string) string {
	for _, k := range []string{"server.address", "net.peer.name", "peer.service", "peer", "remote", "upstream", "downstream", "db"} {
		if set[k] != "" {
			return set[k]
		}
	}
	return ""
}

// poolServes reports whether connections of a pool of that kind are of the client.
func poolServes(kind string, d *downstream) bool {
	kind = strings.ToLower(kind)
	sql := slices.ContainsFunc(d.places, func(p place) bool { return p.waits[0].sql })
	switch {
	case strings.Contains(kind, "sql"):
		return sql
	case strings.Contains(kind, "pgx"):
		return (d.client == "pgx" || d.client == "pgxpool") && !sql
	}
	return d.client != "" && strings.Contains(kind, strings.ToLower(d.client))
}
