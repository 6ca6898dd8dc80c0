// Package evidence joins the artifacts of one instance's window into one model
// that rules can ask: every stack of every profile, dump and trace is made of
// the same frames, each of which knows whose code it is. It says what is
// missing, and never why something is wrong: that is for the rules. It reads
// what it is handed and opens nothing itself.
package evidence

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/trace"
)

// Evidence is what is known of one instance in one window. Whatever is nil is
// not there, and Losses say why where that is known.
type Evidence struct {
	// Instance as far as the artifacts say who it is.
	Instance ops.Instance
	Start    time.Time // zero = unknown
	Window   time.Duration
	Frames   *Frames

	CPU *Profile
	// Heap and HeapBefore are what was in use at the window's ends.
	Heap, HeapBefore *Profile
	// Allocs, Block and Mutex are those of the window, unless Whole is set.
	Allocs, Block, Mutex *Profile
	// Leaks is Go's own goroutine leak profile, where the build has it.
	Leaks *Profile

	// Goroutines and GoroutinesBefore are taken at the window's ends in one
	// format; Dump is of its start and has states, ages and creation sites.
	Goroutines, GoroutinesBefore, Dump *Goroutines

	Trace   *Trace
	Runtime *Runtime
	// RuntimeBefore is the head that a process which died leaves behind.
	RuntimeBefore *Runtime
	// Types are the types of what the heap holds; nil = not known.
	Types *HeapTypes
	// Trigger is the call because of which a rule took the capture; nil = none.
	Trigger *ops.Call

	Losses []ops.Loss
}

// Profile is a pprof profile, stack by stack.
type Profile struct {
	Kind ops.Kind
	// Whole is set if it counts since the process began, as the plain block,
	// mutex and allocs endpoints do: it may be about last week.
	Whole    bool
	Duration time.Duration // 0 = a moment, or unknown
	Types    []profile.ValueType
	// Rows without those of the profilers, tracer and agent themselves, which
	// Observer sums up by type.
	Rows     []Row
	Observer []int64
	// Source is what it was read from; nil in tests that write stacks by hand.
	Source *profile.Profile
}

// Row is one stack of a profile and its values by type.
type Row struct {
	Stack  Stack
	Values []int64
	// Address is that of the leaf location, which is how heap types are joined;
	// 0 = unknown.
	Address uint64
	Labels  map[string]string // nil = none
}

// Type returns which of Types has that name ("cpu", "inuse_space", "delay"); -1
// if none.
func (p *Profile) Type(name string) int {
	if p != nil {
		for i, t := range p.Types {
			if t.Type == name {
				return i
			}
		}
	}
	return -1
}

// Total is the sum of one type over all rows. 0 of a nil profile, and of type −1.
func (p *Profile) Total(typ int) int64 {
	return p.Sum(typ, func(Stack) bool { return true })
}

// Sum is the sum of one type over the rows whose stack is taken. 0 of a nil
// profile, and of type −1.
func (p *Profile) Sum(typ int, take func(Stack) bool) (sum int64) {
	if p == nil || typ < 0 {
		return 0
	}
	for i := range p.Rows {
		if v := p.Rows[i].Values[typ]; v != 0 && take(p.Rows[i].Stack) {
			sum += v
		}
	}
	return sum
}

// Portion is what one frame is worth.
type Portion struct {
	Frame *Frame
	Value int64
	// Rows that make it up, largest first.
	Rows []*Row
}

// By sums one type by the frame that key picks from each stack, largest first;
// rows for which it picks none are left out. Nothing of a nil profile, and of
// type −1.
func (p *Profile) By(typ int, key func(Stack) *Frame) (out []Portion) {
	if p == nil || typ < 0 {
		return nil
	}
	at := map[*Frame]int{}
	for i := range p.Rows {
		r := &p.Rows[i]
		f := key(r.Stack)
		if f == nil || r.Values[typ] == 0 {
			continue
		}
		k, ok := at[f]
		if !ok {
			k = len(out)
			at[f] = k
			out = append(out, Portion{Frame: f})
		}
		out[k].Value += r.Values[typ]
		out[k].Rows = append(out[k].Rows, r)
	}
	for _, o := range out {
		slices.SortStableFunc(o.Rows, func(a, b *Row) int { return cmp.Compare(b.Values[typ], a.Values[typ]) })
	}
	slices.SortStableFunc(out, func(a, b Portion) int { return cmp.Compare(b.Value, a.Value) })
	return out
}

