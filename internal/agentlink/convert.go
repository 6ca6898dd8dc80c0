package agentlink

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
	"github.com/opscenter/opscenter/internal/ops"
)

// What an agent says is bounded here: whatever goes beyond is cut or refused.
const (
	maxText       = 512 // bytes of a name, version or path
	maxLabels     = 30
	maxLabelName  = 128
	maxLabelValue = 256
	maxLosses     = 128
	maxLossText   = 2048
	maxLossTexts  = 16 << 10 // of all losses of one message
	maxMetrics    = 1024
	maxBuckets    = 4096
	maxPools      = 256
)

// The kinds, in the words of the wire and in ours.
var kinds = []struct {
	wire agentv1.Kind
	kind ops.Kind
}{
	{agentv1.Kind_KIND_CPU, ops.KindCPU},
	{agentv1.Kind_KIND_HEAP, ops.KindHeap},
	{agentv1.Kind_KIND_ALLOCS, ops.KindAllocs},
	{agentv1.Kind_KIND_GOROUTINE, ops.KindGoroutine},
	{agentv1.Kind_KIND_BLOCK, ops.KindBlock},
	{agentv1.Kind_KIND_MUTEX, ops.KindMutex},
	{agentv1.Kind_KIND_GOROUTINE_LEAK, ops.KindGoroutineLeak},
	{agentv1.Kind_KIND_TRACE, ops.KindTrace},
	{agentv1.Kind_KIND_RUNTIME, ops.KindRuntime},
	{agentv1.Kind_KIND_GOROUTINE_DUMP, ops.KindGoroutineDump},
	{agentv1.Kind_KIND_HEAP_TYPES, ops.KindHeapTypes},
}

// kindOf returns the empty kind for one this centre does not know.
func kindOf(w agentv1.Kind) ops.Kind {
	for _, k := range kinds {
		if k.wire == w {
			return k.kind
		}
	}
	return ""
}

