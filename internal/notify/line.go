package notify

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// The bounds of what waits in a channel. A fleet in flames says the same thing
// many times: groups keep a count of what they do not keep whole.
const (
	maxGroups = 256
	perGroup  = 20
	maxRecent = 50
	attempts  = 6 // over some five minutes
)

// line is a channel and what waits in it.
type line struct {
	channel Channel
	hours   hours
	stop    context.CancelFunc // ends its worker; nil = none runs

	mu      sync.Mutex // guards all below
	groups  map[group]*pending
	wake    chan struct{} // holds one token when groups changed
	stats   Status
	sending int
}

// pending is a group: what to tell of it next and what was told last.
type pending struct {
	events []Event
	more   int // events beyond perGroup
	worst  ops.Severity
	due    time.Time // zero = nothing waits
	told   time.Time // zero = never
	was    ops.Severity
}

func newLine(c Channel) *line {
	h, _ := c.Quiet.hours() // validated
	return &line{channel: c, hours: h, groups: map[group]*pending{}, wake: make(chan struct{}, 1)}
}

func (l *line) end() {
	if l.stop != nil {
		l.stop()
	}
}

// add puts an event into its group.
func (l *line) add(e Event, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.groups[e.group()]
	if p == nil {
		if len(l.groups) >= maxGroups && !l.forget(now) {
			l.stats.Dropped++
			return
		}
		p = &pending{}
		l.groups[e.group()] = p
	}
	if len(p.events) < perGroup {
		p.events = append(p.events, e)
	} else {
		p.more++
		if rank(e.Severity) > rank(p.worst) {
			p.events[perGroup-1] = e // the worst is never the one left out
		}
	}
	if rank(e.Severity) > rank(p.worst) {
		p.worst = e.Severity
	}
	if at := l.dueFor(p, now); p.due.IsZero() || at.Before(p.due) {
		p.due = at
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// dueFor is when a group may be told: after more of it had time to come, and not
// soon after it was told last unless it got worse.
func (l *line) dueFor(p *pending, now time.Time) time.Time {
	due := now.Add(l.channel.groupFor())
	if !p.told.IsZero() && rank(p.worst) <= rank(p.was) {
		if again := p.told.Add(l.channel.repeatAfter()); again.After(due) {
			due = again
		}
	}
	return due
}

// forget drops the groups that have nothing to say and need not be remembered any
// more, or else the one that was told longest ago.
func (l *line) forget(now time.Time) bool {
	var oldest group
	var at time.Time
	freed := false
	for g, p := range l.groups {
		switch {
		case !p.due.IsZero():
		case now.Sub(p.told) > l.channel.repeatAfter():
			delete(l.groups, g)
			freed = true
		case at.IsZero() || p.told.Before(at):
			oldest, at = g, p.told
		}
	}
	if !freed && !at.IsZero() {
		delete(l.groups, oldest)
		freed = true
	}
	return freed
}

// next takes the groups that are due, oldest first, and says when to look again.
func (l *line) next(now time.Time) (ready [][]Event, more []int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	type item struct {
		p  *pending
		at time.Time
	}
	var due []item
	wait = time.Hour
	for _, p := range l.groups {
		if p.due.IsZero() {
			continue
		}
		at := p.due
		if quiet := l.hours.until(now, p.worst); quiet.After(at) {
			at = quiet
		}
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			continue
		}
		due = append(due, item{p, p.due})
	}
	slices.SortFunc(due, func(a, b item) int { return a.at.Compare(b.at) })
	for _, d := range due {
		ready, more = append(ready, d.p.events), append(more, d.p.more)
		d.p.told, d.p.was = now, d.p.worst
		d.p.events, d.p.more, d.p.worst, d.p.due = nil, 0, "", time.Time{}
	}
	l.sending += len(ready)
	return ready, more, wait
}

// deliver tells what is due until ctx ends; then what waits, once.
func (n *Notifier) deliver(ctx context.Context, l *line) {
	for {
		ready, more, wait := l.next(time.Now())
		for i, events := range ready {
			n.tell(ctx, l, render(events, more[i], l.channel.Lang, n.base))
		}
		if len(ready) > 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			n.farewell(l)
			return
		case <-l.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// farewell gives what still waits one chance when the centre ends; quiet hours
// hold for it too.
func (n *Notifier) farewell(l *line) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	l.mu.Lock()
	now := time.Now()
	for _, p := range l.groups {
		if !p.due.IsZero() && p.told.IsZero() {
			p.due = now
		}
	}
	l.mu.Unlock()
	ready, more, _ := l.next(now)
	for i, events := range ready {
		m := render(events, more[i], l.channel.Lang, n.base)
		_, err := n.send(ctx, l.channel, m)
		l.sent(m, 1, err, time.Now())
	}
}

// tell sends a message, again and again if that may help.
func (n *Notifier) tell(ctx context.Context, l *line, m Message) {
	pause := 2 * time.Second
	for try := 1; ; try++ {
		again, err := n.send(ctx, l.channel, m)
		if err == nil || again < 0 || try == attempts || ctx.Err() != nil {
			if err != nil {
				n.log.Warn("a notification was not delivered", "channel", l.channel.Name, "attempts", try, "error", err)
			}
			l.sent(m, try, err, time.Now())
			return
		}
		l.trouble(err, time.Now())
		// Jitter, for many channels may wait for one chat.
		wait := max(again, pause/2+rand.N(pause))
		pause *= 3
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (l *line) sent(m Message, tries int, err error, now time.Time) {
	l.record(m, tries, err, now)
	l.mu.Lock()
	l.sending--
	l.mu.Unlock()
}

// record keeps what became of a message.
func (l *line) record(m Message, tries int, err error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := Delivery{At: now, Title: m.Title, Severity: m.Severity, Events: m.Count, Attempts: tries}
	if err != nil {
		d.Error = err.Error()
		l.stats.Failed++
		l.stats.LastError, l.stats.LastErrorAt = d.Error, now
	} else {
		l.stats.Sent++
		l.stats.LastSent = now
	}
	l.stats.Recent = slices.Insert(l.stats.Recent, 0, d)
	if len(l.stats.Recent) > maxRecent {
		l.stats.Recent = l.stats.Recent[:maxRecent]
	}
}

func (l *line) trouble(err error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.LastError, l.stats.LastErrorAt = err.Error(), now
}

func (l *line) status(now time.Time) Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Channel, s.Declared = l.channel.Masked(), l.channel.declared
	s.Recent = slices.Clone(s.Recent)
	s.Waiting = l.sending
	for _, p := range l.groups {
		if !p.due.IsZero() {
			s.Waiting++
		}
	}
	s.QuietUntil = l.hours.until(now, ops.Warning)
	return s
}
