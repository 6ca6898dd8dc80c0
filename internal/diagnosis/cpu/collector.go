package cpu

import (
	"regexp"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// collector is what the garbage collector costs, and whom.
type collector struct {
	// Share of the CPU time that it takes from the program: marking, helping by
	// those who allocate, sweeping. Without what only used idle processors, which
	// is Idle. −1 = no artifact tells.
	Share, Idle float64
	// Sources that say so.
	Profile, Runtime, Trace float64 // −1 = not there
	// Assist is the share of the program's own running time in which goroutines had
	// to mark before they got memory; −1 = no trace tells.
	Assist float64
	// Stalled is how long goroutines waited for the collector, per second.
	Stalled time.Duration
	// Ran is how long the program's goroutines ran, per second; 0 = no trace tells.
	Ran time.Duration
	// Cycles per second; −1 = unknown.
	Cycles float64
	// Allocated bytes per second; −1 = unknown.
	Allocated float64
	// Live heap after a collection, and the Goal at which the next one ends; 0 =
	// unknown.
	Live, Goal int64
	// GOGC in percent; 0 = unknown, −1 = off.
	GOGC int
	// Limit is GOMEMLIMIT; 0 = none, or unknown.
	Limit int64
	// GOGCBy and LimitBy are the lines of the program that set them; none = the
	// environment does, or not known.
	GOGCBy, LimitBy []*evidence.Frame
}

func collectorOf(e *evidence.Evidence) collector {
	c := collector{Share: -1, Profile: -1, Runtime: -1, Trace: -1, Assist: -1, Cycles: -1, Allocated: -1}
	if typ := e.CPU.Type("cpu"); typ >= 0 {
		if total := e.CPU.Total(typ); total > 0 {
			sums := byPart(e.CPU, typ)
			c.Profile = float64(sums[partGC]+sums[partAssist]+sums[partSweep]) / float64(total)
			c.Idle = float64(sums[partGCIdle]) / float64(total)
		}
	}
	c.ofTrace(e.Trace)
	c.ofRuntime(e)
	if c.Live == 0 {
		c.ofHeapProfile(e)
	}
	switch {
	case c.Profile >= 0:
		c.Share = c.Profile
	case c.Trace >= 0:
		c.Share = c.Trace
	case c.Runtime >= 0:
		c.Share = c.Runtime
	}
	return c
}

func (c *collector) ofTrace(t *evidence.Trace) {
	if t == nil || t.Duration <= 0 {
		return
	}
	var workers, program, assist, stalled time.Duration
	for i := range t.Groups {
		g := &t.Groups[i]
		switch {
		case g.Func == "runtime.gcBgMarkWorker":
			workers += ran(g)
		case !background(g.Func):
			program += ran(g)
			assist += g.Times[trace.StateAssist]
			stalled += g.Times[trace.StateGC]
		}
	}
	if program+workers > 0 {
		c.Trace = float64(workers+assist) / float64(program+workers)
	}
	if program > 0 {
		c.Assist = float64(assist) / float64(program)
	}
	c.Stalled, c.Ran = time.Duration(float64(stalled)/t.Duration.Seconds()), time.Duration(float64(program)/t.Duration.Seconds())
	c.Cycles = float64(len(t.GC)) / t.Duration.Seconds()
	c.ofHeap(t.Heap)
}

// delay is the share of the time, of goroutines that ran or waited for the
// collector, that they waited or had to help; 0 unless it is more than half.
func (c *collector) delay() float64 {
	if c.Ran+c.Stalled <= 0 || c.Assist < 0 {
		return 0
	}
	share := (float64(c.Stalled) + c.Assist*float64(c.Ran)) / float64(c.Ran+c.Stalled)
	if share < 0.5 || c.Ran+c.Stalled < time.Second/4 {
		return 0
	}
	return share
}

// ofHeap reads the heap's course: the goal is set when a collection ends, and the
// lowest size since the one before is about what lives.
func (c *collector) ofHeap(points []trace.HeapPoint) {
	low, pairs := uint64(0), 0
	var live, goal uint64
	for _, p := range points {
		switch {
		case !p.Goal && (low == 0 || p.Bytes < low):
			low = p.Bytes
		case p.Goal && low > 0:
			live, goal, pairs, low = live+low, goal+p.Bytes, pairs+1, 0
		}
	}
	if pairs > 0 {
		c.Live, c.Goal = int64(live/uint64(pairs)), int64(goal/uint64(pairs))
	}
}

// ofHeapProfile takes the heap profile, which is of the end of a collection, for
// what lives where nothing else tells.
func (c *collector) ofHeapProfile(e *evidence.Evidence) {
	goal, ok := e.Runtime.Last("/gc/heap/goal:bytes")
	if typ := e.Heap.Type("inuse_space"); ok && typ >= 0 {
		c.Live, c.Goal = e.Heap.Total(typ), int64(goal)
	}
}

func (c *collector) ofRuntime(e *evidence.Evidence) {
	r := e.Runtime
	if r == nil {
		return
	}
	if v, ok := r.Mean("ops/gc-cpu:share"); ok {
		c.Runtime = v
	}
	if seconds := e.Window.Seconds(); seconds > 0 {
		if v, ok := r.Gain("/gc/cycles/total:gc-cycles"); ok {
			c.Cycles = v / seconds
		}
		if v, ok := r.Gain("/gc/heap/allocs:bytes"); ok {
			c.Allocated = v / seconds
		}
	}
	if v, ok := r.Mean("/gc/heap/live:bytes"); ok {
		c.Live = int64(v)
	}
	if v, ok := r.Mean("/gc/heap/goal:bytes"); ok {
		c.Goal = int64(v)
	}
	c.GOGC = r.Process.GOGC
	if v, ok := r.Last("/gc/gogc:percent"); ok {
		c.GOGC = int(v)
	}
	c.Limit = r.Process.GoMemoryLimitBytes
	if v, ok := r.Last("/gc/gomemlimit:bytes"); ok && v < 1<<62 {
		c.Limit = int64(v)
	}
	c.GOGCBy, c.LimitBy = r.Setters.GOGC, r.Setters.MemoryLimit
}

// setProof says which lines set a limit of the collector, and that its variable in
// the environment has no effect therefore.
func setProof(variable, function string, by []*evidence.Frame) ops.Proof {
	lines := ops.Text{}
	for i, f := range by {
		if i > 0 {
			lines = rule.Say("%s, ", "%s、", lines)
		}
		lines = rule.Say("%[1]s`%[2]s` (%[3]s)", "%[1]s`%[2]s`（%[3]s）", lines, rule.Short(f), rule.Line(f))
	}
	return ops.Proof{Artifact: ops.KindRuntime, Metric: "set_by_lines", Value: float64(len(by)), Unit: "lines",
		Text: rule.Say("the program sets it itself, with debug.%[1]s in %[2]s: %[3]s in the environment has no effect on it", "程式自己以 debug.%[1]s 設定，位於 %[2]s：環境變數 %[3]s 對它沒有作用", function, lines, variable)}
}

// allocators are who allocates, by bytes in the window, or where no profile of
// it is there, by the CPU time that allocating costs. kind says which.
func allocators(e *evidence.Evidence) (out []evidence.Portion, total int64, byBytes bool) {
	made, asked := makers(e), copiers(e)
	key := func(s evidence.Stack) *evidence.Frame {
		at, isOwn := place(s)
		if !isOwn {
			return s.User()
		}
		if f := callerOf(s, at); f != nil && asked[outer(s[at].Function)] == outer(f.Function) {
			return f
		}
		if s[:at].Has(compressors...) {
			for _, f := range s[at:] {
				if maker := made[f.Outer()]; maker != nil {
					return maker
				}
			}
		}
		return s[at]
	}
	if typ := e.Allocs.Type("alloc_space"); typ >= 0 && !e.Allocs.Whole {
		if total = e.Allocs.Total(typ); total > 0 {
			return e.Allocs.By(typ, key), total, true
		}
	}
	typ := e.CPU.Type("cpu")
	allocating := func(s evidence.Stack) bool {
		p := partOf(s)
		return p == partAlloc || p == partAssist || p == partSweep && s.Has(parts[len(parts)-1].names...)
	}
	total = e.CPU.Sum(typ, allocating)
	return e.CPU.By(typ, func(s evidence.Stack) *evidence.Frame {
		if !allocating(s) {
			return nil
		}
		return key(s)
	}), total, false
}

// copies are names of functions that make one thing, or a copy of one.
var copies = regexp.MustCompile(`^(?i:clone|copy|deepcopy|dup|duplicate|new)(?:[A-Z_]\w*)?$`)

// copiers are the program's functions that make one thing, by their names, each with the
// only one that calls it: what is to be changed is how many that one asks for.
func copiers(e *evidence.Evidence) map[string]string {
	by, sums := map[[2]string]int64{}, map[string]int64{}
	typ := e.Allocs.Type("alloc_space")
	if typ >= 0 {
		for i := range e.Allocs.Rows {
			s, v := e.Allocs.Rows[i].Stack, e.Allocs.Rows[i].Values[typ]
			at, isOwn := place(s)
			if !isOwn || !copies.MatchString(ownName(s[at])) {
				continue
			}
			if f := callerOf(s, at); f != nil {
				by[[2]string{outer(s[at].Function), outer(f.Function)}] += v
			}
			sums[outer(s[at].Function)] += v
		}
	}
	only := map[string]string{}
	for k, v := range by {
		if 10*v >= 9*sums[k[0]] {
			only[k[0]] = k[1]
		}
	}
	return only
}

// ownName is a function's name without package and receiver.
func ownName(f *evidence.Frame) string {
	name := f.Outer()
	return name[strings.LastIndexByte(name, '.')+1:]
}

// callerOf is who of the program calls the function of frame at; nil = nobody.
func callerOf(s evidence.Stack, at int) *evidence.Frame {
	for _, f := range s[at+1:] {
		if f.Origin == evidence.OwnCode && outer(f.Function) != outer(s[at].Function) {
			return f
		}
	}
	return nil
}

// compressors make their tables, of up to a megabyte, at the first Write: by then the
// one who made them may have handed them to somebody else who merely writes.
var compressors = []string{"compress/", "github.com/klauspost/compress/", "github.com/klauspost/pgzip.", "github.com/andybalholm/brotli."}

// makers are the functions of the program that make a compressor themselves, or close
// it, each with the line where it does.
func makers(e *evidence.Evidence) map[string]*evidence.Frame {
	made, closed := map[string]*evidence.Frame{}, map[string]*evidence.Frame{}
	for _, in := range []struct {
		p   *evidence.Profile
		typ string
	}{{e.Allocs, "alloc_space"}, {e.CPU, "cpu"}} {
		in.p.By(in.p.Type(in.typ), func(s evidence.Stack) *evidence.Frame {
			at := s.Index(func(f *evidence.Frame) bool { return f.Origin == evidence.OwnCode })
			if at <= 0 || !s[at-1:at].Has(compressors...) {
				return nil
			}
			switch called := s[at-1].Function; {
			case strings.Contains(called, ".New"):
				made[s[at].Outer()] = s[at]
			case strings.HasSuffix(called, ").Close"):
				closed[s[at].Outer()] = s[at]
			}
			return nil
		})
	}
	for function, f := range closed {
		if made[function] == nil {
			made[function] = f
		}
	}
	return made
}

// stalledPlaces names who allocates where no profile tells: whoever waited most
// for the collector when it wanted memory, or was seen most often to allocate by
// the profiler within the trace; or else what computes most.
func stalledPlaces(f *ops.Finding, e *evidence.Evidence) {
	t := e.Trace
	if t == nil {
		t = &evidence.Trace{}
	}
	stalls, allocating, computing := map[*evidence.Frame]int64{}, map[*evidence.Frame]int64{}, map[*evidence.Frame]int64{}
	for i := range t.Sites {
		s := &t.Sites[i]
		if at, isOwn := place(s.Stack); isOwn && s.State == trace.StateGC {
			stalls[s.Stack[at]] += int64(s.Total)
		}
	}
	for _, s := range t.Samples {
		at, isOwn := place(s.Stack)
		if !isOwn {
			continue
		}
		computing[s.Stack[at]] += s.Count
		if p := partOf(s.Stack); p == partAlloc || p == partAssist {
			allocating[s.Stack[at]] += s.Count
		}
	}
	role, value, unit := ops.RoleAlloc, 0.0, "s"
	var text ops.Text
	top := most(stalls)
	switch {
	case top != nil:
		value = time.Duration(stalls[top]).Seconds()
		text = rule.Say("goroutines that wanted memory in `%[1]s` waited %[2]s for the collector, more than any others; who allocates most is not told", "在 `%[1]s` 要記憶體的 goroutine 共等待回收器 %[2]s，是最多的；無法得知誰配置最多", rule.Short(top), rule.Dur(time.Duration(stalls[top])))
	case len(allocating) > 0:
		top, unit = most(allocating), "samples"
		value = float64(allocating[top])
		text = rule.Say("%[2]s samples in the trace allocate in `%[1]s`, more than in any other function", "追蹤中有 %[2]s 個樣本在 `%[1]s` 配置記憶體，是最多的函式", rule.Short(top), rule.Count(allocating[top]))
	case len(computing) > 0:
		top, role, unit = most(computing), ops.RoleCall, "samples"
		value = float64(computing[top])
		text = rule.Say("`%[1]s` computes most (%[2]s samples in the trace); who allocates is not told", "計算最多的是 `%[1]s`（追蹤中有 %[2]s 個樣本）；無法得知是誰配置記憶體", rule.Short(top), rule.Count(computing[top]))
	default:
		if typ := e.CPU.Type("cpu"); typ >= 0 && len(spots(e, typ)) > 0 {
			f.Where = busiest(e)
			f.Confidence = ops.Low
			f.CounterEvidence = append(f.CounterEvidence, ops.Proof{Artifact: ops.KindCPU, Metric: "own_frames", Unit: "frames",
				Text: rule.Say("no line of the program was seen to allocate: the place is what computes most", "沒有看到程式的哪一行在配置記憶體：位置是計算最多的地方")})
		}
		return
	}
	f.Where = []ops.Place{rule.At(role, top)}
	f.Evidence = append(f.Evidence, ops.Proof{Artifact: ops.KindTrace, Metric: "allocates_here", Value: value, Unit: unit, Text: text})
	f.Confidence = rule.Lower(f.Confidence, ops.Low)
}

// byFunction joins portions of lines of one function, closures included; each
// stands for its line with the largest part.
func byFunction(in []evidence.Portion) (out []evidence.Portion) {
	at := map[string]int{}
	for _, p := range in { // largest first: the first line stands for the function
		k, ok := at[outer(p.Frame.Function)]
		if !ok {
			at[outer(p.Frame.Function)] = len(out)
			out = append(out, evidence.Portion{Frame: p.Frame, Value: p.Value})
			continue
		}
		out[k].Value += p.Value
	}
	sortPortions(out)
	return out
}
