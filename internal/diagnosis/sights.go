package diagnosis

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// sights tells of each figure that was read from a profile or a snapshot by which
// places one finds it in there, and how it is part of the whole file: rules leave out
// what the observer itself does, those who open the file see it.
func sights(d *ops.Diagnosis, e *evidence.Evidence) {
	for i := range d.Findings {
		f := &d.Findings[i]
		for _, proofs := range [][]ops.Proof{f.Evidence, f.CounterEvidence} {
			for j := range proofs {
				proofs[j].At = nil
				see(&proofs[j], f.Where, e)
			}
		}
	}
}

// see finds the figure in the file that it was read from. Of several that it may have
// been read from, that one counts in which it is found.
func see(p *ops.Proof, where []ops.Place, e *evidence.Evidence) {
	var other []ops.Place
	for _, s := range filesOf(p, e) {
		target := s.target(p)
		if at, ok := s.find(target, where); ok {
			p.At = at
			s.tell(p)
			return
		}
		s.tell(p)
		if other == nil && !ofAll(p) {
			other = s.first(where)
		}
	}
	p.At = other
}

// ofAll reports whether a figure is of the whole process unless it is found at a place.
func ofAll(p *ops.Proof) bool {
	return p.Unit == "" || p.Unit == "cores" || p.Share > 0 && (p.Unit == "share" || p.Unit == "ratio")
}

// file is one sort of value of a file, as rules have it.
type file struct {
	rows     []weighed
	own      float64 // without the observer's
	observer float64
	unit     string // of the values
	lines    bool   // whether those who look at it can tell a function's lines apart
}

type weighed struct {
	stack evidence.Stack
	value float64
}

func filesOf(p *ops.Proof, e *evidence.Evidence) (out []file) {
	switch p.Artifact {
	case ops.KindGoroutine:
		return ofSnapshots(e.Goroutines, e.GoroutinesBefore)
	case ops.KindGoroutineDump:
		return ofSnapshots(e.Dump)
	}
	for _, x := range []*evidence.Profile{e.CPU, e.Block, e.Mutex, e.Allocs, e.Heap} {
		if x == nil || x.Kind != p.Artifact {
			continue
		}
		// What is shown unless one asks for another comes first.
		for _, name := range []string{"cpu", "delay", "inuse_space", "alloc_space", "contentions", "inuse_objects", "alloc_objects"} {
			t := x.Type(name)
			if t < 0 || x.Kind == ops.KindAllocs && name[0] == 'i' || x.Kind == ops.KindHeap && name[0] == 'a' {
				continue
			}
			f := file{own: float64(x.Total(t)), unit: x.Types[t].Unit}
			if t < len(x.Observer) {
				f.observer = float64(x.Observer[t])
			}
			for k := range x.Rows {
				if v := x.Rows[k].Values[t]; v != 0 {
					f.rows = append(f.rows, weighed{x.Rows[k].Stack, float64(v)})
				}
			}
			out = append(out, f)
		}
	}
	return out
}

func ofSnapshots(all ...*evidence.Goroutines) (out []file) {
	for _, g := range all {
		if g == nil {
			continue
		}
		f := file{own: float64(g.Total), unit: "count", lines: true}
		if g.Source != nil {
			f.observer = float64(g.Source.Total - g.Total)
		}
		for k := range g.Groups {
			stack := g.Groups[k].Stack
			if by := g.Groups[k].CreatedBy; by != nil {
				stack = append(slices.Clip(stack), by)
			}
			f.rows = append(f.rows, weighed{stack, float64(g.Groups[k].Count)})
		}
		out = append(out, f)
	}
	return out
}

// target is the proof's figure in the unit of the file's values; 0 = it is none of them.
func (f *file) target(p *ops.Proof) float64 {
	switch {
	case ofAll(p):
		return p.Share * f.own
	case f.unit == "nanoseconds" && p.Unit == "s":
		return p.Value * 1e9
	case p.Unit == "share" || p.Unit == "ratio":
		return 0
	case f.unit == "bytes" && (p.Unit == "B" || p.Unit == "bytes"), f.unit == "count" && p.Unit != "s" && p.Unit != "B" && p.Unit != "bytes":
		return p.Value
	}
	return 0
}

// same allows for what the three digits of a sentence do not show.
func same(a, b float64) bool { return math.Abs(a-b) <= 5e-4*math.Abs(b) }

// placesAtMost bounds the sets of places that are tried: 2⁶ of them.
const placesAtMost = 6

