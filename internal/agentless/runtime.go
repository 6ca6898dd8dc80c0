package agentless

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// runtimeFile is runtime.json: the part of opscenter.runtime/v1 that can be seen
// from outside. A field that is missing is unknown.
type runtimeFile struct {
	Schema   string          `json:"schema"`
	Capture  string          `json:"capture"`
	Instance runtimeInstance `json:"instance"`
	Window   runtimeWindow   `json:"window"`
	Build    runtimeBuild    `json:"build"`
	Process  runtimeProcess  `json:"process"`
	Rates    runtimeRates    `json:"rates"`
	Series   runtimeSeries   `json:"series"`
	// Memory is by the name of the runtime/metrics value, at the window's ends.
	Memory runtimeMemory `json:"memory"`
}

type runtimeInstance struct {
	ID        string            `json:"id"`
	Agentless bool              `json:"agentless"`
	Project   string            `json:"project"`
	Service   string            `json:"service"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// runtimeWindow is on the centre's clock: the process's is not known.
type runtimeWindow struct {
	Phase   string    `json:"phase"`
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"`
}

type runtimeBuild struct {
	GoVersion string `json:"go_version,omitempty"`
	GOOS      string `json:"goos,omitempty"`
	GOARCH    string `json:"goarch,omitempty"`
}

type runtimeProcess struct {
	Hostname    string `json:"hostname,omitempty"`
	Executable  string `json:"executable,omitempty"`
	MaxRSSBytes uint64 `json:"max_rss_bytes,omitempty"`
}

type runtimeRates struct {
	MutexFraction *int64 `json:"mutex_fraction,omitempty"`
}

// runtimeSeries has one row of numbers per name, all as long as Seconds.
type runtimeSeries struct {
	Seconds []float64            `json:"seconds"`
	Columns map[string][]float64 `json:"columns"`
}

type runtimeMemory struct {
	Before map[string]float64 `json:"before,omitempty"`
	After  map[string]float64 `json:"after,omitempty"`
}

// readMemory asks for the memory statistics of one end of the window, and keeps
// the head of runtime.json, which a target that dies must leave behind.
func (w *window) readMemory(ctx context.Context, phase ops.Phase) {
	ask := w.link.host.heapText
	if w.link.servesVars {
		ask = w.link.host.memstats
	}
	m, err := ask(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		w.state(ops.KindRuntime, ops.LossUnsupported, "no memory statistics: neither /debug/vars nor the text of the heap profile gives them")
	}
	w.mu.Lock()
	if phase == ops.PhaseBefore {
		w.before = m
	} else {
		w.after = m
	}
	w.mu.Unlock()
	if phase == ops.PhaseBefore {
		w.putRuntime(ops.KindRuntime.FileNameBefore(), phase)
	}
}

// judgeRestart notices that the process was replaced within the window: without
// an agent its address is all that identifies it.
func (w *window) judgeRestart() {
	w.mu.Lock()
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil && after != nil && after.TotalAlloc < before.TotalAlloc {
		w.state("", ops.LossFailed, "the process was restarted within the window: what was taken at its start is of another process, so that nothing of it can be subtracted")
	}
}

// writeRuntime makes runtime.json of what was seen, also of a target that died.
func (w *window) writeRuntime(ctx context.Context) {
	w.mu.Lock()
	given := w.sinkErr != nil || (ctx.Err() != nil && w.lost == nil)
	w.mu.Unlock()
	if w.wants(ops.KindRuntime) && !given {
		w.putRuntime(ops.KindRuntime.FileName(), ops.PhaseWindow)
	}
}

func (w *window) putRuntime(name string, phase ops.Phase) {
	f, art := w.runtimeFile(phase)
	art.Name = name
	data, err := json.Marshal(f)
	if err != nil {
		w.state(ops.KindRuntime, ops.LossFailed, name+" could not be written: "+err.Error())
		return
	}
	data = append(data, '\n')
	var to ops.ArtifactWriter
	if w.do(func() (err error) { to, err = w.sink.Begin(art); return err }) != nil {
		return
	}
	sum := sha256.Sum256(data)
	if w.do(func() error { _, err := to.Write(data); return err }) != nil {
		_ = w.do(func() error {
			return to.Abort(ops.Loss{Kind: ops.KindRuntime, Reason: ops.LossTruncated, Message: name + " could not be stored"})
		})
		return
	}
	_ = w.do(func() error { return to.Commit(int64(len(data)), sum[:], art) }) // do keeps the error
}

func (w *window) runtimeFile(phase ops.Phase) (runtimeFile, ops.Artifact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.link.instance
	now := time.Now()
	start := w.start
	if start.IsZero() {
		start = now
	}
	end := w.end
	if end.IsZero() || end.Before(start) {
		end = start
	}
	f := runtimeFile{
		Schema: "opscenter.runtime/v1", Capture: string(w.id),
		Instance: runtimeInstance{ID: string(i.ID), Agentless: true, Project: string(i.Project), Service: string(i.Service), Labels: i.Labels},
		Window:   runtimeWindow{Phase: string(phase), Start: start.UTC(), Seconds: seconds(end.Sub(start))},
		Build:    runtimeBuild{GoVersion: i.Build.GoVersion, GOOS: i.Build.GOOS, GOARCH: i.Build.GOARCH},
		Process:  runtimeProcess{Hostname: i.Process.Hostname, Executable: i.Process.Executable},
		Rates:    runtimeRates{MutexFraction: w.mutexPeriod},
		Series:   runtimeSeries{Seconds: []float64{}, Columns: map[string][]float64{}},
		Memory:   runtimeMemory{Before: w.before.byName(), After: w.after.byName()},
	}
	for _, m := range []*memstats{w.before, w.after} {
		if m != nil {
			f.Process.MaxRSSBytes = m.MaxRSS
		}
	}
	if phase == ops.PhaseWindow {
		f.Series = columns(start, w.series)
	}
	return f, ops.Artifact{Kind: ops.KindRuntime, Phase: phase, TakenAt: start, WindowStart: start, WindowEnd: end}
}

func (m *memstats) byName() map[string]float64 {
	if m == nil {
		return nil
	}
	out := map[string]float64{}
	for _, v := range (sample{goroutines: -1, mem: m}).metrics() {
		out[v.name] = v.value
	}
	return out
}

// columns turns samples into rows of numbers. What a sample lacks is as it was
// in the one before it; what the first lacks has no row.
func columns(start time.Time, samples []sample) runtimeSeries {
	s := runtimeSeries{Seconds: []float64{}, Columns: map[string][]float64{}}
	samples = slices.SortedFunc(slices.Values(samples), func(a, b sample) int { return a.at.Compare(b.at) })
	for _, at := range samples {
		s.Seconds = append(s.Seconds, seconds(at.at.Sub(start)))
		now := at.metrics()
		if n, ok := at.counts["threadcreate"]; ok {
			now = append(now, metric{"ops/threads:threads", float64(n)})
		}
		for _, m := range now {
			if col := s.Columns[m.name]; len(col) == len(s.Seconds)-1 {
				s.Columns[m.name] = append(col, m.value)
			}
		}
		for name, col := range s.Columns {
			if n := len(s.Seconds); len(col) == n-1 && n > 1 {
				s.Columns[name] = append(col, col[n-2])
			}
		}
	}
	return s
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