func kindsOf(ws []agentv1.Kind) (out []ops.Kind) {
	for _, w := range ws {
		if k := kindOf(w); k != "" && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

func phaseOf(p agentv1.Phase) ops.Phase {
	switch p {
	case agentv1.Phase_PHASE_BEFORE:
		return ops.PhaseBefore
	case agentv1.Phase_PHASE_AFTER:
		return ops.PhaseAfter
	}
	return ops.PhaseWindow
}

func lossReasonOf(r agentv1.LossReason) ops.LossReason {
	switch r {
	case agentv1.LossReason_LOSS_REASON_IN_USE:
		return ops.LossInUse
	case agentv1.LossReason_LOSS_REASON_TRUNCATED:
		return ops.LossTruncated
	case agentv1.LossReason_LOSS_REASON_SKIPPED:
		return ops.LossSkipped
	case agentv1.LossReason_LOSS_REASON_UNSUPPORTED:
		return ops.LossUnsupported
	case agentv1.LossReason_LOSS_REASON_TIMED_OUT:
		return ops.LossTimedOut
	case agentv1.LossReason_LOSS_REASON_DISCONNECTED:
		return ops.LossDisconnected
	case agentv1.LossReason_LOSS_REASON_GAP:
		return ops.LossGap
	case agentv1.LossReason_LOSS_REASON_NOT_SET:
		return ops.LossNotSet
	}
	return ops.LossFailed
}

func lossesOf(ls []*agentv1.Loss) (out []ops.Loss) {
	texts := 0
	for _, l := range ls {
		texts += min(len(l.GetMessage()), maxLossText)
		if len(out) == maxLosses || texts > maxLossTexts {
			return append(out, ops.Loss{Reason: ops.LossTruncated, Message: "there are more losses than are kept"})
		}
		out = append(out, ops.Loss{Kind: kindOf(l.GetKind()), Reason: lossReasonOf(l.GetReason()), Message: clip(l.GetMessage(), maxLossText)})
	}
	return out
}

// request is a normalized spec on the wire, asked for by that run of the centre.
func request(center string, id ops.CaptureID, s ops.Spec) *agentv1.CollectPerformanceDataRequest {
	r := &agentv1.CollectPerformanceDataRequest{
		CaptureId: string(id), CenterId: center, Duration: durationpb.New(s.Duration), TraceWindow: durationpb.New(s.TraceWindow),
		TraceMaxBytes: s.TraceMaxBytes, SkipGc: s.SkipGC, Fidelity: agentv1.Fidelity_FIDELITY_FULL,
	}
	if s.Last > 0 {
		r.Last = durationpb.New(s.Last)
	}
	if s.Fidelity == ops.FidelityBalanced {
		r.Fidelity = agentv1.Fidelity_FIDELITY_BALANCED
	}
	for _, k := range s.Kinds {
		for _, known := range kinds {
			if known.kind == k {
				r.Kinds = append(r.Kinds, known.wire)
			}
		}
	}
	return r
}

// clip cuts a text at so many bytes, at a whole character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// Numbers beyond these are nothing that a process could have measured. Sums over
// a whole fleet of what is within them still are numbers.
const (
	maxCount = 1 << 48
	maxFloat = 1e30
)

// finite keeps values that JSON has no word for, or whose sums would have none,
// out of everything above.
func finite(f float64) float64 {
	if !(math.Abs(f) <= maxFloat) { // or NaN
		return 0
	}
	return f
}

func count[T int32 | int64](n T) T { return T(min(max(int64(n), 0), maxCount)) }

// onOurClock is a time of the agent's by the centre's clock; zero if it is none,
// or one that cannot be.
func onOurClock(t *timestamppb.Timestamp, offset time.Duration) time.Time {
	if t == nil || t.CheckValid() != nil {
		return time.Time{}
	}
	at := t.AsTime().Add(-offset)
	if at.Year() < 1970 || at.Year() > 9000 { // JSON ends at 9999
		return time.Time{}
	}
	return at
}

// duration is zero if it is none.
func duration(d *durationpb.Duration) time.Duration {
	if d == nil || d.CheckValid() != nil {
		return 0
	}
	return d.AsDuration()
}

// instanceOf is what an agent says of itself. offset is its clock minus ours.
func instanceOf(h *agentv1.HelloResponse, offset time.Duration) (ops.Instance, error) {
	i := ops.Instance{
		ID: ops.InstanceID(h.GetBootId()), Project: ops.ProjectName(h.GetProject()), Service: ops.ServiceName(h.GetService()),
		Source: "agent", Kinds: kindsOf(h.GetKinds()), ClockOffset: offset,
	}
	if err := checkNames(h.GetProject(), h.GetService(), h.GetBootId()); err != nil {
		return i, err
	}
	if len(h.GetLabels()) > maxLabels {
		return i, ops.Errorf(ops.Invalid, "the agent sends %d labels: use at most %d", len(h.GetLabels()), maxLabels)
	}
	for k, v := range h.GetLabels() {
		if k == "" || len(k) > maxLabelName || len(v) > maxLabelValue {
			return i, ops.Errorf(ops.Invalid, "label %q of the agent is too long or has no name: use a name of 1 to %d bytes and a value of at most %d", clip(k, 40), maxLabelName, maxLabelValue)
		}
	}
	i.Labels = maps.Clone(h.GetLabels())
	b := h.GetBuild()
	i.Build = ops.Build{
		GoVersion: clip(b.GetGoVersion(), maxText), ModulePath: clip(b.GetModulePath(), maxText), ModuleVersion: clip(b.GetModuleVersion(), maxText),
		VCSRevision: clip(b.GetVcsRevision(), maxText), VCSTime: onOurClock(b.GetVcsTime(), 0), VCSModified: b.GetVcsModified(),
		BuildID: clip(b.GetBuildId(), maxText), GOOS: clip(b.GetGoos(), maxText), GOARCH: clip(b.GetGoarch(), maxText),
		AgentVersion: clip(h.GetAgentVersion(), maxText),
	}
	p := h.GetProcess()
	i.Process = ops.Process{
		PID: int(count(p.GetPid())), Hostname: clip(p.GetHostname(), maxText), StartTime: onOurClock(p.GetStartTime(), offset),
		GOMAXPROCS: int(count(p.GetGomaxprocs())), NumCPU: int(count(p.GetNumCpu())), CPUQuotaCores: finite(p.GetCpuQuotaCores()),
		MemoryLimitBytes: count(p.GetMemoryLimitBytes()), GoMemoryLimitBytes: count(p.GetGoMemoryLimitBytes()),
		GOGC: int(max(p.GetGogc(), -1)), Executable: clip(p.GetExecutable(), maxText),
	}
	return i, nil
}

func checkNames(project, service, bootID string) error {
	switch {
	case !ops.ValidName(project):
		return ops.Errorf(ops.Invalid, "project %q is not a valid name: use letters, digits, dot, underscore and hyphen", clip(project, 60))
	case !ops.ValidName(service):
		return ops.Errorf(ops.Invalid, "service %q is not a valid name: use letters, digits, dot, underscore and hyphen", clip(service, 60))
	case !ops.InstanceID(bootID).Valid():
		return ops.Errorf(ops.Invalid, "boot id %q is not valid: use 4 to 40 of a-z, 0-9 and hyphen", clip(bootID, 60))
	}
	return nil
}

func sampleOf(m *agentv1.WatchMetricsResponse, offset time.Duration) ops.Sample {
	h := m.GetHeartbeat()
	s := ops.Sample{Heartbeat: ops.Heartbeat{
		At: onOurClock(m.GetAt(), offset), CPUCores: finite(h.GetCpuCores()),
		Goroutines: count(h.GetGoroutines()), GoroutinesRunning: count(h.GetGoroutinesRunning()), GoroutinesRunnable: count(h.GetGoroutinesRunnable()),
		GoroutinesWaiting: count(h.GetGoroutinesWaiting()), GoroutinesSyscall: count(h.GetGoroutinesSyscall()),
		LiveHeapBytes: count(h.GetLiveHeapBytes()), HeapObjects: count(h.GetHeapObjects()),
		RSSBytes: count(h.GetRssBytes()), MemoryLimitBytes: count(h.GetMemoryLimitBytes()),
		GCCPUFraction: finite(h.GetGcCpuFraction()), GCCycles: count(h.GetGcCycles()),
		SchedLatencyP99Second: finite(h.GetSchedLatencyP99Seconds()), ThrottledFraction: finite(h.GetThrottledFraction()),
		PoolWaiters: count(h.GetPoolWaiters()), MutexWaitRate: finite(h.GetMutexWaitRate()),
		CPUQuotaCores: finite(h.GetCpuQuotaCores()), GOMAXPROCS: int(count(h.GetGomaxprocs())), Threads: count(h.GetThreads()),
	}}
	if s.Heartbeat.At.IsZero() {
		s.Heartbeat.At = time.Now()
	}
	for _, m := range m.GetMetrics()[:min(len(m.GetMetrics()), maxMetrics)] {
		if v, ok := metricOf(m); ok {
			s.Metrics = append(s.Metrics, v)
		}
	}
	for _, p := range m.GetPools()[:min(len(m.GetPools()), maxPools)] {
		s.Pools = append(s.Pools, ops.Pool{
			Name: clip(p.GetName(), maxText), Kind: clip(p.GetKind(), maxText), Remote: clip(p.GetRemote(), maxText),
			MaxOpen: count(p.GetMaxOpen()), Open: count(p.GetOpen()), InUse: count(p.GetInUse()), Idle: count(p.GetIdle()),
			Waiting: max(p.GetWaiting(), -1), WaitCount: count(p.GetWaitCount()), WaitDuration: max(duration(p.GetWaitDuration()), 0),
		})
	}
	return s
}

func metricOf(m *agentv1.Metric) (ops.Metric, bool) {
	out := ops.Metric{Name: clip(m.GetName(), maxText)}
	switch v := m.GetValue().(type) {
	case *agentv1.Metric_Uint64:
		out.Value = float64(v.Uint64)
	case *agentv1.Metric_Float64:
		out.Value = finite(v.Float64)
	case *agentv1.Metric_Histogram:
		h := v.Histogram
		if n := len(h.GetCounts()); n == 0 || n > maxBuckets || len(h.GetBuckets()) != n+1 || slices.ContainsFunc(h.GetBuckets(), math.IsNaN) {
			return out, false
		}
		out.Counts, out.Buckets = h.GetCounts(), h.GetBuckets()
	default: // a shape that a newer agent has
		return out, false
	}
	return out, out.Name != ""
}

// fromStatus gives an error of a call our kind and the agent's words.
func fromStatus(err error, doing string) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	return ops.Errorf(errorKind(s.Code()), "%s: %s", doing, cmp.Or(clip(s.Message(), maxLossText), s.Code().String()))
}

func errorKind(c codes.Code) ops.ErrorKind {
	switch c {
	case codes.InvalidArgument, codes.Unimplemented:
		return ops.Invalid
	case codes.NotFound:
		return ops.NotFound
	case codes.ResourceExhausted:
		return ops.Exhausted
	case codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return ops.Conflict
	case codes.Unauthenticated, codes.PermissionDenied:
		return ops.Denied
	case codes.Unavailable, codes.DeadlineExceeded:
		return ops.Unavailable
	case codes.DataLoss:
		return ops.Corrupt
	case codes.Canceled:
		return ops.Cancelled
	}
	return ops.Internal
}