// amount writes a value of the file.
func (f *file) amount(v float64) string {
	if f.unit == "bytes" {
		return rule.Bytes(int64(v))
	}
	return rule.Dur(time.Duration(v))
}

// find returns the places through which just as much goes: one of the finding's, or
// any function that lies on the way from there, or several of the finding's.
func (f *file) find(target float64, where []ops.Place) ([]ops.Place, bool) {
	if target <= 0 {
		return nil, false
	}
	if same(target, f.own) {
		return nil, true
	}
	places := f.places(where)
	through := make([]float64, 1<<len(places)) // by the set of places that a stack has
	for _, r := range f.rows {
		set := 0
		for k, p := range places {
			if r.stack.Index(at(p)) >= 0 {
				set |= 1 << k
			}
		}
		through[set] += r.value
	}
	sum := func(want int) (v float64) {
		for set, x := range through {
			if set&want != 0 {
				v += x
			}
		}
		return v
	}
	for k, p := range places {
		if same(sum(1<<k), target) {
			return []ops.Place{p}, true
		}
	}
	if p, ok := f.below(target, places); ok {
		return []ops.Place{p}, true
	}
	for n := 2; n <= len(places); n++ {
		for want := range through {
			if bits.OnesCount(uint(want)) == n && same(sum(want), target) {
				var out []ops.Place
				for k, p := range places {
					if want&(1<<k) != 0 {
						out = append(out, p)
					}
				}
				return out, true
			}
		}
	}
	return nil, false
}

// places are those by which one can look into the file: functions, and their lines
// where they are told apart, which come first.
func (f *file) places(where []ops.Place) (out []ops.Place) {
	for _, p := range where {
		if f.lines && p.Line > 0 {
			out = append(out, ops.Place{Function: p.Function, File: p.File, Line: p.Line})
		}
	}
	for _, p := range where {
		if q := (ops.Place{Function: p.Function}); p.Function != "" && !slices.Contains(out, q) {
			out = append(out, q)
		}
	}
	return out[:min(len(out), placesAtMost)]
}

func at(p ops.Place) func(*evidence.Frame) bool {
	return func(f *evidence.Frame) bool {
		return f.Function == p.Function && (p.Line == 0 || f.Line == p.Line && (p.File == "" || f.Told() == p.File))
	}
}

// below returns the function nearest to a place, among those that were called from
// one, through which just as much goes in the whole file: two waits may begin at one
// line of the program, and part only in the library.
func (f *file) below(target float64, places []ops.Place) (ops.Place, bool) {
	total := map[string]float64{}
	depth := map[string]int{} // below the place, in calls
	for _, r := range f.rows {
		from := -1
		for _, p := range places {
			from = max(from, r.stack.Index(at(p)))
		}
		seen := map[string]bool{}
		for k, fr := range r.stack {
			if !seen[fr.Function] {
				seen[fr.Function] = true
				total[fr.Function] += r.value
			}
			if d, ok := depth[fr.Function]; k < from && (!ok || from-k < d) {
				depth[fr.Function] = from - k
			}
		}
	}
	best := ""
	for name, d := range depth {
		if same(total[name], target) && (best == "" || d < depth[best] || d == depth[best] && name < best) {
			best = name
		}
	}
	return ops.Place{Function: best}, best != ""
}

// first is the first of the places that is in the file at all.
func (f *file) first(where []ops.Place) []ops.Place {
	for _, p := range f.places(where) {
		if slices.ContainsFunc(f.rows, func(r weighed) bool { return r.stack.Index(at(p)) >= 0 }) {
			return []ops.Place{p}
		}
	}
	return nil
}

// tell makes a share of what the rules look at one of the whole file, and says so.
func (f *file) tell(p *ops.Proof) {
	whole := f.own + f.observer
	if f.observer <= 0 || p.Share <= 0 || ofAll(p) || !same(f.target(p), p.Share*f.own) {
		return
	}
	own := p.Share
	p.Share = f.target(p) / whole
	if f.unit == "count" {
		p.Text = rule.Say("%[1]s; the file has %[2]s more, the observer's own", "%[1]s；檔案裡另有 %[2]s 個屬於觀測本身", p.Text, rule.Count(int64(f.observer)))
		return
	}
	if rule.Pct(own) != rule.Pct(p.Share) {
		p.Text = rule.Say("%[1]s; of the whole file, in which %[2]s are the observer's own, it is %[3]s", "%[1]s；檔案裡另有 %[2]s 屬於觀測本身，連同計算則占 %[3]s", p.Text, f.amount(f.observer), rule.Pct(p.Share))
	}
}
