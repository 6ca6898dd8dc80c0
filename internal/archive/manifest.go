package archive

import (
	"math"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// The names of a bundle's own files, and the schema of its manifest. The schema
// is published as docs/formats/manifest.schema.json; its fields keep their
// meaning for ever, new ones may be added.
const (
	manifestName   = "manifest.json"
	findingsName   = "findings.json"
	manifestSchema = "opscenter.manifest/v1"
)

// manifest is manifest.json: what a bundle holds and what its capture was.
type manifest struct {
	Schema   string           `json:"schema"`
	Exported time.Time        `json:"exported"`
	Capture  manifestCapture  `json:"capture"`
	Targets  []manifestTarget `json:"targets"`
	// Findings is set where the bundle carries findings.json.
	Findings *manifestFile `json:"findings,omitempty"`
}

type manifestCapture struct {
	ID       ops.CaptureID    `json:"id"`
	Project  ops.ProjectName  `json:"project"`
	Service  ops.ServiceName  `json:"service"`
	Spec     manifestSpec     `json:"spec"`
	State    ops.CaptureState `json:"state"`
	Reason   string           `json:"reason,omitempty"`
	Actor    string           `json:"actor,omitempty"`
	Note     string           `json:"note,omitempty"`
	Created  time.Time        `json:"created"`
	Finished time.Time        `json:"finished"`
}

type manifestSpec struct {
	Seconds            float64      `json:"seconds"`
	Kinds              []ops.Kind   `json:"kinds"`
	Fidelity           ops.Fidelity `json:"fidelity"`
	TraceWindowSeconds float64      `json:"trace_window_seconds"`
	TraceMaxBytes      int64        `json:"trace_max_bytes"`
	SkipGC             bool         `json:"skip_gc,omitempty"`
	LastSeconds        float64      `json:"last_seconds,omitempty"`
	// Trigger is the call because of which a rule took the capture.
	Trigger *manifestCall `json:"trigger,omitempty"`
}

type manifestCall struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

type manifestTarget struct {
	Instance     manifestInstance   `json:"instance"`
	State        ops.CaptureState   `json:"state"`
	Reason       string             `json:"reason,omitempty"`
	WindowStart  time.Time          `json:"window_start,omitzero"`
	WindowEnd    time.Time          `json:"window_end,omitzero"`
	StoppedEarly bool               `json:"stopped_early,omitempty"`
	Losses       []ops.Loss         `json:"losses"`
	Artifacts    []manifestArtifact `json:"artifacts"`
}

type manifestInstance struct {
	ID                 ops.InstanceID    `json:"id"`
	Project            ops.ProjectName   `json:"project"`
	Service            ops.ServiceName   `json:"service"`
	Source             string            `json:"source,omitempty"`
	Agentless          bool              `json:"agentless,omitempty"`
	Address            string            `json:"address,omitempty"`
	Labels             map[string]string `json:"labels,omitempty"`
	Kinds              []ops.Kind        `json:"kinds,omitempty"`
	State              ops.InstanceState `json:"state,omitempty"`
	ClockOffsetSeconds float64           `json:"clock_offset_seconds,omitempty"`
	Build              manifestBuild     `json:"build"`
	Process            manifestProcess   `json:"process"`
	Heartbeat          *manifestBeat     `json:"heartbeat,omitempty"`
}

type manifestBuild struct {
	GoVersion     string    `json:"go_version,omitempty"`
	ModulePath    string    `json:"module_path,omitempty"`
	ModuleVersion string    `json:"module_version,omitempty"`
	VCSRevision   string    `json:"vcs_revision,omitempty"`
	VCSTime       time.Time `json:"vcs_time,omitzero"`
	VCSModified   bool      `json:"vcs_modified,omitempty"`
	BuildID       string    `json:"build_id,omitempty"`
	GOOS          string    `json:"goos,omitempty"`
	GOARCH        string    `json:"goarch,omitempty"`
	AgentVersion  string    `json:"agent_version,omitempty"`
}

type manifestProcess struct {
	PID                int       `json:"pid,omitempty"`
	Hostname           string    `json:"hostname,omitempty"`
	StartTime          time.Time `json:"start_time,omitzero"`
	GOMAXPROCS         int       `json:"gomaxprocs,omitempty"`
	NumCPU             int       `json:"num_cpu,omitempty"`
	CPUQuotaCores      float64   `json:"cpu_quota_cores,omitempty"`
	MemoryLimitBytes   int64     `json:"memory_limit_bytes,omitempty"`
	GoMemoryLimitBytes int64     `json:"go_memory_limit_bytes,omitempty"`
	GOGC               int       `json:"gogc,omitempty"`
	Executable         string    `json:"executable,omitempty"`
}

type manifestBeat struct {
	At                    time.Time `json:"at"`
	CPUCores              float64   `json:"cpu_cores"`
	Goroutines            int64     `json:"goroutines"`
	GoroutinesRunning     int64     `json:"goroutines_running"`
	GoroutinesRunnable    int64     `json:"goroutines_runnable"`
	GoroutinesWaiting     int64     `json:"goroutines_waiting"`
	GoroutinesSyscall     int64     `json:"goroutines_syscall"`
	LiveHeapBytes         int64     `json:"live_heap_bytes"`
	HeapObjects           int64     `json:"heap_objects"`
	RSSBytes              int64     `json:"rss_bytes"`
	MemoryLimitBytes      int64     `json:"memory_limit_bytes"`
	GCCPUFraction         float64   `json:"gc_cpu_fraction"`
	GCCycles              int64     `json:"gc_cycles"`
	SchedLatencyP99Second float64   `json:"sched_latency_p99_seconds"`
	ThrottledFraction     float64   `json:"throttled_fraction"`
	PoolWaiters           int64     `json:"pool_waiters"`
	MutexWaitRate         float64   `json:"mutex_wait_rate"`
	CPUQuotaCores         float64   `json:"cpu_quota_cores"`
	GOMAXPROCS            int       `json:"gomaxprocs"`
	Threads               int64     `json:"threads"`
}

// manifestFile is a file of the bundle.
type manifestFile struct {
	Path      string `json:"path"`
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`
}

type manifestArtifact struct {
	Name string `json:"name"`
	manifestFile
	Kind        ops.Kind   `json:"kind"`
	Phase       ops.Phase  `json:"phase"`
	TakenAt     time.Time  `json:"taken_at,omitzero"`
	WindowStart time.Time  `json:"window_start,omitzero"`
	WindowEnd   time.Time  `json:"window_end,omitzero"`
	Partial     bool       `json:"partial,omitempty"`
	Derived     bool       `json:"derived,omitempty"`
	Losses      []ops.Loss `json:"losses"`
}

// manifestOf describes a capture. Its artifacts are added by the caller.
func manifestOf(c ops.Capture) manifest {
	m := manifest{
		Schema: manifestSchema,
		Capture: manifestCapture{
			ID: c.ID, Project: c.Project, Service: c.Service, State: c.State, Reason: c.Reason, Actor: c.Actor, Note: c.Note, Created: c.Created, Finished: c.Finished,
			Spec: manifestSpec{
				Seconds: c.Spec.Duration.Seconds(), Kinds: orEmpty(c.Spec.Kinds), Fidelity: c.Spec.Fidelity,
				TraceWindowSeconds: c.Spec.TraceWindow.Seconds(), TraceMaxBytes: c.Spec.TraceMaxBytes, SkipGC: c.Spec.SkipGC, LastSeconds: c.Spec.Last.Seconds(), Trigger: manifestCallOf(c.Spec.Trigger),
			},
		},
		Targets: []manifestTarget{},
	}
	for _, t := range c.Targets {
		i := t.Instance
		mt := manifestTarget{
			State: t.State, Reason: t.Reason, WindowStart: t.WindowStart, WindowEnd: t.WindowEnd, StoppedEarly: t.StoppedEarly,
			Losses: orEmpty(t.Losses), Artifacts: []manifestArtifact{},
			Instance: manifestInstance{
				ID: i.ID, Project: i.Project, Service: i.Service, Source: i.Source, Agentless: i.Agentless, Address: i.Address,
				Labels: i.Labels, Kinds: i.Kinds, State: i.State, ClockOffsetSeconds: i.ClockOffset.Seconds(),
				Build:   manifestBuild(i.Build),
				Process: manifestProcess(i.Process),
			},
		}
		if !i.Heartbeat.At.IsZero() {
			mt.Instance.Heartbeat = (*manifestBeat)(&i.Heartbeat)
		}
		m.Targets = append(m.Targets, mt)
	}
	return m
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func artifactEntry(i ops.InstanceID, a ops.Artifact) manifestArtifact {
	return manifestArtifact{
		Name: a.Name, manifestFile: manifestFile{Path: string(i) + "/" + a.Name, SizeBytes: a.SizeBytes, SHA256: a.SHA256},
		Kind: a.Kind, Phase: a.Phase, TakenAt: a.TakenAt, WindowStart: a.WindowStart, WindowEnd: a.WindowEnd,
		Partial: a.Partial, Derived: a.Derived, Losses: orEmpty(a.Losses),
	}
}

// capture is the capture a manifest describes, without its artifacts.
func (m *manifest) capture() ops.Capture {
	c := m.Capture
	out := ops.Capture{
		ID: c.ID, Project: c.Project, Service: c.Service, State: c.State, Reason: c.Reason, Note: c.Note, Created: c.Created, Finished: c.Finished, Imported: true,
		Spec: ops.Spec{
			Duration: seconds(c.Spec.Seconds), Kinds: c.Spec.Kinds, Fidelity: c.Spec.Fidelity,
			TraceWindow: seconds(c.Spec.TraceWindowSeconds), TraceMaxBytes: c.Spec.TraceMaxBytes, SkipGC: c.Spec.SkipGC, Last: seconds(c.Spec.LastSeconds), Trigger: c.Spec.Trigger.call(),
		},
	}
	for _, t := range m.Targets {
		i := t.Instance
		instance := ops.Instance{
			ID: i.ID, Project: i.Project, Service: i.Service, Source: i.Source, Agentless: i.Agentless, Address: i.Address,
			Labels: i.Labels, Kinds: i.Kinds, State: i.State, ClockOffset: seconds(i.ClockOffsetSeconds),
			Build: ops.Build(i.Build), Process: ops.Process(i.Process),
		}
		if i.Heartbeat != nil {
			instance.Heartbeat = ops.Heartbeat(*i.Heartbeat)
		}
		out.Targets = append(out.Targets, ops.CaptureTarget{
			Instance: instance, State: t.State, Reason: t.Reason, WindowStart: t.WindowStart, WindowEnd: t.WindowEnd,
			StoppedEarly: t.StoppedEarly, Losses: t.Losses,
		})
	}
	return out
}

func (a manifestArtifact) artifact() ops.Artifact {
	return ops.Artifact{
		Name: a.Name, Kind: a.Kind, Phase: a.Phase, TakenAt: a.TakenAt, WindowStart: a.WindowStart, WindowEnd: a.WindowEnd,
		Partial: a.Partial, Derived: a.Derived, Losses: a.Losses,
	}
}

func manifestCallOf(c *ops.Call) *manifestCall {
	if c == nil {
		return nil
	}
	return &manifestCall{Name: c.Name, Seconds: c.Took.Seconds()}
}

func (c *manifestCall) call() *ops.Call {
	if c == nil {
		return nil
	}
	return &ops.Call{Name: c.Name, Took: time.Duration(math.Round(c.Seconds * float64(time.Second)))}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// compressible reports whether a file is worth the time: profiles come
// compressed.
func compressible(name string) bool { return !strings.HasSuffix(name, ".pprof") }
