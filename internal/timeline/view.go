package timeline

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// View is the timeline of one trace. It may be asked at the same time.
type View struct {
	trace     *trace.Trace // closed: its stacks and names alone are left
	analysis  *trace.Analysis
	file      *file
	sizeBytes int64
	groups    map[string]trace.GroupID

	mu     sync.Mutex // guards what follows
	frames *evidence.Frames
	stacks map[trace.StackID]Stack
}

func newView(tr *trace.Trace, a *trace.Analysis, f *file) *View {
	v := &View{trace: tr, analysis: a, file: f, groups: map[string]trace.GroupID{}, frames: evidence.NewFrames(""), stacks: map[trace.StackID]Stack{}}
	_, v.sizeBytes = a.Timeline.Kept()
	for _, g := range a.Groups {
		if _, ok := v.groups[g.Func]; !ok {
			v.groups[g.Func] = g.ID
		}
	}
	return v
}

// Frame is one call.
type Frame struct {
	Function, File string
	Line           int
	Own            bool // the program's own code
}

// Stack is calls, innermost first.
type Stack []Frame

// stack resolves a stack of the trace.
func (v *View) stack(id trace.StackID) Stack {
	if id == 0 {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.stacks[id]
	if !ok {
		for _, f := range v.trace.Stack(id) {
			fr := v.frames.Of(f.Func, f.File, f.Line)
			s = append(s, Frame{f.Func, f.File, f.Line, fr.Origin == evidence.OwnCode})
		}
		v.stacks[id] = s
	}
	return s
}

// group finds a group by the function that its goroutines began with.
func (v *View) group(function string) (trace.GroupID, error) {
	id, ok := v.groups[function]
	if !ok {
		return 0, ops.Errorf(ops.NotFound, "no goroutine of this trace began with %q: choose a group of its overview", function)
	}
	return id, nil
}

func (v *View) groupName(id trace.GoID) string {
	g, ok := v.analysis.Timeline.GroupOf(id)
	if !ok {
		return ""
	}
	return v.trace.GroupName(g)
}

// Track is a row: one of a P, a group and a goroutine.
type Track struct {
	Kind trace.TrackKind
	// Group is the function of a group, ID the number of a P or a goroutine.
	Group string
	ID    int64
}

// id turns a track into the trace's words; unknown groups are NotFound.
func (v *View) id(t Track) (trace.TrackID, error) {
	if t.Kind != trace.TrackGroup {
		return trace.TrackID{Kind: t.Kind, ID: t.ID}, nil
	}
	g, err := v.group(t.Group)
	return trace.TrackID{Kind: trace.TrackGroup, ID: int64(g)}, err
}

// Overview describes a whole trace.
type Overview struct {
	Duration    time.Duration
	Procs       int // GOMAXPROCS; 0 = never said
	Groups      []trace.Group
	Ps          []trace.Track
	GC, STW     []trace.Range
	Generations []time.Duration // where they begin
	Sites       []Site
	Loss        *ops.Loss
	Events, Intervals,
	Goroutines int64
	P50, P99, Max time.Duration // of waits for a P
}

// Site is a place where goroutines waited or made syscalls.
type Site struct {
	Stack      Stack
	Group      string
	State      trace.State
	Reason     trace.Reason
	Count      int64
	Total, Max time.Duration
	// Longest is whose Max was, which began at From; NoGoroutine = not known.
	Longest trace.GoID
	From    time.Duration
}

// overviewSites is how many places an overview names: people read ten.
const overviewSites = 50

// Overview describes the trace.
func (v *View) Overview() Overview {
	a := v.analysis
	o := Overview{
		Duration: a.Duration, Procs: a.Procs, Groups: a.Groups, GC: a.GC, STW: a.STW, Loss: a.Loss, Events: a.Events, Goroutines: a.Seen,
		P50: a.Latency.Quantile(0.5), P99: a.Latency.Quantile(0.99), Max: a.Latency.Max,
	}
	o.Intervals, _ = a.Timeline.Kept()
	for _, t := range a.Timeline.Tracks() {
		if t.Kind == trace.TrackProc {
			o.Ps = append(o.Ps, t)
		}
	}
	for _, g := range v.trace.Index().Generations {
		o.Generations = append(o.Generations, g.Start)
	}
	for i := range a.Sites {
		if s := &a.Sites[i]; len(o.Sites) < overviewSites && means(s.State) && !atRest(v.stack(s.Stack)) {
			o.Sites = append(o.Sites, v.site(s))
		}
	}
	return o
}

// means reports whether being in a state says anything: an idle connection, a timer
// and the runtime's own waits do not.
func means(s trace.State) bool {
	return s != trace.StateIdle && s != trace.StateSleep && s != trace.StateOther
}

func (v *View) site(s *trace.Site) Site {
	return Site{
		Stack: v.stack(s.Stack), Group: v.trace.GroupName(s.Group), State: s.State, Reason: s.Reason, Count: s.Count, Total: s.Total, Max: s.Max,
		Longest: s.Longest, From: s.LongestFrom,
	}
}

// Hits are what a search found, best first.
type Hits struct {
	Goroutines      []trace.Goroutine
	GoroutineGroups []string
	Groups          []string
	Sites           []Site
}

// matches reports whether a function's name has the text in it, whatever the case.
func matches(name, lower string) bool { return strings.Contains(strings.ToLower(name), lower) }

// searchGroups finds groups and sites by a part of a function's name.
func (v *View) searchGroups(lower string, most int) (h Hits) {
	for _, g := range v.analysis.Groups {
		if matches(g.Func, lower) && len(h.Groups) < most {
			h.Groups = append(h.Groups, g.Func)
		}
	}
	for i := range v.analysis.Sites {
		s := &v.analysis.Sites[i]
		if len(h.Sites) == most {
			break
		}
		if slices.ContainsFunc(v.stack(s.Stack), func(f Frame) bool { return matches(f.Function, lower) }) {
			h.Sites = append(h.Sites, v.site(s))
		}
	}
	// What means something comes before what does not.
	slices.SortStableFunc(h.Sites, func(a, b Site) int { return cmp.Compare(rank(a.State), rank(b.State)) })
	return h
}

func rank(s trace.State) int {
	if means(s) {
		return 0
	}
	return 1
}
