package agent

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"time"

	agentv1 "github.com/opscenter/opscenter/gen/opscenter/agent/v1"
)

// snapshotKind is a profile that can be had at any moment.
type snapshotKind struct {
	profile string // its name in runtime/pprof
	kind    agentv1.Kind
}

var (
	snapHeap      = snapshotKind{"heap", agentv1.Kind_KIND_HEAP}
	snapAllocs    = snapshotKind{"allocs", agentv1.Kind_KIND_ALLOCS}
	snapGoroutine = snapshotKind{"goroutine", agentv1.Kind_KIND_GOROUTINE}
	snapBlock     = snapshotKind{"block", agentv1.Kind_KIND_BLOCK}
	snapMutex     = snapshotKind{"mutex", agentv1.Kind_KIND_MUTEX}
)

func cpuSegmentName(i int) string { return "cpu." + strconv.Itoa(i) + ".pprof" }

// snapshot takes one profile, with the losses that are known beforehand.
func (w *window) snapshot(s snapshotKind, name string, phase agentv1.Phase, losses ...*agentv1.Loss) {
	p := pprof.Lookup(s.profile)
	if p == nil {
		w.lose(loss(s.kind, lossUnsupported, "%s (%s) has no %s profile", runtime.Version(), runtime.GOOS, s.profile))
		return
	}
	if s == snapGoroutine {
		if err := w.roomForGoroutines(); err != nil {
			w.lose(loss(s.kind, lossSkipped, "%s was not taken: %v", name, err))
			return
		}
	}
	if s == snapHeap && w.plan.rule != "" {
		if err := w.roomForHeap(); err != nil {
			w.lose(loss(s.kind, lossSkipped, "%s was not taken: %v", name, err))
			return
		}
	}
	at := time.Now()
	a := w.newArtifact(name, s.kind, phase, 0, at)
	losses = append(losses, a.fill(func(out io.Writer) error { return p.WriteTo(out, 0) })...)
	a.close(at, losses...)
}

// roomForGoroutines refuses a goroutine snapshot that would bring the process
// near its memory limit: it takes up to 1.6 KB a goroutine for a moment.
func (w *window) roomForGoroutines() error {
	const each = 1600
	limit := w.agent.self.cgroup.limits().memoryBytes
	if limit == 0 {
		return nil
	}
	rss, _ := residentAndThreads()
	n := int64(runtime.NumGoroutine())
	if need, room := n*each, limit-rss; need > room/2 {
		return fmt.Errorf("%d goroutines would take about %d MiB and the process is %d MiB from its memory limit", n, need>>20, room>>20)
	}
	return nil
}

// heap takes the heap and allocs profiles. Their data are published by the
// garbage collector, so one is run first unless that would hurt.
func (w *window) heap(which string, phase agentv1.Phase, heapName, allocsName string) {
	wantHeap, wantAllocs := w.wants(agentv1.Kind_KIND_HEAP), w.wants(agentv1.Kind_KIND_ALLOCS)
	if !wantHeap && !wantAllocs || w.dead() {
		return
	}
	var skipped error
	if !w.plan.skipGC {
		w.doing("%s heap snapshot", which)
		if skipped = w.mayCollect(); skipped == nil {
			runtime.GC()
		}
	}
	for _, s := range []struct {
		snapshotKind
		name string
		want bool
	}{{snapHeap, heapName, wantHeap}, {snapAllocs, allocsName, wantAllocs}} {
		if !s.want || w.dead() {
			continue
		}
		var losses []*agentv1.Loss
		if skipped != nil {
			losses = append(losses, loss(s.kind, lossSkipped, "%s is as of the last garbage collection: none was run for it, because %v", s.name, skipped))
		}
		w.snapshot(s.snapshotKind, s.name, phase, losses...)
	}
}

// The load above which the agent runs no garbage collection of its own.
const (
	gcPerSecondMax = 1
	gcLookBack     = 5 * time.Second
	cpuShareMax    = 0.9 // of the cores that the process may use
	cpuLookFor     = 100 * time.Millisecond
)

// mayCollect says why a forced garbage collection would hurt now.
func (w *window) mayCollect() error {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	recent := 0
	for _, end := range stats.PauseEnd { // newest first
		if time.Since(end) > gcLookBack {
			break
		}
		recent++
	}
	cores, known := w.series.recentCPU()
	if !known {
		at, used := time.Now(), cpuTime()
		select {
		case <-time.After(cpuLookFor):
		case <-w.ctx.Done():
			return errDropped
		}
		cores = (cpuTime() - used).Seconds() / time.Since(at).Seconds()
	}
	quota := w.agent.self.cgroup.limits().cpuQuotaCores
	if procs := float64(runtime.GOMAXPROCS(0)); quota == 0 || procs < quota {
		quota = procs
	}
	return collectionHurts(recent, cores, quota, w.agent.tune.cpuShareMax)
}

// collectionHurts judges by the collections within gcLookBack and the cores in
// use: a forced one costs about 0.4 CPU seconds per GB that is live.
func collectionHurts(recent int, cores, quota, shareMax float64) error {
	switch {
	case cores >= shareMax*quota:
		return fmt.Errorf("the process uses %.2f of its %.2f cores", cores, quota)
	case float64(recent) > gcPerSecondMax*gcLookBack.Seconds():
		return fmt.Errorf("the collector already ran %d times in the last %v", recent, gcLookBack)
	}
	return nil
}
