package evidencetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/trace"
)

func (p *parser) trace(words []string) {
	tr := &evidence.Trace{}
	if len(words) > 0 {
		tr.Duration = p.dur(words[0])
	}
	p.e.Trace = tr
	var holds *evidence.Holds // what "inside" belongs to
	p.add = func(line string) error {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "procs":
			tr.Procs = int(p.num(rest))
		case "events":
			tr.Events = p.num(rest)
		case "created":
			tr.Created = p.num(rest)
		case "seen":
			tr.Seen = p.num(rest)
		case "group":
			p.traceGroup(tr, rest)
		case "site":
			p.traceSite(tr, rest)
		case "wake":
			parts := strings.Split(rest, "|")
			f := strings.Fields(parts[0])
			if len(parts) != 3 || len(f) != 2 {
				return fmt.Errorf("wake COUNT TOTAL | WAITER | WAKER")
			}
			tr.Wakes = append(tr.Wakes, evidence.Wake{Count: p.num(f[0]), Total: p.dur(f[1]), Waiter: p.frameList(parts[1]), Waker: p.frameList(parts[2])})
		case "slow":
			figures, stack := p.stack(rest)
			f := strings.Fields(figures)
			if len(f) != 4 {
				return fmt.Errorf("slow NAME FROM END GOROUTINE | STACK")
			}
			tr.Slow = append(tr.Slow, evidence.SlowCall{Name: f[0], From: p.dur(f[1]), End: p.dur(f[2]), Goroutine: trace.GoID(p.num(f[3])), Stack: stack})
		case "spent", "callwait", "behind":
			if len(tr.Slow) == 0 {
				return fmt.Errorf("%s belongs under a slow call", word)
			}
			return p.slowCall(&tr.Slow[len(tr.Slow)-1], word, rest)
		case "create":
			parts := strings.SplitN(rest, "|", 2)
			f := strings.Fields(parts[0])
			if len(parts) != 2 || len(f) != 2 {
				return fmt.Errorf("create COUNT START | STACK")
			}
			tr.Creations = append(tr.Creations, evidence.Creation{Count: p.num(f[0]), Start: f[1], Stack: p.frameList(parts[1])})
		case "lock":
			figures, stack := p.stack(rest)
			kind, figures, _ := strings.Cut(figures, " ")
			kv := p.pairs(figures)
			tr.Locks = append(tr.Locks, evidence.Lock{
				Lock: stack, Kind: p.lockKind(kind), Waits: kv.num("waits"), WaitTotal: kv.dur("total"), WaitMax: kv.dur("max"), Handoff: kv.dur("handoff"),
				Slow: kv.num("slow"), SlowTotal: kv.dur("slowtotal"), Conflicts: kv.num("conflicts"), Stale: kv.num("stale"),
			})
		case "exact", "atleast", "inside", "end", "unlock":
			if len(tr.Locks) == 0 {
				return fmt.Errorf("%s belongs under a lock", word)
			}
			l := &tr.Locks[len(tr.Locks)-1]
			switch word {
			case "exact":
				holds = &l.Exact
				p.holds(holds, rest)
			case "atleast":
				holds = &l.AtLeast
				p.holds(holds, rest)
			case "unlock":
				figures, stack := p.stack(rest)
				l.Unlocks = append(l.Unlocks, evidence.Samples{Stack: stack, Count: p.num(figures)})
			case "end":
				if holds == nil {
					return fmt.Errorf("end belongs under exact or atleast")
				}
				figures, stack := p.stack(rest)
				f := strings.Fields(figures)
				if len(f) != 2 {
					return fmt.Errorf("end COUNT TOTAL | STACK")
				}
				holds.Ends = append(holds.Ends, evidence.HoldEnd{Stack: stack, Count: p.num(f[0]), Total: p.dur(f[1])})
			case "inside":
				if holds == nil {
					return fmt.Errorf("inside belongs under exact or atleast")
				}
				figures, stack := p.stack(rest)
				f := strings.Fields(figures)
				if len(f) < 3 {
					return fmt.Errorf("inside REASON COUNT TOTAL | STACK")
				}
				reason, state := p.reason(strings.Join(f[:len(f)-2], " "))
				holds.Inside = append(holds.Inside, evidence.HeldWait{Stack: stack, Reason: reason, State: state, Wait: stack.Wait(), Count: p.num(f[len(f)-2]), Total: p.dur(f[len(f)-1])})
			}
		case "latency":
			count, figures, _ := strings.Cut(rest, " ")
			total, figures, _ := strings.Cut(figures, " ")
			kv := p.pairs(figures)
			tr.Latency = evidence.Latency{Count: p.num(count), Total: p.dur(total), Max: kv.dur("max"), P50: kv.dur("p50"), P99: kv.dur("p99"), P999: kv.dur("p999")}
		case "gc", "stw":
			f := strings.SplitN(rest, " ", 3)
			if len(f) < 2 {
				return fmt.Errorf("%s FROM TO", word)
			}
			r := trace.Range{From: p.dur(f[0]), To: p.dur(f[1])}
			if len(f) > 2 {
				r.Text = f[2]
			}
			if word == "gc" {
				tr.GC = append(tr.GC, r)
			} else {
				tr.STW = append(tr.STW, r)
			}
		case "heap":
			at, size, _ := strings.Cut(rest, " ")
			tr.Heap = append(tr.Heap, trace.HeapPoint{Time: p.dur(at), Bytes: uint64(p.bytes(size))})
		case "sample":
			figures, stack := p.stack(rest)
			tr.Samples = append(tr.Samples, evidence.Samples{Stack: stack, Count: p.num(figures)})
		case "stop":
			figures, stack := p.stack(rest)
			f := strings.SplitN(figures, " ", 4)
			if len(f) < 4 {
				return fmt.Errorf("stop COUNT TOTAL MAX REASON | STACK")
			}
			tr.Stops = append(tr.Stops, evidence.Stop{Stack: stack, Count: p.num(f[0]), Total: p.dur(f[1]), Max: p.dur(f[2]), Reason: f[3]})
		case "yield":
			figures, stack := p.stack(rest)
			tr.Yields = append(tr.Yields, evidence.Samples{Stack: stack, Count: p.num(figures)})
		default:
			return fmt.Errorf("unknown word %q of a trace", word)
		}
		return nil
	}
}