// Goroutines is a snapshot of a process's goroutines.
type Goroutines struct {
	Format goroutines.Format
	Taken  time.Time // zero = unknown
	// Total without the agent's, the profilers' and the tracer's own.
	Total  int
	Groups []Group
	// Source is what it was read from; nil in tests that write stacks by hand.
	Source *goroutines.Snapshot
}

// Group is goroutines at one place, for one reason, from one creation site. Its
// fields are those of goroutines.Group.
type Group struct {
	Count            int
	Stack            Stack
	CreatedBy        *Frame // nil = the format does not say
	State            goroutines.State
	Forever          bool
	Wait             goroutines.Wait
	Labels           []goroutines.Labels
	Aged             int
	Youngest, Oldest time.Duration
	// Locked is how many are locked to their thread, which only a Dump says.
	Locked int
}

// HeapTypes says of which types the heap's live objects are.
type HeapTypes struct {
	Types []HeapType // most bytes first
	// Bytes of the heap profile in all, and those whose type is known.
	Bytes, TypedBytes int64
}

// HeapType is one type of live objects.
type HeapType struct {
	Name string // "*ws.Client" objects are "ws.Client"
	// Form is how they were made: "new", "slice", "map", "chan", "string" …
	Form           string
	Objects, Bytes int64
	// Samples are how many of them the profile saw: the relative error of Objects
	// and Bytes is about 1/√Samples.
	Samples int64
	// Sites where they are allocated, most bytes first.
	Sites []HeapSite
	// Containers are the live types that can hold many of them, such as
	// "map[string]*ws.Client", most bytes first.
	Containers []string
}

// HeapSite is where objects of a type are allocated.
type HeapSite struct {
	Stack          Stack
	Objects, Bytes int64
}

// Site is where the group comes from: its creation site, or else the function
// that its goroutines were started with.
func (g *Group) Site() *Frame {
	if g.CreatedBy != nil || len(g.Stack) == 0 {
		return g.CreatedBy
	}
	return g.Stack[len(g.Stack)-1]
}

// Trace is what an execution trace says. Its fields are those of
// trace.Analysis, with stacks instead of their numbers.
type Trace struct {
	Duration      time.Duration
	Events        int64
	Procs         int // GOMAXPROCS; 0 = unknown
	Created, Seen int64
	Groups        []trace.Group
	Sites         []Site
	Wakes         []Wake
	Creations     []Creation
	Locks         []Lock
	Latency       Latency
	GC, STW       []trace.Range
	Heap          []trace.HeapPoint
	Tasks         []trace.Annotation
	Regions       []trace.Annotation
	// Samples of the CPU profiler within the trace, usually of 10 ms each.
	Samples []Samples
	// Stops of the world, by who asked for them, longest total first.
	Stops []Stop
	// Yields are the calls of runtime.Gosched.
	Yields []Samples
	// Slow are the calls that the service told its agent of and a rule watched for.
	Slow []SlowCall
}

// Stop is how often, and for how long, the world was stopped from one stack.
type Stop struct {
	Stack      Stack
	Reason     string // in the runtime's words, such as "read mem stats"
	Count      int64
	Total, Max time.Duration
}

// Latency is how long goroutines that were ready to run waited for a processor.
type Latency struct {
	Count          int64
	Total, Max     time.Duration
	P50, P99, P999 time.Duration
	// Longest is whose the longest was, and LongestFrom since when.
	Longest     trace.GoID
	LongestFrom time.Duration
}

// Site is a stack at which goroutines of one start function waited for a
// reason, or were in a system call.
type Site struct {
	Stack Stack // empty: the wait began before the trace, which has no stack of it
	// Start is the function that the goroutines began with; "" = unknown.
	Start      string
	Reason     trace.Reason
	State      trace.State
	Lock       trace.LockKind
	Wait       goroutines.Wait
	Count      int64
	Total, Max time.Duration
	// Longest is whose the longest was, and LongestFrom since when.
	Longest     trace.GoID
	LongestFrom time.Duration
	// Open waits had not ended when the trace did; Whole ones lasted all of it.
	Open, Whole int64
	// Visits are the waits to which a goroutine came from elsewhere, rather than after
	// another at the same stack: see trace.Site.
	Visits int64
}

