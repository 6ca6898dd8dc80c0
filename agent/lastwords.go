package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	ossignal "os/signal"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// lastWords is whose capture a process sends before its end.
const lastWords = "last-words"

const (
	// lastWordsMemory is the share of the memory limit at which a process begins to
	// send what it may not be able to send later.
	lastWordsMemory = 0.9
	// lastWordsBudget times within lastWordsPer: a process that lives near its limit
	// for days must not send the same every minute.
	lastWordsBudget = 2
	lastWordsPer    = 6 * time.Hour
	// lastWordsLast is how much of the flight recorder goes with the goodbye.
	lastWordsLast = 5 * time.Second
	// tailWithin bounds how long a process that ends waits for the centre to
	// have taken its last capture; platforms grant 10 to 30 s between SIGTERM and
	// SIGKILL, and the service has to end in it as well.
	tailWithin = 4 * time.Second
	// saidBefore is how long last words are the last: a panic, or a signal, is
	// followed by a Close that has nothing to add.
	saidBefore = 10 * time.Second
)

// ownRules are those that the process watches for without a centre: none unless
// it wants last words.
func (a *Agent) ownRules() []rule {
	if !a.cfg.lastWords {
		return nil
	}
	memory, err := newTrigger(&agentv1.Trigger{Metric: "memory", Level: lastWordsMemory})
	if err != nil {
		return nil
	}
	return []rule{{
		name: lastWords, revision: "own", trigger: memory,
		actions:  []action{{kind: agentv1.ActionKind_ACTION_KIND_SNAPSHOT}},
		cooldown: 10 * time.Minute, budget: lastWordsBudget, per: lastWordsPer, maxMemory: 0.99,
	}}
}

// tail is the capture that a process sends when it ends: small things first, and
// no garbage collection.
func (a *Agent) tail() plan {
	p := plan{
		id: keptID(), rule: lastWords, past: true, skipGC: true, duration: time.Second, maxBytes: maxKeptBytes / 2, small: true,
		kinds: map[agentv1.Kind]bool{agentv1.Kind_KIND_GOROUTINE: true, agentv1.Kind_KIND_HEAP: true, agentv1.Kind_KIND_RUNTIME: true},
	}
	if a.flight.on() {
		p.last = min(lastWordsLast, a.flight.keeps())
		p.duration = max(p.last, time.Second)
		p.kinds[agentv1.Kind_KIND_TRACE] = true
	}
	return p
}

// sayLast takes the tail and waits, within bounds, until a centre has all of it.
func (a *Agent) sayLast(why *agentv1.RuleReason) {
	// Who comes second waits: to go on would end the process amid the first's words.
	a.saying.Lock()
	defer a.saying.Unlock()
	if time.Since(a.said) < saidBefore {
		return
	}
	defer func() { a.said = time.Now() }()
	ctx, cancel := context.WithTimeout(context.Background(), tailWithin)
	defer cancel()
	c, err := a.keep(a.tail(), reasons{why})
	if err != nil {
		a.log.Warn("no last words", slog.Any("error", err))
		return
	}
	began := time.Now()
	taken := make(chan struct{})
	if !a.spawn("last words", func() { defer close(taken); c.run() }) {
		return
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			a.log.Warn("the last words were not taken in time", slog.Duration("within", tailWithin))
			return
		case <-look.C:
		}
		if _, err := a.captures.get(c.plan.id); err != nil { // acknowledged, so forgotten
			<-taken
			a.log.Info("last words sent", slog.String("capture", c.plan.id), slog.Duration("took", time.Since(began)))
			return
		}
	}
}

// Recover is for the top of a goroutine, in a defer:
//
//	defer a.Recover()
//
// When the goroutine panics it sends what the process is doing as last words,
// waiting a few seconds for the centre at most, and then panics on with the same
// value: it does not save the process, it only lets it say why.
func (a *Agent) Recover() {
	r := recover()
	if r == nil {
		return
	}
	if a != nil {
		func() {
			defer a.survive("last words")
			a.sayLast(because(whyPanic, nil, texts{"value": fmt.Sprintf("%.300v", r)}))
		}()
	}
	panic(r)
}

// watchSignals waits for a signal that ends the process, sends the last words and
// lets the signal do what it would have done. Only for programs without a handler
// of their own: those call Close.
func (a *Agent) watchSignals() {
	got := make(chan os.Signal, 1)
	ossignal.Notify(got, endSignals()...)
	defer ossignal.Stop(got)
	select {
	case <-a.ctx.Done():
	case s := <-got:
		a.sayLast(because(whySignal, nil, texts{"signal": s.String()}))
		ossignal.Stop(got)
		raise(s)
	}
}
