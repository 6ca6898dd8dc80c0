package cpu

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// hotPath finds the one place, or the one kind of work, that takes most of the
// CPU: what would have to change for the process to need less.
//
// Evidence: the CPU profile by the innermost function of the program's own
// (closures count with the function that they are written in, a comparison with
// whoever sorts), the kind of work that it has done there, how much of what the
// process can get is in use, and whether anybody waits for it.
//
// A busy process is no fault. The score is of the share of the limit that the
// place takes: 75 where it is 60 %, a warning from 30 % on, so that eight kinds
// of useful work of a tenth each, at 80 % use, are none. For what is done anew with
// the same result, such as parsing a template, 75 is where it is 40 %. It stays below critical
// as long as nobody waits for processors, or the machine gives the process less
// than 60 % of its limit, in which case a neighbour is part of the trouble; and
// it is a notice where nobody waits and the work is of a kind that can be the
// very purpose of a program, such as arithmetic, encryption or compression: a
// batch job that keeps a core busy is as it should be. Nor does anybody wait for it
// where the processors are free for more than half of a trace. Where the time is a
// library's on goroutines of its own, with no line of the program to change, only
// processors that are really taken count: a broker or a store that is mostly its
// library looks like that in good health beside a neighbour.
//
// Not to be confused with password hashing, which has a rule of its own, nor with
// the collector's own work (cpu-gc-pressure).
var hotPath = rule.Rule{
	ID: "cpu-hot-path", Scenario: 1,
	Name:  rule.Say("one path takes most of the CPU", "單一路徑佔用大部分 CPU"),
	Judge: judgeHotPath,
}

const (
	// hotX75 is the share of the limit at which the score is 75.
	hotX75 = 0.6
	// onceX75 is that share for work that need not be done at all: a warning from a
	// fifth on.
	onceX75 = 0.4
	// littleElse is the share of the CPU time from which on a program does little
	// else: more than all the rest together, with a margin for the load of the day.
	littleElse = 0.6
	// leastCPU is how much CPU time a profile must have for its shares to mean
	// something: 50 samples, whose largest shares are known to ± 7 %.
	leastCPU = 500 * time.Millisecond
)

// spot is CPU time that one function of the program is answerable for.
type spot struct {
	frame *evidence.Frame // its line with the largest part
	value int64
	own   bool // frame is the program's own
	lines map[*evidence.Frame]int64
	// classes are the kinds of work, callers who called it from elsewhere in the
	// program.
	classes map[*class]int64
	callers map[*evidence.Frame]int64
	// functions is how many of them do the work, if it is a kind of work that many
	// do; 0 = one.
	functions int
	// steps are small functions that this one calls for each element.
	steps map[*evidence.Frame]int64
	// iterates is what went into walking maps.
	iterates int64
	// beside is what is left to other rules of what it calls: timers, starting
	// goroutines, waking and scheduling them.
	beside int64
}

// class is the kind of work that most of the spot's time went into.
func (sp *spot) class() *class {
	best := &own
	for c, v := range sp.classes {
		if v > sp.classes[best] || v == sp.classes[best] && c.id < best.id {
			best = c
		}
	}
	// The loop over a map is compiled into the function that has it, so that only a
	// part of its cost bears its name; what remains is mostly the memory that it
	// touches.
	if best == &own && float64(sp.iterates) >= 0.05*float64(sp.value) {
		return named("map-iteration")
	}
	return best
}

func named(id string) *class {
	return &classes[slices.IndexFunc(classes, func(c class) bool { return c.id == id })]
}

// place finds who is answerable for a sample: the innermost frame of the
// program's own, by way of whom it is called if it is merely a callback. at is
// −1 if it has nothing to do with the program, nor with work that has a name.
func place(s evidence.Stack) (at int, isOwn bool) {
	isOwnCode := func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode && !generated(f) && !assembly(f) }
	at = s.Index(isOwnCode)
	if at < 0 {
		return unowned(s), false
	}
	// A comparison belongs to who sorts, a closure to the function it is part of.
	for {
		up := s[at+1:].Index(isOwnCode)
		if up < 0 {
			return at, true
		}
		up += at + 1
		if sorter := comparing(s, at); sorter >= 0 {
			at = sorter
			continue
		}
		sorting := up > at+1 && s[at+1:up].Has("sort.", "slices.", "container/heap.")
		if !sorting && outer(s[at].Function) != outer(s[up].Function) || outer(s[at].Function) == s[at].Function && !sorting {
			return at, true
		}
		at = up
	}
}