// Wake counts waits at one stack that were ended from another; an empty Waker is
// a timer or the network.
type Wake struct {
	Waiter, Waker Stack
	Count         int64
	Total         time.Duration
}

// Creation counts goroutines that began with the function Start and were started
// at one stack, which is empty for those that the runtime itself started.
type Creation struct {
	Stack Stack
	Start string // "" = unknown
	Count int64
}

// Lock is all locks that are locked at one place.
type Lock struct {
	Lock               Stack
	Kind               trace.LockKind
	Waits              int64
	WaitTotal, WaitMax time.Duration
	Handoff            time.Duration
	Slow               int64
	SlowTotal          time.Duration
	Exact, AtLeast     Holds
	Unlocks            []Samples
	Conflicts, Stale   int64
}

// Holds of a lock, and what their holders waited for meanwhile.
type Holds struct {
	Count              int64
	Total, Max, Median time.Duration
	Times              trace.Times
	Inside             []HeldWait
	Waiting            int64
	InsideTotal        time.Duration
	Ends               []HoldEnd
}

// HoldEnd is an Unlock and the holds that it ended.
type HoldEnd struct {
	Stack Stack
	Count int64
	Total time.Duration
}

// HeldWait is what a holder waited for.
type HeldWait struct {
	Stack  Stack
	State  trace.State
	Reason trace.Reason
	Wait   goroutines.Wait
	Count  int64
	Total  time.Duration
}

// Samples counts a stack.
type Samples struct {
	Stack Stack
	Count int64
}

// Has reports whether an artifact of that kind is there.
func (e *Evidence) Has(k ops.Kind) bool {
	switch k {
	case ops.KindCPU:
		return e.CPU != nil
	case ops.KindHeap:
		return e.Heap != nil
	case ops.KindAllocs:
		return e.Allocs != nil
	case ops.KindBlock:
		return e.Block != nil
	case ops.KindMutex:
		return e.Mutex != nil
	case ops.KindGoroutine:
		return e.Goroutines != nil
	case ops.KindGoroutineDump:
		return e.Dump != nil
	case ops.KindGoroutineLeak:
		return e.Leaks != nil
	case ops.KindTrace:
		return e.Trace != nil
	case ops.KindRuntime:
		return e.Runtime != nil
	case ops.KindHeapTypes:
		return e.Types != nil
	}
	return false
}

// Lost returns the first loss of a kind; nil if there is none.
func (e *Evidence) Lost(k ops.Kind) *ops.Loss {
	for i := range e.Losses {
		if e.Losses[i].Kind == k {
			return &e.Losses[i]
		}
	}
	return nil
}

// Procs is GOMAXPROCS as far as any artifact says; 0 = unknown.
func (e *Evidence) Procs() int {
	switch {
	case e.Runtime != nil && e.Runtime.Process.GOMAXPROCS > 0:
		return e.Runtime.Process.GOMAXPROCS
	case e.Instance.Process.GOMAXPROCS > 0:
		return e.Instance.Process.GOMAXPROCS
	case e.Trace != nil:
		return e.Trace.Procs
	}
	return 0
}

// CPULimit is how many cores the process can use: its cgroup's quota, or
// GOMAXPROCS where that is less or the only one known; 0 = unknown.
func (e *Evidence) CPULimit() float64 {
	procs, quota := float64(e.Procs()), e.Instance.Process.CPUQuotaCores
	if e.Runtime != nil && e.Runtime.Cgroup.CPUQuotaCores > 0 {
		quota = e.Runtime.Cgroup.CPUQuotaCores
	}
	if quota > 0 && (procs == 0 || quota < procs) {
		return quota
	}
	return procs
}

// CPUCores is how many cores were in use on average over the window, without
// what the capture itself cost where that is known: by the CPU profile, else by
// the process's own account. ok is false if neither says.
func (e *Evidence) CPUCores() (cores float64, ok bool) {
	if t := e.CPU.Type("cpu"); t >= 0 && e.CPU.Duration > 0 {
		return float64(e.CPU.Total(t)) / float64(e.CPU.Duration), true
	}
	if v, ok := e.Runtime.Mean("ops/cpu:cores"); ok {
		return v, true
	}
	return 0, false
}
