package rules

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

// follow is the care for one instance: it is given its rules, and what it tells
// is heard, for as long as the link and the rules are what they were.
type follow struct {
	link    ops.Link
	version int
	before  ops.InstanceID // its predecessor, whose firings count
	cancel  context.CancelFunc
	ended   bool
	again   time.Time // not before, after a failure
}

// followAgain is the pause after a failure, and maxTries how often a capture is
// taken that does not arrive whole; then what there is of it has to do.
const (
	followAgain = 10 * time.Second
	maxTries    = 3
)

// attend makes sure that every instance with a link is followed, with the rules
// as they are now.
func (c *Center) attend(ctx context.Context, under *sync.WaitGroup) {
	present := map[ops.InstanceID]bool{}
	now := time.Now()
	for _, inst := range c.cfg.Fleet.Instances() {
		link, err := c.cfg.Fleet.Link(inst.ID)
		if err != nil || inst.Agentless {
			continue
		}
		ruled, ok := link.(ops.Ruled)
		if !ok {
			continue
		}
		present[inst.ID] = true
		var before ops.InstanceID
		if inst.Predecessor != nil {
			before = inst.Predecessor.ID
		}
		c.mu.Lock()
		f := c.follows[inst.ID]
		same := f != nil && f.link == link && f.version == c.version && f.before == before
		if same && (!f.ended || now.Before(f.again)) {
			c.mu.Unlock()
			continue
		}
		if f != nil {
			f.cancel()
		}
		fctx, cancel := context.WithCancel(ctx)
		f = &follow{link: link, version: c.version, before: before, cancel: cancel}
		c.follows[inst.ID] = f
		rules := c.rulesOf(inst)
		c.mu.Unlock()
		under.Go(func() {
			defer cancel()
			c.follow(fctx, inst, ruled, rules, under)
			c.mu.Lock()
			defer c.mu.Unlock()
			f.ended, f.again = true, time.Now().Add(followAgain)
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, f := range c.follows {
		if !present[id] {
			f.cancel()
			delete(c.follows, id)
			delete(c.reports, id)
		}
	}
}

// rulesOf are the enabled rules for an instance; the caller holds mu.
func (c *Center) rulesOf(inst ops.Instance) (out []ops.Rule) {
	for _, f := range c.files {
		for i := range f.Rules {
			if d := &f.Rules[i]; d.Enabled && d.Of(inst) {
				out = append(out, d.Rule)
			}
		}
	}
	return out
}

// ancestors are the processes whose place an instance took.
func (c *Center) ancestors(inst ops.Instance) (out []ops.InstanceID) {
	for p := inst.Predecessor; p != nil && len(out) < 50; {
		out = append(out, p.ID)
		prev, err := c.cfg.Fleet.Instance(p.ID)
		if err != nil {
			break
		}
		p = prev.Predecessor
	}
	return out
}

// follow hands the rules to an instance and hears it until ctx or its link ends.
func (c *Center) follow(ctx context.Context, inst ops.Instance, link ops.Ruled, rules []ops.Rule, under *sync.WaitGroup) {
	if before := c.ancestors(inst); len(before) > 0 {
		for i := range rules {
			rules[i].FiredBefore = c.history.fired(before, rules[i].Name, time.Now().Add(-rules[i].Bounds.Per))
		}
	}
	if err := link.SetRules(ctx, rules); err != nil {
		if ctx.Err() == nil && len(rules) > 0 {
			c.log.Warn("an instance did not take its rules", "instance", inst.ID, "service", inst.Key().String(), "err", err)
		}
		if ops.KindOf(err) == ops.Conflict {
			return // an agent that is older than rules
		}
	}
	err := link.FollowRules(ctx, c.history.after(inst.ID), func(r ops.RuleReport) { c.hear(ctx, inst, r, link, under) })
	if err != nil && ctx.Err() == nil && ops.KindOf(err) != ops.Unavailable && ops.KindOf(err) != ops.Conflict {
		c.log.Warn("an instance does not tell how its rules stand", "instance", inst.ID, "err", err)
	}
}

// hear takes in what an instance tells.
func (c *Center) hear(ctx context.Context, inst ops.Instance, r ops.RuleReport, link ops.Ruled, under *sync.WaitGroup) {
	c.mu.Lock()
	c.reports[inst.ID] = r
	c.mu.Unlock()
	heard := c.history.after(inst.ID)
	for _, ev := range r.Events {
		if ev.Number <= heard {
			continue
		}
		c.note(Entry{
			At: ev.At, Project: inst.Project, Service: inst.Service, Instance: inst.ID, Rule: ev.Rule, Kind: ev.Kind,
			Reason: ev.Reason, Reasons: ev.Reasons, Value: ev.Value, Capture: ev.Capture, Event: ev.Number, Notify: c.wantsNotice(ev.Rule),
		})
	}
	for _, k := range r.Kept {
		c.mu.Lock()
		busy := c.taking[k.ID]
		c.taking[k.ID] = true
		c.mu.Unlock()
		if busy {
			continue
		}
		under.Go(func() {
			c.take(ctx, inst, k, link)
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.taking, k.ID)
		})
	}
}

// take brings a capture that an instance made into the archive.
func (c *Center) take(ctx context.Context, inst ops.Instance, k ops.KeptCapture, link ops.Ruled) {
	c.mu.Lock()
	c.tries[k.ID]++
	tries := c.tries[k.ID]
	c.mu.Unlock()
	got, err := c.cfg.Captures.Adopt(ctx, capture.Adoption{Instance: inst.ID, Kept: k, Actor: ActorPrefix + k.Rule})
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("a capture that an instance made did not arrive", "capture", k.ID, "instance", inst.ID, "err", err)
			c.notTaken(inst, k, err)
			c.wait(ctx)
		}
		return
	}
	whole := got.State == ops.CaptureDone || got.State == ops.CaptureCancelled
	if whole || tries >= maxTries {
		// What came whole was acknowledged. What the archive had already, or will
		// never come, only takes room there.
		_ = link.ReleaseKept(ctx, k.ID)
	}
	if tries == 1 || whole {
		c.note(Entry{
			At: time.Now(), Project: inst.Project, Service: inst.Service, Instance: inst.ID, Rule: k.Rule, Kind: ops.RuleArchived,
			Reason: k.Reason, Reasons: k.Reasons, Capture: k.ID, Notify: c.wantsNotice(k.Rule),
		})
		c.diagnosed(ctx, k.ID)
	}
	if whole {
		c.mu.Lock()
		delete(c.tries, k.ID)
		c.mu.Unlock()
		return
	}
	c.wait(ctx)
}

