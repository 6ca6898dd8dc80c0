package agent

import (
	"encoding/json"
	"io"
	"math"
	"runtime/metrics"
	"time"

	"github.com/opscenter/opscenter/agent/internal/setters"
	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// runtimeSchema names the format of runtime.json.
const runtimeSchema = "opscenter.runtime/v1"

// runtimeFile is runtime.json: what the process is, and its numbers once a
// second. Taken before the window it has no series yet.
type runtimeFile struct {
	Schema     string                   `json:"schema"`
	Capture    string                   `json:"capture"`
	Instance   runtimeInstance          `json:"instance"`
	Window     runtimeWindow            `json:"window"`
	Build      runtimeBuild             `json:"build"`
	Process    runtimeProcess           `json:"process"`
	Cgroup     runtimeCgroup            `json:"cgroup"`
	Rates      runtimeRates             `json:"rates"`
	Series     runtimeSeries            `json:"series"`
	Histograms map[string]histogramFile `json:"histograms"`
	Pools      []poolFile               `json:"pools"`
}

type runtimeInstance struct {
	ID        string            `json:"id"` // the boot id
	Agentless bool              `json:"agentless"`
	Project   string            `json:"project"`
	Service   string            `json:"service"`
	Labels    map[string]string `json:"labels"`
	Agent     string            `json:"agent_version"`
}

// runtimeWindow is on the process's own clock.
type runtimeWindow struct {
	Phase   string    `json:"phase"` // before, window
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"` // 0 before the window
}

type runtimeBuild struct {
	GoVersion     string `json:"go_version"`
	ModulePath    string `json:"module_path"`
	ModuleVersion string `json:"module_version"`
	VCSRevision   string `json:"vcs_revision"`
	VCSModified   bool   `json:"vcs_modified"`
	BuildID       string `json:"build_id"`
	GOOS          string `json:"goos"`
	GOARCH        string `json:"goarch"`
}

type runtimeProcess struct {
	PID                int32     `json:"pid"`
	Hostname           string    `json:"hostname"`
	Executable         string    `json:"executable"`
	Started            time.Time `json:"started"`
	GOMAXPROCS         int32     `json:"gomaxprocs"`
	NumCPU             int32     `json:"num_cpu"`
	GOGC               int32     `json:"gogc"`                  // -1 = off
	GoMemoryLimitBytes int64     `json:"go_memory_limit_bytes"` // 0 = none
	// The lines of the program that set them, where neither the environment nor a
	// control does. Not all of them need have been reached.
	GOGCSetAt          []setters.Line `json:"gogc_set_at,omitempty"`
	GoMemoryLimitSetAt []setters.Line `json:"go_memory_limit_set_at,omitempty"`
}

// runtimeCgroup counts throttling over the window.
type runtimeCgroup struct {
	Version          int     `json:"version"`            // 0 = none was found
	CPUQuotaCores    float64 `json:"cpu_quota_cores"`    // 0 = none
	MemoryLimitBytes int64   `json:"memory_limit_bytes"` // 0 = none
	MemoryBytes      int64   `json:"memory_bytes"`       // now; 0 = unknown
	Periods          uint64  `json:"periods"`
	ThrottledPeriods uint64  `json:"throttled_periods"`
	ThrottledSeconds float64 `json:"throttled_seconds"`
}

// runtimeRates are what block and mutex were profiled at; 0 = not.
type runtimeRates struct {
	BlockNanos    int `json:"block_nanos"`
	MutexFraction int `json:"mutex_fraction"`
}

// runtimeSeries has one row of numbers per name, all as long as Seconds.
type runtimeSeries struct {
	Seconds []float64            `json:"seconds"` // since the window's start
	Columns map[string][]float64 `json:"columns"`
}

// histogramFile is what was counted within the window. A bound of null is
// infinite: the first towards minus, the last towards plus.
type histogramFile struct {
	Counts  []uint64   `json:"counts"`
	Buckets []*float64 `json:"buckets"`
}

// poolFile is one pool, with its numbers as columns along the series' Seconds.
type poolFile struct {
	Name    string               `json:"name"`
	Kind    string               `json:"kind"`
	Remote  string               `json:"remote"`
	MaxOpen int64                `json:"max_open"`
	Columns map[string][]float64 `json:"columns"`
}

// series collects the process's numbers through a window.
type series struct {
	capture *capture
	meter   *meter
	first   *reading
	last    *reading
	prev    *reading // the one before last
	seconds []float64
	columns map[string][]float64
	pools   map[string]*poolFile
	order   []string
	hist    map[string][]uint64 // counts at the first sample
}

func newSeries(c *capture) *series {
	a := c.agent
	return &series{
		capture: c,
		meter:   newMeter(allMetrics(), a.self.cgroup, &a.pools),
		columns: map[string][]float64{},
		pools:   map[string]*poolFile{},
		hist:    map[string][]uint64{},
	}
}

// sample reads everything once.
func (s *series) sample() {
	r := s.meter.read()
	s.prev, s.last = s.last, r
	if s.first == nil {
		s.first = r
		s.prev = r
		for _, m := range r.samples {
			if m.Value.Kind() == metrics.KindFloat64Histogram {
				s.hist[m.Name] = append([]uint64(nil), m.Value.Float64Histogram().Counts...)
			}
		}
	}
	row := len(s.seconds)
	s.seconds = append(s.seconds, round(r.at.Sub(s.first.at).Seconds(), 1e3))
	put := func(cols map[string][]float64, name string, v float64) {
		col := cols[name]
		for len(col) < row { // it appeared later, as a pool may
			col = append(col, 0)
		}
		cols[name] = append(col, v)
	}
	for _, m := range r.samples {
		switch m.Value.Kind() {
		case metrics.KindUint64:
			put(s.columns, m.Name, float64(m.Value.Uint64()))
		case metrics.KindFloat64:
			if v := m.Value.Float64(); !math.IsNaN(v) && !math.IsInf(v, 0) {
				put(s.columns, m.Name, v)
			}
		}
	}
	h := r.heartbeat(s.prev)
	put(s.columns, "ops/cpu:cores", round(h.CpuCores, 1e6))
	put(s.columns, "ops/rss:bytes", float64(h.RssBytes))
	put(s.columns, "ops/threads:threads", float64(h.Threads))
	put(s.columns, "ops/gc-cpu:share", round(h.GcCpuFraction, 1e6))
	put(s.columns, "ops/throttled:share", round(h.ThrottledFraction, 1e6))
	put(s.columns, "ops/sched-latency-p99:seconds", h.SchedLatencyP99Seconds)
	put(s.columns, "ops/mutex-wait:seconds-per-second", round(h.MutexWaitRate, 1e6))
	put(s.columns, "ops/pool-waiters:callers", float64(h.PoolWaiters))
	for _, p := range r.pools {
		f := s.pools[p.name]
		if f == nil {
			f = &poolFile{Name: p.name, Columns: map[string][]float64{}}
			s.pools[p.name] = f
			s.order = append(s.order, p.name)
		}
		f.Kind, f.Remote, f.MaxOpen = p.Kind, p.Remote, p.MaxOpen
		put(f.Columns, "open", float64(p.Open))
		put(f.Columns, "in_use", float64(p.InUse))
		put(f.Columns, "idle", float64(p.Idle))
		put(f.Columns, "waiting", float64(p.Waiting))
		put(f.Columns, "wait_count", float64(p.WaitCount))
		put(f.Columns, "wait_seconds", round(p.WaitDuration.Seconds(), 1e6))
	}
}

// recentCPU is the cores used over the last second, once there are two samples.
func (s *series) recentCPU() (cores float64, known bool) {
	if s.last == nil || s.prev == s.last || s.last.at.Sub(s.prev.at) < cpuLookFor {
		return 0, false
	}
	return s.last.heartbeat(s.prev).CpuCores, true
}

// write makes runtime.before.json or runtime.json.
func (s *series) write(w *window, phase agentv1.Phase) {
	name, phaseName := "runtime.json", "window"
	at := w.start
	if phase == agentv1.Phase_PHASE_BEFORE {
		name, phaseName, at = "runtime.before.json", "before", time.Now()
	}
	end := w.end
	if end.IsZero() {
		end = at
	}
	a := w.newArtifact(name, agentv1.Kind_KIND_RUNTIME, phase, 0, at)
	losses := a.fill(func(out io.Writer) error {
		return json.NewEncoder(out).Encode(s.file(w, phaseName, at, end))
	})
	a.close(end, losses...)
}

func (s *series) file(w *window, phase string, start, end time.Time) *runtimeFile {
	agent := w.agent
	b, p := agent.self.build, agent.self.process()
	f := &runtimeFile{
		Schema:  runtimeSchema,
		Capture: w.plan.id,
		Instance: runtimeInstance{
			ID: agent.self.bootID, Project: agent.cfg.project, Service: agent.cfg.service,
			Labels: agent.cfg.labels, Agent: agentVersion,
		},
		Window: runtimeWindow{Phase: phase, Start: start.UTC(), Seconds: round(end.Sub(start).Seconds(), 1e6)},
		Build: runtimeBuild{
			GoVersion: b.GoVersion, ModulePath: b.ModulePath, ModuleVersion: b.ModuleVersion,
			VCSRevision: b.VcsRevision, VCSModified: b.VcsModified, BuildID: b.BuildId, GOOS: b.Goos, GOARCH: b.Goarch,
		},
		Process: runtimeProcess{
			PID: p.Pid, Hostname: p.Hostname, Executable: p.Executable, Started: p.StartTime.AsTime(),
			GOMAXPROCS: p.Gomaxprocs, NumCPU: p.NumCpu, GOGC: p.Gogc, GoMemoryLimitBytes: p.GoMemoryLimitBytes,
		},
		Cgroup: runtimeCgroup{
			Version: agent.self.cgroup.version, CPUQuotaCores: p.CpuQuotaCores,
			MemoryLimitBytes: p.MemoryLimitBytes, MemoryBytes: agent.self.cgroup.memoryBytes(),
		},
		Series:     runtimeSeries{Seconds: s.seconds, Columns: s.columns},
		Histograms: map[string]histogramFile{},
		Pools:      []poolFile{},
	}
	if w.lease != nil {
		if w.lease.blockSet {
			f.Rates.BlockNanos = w.lease.blockNanos
		}
		if w.lease.mutex > 0 {
			f.Rates.MutexFraction = w.lease.mutexFraction
		}
	}
	if phase == "window" { // once: the code stays as it is
		f.Process.GoMemoryLimitSetAt, f.Process.GOGCSetAt = agent.setters.of(agent, p.Gogc, p.GoMemoryLimitBytes)
	}
	if s.last == nil {
		f.Series.Seconds = []float64{}
		for _, p := range agent.pools.read() {
			f.Pools = append(f.Pools, poolFile{Name: p.name, Kind: p.Kind, Remote: p.Remote, MaxOpen: p.MaxOpen, Columns: map[string][]float64{}})
		}
		return f
	}
	f.Cgroup.Periods = s.last.throttling.periods - min(s.first.throttling.periods, s.last.throttling.periods)
	f.Cgroup.ThrottledPeriods = s.last.throttling.throttled - min(s.first.throttling.throttled, s.last.throttling.throttled)
	f.Cgroup.ThrottledSeconds = round(positive(s.last.throttling.throttledSeconds-s.first.throttling.throttledSeconds), 1e6)
	for _, m := range s.last.samples {
		if m.Value.Kind() == metrics.KindFloat64Histogram {
			h := m.Value.Float64Histogram()
			f.Histograms[m.Name] = newHistogramFile(histogramDelta(s.hist[m.Name], h.Counts), h.Buckets)
		}
	}
	for _, name := range s.order {
		p := *s.pools[name]
		for col, v := range p.Columns {
			for len(v) < len(s.seconds) { // it was removed, or has hung ever since
				v = append(v, v[len(v)-1])
			}
			p.Columns[col] = v
		}
		f.Pools = append(f.Pools, p)
	}
	for name, col := range s.columns {
		for len(col) < len(s.seconds) {
			col = append(col, 0)
		}
		s.columns[name] = col
	}
	return f
}

func newHistogramFile(counts []uint64, bounds []float64) histogramFile {
	counts, bounds = trimHistogram(counts, bounds)
	f := histogramFile{Counts: counts, Buckets: make([]*float64, len(bounds))}
	for i, b := range bounds {
		if !math.IsInf(b, 0) && !math.IsNaN(b) {
			f.Buckets[i] = &b
		}
	}
	return f
}

// round cuts a number to the digits that mean something: 1e3 = three decimals.
func round(v, digits float64) float64 {
	if r := math.Round(v*digits) / digits; !math.IsInf(r, 0) && !math.IsNaN(r) {
		return r
	}
	return v
}
