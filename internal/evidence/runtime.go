package evidence

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Runtime is runtime.json: what the process is, and its numbers once a second.
type Runtime struct {
	Schema   string `json:"schema"`
	Instance struct {
		ID        string            `json:"id"`
		Agentless bool              `json:"agentless"`
		Project   string            `json:"project"`
		Service   string            `json:"service"`
		Labels    map[string]string `json:"labels"`
	} `json:"instance"`
	Window struct {
		Phase   string    `json:"phase"`
		Start   time.Time `json:"start"`
		Seconds float64   `json:"seconds"`
	} `json:"window"`
	Build struct {
		GoVersion     string `json:"go_version"`
		ModulePath    string `json:"module_path"`
		ModuleVersion string `json:"module_version"`
		VCSRevision   string `json:"vcs_revision"`
		BuildID       string `json:"build_id"`
		GOOS          string `json:"goos"`
		GOARCH        string `json:"goarch"`
	} `json:"build"`
	Process struct {
		PID                int       `json:"pid"`
		Hostname           string    `json:"hostname"`
		Executable         string    `json:"executable"`
		Started            time.Time `json:"started"`
		GOMAXPROCS         int       `json:"gomaxprocs"`
		NumCPU             int       `json:"num_cpu"`
		GOGC               int       `json:"gogc"` // percent; -1 = off
		GoMemoryLimitBytes int64     `json:"go_memory_limit_bytes"`
		// The lines of the program that set them; none = the environment, a control,
		// or not known.
		GOGCSetAt          []Line `json:"gogc_set_at"`
		GoMemoryLimitSetAt []Line `json:"go_memory_limit_set_at"`
	} `json:"process"`
	Cgroup struct {
		Version          int     `json:"version"` // 0 = none that it can see
		CPUQuotaCores    float64 `json:"cpu_quota_cores"`
		MemoryLimitBytes int64   `json:"memory_limit_bytes"`
		MemoryBytes      int64   `json:"memory_bytes"`
		Periods          int64   `json:"periods"`
		ThrottledPeriods int64   `json:"throttled_periods"`
		ThrottledSeconds float64 `json:"throttled_seconds"`
	} `json:"cgroup"`
	Series struct {
		Seconds []float64            `json:"seconds"`
		Columns map[string][]float64 `json:"columns"`
	} `json:"series"`
	Histograms map[string]Histogram `json:"histograms"`
	// Setters are the lines of Process as frames.
	Setters struct{ GOGC, MemoryLimit []*Frame } `json:"-"`
	Pools   []Pool                               `json:"pools"`
	Memory  struct {
		Before map[string]float64 `json:"before"`
		After  map[string]float64 `json:"after"`
	} `json:"memory"`
}

// Line is a line of the program.
type Line struct {
	Function string `json:"function"`
	File     string `json:"file"`
	Line     int    `json:"line"`
}

// The bounds of lines in a runtime.json.
const (
	maxLines    = 8
	maxLineText = 4 << 10
)

func frames(f *Frames, at []Line) (out []*Frame) {
	for _, l := range at {
		out = append(out, f.Of(l.Function, l.File, l.Line))
	}
	return out
}

// Histogram counts what fell between bounds within the window.
type Histogram struct {
	Counts []uint64 `json:"counts"`
	// Bounds are one more than Counts; nil is infinite.
	Bounds []*float64 `json:"buckets"`
}

// Quantile is the upper bound of the bucket that holds the q-th part (0 to 1) of
// what was counted, or its lower bound where there is none; 0 if it is empty.
func (h Histogram) Quantile(q float64) float64 {
	var total uint64
	for _, c := range h.Counts {
		total += c
	}
	if total == 0 || len(h.Bounds) != len(h.Counts)+1 {
		return 0
	}
	need, sum := uint64(math.Ceil(q*float64(total))), uint64(0)
	for i, c := range h.Counts {
		if sum += c; sum >= need && c > 0 {
			if to := h.Bounds[i+1]; to != nil {
				return *to
			}
			if from := h.Bounds[i]; from != nil {
				return *from
			}
			return 0
		}
	}
	return 0
}

// Pool is a connection pool that the service handed to its agent.
type Pool struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Remote  string `json:"remote"` // "" = unknown
	MaxOpen int64  `json:"max_open"`
	// Columns are open, in_use, idle, waiting (-1 = not known), and the totals
	// wait_count and wait_seconds, along the series' seconds.
	Columns map[string][]float64 `json:"columns"`
}

// Mean of one of the pool's columns, negative values left out.
func (p Pool) Mean(column string) (float64, bool) { return mean(p.Columns[column]) }

// Gain of one of the pool's totals over the window.
func (p Pool) Gain(column string) (float64, bool) { return gain(p.Columns[column]) }

// runtimeBytes bounds a runtime.json: the longest capture has 600 points of 100
// columns, less than a megabyte.
const runtimeBytes = 4 << 20

