package api

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/opscenter/opscenter/gen/opscenter/api/v1"
	"github.com/opscenter/opscenter/internal/auth"
	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

// ts leaves the zero time unset.
func ts(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromTS(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// dur leaves the zero duration unset.
func dur(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

var instanceStates = map[ops.InstanceState]apiv1.InstanceState{
	ops.InstanceUp:      apiv1.InstanceState_INSTANCE_STATE_UP,
	ops.InstanceSuspect: apiv1.InstanceState_INSTANCE_STATE_SUSPECT,
	ops.InstanceGone:    apiv1.InstanceState_INSTANCE_STATE_GONE,
}

var captureStates = map[ops.CaptureState]apiv1.CaptureState{
	ops.CaptureRequested:  apiv1.CaptureState_CAPTURE_STATE_REQUESTED,
	ops.CaptureCollecting: apiv1.CaptureState_CAPTURE_STATE_COLLECTING,
	ops.CaptureCommitting: apiv1.CaptureState_CAPTURE_STATE_COMMITTING,
	ops.CaptureDone:       apiv1.CaptureState_CAPTURE_STATE_DONE,
	ops.CapturePartial:    apiv1.CaptureState_CAPTURE_STATE_PARTIAL,
	ops.CaptureFailed:     apiv1.CaptureState_CAPTURE_STATE_FAILED,
	ops.CaptureCancelled:  apiv1.CaptureState_CAPTURE_STATE_CANCELLED,
}

var permissions = map[apiv1.Permission]auth.Permission{
	apiv1.Permission_PERMISSION_VIEW:     auth.View,
	apiv1.Permission_PERMISSION_DOWNLOAD: auth.Download,
	apiv1.Permission_PERMISSION_CAPTURE:  auth.Capture,
	apiv1.Permission_PERMISSION_DELETE:   auth.Delete,
	apiv1.Permission_PERMISSION_CONTROL:  auth.Control,
	apiv1.Permission_PERMISSION_AUDIT:    auth.Audit,
	apiv1.Permission_PERMISSION_ADMIN:    auth.Admin,
}

func kindNames(kinds []ops.Kind) []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = string(k)
	}
	return out
}

func instanceProto(i ops.Instance) *apiv1.Instance {
	out := &apiv1.Instance{
		Id: string(i.ID), Project: string(i.Project), Service: string(i.Service),
		Source: i.Source, Agentless: i.Agentless, Address: i.Address, Labels: i.Labels,
		State: instanceStates[i.State], StateSince: ts(i.StateSince), StateReason: i.StateReason, StateSays: i.StateSays,
		Joined: ts(i.Joined), LastSeen: ts(i.LastSeen),
		Build: &apiv1.Build{
			GoVersion: i.Build.GoVersion, ModulePath: i.Build.ModulePath, ModuleVersion: i.Build.ModuleVersion,
			VcsRevision: i.Build.VCSRevision, VcsTime: ts(i.Build.VCSTime), VcsModified: i.Build.VCSModified,
			Goos: i.Build.GOOS, Goarch: i.Build.GOARCH, AgentVersion: i.Build.AgentVersion,
		},
		Process: &apiv1.Process{
			Pid: int32(i.Process.PID), Hostname: i.Process.Hostname, StartTime: ts(i.Process.StartTime),
			Gomaxprocs: int32(i.Process.GOMAXPROCS), NumCpu: int32(i.Process.NumCPU),
			CpuQuotaCores: i.Process.CPUQuotaCores, MemoryLimitBytes: i.Process.MemoryLimitBytes,
			GoMemoryLimitBytes: i.Process.GoMemoryLimitBytes, Gogc: int32(i.Process.GOGC), Executable: i.Process.Executable,
		},
		Kinds: kindNames(i.Kinds), Self: i.Self, Health: healthProto(i.Health),
	}
	if !i.Heartbeat.At.IsZero() {
		out.Heartbeat = heartbeatProto(i.Heartbeat)
	}
	for _, s := range i.Seen {
		out.Seen = append(out.Seen, &apiv1.Sighting{Source: s.Source, Address: s.Address, Since: ts(s.Since)})
	}
	if p := i.Predecessor; p != nil {
		out.Predecessor = &apiv1.Predecessor{
			InstanceId: string(p.ID), Ended: ts(p.Ended), Uptime: dur(p.Uptime),
			LastRssBytes: p.LastRSSBytes, MemoryLimitBytes: p.MemoryLimitBytes, Verdict: p.Verdict,
		}
	}
	return out
}

func heartbeatProto(h ops.Heartbeat) *apiv1.Heartbeat {
	return &apiv1.Heartbeat{
		At: ts(h.At), CpuCores: h.CPUCores,
		Goroutines: h.Goroutines, GoroutinesRunning: h.GoroutinesRunning, GoroutinesRunnable: h.GoroutinesRunnable,
		GoroutinesWaiting: h.GoroutinesWaiting, GoroutinesSyscall: h.GoroutinesSyscall,
		LiveHeapBytes: h.LiveHeapBytes, HeapObjects: h.HeapObjects, RssBytes: h.RSSBytes, MemoryLimitBytes: h.MemoryLimitBytes,
		GcCpuFraction: h.GCCPUFraction, GcCycles: h.GCCycles, SchedLatencyP99Seconds: h.SchedLatencyP99Second,
		ThrottledFraction: h.ThrottledFraction, PoolWaiters: h.PoolWaiters, MutexWaitRate: h.MutexWaitRate,
		CpuQuotaCores: h.CPUQuotaCores, Gomaxprocs: int32(h.GOMAXPROCS), Threads: h.Threads,
	}
}

func lossesProto(losses []ops.Loss) []*apiv1.Loss {
	out := make([]*apiv1.Loss, len(losses))
	for i, l := range losses {
		out[i] = &apiv1.Loss{Kind: string(l.Kind), Reason: string(l.Reason), Message: l.Message}
	}
	return out
}

func specProto(s ops.Spec) *apiv1.CaptureSpec {
	return &apiv1.CaptureSpec{
		Duration: dur(s.Duration), Kinds: kindNames(s.Kinds), Fidelity: string(s.Fidelity),
		TraceWindow: dur(s.TraceWindow), TraceMaxBytes: s.TraceMaxBytes, SkipGc: s.SkipGC, Last: dur(s.Last),
	}
}

// specFrom does not judge: the engine normalizes.
func specFrom(p *apiv1.CaptureSpec) ops.Spec {
	s := ops.Spec{
		Duration: p.GetDuration().AsDuration(), Fidelity: ops.Fidelity(p.GetFidelity()),
		TraceWindow: p.GetTraceWindow().AsDuration(), TraceMaxBytes: p.GetTraceMaxBytes(), SkipGC: p.GetSkipGc(), Last: p.GetLast().AsDuration(),
	}
	for _, k := range p.GetKinds() {
		s.Kinds = append(s.Kinds, ops.Kind(k))
	}
	return s
}

func captureProto(s capture.Status, retention time.Duration, withArtifacts bool) *apiv1.Capture {
	c := s.Capture
	out := &apiv1.Capture{
		Id: string(c.ID), Project: string(c.Project), Service: string(c.Service), Spec: specProto(c.Spec),
		State: captureStates[c.State], Reason: c.Reason, Actor: c.Actor, Note: c.Note,
		Created: ts(c.Created), Finished: ts(c.Finished), Pinned: c.Pinned, Imported: c.Imported,
		SizeBytes: c.SizeBytes(),
	}
	if !c.Pinned && retention > 0 && !c.Finished.IsZero() {
		out.Expires = ts(c.Finished.Add(retention))
	}
	for _, t := range c.Targets {
		p := &apiv1.Target{
			Instance: instanceProto(t.Instance), State: captureStates[t.State], Reason: t.Reason,
			WindowStart: ts(t.WindowStart), WindowEnd: ts(t.WindowEnd), StoppedEarly: t.StoppedEarly,
			Losses: lossesProto(t.Losses),
		}
		for _, a := range t.Artifacts {
			p.ReceivedBytes += a.SizeBytes
			if withArtifacts {
				p.Artifacts = append(p.Artifacts, artifactProto(a))
			}
		}
		if live, ok := s.Live[t.Instance.ID]; ok {
			p.ReceivedBytes = live.ReceivedBytes
			p.Progress = &apiv1.TargetProgress{
				Elapsed: dur(live.Progress.Elapsed), Duration: dur(live.Progress.Duration), Activity: live.Progress.Activity,
			}
		}
		out.Targets = append(out.Targets, p)
	}
	return out
}

func artifactProto(a ops.Artifact) *apiv1.Artifact {
	return &apiv1.Artifact{
		Name: a.Name, Kind: string(a.Kind), Phase: string(a.Phase), TakenAt: ts(a.TakenAt),
		WindowStart: ts(a.WindowStart), WindowEnd: ts(a.WindowEnd), SizeBytes: a.SizeBytes, Sha256: a.SHA256,
		Losses: lossesProto(a.Losses), Partial: a.Partial, Derived: a.Derived,
	}
}

// metricsProto turns histograms into two numbers: the percentiles of what was
// added since the sample before.
func metricsProto(id ops.InstanceID, s, before ops.Sample) *apiv1.MetricsSample {
	out := &apiv1.MetricsSample{InstanceId: string(id), At: ts(s.Heartbeat.At)}
	old := make(map[string][]uint64, len(before.Metrics))
	for _, m := range before.Metrics {
		if m.Buckets != nil {
			old[m.Name] = m.Counts
		}
	}
	for _, m := range s.Metrics {
		v := &apiv1.MetricValue{Name: m.Name, Value: m.Value}
		if m.Buckets != nil {
			v.Histogram = true
			v.Value = quantile(m, old[m.Name], 0.5)
			v.P99 = quantile(m, old[m.Name], 0.99)
		}
		out.Values = append(out.Values, v)
	}
	for _, p := range s.Pools {
		out.Pools = append(out.Pools, &apiv1.PoolStats{
			Name: p.Name, Kind: p.Kind, Remote: p.Remote, MaxOpen: p.MaxOpen, Open: p.Open, InUse: p.InUse, Idle: p.Idle,
			Waiting: p.Waiting, WaitCount: p.WaitCount, WaitDuration: dur(p.WaitDuration),
		})
	}
	return out
}

// quantile returns the upper bound of the bucket that holds the q-quantile of
// m's counts less old, or 0 where nothing was added. Unbounded buckets answer
// with their finite side.
func quantile(m ops.Metric, old []uint64, q float64) float64 {
	if len(m.Buckets) != len(m.Counts)+1 {
		return 0 // a peer's histogram: its shape is not ours to trust
	}
	if len(old) != len(m.Counts) {
		old = make([]uint64, len(m.Counts))
	}
	var total, seen uint64
	added := func(i int) uint64 {
		if m.Counts[i] < old[i] {
			return 0
		}
		return m.Counts[i] - old[i]
	}
	for i := range m.Counts {
		total += added(i)
	}
	if total == 0 {
		return 0
	}
	for i := range m.Counts {
		seen += added(i)
		if float64(seen) >= q*float64(total) {
			for _, bound := range []float64{m.Buckets[i+1], m.Buckets[i]} {
				if math.Abs(bound) <= maxFinite {
					return bound
				}
			}
			return 0
		}
	}
	return 0
}

const maxFinite = 1.7e308

// System is what the centre says of itself.
type System struct {
	Version, GoVersion, BasePath string
	Started                      time.Time
	Retention                    time.Duration
	RetentionBytes               int64
	StoredBytes, FreeBytes       int64
	// Problems in words; empty = none.
	StorageProblem, TraceProblem, GraphProblem string
}

func (s System) proto() *apiv1.GetSystemResponse {
	return &apiv1.GetSystemResponse{
		Version: s.Version, GoVersion: s.GoVersion, BasePath: s.BasePath, Started: ts(s.Started),
		Retention: dur(s.Retention), RetentionBytes: s.RetentionBytes, StoredBytes: s.StoredBytes, DiskFreeBytes: s.FreeBytes,
		StorageProblem: s.StorageProblem, TraceViewerProblem: s.TraceProblem, GraphProblem: s.GraphProblem,
	}
}