// comparing is who sorts if frame at is part of a comparison that is made of several of
// the program's functions and computes by itself; −1 if it is not. One that has work of
// another kind done is to be changed itself.
func comparing(s evidence.Stack, at int) int {
	if classOf(s, at) != &own {
		return -1
	}
	sorts := at + 1
	for sorts < len(s) && s[sorts].Origin == evidence.OwnCode {
		sorts++
	}
	if sorts == len(s) || sorts == at+1 || !s[sorts:sorts+1].Has("sort.", "slices.", "container/heap.") {
		return -1
	}
	if up := s[sorts:].Index(func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode && !generated(f) }); up >= 0 {
		return sorts + up
	}
	return -1
}

// assembly tells the compiler's helpers, such as gcWriteBarrier: they belong to
// no package, and so to nobody where the program's module is not known.
func assembly(f *evidence.Frame) bool { return !strings.Contains(f.Function, ".") }

// unowned finds the frame that stands for a sample without the program's own
// code: where a library's goroutine, or named work of the standard library,
// begins.
func unowned(s evidence.Stack) int {
	if at := s.Outermost(func(f *evidence.Frame) bool {
		return f.Origin == evidence.StdCode && hasPrefix(f.Plain(), named("tls").names)
	}); at >= 0 {
		return at
	}
	return s.Outermost(func(f *evidence.Frame) bool {
		return f.Origin == evidence.LibraryCode && !hasPrefix(f.Plain(), serverRoots)
	})
}

// Enclosing is the function that a closure is written in, and any other itself.
func Enclosing(function string) string { return outer(function) }

// outer is the function that a closure is written in: "main.(*Hub).run" of
// "main.(*Hub).run.func2.1". Go names one whose function was inlined elsewhere
// "main.main.func1.(*Hub).run.1", which stays apart.
func outer(function string) string {
	for {
		dot := strings.LastIndexAny(function, ".-")
		if dot < 0 || !closurePart(function[dot+1:]) {
			return function
		}
		function = function[:dot]
	}
}

// closurePart reports whether it is what Go adds to a function's name for a
// closure, a method value, a go or defer statement, or the body of a range.
func closurePart(s string) bool {
	for _, p := range []string{"func", "gowrap", "deferwrap", "range"} {
		s = strings.TrimPrefix(s, p)
	}
	return s == "fm" || s != "" && strings.Trim(s, "0123456789") == ""
}

func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// spots sums the CPU time by who is answerable, most first. Password hashing,
// timers and the making of goroutines are left to their own rules.
func spots(e *evidence.Evidence, typ int) []*spot {
	by, p := map[string]*spot{}, e.CPU
	for i := range p.Rows {
		s, v := p.Rows[i].Stack, p.Rows[i].Values[typ]
		if v <= 0 {
			continue
		}
		if at, _ := hashOf(s); at >= 0 {
			continue
		}
		at, isOwn := place(s)
		if at < 0 {
			continue
		}
		key := s[at].Function
		if isOwn {
			key = outer(key)
		}
		sp := by[key]
		if sp == nil {
			sp = newSpot(isOwn)
			by[key] = sp
		}
		if p := partOf(s); p == partTimer || p == partSpawn || p == partSched {
			sp.beside += v
			continue
		}
		sp.add(s, at, v)
	}
	addYields(e, typ, by)
	out := make([]*spot, 0, len(by))
	for _, sp := range by {
		if sp.value == 0 {
			continue
		}
		sp.frame = most(sp.lines)
		out = append(out, sp)
	}
	slices.SortFunc(out, func(a, b *spot) int {
		return cmp.Or(cmp.Compare(b.value, a.value), cmp.Compare(a.frame.Function, b.frame.Function))
	})
	return out
}

// intoLoops gives what a small function computes to the function that calls it in a
// loop: a comparison or a test of one element is as it must be, and it is the walk
// over all elements that would have to change. It is a loop if next to all calls come
// from one function, and that function's own part is a tenth of them or more: what
// calls something that is slow by itself hardly shows beside it.
func intoLoops(all []*spot) []*spot {
	by := map[string]*spot{}
	for _, sp := range all {
		by[outer(sp.frame.Function)] = sp
	}
	gone := map[*spot]bool{}
	for _, sp := range all {
		if !sp.own || sp.class() != &own {
			continue
		}
		call := most(sp.callers)
		if call == nil {
			continue
		}
		loop, from := by[outer(call.Function)], int64(0)
		for f, v := range sp.callers {
			if outer(f.Function) == outer(call.Function) {
				from += v
			}
		}
		if loop == nil || loop == sp || !loop.own || gone[loop] || from*10 < sp.value*9 || loop.value*10 < sp.value || loop.value > 2*sp.value {
			continue
		}
		gone[sp] = true
		loop.value += sp.value
		if loop.steps == nil {
			loop.steps = map[*evidence.Frame]int64{}
		}
		loop.steps[sp.frame] += sp.value
		loop.beside += sp.beside
		loop.iterates += sp.iterates
		for f, v := range sp.callers {
			loop.lines[f] += v
		}
		for c, v := range sp.classes {
			loop.classes[c] += v
		}
		loop.frame = most(loop.lines)
	}
	all = slices.DeleteFunc(all, func(sp *spot) bool { return gone[sp] })
	slices.SortStableFunc(all, func(a, b *spot) int { return cmp.Compare(b.value, a.value) })
	return all
}

