package memory

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/evidence"
)

// sampleRate is Go's default: one of so many bytes that are allocated is sampled.
const sampleRate = 512 << 10

// amount is how much of the heap something is, by estimate from samples.
type amount struct {
	objects, bytes int64
	variance       float64 // of bytes
	samples        float64 // that were really seen
}

// add counts a row of a profile. The profile holds estimates: of objects of s
// bytes each the sampler sees a share p = 1 − e^(−s/rate), and counts each that it
// sees for 1/p.
func (a *amount) add(objects, bytes int64) {
	a.objects += objects
	a.bytes += bytes
	if objects <= 0 || bytes <= 0 {
		return
	}
	size := float64(bytes) / float64(objects)
	p := -math.Expm1(-size / sampleRate)
	a.samples += float64(objects) * p
	a.variance += float64(objects) * size * size * (1 - p) / p
}

// heapSite is what is allocated at one line of the program, or of a library where
// no code of the program's own is in the stack.
type heapSite struct {
	frame         *evidence.Frame
	stack         evidence.Stack // that with the most bytes at the end
	before, after amount
	allocated     amount // within the window
	inMap         bool   // they are parts of maps
	// replaced is what was allocated within the window by the very stack that holds
	// the most: the same line may also serve what is gone at once.
	replaced int64
}

func (s *heapSite) growth() int64 { return s.after.bytes - s.before.bytes }

// deviation is the standard deviation of the growth. What was there before and
// still is was sampled once and adds none: the growth is what was made less what is
// gone, each of which is known by its samples where it is known what was made. At
// most both ends have nothing in common.
func (s *heapSite) deviation(known bool) float64 {
	apart := s.before.variance + s.after.variance
	if !known {
		return math.Sqrt(apart)
	}
	made := s.allocated.variance
	gone := max(0, made-(s.after.variance-s.before.variance))
	return math.Sqrt(min(apart, made+gone))
}

// kept is the share of what was allocated at the line within the window that is
// still there, 0 to 1. A large slice that is appended to is copied each time that
// it has grown by a quarter: by the time it has grown by n bytes, five times as much
// was allocated. Four times counts as all.
func (s *heapSite) kept() float64 {
	if s.allocated.bytes <= 0 {
		return 0
	}
	share := float64(s.growth()) / float64(s.allocated.bytes)
	if s.appended() {
		share *= 4
	}
	return min(1, max(0, share))
}

// appended reports whether few large slices are appended to at the line: there are
// not more of them than before, but they are larger.
func (s *heapSite) appended() bool {
	a, b := s.after, s.before
	return a.objects > 0 && b.objects > 0 && a.objects <= fewArrays && a.objects <= b.objects+1 &&
		a.bytes/a.objects >= sampleRate && float64(a.bytes)/float64(a.objects) >= 1.2*float64(b.bytes)/float64(b.objects)
}

// container reports whether a map or a slice grows at the line: that is where
// something is kept.
func (s *heapSite) container() bool { return s.inMap || s.appended() }

// fewArrays are as many as a program has large slices that it appends to.
const fewArrays = 100

// heapView is the heap by line at the window's ends.
type heapView struct {
	sites         []*heapSite // most bytes at the end first
	before, after amount
	compared      bool // there are both ends
	allocs        bool // what was allocated in between is known
}

// viewHeap sums up the heap profiles; nil if there is none.
func viewHeap(e *evidence.Evidence) *heapView {
	if e.Heap.Type("inuse_space") < 0 {
		return nil
	}
	v := &heapView{compared: e.HeapBefore.Type("inuse_space") >= 0, allocs: e.Allocs.Type("alloc_space") >= 0 && !e.Allocs.Whole}
	by := map[*evidence.Frame]*heapSite{}
	most := map[*heapSite]int64{}
	take := func(p *evidence.Profile, objects, bytes string, total *amount, of func(*heapSite) *amount) {
		o, b := p.Type(objects), p.Type(bytes)
		if o < 0 || b < 0 {
			return
		}
		for i := range p.Rows {
			r := &p.Rows[i]
			if r.Values[b] == 0 {
				continue
			}
			f := allocFrame(r.Stack)
			if f == nil {
				continue
			}
			s := by[f]
			if s == nil {
				s = &heapSite{frame: f}
				by[f] = s
				v.sites = append(v.sites, s)
			}
			if s.stack == nil || p == e.Heap && r.Values[b] > most[s] {
				most[s], s.stack = r.Values[b], r.Stack
			}
			if p == e.Allocs && slices.Equal(r.Stack, s.stack) {
				s.replaced += r.Values[b]
			}
			of(s).add(r.Values[o], r.Values[b])
			total.add(r.Values[o], r.Values[b])
		}
	}
	take(e.Heap, "inuse_objects", "inuse_space", &v.after, func(s *heapSite) *amount { return &s.after })
	take(e.HeapBefore, "inuse_objects", "inuse_space", &v.before, func(s *heapSite) *amount { return &s.before })
	var unused amount
	if v.allocs {
		take(e.Allocs, "alloc_objects", "alloc_space", &unused, func(s *heapSite) *amount { return &s.allocated })
	}
	slices.SortStableFunc(v.sites, func(a, b *heapSite) int { return cmp.Compare(b.after.bytes, a.after.bytes) })
	if e.Types != nil {
		for i := range e.Types.Types {
			for _, at := range e.Types.Types[i].Sites {
				if s := by[allocFrame(at.Stack)]; s != nil && strings.HasPrefix(e.Types.Types[i].Name, "map[") {
					s.inMap = true
				}
			}
		}
	}
	return v
}