// slowCall reads what a slow call did.
func (p *parser) slowCall(c *evidence.SlowCall, word, rest string) error {
	if word == "spent" {
		kv := p.pairs(rest)
		for s, word := range stateWords {
			c.Spent[s] = kv.dur(word)
		}
		return nil
	}
	parts := strings.Split(rest, "|")
	f := strings.Fields(parts[0])
	if len(parts) != 3 || len(f) != 5 {
		return fmt.Errorf("%s STATE COUNT TOTAL FROM TO | STACK | ENDER", word)
	}
	w := evidence.CallWait{Count: p.num(f[1]), Total: p.dur(f[2]), From: p.dur(f[3]), To: p.dur(f[4]), Stack: p.frameList(parts[1]), Ender: p.frameList(parts[2])}
	w.State = trace.State(slices.Index(stateWords[:], f[0]))
	if word == "callwait" {
		c.Waits = append(c.Waits, w)
		return nil
	}
	if len(c.Waits) == 0 {
		return fmt.Errorf("behind belongs under a callwait")
	}
	c.Waits[len(c.Waits)-1].Behind = &w
	return nil
}

func (p *parser) traceGroup(tr *evidence.Trace, rest string) {
	name, figures, _ := strings.Cut(rest, " ")
	kv := p.pairs(figures)
	g := trace.Group{ID: trace.GroupID(len(tr.Groups) + 1), Func: name, Goroutines: kv.num("n"), Born: kv.num("born"), Died: kv.num("died"), Starts: kv.num("starts"), MaxLatency: kv.dur("max")}
	for s, word := range stateWords {
		g.Times[s] = kv.dur(word)
		if r, ok := waitReasons[trace.State(s)]; ok {
			g.Waits[r] = g.Times[s]
		}
	}
	tr.Groups = append(tr.Groups, g)
}