func newSpot(isOwn bool) *spot {
	return &spot{own: isOwn, lines: map[*evidence.Frame]int64{}, classes: map[*class]int64{}, callers: map[*evidence.Frame]int64{}}
}

func (sp *spot) add(s evidence.Stack, at int, v int64) {
	// The frame itself is of the kind where it is not the program's own.
	from := at
	if !sp.own {
		from++
	}
	sp.charge(s, at, v, classOf(s, from))
	if s[:at].Has(named("map-iteration").names...) {
		sp.iterates += v
	}
}

// charge adds time that went into one kind of work at frame at of the stack.
func (sp *spot) charge(s evidence.Stack, at int, v int64, c *class) {
	sp.value += v
	sp.lines[s[at]] += v
	sp.classes[c] += v
	if !sp.own {
		return
	}
	for _, f := range s[at+1:] {
		if f.Origin == evidence.OwnCode && outer(f.Function) != outer(s[at].Function) {
			sp.callers[f] += v
			return
		}
	}
}

// most returns the frame with the largest part; by its line among equals.
func most(parts map[*evidence.Frame]int64) (best *evidence.Frame) {
	for f, v := range parts {
		if best == nil || v > parts[best] || v == parts[best] && (f.Function < best.Function || f.Function == best.Function && f.Line < best.Line) {
			best = f
		}
	}
	return best
}

func judgeHotPath(e *evidence.Evidence) rule.Result {
	typ := e.CPU.Type("cpu")
	if typ < 0 {
		return rule.Needs(e, ops.KindCPU)
	}
	l := loadOf(e)
	all := intoLoops(spots(e, typ))
	if len(all) == 0 || l.Total < leastCPU {
		return rule.OK(rule.Say("the process used %s of CPU time in this window: too little for any path to matter", "此行程在這段時間只用了 %s 的 CPU：沒有哪條路徑值得在意", rule.Dur(l.Total)))
	}
	var found []ops.Finding
	for _, sp := range dominating(all, l) {
		found = append(found, hotFinding(e, l, sp))
	}
	top := all[0]
	return rule.Found(rule.Say("the largest part is `%[1]s` with %[2]s of the CPU time, while %[3]s", "佔比最大的是 `%[1]s`，佔 CPU 時間 %[2]s；%[3]s",
		rule.Short(top.frame), rule.Pct(float64(top.value)/float64(l.Total)), inUse(l)), found...)
}

// dominating picks the spots to report: each that is worth a notice by itself, at
// most three; or one kind of work that many functions have done, if it is much
// more than any one of them.
func dominating(all []*spot, l load) (out []*spot) {
	if c := spread(all, l); c != nil {
		return []*spot{c}
	}
	for _, sp := range all[:min(3, len(all))] {
		// A tenth of the profile is never the one path.
		if float64(sp.value) >= 0.2*float64(l.Total) {
			out = append(out, sp)
		}
	}
	return out
}

// spread joins the spots that have the same kind of work done, if that is at
// least half of all and half as much again as the largest of them.
func spread(all []*spot, l load) *spot {
	sums := map[*class]*spot{}
	for _, sp := range all {
		c := sp.class()
		if !sp.own || c == &own || c == &library || c.id == "system-calls" {
			continue
		}
		sum := sums[c]
		if sum == nil {
			sum = newSpot(true)
			sum.frame, sum.classes[c] = sp.frame, 1
			sums[c] = sum
		}
		sum.functions++
		sum.value += sp.classes[c]
		sum.lines[sp.frame] += sp.classes[c]
		if sp.frame != sum.frame {
			sum.callers[sp.frame] += sp.classes[c]
		}
	}
	for _, sum := range sums {
		if 2*float64(sum.value) >= float64(l.Total) && float64(sum.value) >= 1.5*float64(sum.lines[sum.frame]) {
			return sum
		}
	}
	return nil
}

// hotScore is how bad it is that one place takes that share of the CPU time.
func hotScore(l load, share float64, c *class) int {
	x75 := hotX75
	if c.once {
		x75 = onceX75
	}
	score := ops.Score(share*l.Use(), x75)
	switch {
	case (!l.Others() || l.free()) && !c.waste && !(c.again && share >= littleElse):
		return min(score, 49)
	case !l.Others(), l.ofLimit() < hotX75 && l.Throttled < 0.25:
		return min(score, 74)
	}
	return score
}