// core is the part of a line's objects that its growth is about: where most of it is
// of one stack and one size, those alone. The line may also make what is gone at
// once, which would hide that nothing of these is. It is the line itself where no
// part of it stands out.
func (v *heapView) core(e *evidence.Evidence, s *heapSite) *heapSite {
	if !v.compared || !v.allocs || s.appended() {
		return s
	}
	type part struct {
		*heapSite
		size float64
	}
	parts := map[string][]part{} // by stack
	take := func(p *evidence.Profile, objects, bytes string, of func(*heapSite) *amount) {
		o, b := p.Type(objects), p.Type(bytes)
		if o < 0 || b < 0 {
			return
		}
		for i := range p.Rows {
			r := &p.Rows[i]
			if r.Values[b] == 0 || r.Values[o] == 0 || allocFrame(r.Stack) != s.frame {
				continue
			}
			var key strings.Builder
			for _, f := range r.Stack {
				fmt.Fprintf(&key, "%s:%d;", f.Function, f.Line)
			}
			// The number of large objects is rounded, and so is what each is in size.
			size := float64(r.Values[b]) / float64(r.Values[o])
			same := parts[key.String()]
			at := slices.IndexFunc(same, func(x part) bool { return max(x.size, size) < 1.2*min(x.size, size) })
			if at < 0 {
				at = len(same)
				same = append(same, part{&heapSite{frame: s.frame, stack: r.Stack, inMap: s.inMap}, size})
				parts[key.String()] = same
			}
			of(same[at].heapSite).add(r.Values[o], r.Values[b])
		}
	}
	take(e.Heap, "inuse_objects", "inuse_space", func(x *heapSite) *amount { return &x.after })
	take(e.HeapBefore, "inuse_objects", "inuse_space", func(x *heapSite) *amount { return &x.before })
	take(e.Allocs, "alloc_objects", "alloc_space", func(x *heapSite) *amount { return &x.allocated })
	for _, same := range parts {
		for _, x := range same {
			if float64(x.growth()) >= mostOfGrowth*float64(s.growth()) && x.allocated.bytes > 0 {
				return x.heapSite // no other can have as much
			}
		}
	}
	return s
}

// mostOfGrowth is the share of a line's growth that one part of its objects has to
// have to be spoken of alone.
const mostOfGrowth = 0.6

// allocators are the runtime's own parts of an allocation.
var allocators = evidence.Named("runtime.mallocgc", "runtime.newobject", "runtime.makeslice", "runtime.growslice", "runtime.makechan", "runtime.makemap",
	"runtime.mapassign", "internal/runtime/maps.", "runtime.rawbyteslice", "runtime.rawstring", "runtime.concatstring", "runtime.slicebytetostring",
	"runtime.stringtoslice", "runtime.convT", "runtime.systemstack", "runtime.malg", "runtime.newproc1")

// allocFrame is the line that allocates: the innermost one of the program's own
// code; without any, of a library; what only the runtime has is its own.
func allocFrame(s evidence.Stack) *evidence.Frame {
	f := s.User()
	if f == nil || f.Origin != evidence.RuntimeCode {
		return f
	}
	if i := s.Index(func(f *evidence.Frame) bool { return !allocators(f) }); i >= 0 {
		return s[i]
	}
	return s[len(s)-1]
}

// typeAt is the type of which most bytes that are allocated at the line are; nil
// if types are not known.
func typeAt(e *evidence.Evidence, f *evidence.Frame) *evidence.HeapType {
	if e.Types == nil {
		return nil
	}
	var best *evidence.HeapType
	var most int64
	for i := range e.Types.Types {
		t := &e.Types.Types[i]
		var here int64
		for _, s := range t.Sites {
			if allocFrame(s.Stack) == f {
				here += s.Bytes
			}
		}
		if here > most {
			best, most = t, here
		}
	}
	return best
}

// typeName is how a type is spoken of: "main.session", "[]ws.Client" of
// "[]github.com/org/game/ws.Client".
func typeName(t *evidence.HeapType) string {
	name := importPaths.ReplaceAllString(t.Name, "")
	if t.Form == "slice" && !strings.HasPrefix(name, "[]") {
		return "[]" + name
	}
	return name
}

var importPaths = regexp.MustCompile(`(?:[\w.~-]+/)+`)

// memoryLimit is the tightest limit that is known, and how much of it is in use;
// 0 = none is known.
func memoryLimit(e *evidence.Evidence) (limit, used int64) {
	p := e.Instance.Process
	limit, goLimit := p.MemoryLimitBytes, p.GoMemoryLimitBytes
	if r := e.Runtime; r != nil {
		limit, goLimit = cmp.Or(r.Cgroup.MemoryLimitBytes, limit), cmp.Or(r.Process.GoMemoryLimitBytes, goLimit)
	}
	if v, ok := e.Runtime.Last("ops/rss:bytes"); ok {
		used = int64(v)
	} else if v, ok := e.Runtime.Last("/memory/classes/total:bytes"); ok {
		used = int64(v)
	}
	if goLimit > 0 && goLimit < 1<<60 && (limit <= 0 || goLimit < limit) {
		limit = goLimit
	}
	return max(0, limit), used
}