// notTaken notes, once, that a capture waits at its instance because there is no room
// for it here: who looks for it must read more than that it was collected.
func (c *Center) notTaken(inst ops.Instance, k ops.KeptCapture, err error) {
	if ops.KindOf(err) != ops.Exhausted {
		return // it is tried again, and comes
	}
	for _, e := range c.history.search(Filter{Capture: k.ID, Limit: 10}) {
		if e.Kind == ops.RuleRefusal {
			return
		}
	}
	c.note(Entry{
		At: time.Now(), Project: inst.Project, Service: inst.Service, Instance: inst.ID, Rule: k.Rule, Kind: ops.RuleRefusal, Capture: k.ID,
		Reason: "the centre does not take it: " + err.Error(), Reasons: []ops.RuleReason{{Code: "no-room", Words: map[string]string{"error": err.Error()}}},
	})
}

func (c *Center) wait(ctx context.Context) {
	pause := time.NewTimer(2 * c.cfg.Every)
	defer pause.Stop()
	select {
	case <-ctx.Done():
	case <-pause.C:
	}
}

func (c *Center) wantsNotice(rule string) bool {
	d, err := c.Rule(rule)
	return err == nil && d.Notify
}

// diagnosed notes, once, what is said of a capture that an instance made.
func (c *Center) diagnosed(ctx context.Context, id ops.CaptureID) {
	found := c.history.search(Filter{Capture: id, Limit: 10})
	var archived *Entry
	for i := range found {
		switch found[i].Kind {
		case ops.RuleDiagnosed:
			return
		case ops.RuleArchived:
			archived = &found[i]
		}
	}
	if archived == nil || c.cfg.Headline == nil {
		return
	}
	said, err := c.cfg.Headline(ctx, id)
	if err != nil {
		return // not yet: its end, or its diagnosis, is told as well
	}
	e := *archived
	e.At, e.Kind, e.Verdict, e.Diagnose, e.Event = time.Now(), ops.RuleDiagnosed, said, true, 0
	c.note(e)
}

// RuleOf returns the rule that made a capture, by its actor.
func RuleOf(actor string) (string, bool) { return strings.CutPrefix(actor, ActorPrefix) }