func (p *parser) traceSite(tr *evidence.Trace, rest string) {
	figures, stack := p.stack(rest)
	var words, options []string
	for _, w := range strings.Fields(figures) {
		if strings.Contains(w, "=") {
			options = append(options, w)
		} else {
			words = append(words, w)
		}
	}
	if len(words) < 3 {
		p.fail(fmt.Errorf("site REASON COUNT TOTAL … | STACK"))
		return
	}
	reason, state := p.reason(strings.Join(words[:len(words)-2], " "))
	kv := p.pairs(strings.Join(options, " "))
	s := evidence.Site{
		Stack: stack, Start: kv["start"].text, Reason: reason, State: state, Wait: stack.Wait(),
		Count: p.num(words[len(words)-2]), Total: p.dur(words[len(words)-1]), Max: kv.dur("max"), Open: kv.num("open"), Whole: kv.num("whole"), Longest: trace.GoID(kv.num("g")), LongestFrom: kv.dur("from"), Visits: kv.num("visits"),
	}
	if l, ok := kv["lock"]; ok {
		s.Lock = p.lockKind(l.text)
	}
	tr.Sites = append(tr.Sites, s)
}

func (p *parser) holds(h *evidence.Holds, rest string) {
	kv := p.pairs(rest)
	*h = evidence.Holds{Count: kv.num("n"), Total: kv.dur("total"), Max: kv.dur("max"), Median: kv.dur("median"), Waiting: kv.num("waiting"), InsideTotal: kv.dur("inside")}
	for s, word := range stateWords {
		h.Times[s] = kv.dur(word)
	}
}

// stateWords are the states of a goroutine as a case has them.
var stateWords = [trace.NumStates]string{
	trace.StateRunning: "running", trace.StateAssist: "assist", trace.StateRunnable: "runnable", trace.StateSyscall: "syscall",
	trace.StateNetwork: "network", trace.StateSync: "sync", trace.StateChan: "chan", trace.StateGC: "gc", trace.StateSleep: "sleep",
	trace.StateIdle: "idle", trace.StateOther: "other",
}

// waitReasons are what a group's waits are counted under.
var waitReasons = map[trace.State]trace.Reason{
	trace.StateNetwork: trace.ReasonNetwork, trace.StateSync: trace.ReasonSync, trace.StateChan: trace.ReasonChanReceive, trace.StateSleep: trace.ReasonSleep,
}

// reason reads the runtime's word for a wait, or "syscall", "idle", "gc".
func (p *parser) reason(word string) (trace.Reason, trace.State) {
	switch word {
	case "syscall":
		return trace.ReasonUnspecified, trace.StateSyscall
	case "idle":
		return trace.ReasonUnspecified, trace.StateIdle
	case "network":
		return trace.ReasonNetwork, trace.StateNetwork
	case "sleep":
		return trace.ReasonSleep, trace.StateSleep
	case "sync":
		return trace.ReasonSync, trace.StateSync
	case "cond":
		return trace.ReasonCond, trace.StateSync
	case "chan send":
		return trace.ReasonChanSend, trace.StateChan
	case "chan receive":
		return trace.ReasonChanReceive, trace.StateChan
	case "select":
		return trace.ReasonSelect, trace.StateChan
	case "forever":
		return trace.ReasonForever, trace.StateChan
	case "gc":
		return trace.ReasonGCAssist, trace.StateGC
	}
	p.fail(fmt.Errorf("unknown wait %q", word))
	return 0, 0
}

func (p *parser) lockKind(word string) trace.LockKind {
	for k := trace.LockNone; k <= trace.LockRuntime; k++ {
		if k.String() == word {
			return k
		}
	}
	switch word {
	case "mutex":
		return trace.LockMutex
	case "write":
		return trace.LockWrite
	case "read":
		return trace.LockRead
	case "waitgroup":
		return trace.LockWaitGroup
	}
	p.fail(fmt.Errorf("unknown lock %q: mutex, write, read or waitgroup", word))
	return 0
}

type value struct {
	text string
	p    *parser
}

type pairs map[string]value

// pairs reads "a=1 b=2s".
func (p *parser) pairs(text string) pairs {
	out := pairs{}
	for _, w := range strings.Fields(text) {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			p.fail(fmt.Errorf("%q is no KEY=VALUE", w))
		}
		out[k] = value{v, p}
	}
	return out
}

func (kv pairs) num(key string) int64 {
	if v, ok := kv[key]; ok {
		return v.p.num(v.text)
	}
	return 0
}

func (kv pairs) dur(key string) time.Duration {
	if v, ok := kv[key]; ok {
		return v.p.dur(v.text)
	}
	return 0
}