// ReadRuntime reads a runtime.json. Corrupt when it is none.
func ReadRuntime(r io.Reader) (*Runtime, error) {
	b, err := io.ReadAll(io.LimitReader(r, runtimeBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > runtimeBytes {
		return nil, ops.Errorf(ops.Exhausted, "runtime.json is larger than %d MiB", runtimeBytes>>20)
	}
	out := &Runtime{}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, ops.Errorf(ops.Corrupt, "runtime.json cannot be read: %w", err)
	}
	if out.Schema != "opscenter.runtime/v1" {
		return nil, ops.Errorf(ops.Corrupt, "runtime.json has the schema %q: this program reads opscenter.runtime/v1", out.Schema)
	}
	return out, out.check()
}

// check refuses figures that no process has, and leaves out series that do not
// fit the seconds: whoever wrote the file may wish us ill, and rules would repeat
// its words.
func (r *Runtime) check() error {
	const most = 1e18
	within := func(v ...float64) bool {
		return !slices.ContainsFunc(v, func(x float64) bool { return !(x >= -most && x <= most) })
	}
	p, c := &r.Process, &r.Cgroup
	switch {
	case p.GOMAXPROCS < 0 || p.GOMAXPROCS > 1<<16 || p.NumCPU < 0 || p.NumCPU > 1<<16 || p.GOGC < -1,
		p.GoMemoryLimitBytes < 0 || c.MemoryLimitBytes < 0 || c.MemoryBytes < 0 || c.Periods < 0 || c.ThrottledPeriods < 0,
		!within(c.CPUQuotaCores, c.ThrottledSeconds, r.Window.Seconds), c.CPUQuotaCores < 0 || r.Window.Seconds < 0 || r.Window.Seconds > 1e6:
		return ops.Errorf(ops.Corrupt, "runtime.json has figures that no process has")
	}
	for _, at := range [][]Line{p.GOGCSetAt, p.GoMemoryLimitSetAt} {
		if len(at) > maxLines || slices.ContainsFunc(at, func(l Line) bool {
			return l.Line < 0 || l.Function == "" || len(l.Function) > maxLineText || len(l.File) > maxLineText
		}) {
			return ops.Errorf(ops.Corrupt, "runtime.json names lines that no program has")
		}
	}
	tidy := func(columns map[string][]float64) {
		for name, v := range columns {
			if len(v) != len(r.Series.Seconds) || !within(v...) {
				delete(columns, name)
			}
		}
	}
	tidy(r.Series.Columns)
	for i := range r.Pools {
		tidy(r.Pools[i].Columns)
	}
	for _, m := range []map[string]float64{r.Memory.Before, r.Memory.After} {
		for name, v := range m {
			if !within(v) {
				delete(m, name)
			}
		}
	}
	return nil
}

// Values of a series, one for each of Series.Seconds; nil if it is not there.
func (r *Runtime) Values(name string) []float64 {
	if r == nil {
		return nil
	}
	return r.Series.Columns[name]
}

// Mean of a series whose points are rates; the first point, which has no second
// before it, is left out.
func (r *Runtime) Mean(name string) (float64, bool) {
	v := r.Values(name)
	if len(v) > 1 {
		v = v[1:]
	}
	return mean(v)
}

// Max of a series.
func (r *Runtime) Max(name string) (float64, bool) {
	v := r.Values(name)
	if len(v) == 0 {
		return 0, false
	}
	return slices.Max(v), true
}

// Gain of a series that counts since the process began: last minus first. Of an
// agentless instance it is that of its memory statistics.
func (r *Runtime) Gain(name string) (float64, bool) {
	if g, ok := gain(r.Values(name)); ok {
		return g, true
	}
	if r == nil {
		return 0, false
	}
	before, ok1 := r.Memory.Before[name]
	after, ok2 := r.Memory.After[name]
	return after - before, ok1 && ok2
}

// Last value of a series, or of an agentless instance's memory statistics.
func (r *Runtime) Last(name string) (float64, bool) {
	if v := r.Values(name); len(v) > 0 {
		return v[len(v)-1], true
	}
	if r == nil {
		return 0, false
	}
	v, ok := r.Memory.After[name]
	return v, ok
}

// Slope is the least-squares gradient of a series, per second. ok is false with
// fewer than three points.
func (r *Runtime) Slope(name string) (perSecond float64, ok bool) {
	v := r.Values(name)
	if len(v) < 3 || len(r.Series.Seconds) != len(v) {
		return 0, false
	}
	mt, _ := mean(r.Series.Seconds)
	var mv, num, den float64
	for _, x := range v {
		mv += x / float64(len(v))
	}
	for i, x := range v {
		num += (r.Series.Seconds[i] - mt) * (x - mv)
		den += (r.Series.Seconds[i] - mt) * (r.Series.Seconds[i] - mt)
	}
	if den == 0 {
		return 0, false
	}
	return num / den, true
}

func mean(v []float64) (float64, bool) {
	sum, n := 0.0, 0
	for _, x := range v {
		if x >= 0 {
			sum, n = sum+x, n+1
		}
	}
	if n == 0 {
		return 0, false
	}
	return sum / float64(n), true
}

func gain(v []float64) (float64, bool) {
	if len(v) < 2 {
		return 0, false
	}
	return v[len(v)-1] - v[0], true
}
