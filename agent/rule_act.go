package agent

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// What the process collects by itself waits in the spool for a centre.
const (
	maxKeptCaptures = 8
	maxKeptBytes    = 128 << 20
	// pairPatience is how long a pair of heaps waits for the garbage collections
	// between them before it does without.
	pairPatience = 90 * time.Second
)

// keptID makes the id of a capture that the process takes by itself: it sorts by
// time among those that the centre makes.
func keptID() string {
	var b [16]byte
	ms := uint64(time.Now().UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	_, _ = rand.Read(b[6:]) // never fails
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	var out strings.Builder
	// 130 bits in 26 digits, of which the first two are zero.
	hi := uint64(0)
	for _, c := range b[:8] {
		hi = hi<<8 | uint64(c)
	}
	lo := uint64(0)
	for _, c := range b[8:] {
		lo = lo<<8 | uint64(c)
	}
	for i := 25; i >= 0; i-- {
		shift := 5 * i
		var v uint64
		switch {
		case shift >= 64:
			v = hi >> (shift - 64)
		case shift+5 > 64:
			v = lo>>shift | hi<<(64-shift)
		default:
			v = lo >> shift
		}
		out.WriteByte(digits[v&31])
	}
	return out.String()
}

// keptWhy is why a capture was taken.
type keptWhy struct {
	reasons reasons
	at      time.Time
}

// actOn carries out what a rule does, one capture after the other.
func (a *Agent) actOn(r rule, why reasons, _ float64, ended func()) {
	started := a.spawn("rule "+r.name, func() {
		defer ended()
		for _, p := range r.plans(keptID) {
			c, err := a.keep(p, why)
			if err != nil {
				a.rules.tell(r.name, agentv1.RuleEventKind_RULE_EVENT_KIND_REFUSED, reasons{because(whyNoCollect, nil, texts{"error": err.Error()})}, "")
				return
			}
			c.run()
			a.rules.tell(r.name, agentv1.RuleEventKind_RULE_EVENT_KIND_COLLECTED, why, p.id)
		}
	})
	if !started {
		go ended() // the caller holds what ended wants
	}
}

// keep makes a capture that the process takes by itself, and room for it. Whoever
// gets it runs it.
func (a *Agent) keep(p plan, why reasons) (*capture, error) {
	for _, old := range a.captures.makeRoom() {
		a.rules.tell(old.plan.rule, agentv1.RuleEventKind_RULE_EVENT_KIND_DROPPED,
			reasons{because(whyDropped, numbers{"captures": maxKeptCaptures, "bytes": maxKeptBytes}, nil)}, old.plan.id)
		old.drop(errKept)
	}
	c := a.newCapture(p)
	c.why = keptWhy{why, time.Now()}
	if err := a.captures.add(c, a.cfg.limits.MaxConcurrentCaptures); err != nil {
		c.cancel(nil)
		return nil, err
	}
	c.changed.broadcast()
	a.rules.changed.broadcast() // the centre may come for it while it grows
	return c, nil
}

// makeRoom returns the kept captures that have to give way to a new one, oldest
// first.
func (r *captureRegistry) makeRoom() (out []*capture) {
	kept := r.kept()
	total := int64(0)
	for _, c := range kept {
		total += c.size()
	}
	for len(kept) > 0 && (len(kept) >= maxKeptCaptures || total > maxKeptBytes/2) {
		total -= kept[0].size()
		out, kept = append(out, kept[0]), kept[1:]
	}
	return out
}

// kept are the captures that the process took by itself, oldest first.
func (r *captureRegistry) kept() (out []*capture) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.order {
		if c.plan.rule != "" {
			out = append(out, c)
		}
	}
	return out
}

func (c *capture) size() (n int64) {
	c.mu.Lock()
	artifacts := slices.Clone(c.artifacts)
	c.mu.Unlock()
	for _, a := range artifacts {
		size, _ := a.state()
		n += size
	}
	return n
}

// kept is the capture as it is offered to the centre.
func (c *capture) kept() *agentv1.KeptCapture {
	k := &agentv1.KeptCapture{
		CaptureId: c.plan.id, Rule: c.plan.rule, Reason: c.why.reasons.String(), Reasons: c.why.reasons, At: timestamppb.New(c.why.at),
		Duration: durationpb.New(c.plan.duration),
	}
	if c.plan.last > 0 {
		k.Last = durationpb.New(c.plan.last)
	}
	for _, kind := range fullSet {
		if c.plan.kinds[kind] {
			k.Kinds = append(k.Kinds, kind)
		}
	}
	return k
}

// pairOfHeaps takes the heap now and again when two garbage collections, which the
// process runs anyway, have gone by: what the second one still holds of what was
// there at the first, and what is new.
func (w *window) pairOfHeaps() {
	w.doing("first heap snapshot")
	w.snapshot(snapHeap, "heap.before.pprof", agentv1.Phase_PHASE_BEFORE)
	w.series.sample()
	first := collections()
	give := time.NewTimer(pairPatience)
	defer give.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	w.doing("waiting for two garbage collections")
	for collections() < first+2 && w.ctx.Err() == nil {
		select {
		case <-w.ctx.Done():
			return
		case <-w.stopped:
			return
		case <-give.C:
			w.lose(loss(agentv1.Kind_KIND_HEAP, lossGap, "no two garbage collections came within %v: both heaps may be as of the same one", pairPatience))
			return
		case <-second.C:
			w.series.sample()
		}
	}
	w.end = time.Now()
}

func collections() int64 {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	return stats.NumGC
}

// roomForHeap refuses a heap snapshot that a process near its limit may not
// survive: a record takes up to 1.5 KB for a moment.
func (w *window) roomForHeap() error {
	const each = 1500
	limit := w.agent.memoryLimit()
	if limit == 0 {
		return nil
	}
	n := int64(cmp.Or(pprof.Lookup("heap").Count(), 1))
	rss, _ := residentAndThreads()
	if need, room := n*each, limit-rss; need > room/2 {
		return fmt.Errorf("%d records would take about %d KiB and the process is %d KiB from its memory limit", n, need>>10, room>>10)
	}
	return nil
}

func (a *Agent) newRuleEngine() *ruleEngine {
	m := newMeter(heartbeatMetrics(), a.self.cgroup, &a.pools)
	var prev *reading
	return &ruleEngine{
		act: a.actOn, spawn: a.spawn, now: time.Now, done: a.ctx.Done(), log: a.log,
		read: func() *agentv1.Heartbeat {
			r := m.read()
			h := r.heartbeat(prev)
			prev = r
			return h
		},
		poke: make(chan struct{}, 1), memory: map[string]*remembered{},
	}
}
