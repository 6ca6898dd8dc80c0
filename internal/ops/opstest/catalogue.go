package opstest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opscenter/opscenter/internal/ops"
)

// TestCatalogue runs the contract of ops.Catalogue. open makes an empty one for
// every case; the suite closes it.
func TestCatalogue(t *testing.T, open func(t *testing.T) ops.Catalogue) {
	cases := []struct {
		name string
		run  func(*testing.T, ops.Catalogue)
	}{
		{"a capture comes back as it went in", catalogueRoundTrip},
		{"a capture id exists once", catalogueConflict},
		{"what does not exist is not found", catalogueNotFound},
		{"updates write what they say and nothing else", catalogueUpdates},
		{"an artifact is hidden while it is received", catalogueArtifactStates},
		{"artifacts are ordered by name and targets as they were asked", catalogueOrder},
		{"a capture is deleted with all below it", catalogueDelete},
		{"findings are kept with their capture", catalogueFindings},
		{"filters and pages", cataloguePages},
		{"unfinished captures are those that have not ended", catalogueUnfinished},
		{"strange text survives", catalogueStrangeText},
		{"instances are kept by when they were last seen", catalogueInstances},
		{"history comes back in order and within its bounds", catalogueHistory},
		{"history is kept per resolution and instance", catalogueHistoryApart},
		{"history of many points appended again and again", catalogueHistoryMany},
		{"history is deleted up to a time", catalogueHistoryDelete},
		{"numbers that are none do not stop it", catalogueNaN},
		{"many writers and readers at once", catalogueConcurrent},
		{"one of many wins, and the others do not suffer", catalogueContested},
		{"a caller that has left changes nothing", catalogueCancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cat := open(t)
			defer func() {
				if err := cat.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			c.run(t, cat)
		})
	}
}

// day0 is when the suites' stories happen. Catalogues keep milliseconds.
var day0 = time.Date(2026, 5, 4, 12, 30, 15, 123e6, time.UTC)

// SampleCapture is a capture of a service with as many instances as asked, all
// fields set, requested at the suites' day.
func SampleCapture(id ops.CaptureID, instances int) ops.Capture {
	spec, err := ops.Spec{}.Normalize()
	if err != nil {
		panic(err)
	}
	c := ops.Capture{
		ID: id, Project: "color-game", Service: "user-service", Spec: spec, State: ops.CaptureRequested,
		Actor: "local:operator", Note: "登入很慢", Created: day0,
	}
	for i := range instances {
		c.Targets = append(c.Targets, ops.CaptureTarget{Instance: SampleInstance(ops.InstanceID(fmt.Sprintf("boot-%d", i))), State: ops.CaptureRequested})
	}
	return c
}

// SampleInstance is an instance with every field set.
func SampleInstance(id ops.InstanceID) ops.Instance {
	return ops.Instance{
		ID: id, Project: "color-game", Service: "user-service", Source: "agent", Address: "host-1/4711",
		Labels: map[string]string{"zone": "tw-1", "色": "紅"},
		Build: ops.Build{
			GoVersion: "go1.26.8", ModulePath: "example.com/color", ModuleVersion: "v1.2.3", VCSRevision: "abc123", VCSTime: day0.Add(-time.Hour),
			VCSModified: true, BuildID: "build/1", GOOS: "linux", GOARCH: "amd64", AgentVersion: "v0.1.0",
		},
		Process: ops.Process{
			PID: 4711, Hostname: "host-1", StartTime: day0.Add(-2 * time.Hour), GOMAXPROCS: 4, NumCPU: 8, CPUQuotaCores: 3.5,
			MemoryLimitBytes: 1 << 30, GoMemoryLimitBytes: 900 << 20, GOGC: 100, Executable: "/app/user-service",
		},
		Kinds: ops.FullSet(), State: ops.InstanceUp, StateSince: day0, StateReason: "joined", Joined: day0, LastSeen: day0.Add(time.Minute),
		Heartbeat:   SampleHeartbeat(day0.Add(time.Minute), 7),
		Predecessor: &ops.Predecessor{ID: "boot-before", Ended: day0.Add(-time.Minute), Uptime: time.Hour, LastRSSBytes: 1 << 29, MemoryLimitBytes: 1 << 30, Verdict: "likely OOM"},
		Self:        true, ClockOffset: -250 * time.Millisecond,
	}
}

// SampleHeartbeat is a heartbeat with every field set, which differs with i.
func SampleHeartbeat(at time.Time, i int) ops.Heartbeat {
	n := int64(i)
	return ops.Heartbeat{
		At: at, CPUCores: 0.25 + float64(i%17)/16, Goroutines: 120 + n%31, GoroutinesRunning: n % 5, GoroutinesRunnable: n % 3,
		GoroutinesWaiting: 110 + n%7, GoroutinesSyscall: 2, LiveHeapBytes: 64<<20 + 4096*n, HeapObjects: 400_000 + 13*n, RSSBytes: 150<<20 + 8192*n,
		MemoryLimitBytes: 1 << 30, GCCPUFraction: 0.0125, GCCycles: 900 + n, SchedLatencyP99Second: 0.000_123 * float64(1+i%9), ThrottledFraction: 0.5,
		PoolWaiters: n % 11, MutexWaitRate: 0.03125, CPUQuotaCores: 3.5, GOMAXPROCS: 4, Threads: 14 + n%2,
	}
}

// sameRows compares what a catalogue returned: empty lists are no lists,
// fractions keep six digits.
var sameRows = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateApprox(1e-6, 0)}

func catalogueRoundTrip(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	want := SampleCapture("01capture", 2)
	want.State, want.Reason, want.Finished, want.Pinned, want.Imported = ops.CapturePartial, "one instance vanished", day0.Add(time.Minute), true, true
	want.Targets[0].State, want.Targets[0].Reason = ops.CapturePartial, "connection lost"
	want.Targets[0].WindowStart, want.Targets[0].WindowEnd, want.Targets[0].StoppedEarly = day0, day0.Add(30*time.Second), true
	want.Targets[0].Losses = []ops.Loss{{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: "the trace ended at 128 MiB"}}
	artifact := ops.Artifact{
		Name: "cpu.pprof", Kind: ops.KindCPU, Phase: ops.PhaseWindow, TakenAt: day0, WindowStart: day0, WindowEnd: day0.Add(30 * time.Second),
		SizeBytes: 12345, SHA256: fmt.Sprintf("%064x", 99), Losses: []ops.Loss{{Reason: ops.LossGap, Message: "3 ms between segments"}}, Partial: true, Derived: true,
	}
	must(t, cat.InsertCapture(ctx, want))
	must(t, cat.PutArtifact(ctx, ops.ArtifactRef{Capture: want.ID, Instance: "boot-0", Name: "cpu.pprof"}, artifact, ops.ArtifactDone))
	want.Targets[0].Artifacts = []ops.Artifact{artifact}
	got, err := cat.Capture(ctx, want.ID)
	must(t, err)
	same(t, got, want)
	if got.SizeBytes() != 12345 {
		t.Errorf("size %d", got.SizeBytes())
	}
}

func catalogueConflict(t *testing.T, cat ops.Catalogue) {
	first := SampleCapture("01capture", 1)
	must(t, cat.InsertCapture(t.Context(), first))
	second := SampleCapture("01capture", 3)
	second.Note = "the second"
	wantKind(t, cat.InsertCapture(t.Context(), second), ops.Conflict)
	got, err := cat.Capture(t.Context(), "01capture")
	must(t, err)
	same(t, got, first)

	twice := SampleCapture("02capture", 2)
	twice.Targets[1].Instance.ID = twice.Targets[0].Instance.ID
	wantKind(t, cat.InsertCapture(t.Context(), twice), ops.Conflict)
	_, err = cat.Capture(t.Context(), "02capture")
	wantKind(t, err, ops.NotFound)
}

func catalogueNotFound(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	must(t, cat.InsertCapture(ctx, SampleCapture("01capture", 1)))
	nobody := SampleCapture("09nothing", 1)
	ref := ops.ArtifactRef{Capture: "01capture", Instance: "boot-0", Name: "cpu.pprof"}
	_, err := cat.Capture(ctx, "09nothing")
	wantKind(t, err, ops.NotFound)
	wantKind(t, cat.UpdateCapture(ctx, nobody), ops.NotFound)
	wantKind(t, cat.UpdateTarget(ctx, "09nothing", nobody.Targets[0]), ops.NotFound)
	wantKind(t, cat.UpdateTarget(ctx, "01capture", ops.CaptureTarget{Instance: SampleInstance("boot-9")}), ops.NotFound)
	wantKind(t, cat.DeleteCapture(ctx, "09nothing"), ops.NotFound)
	wantKind(t, cat.DeleteArtifact(ctx, ref), ops.NotFound)
	for _, r := range []ops.ArtifactRef{{Capture: "09nothing", Instance: "boot-0", Name: "x"}, {Capture: "01capture", Instance: "boot-9", Name: "x"}} {
		wantKind(t, cat.PutArtifact(ctx, r, ops.Artifact{Name: "x"}, ops.ArtifactReceiving), ops.NotFound)
	}
	rows, err := cat.ArtifactRows(ctx, "09nothing")
	if err != nil || len(rows) != 0 {
		t.Errorf("rows of nothing: %v, %v", rows, err)
	}
	points, err := cat.History(ctx, "nobody", day0, day0.Add(time.Hour), ops.HistoryFineStep)
	if err != nil || len(points) != 0 {
		t.Errorf("history of nobody: %v, %v", points, err)
	}
}

func catalogueUpdates(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	want := SampleCapture("01capture", 2)
	must(t, cat.InsertCapture(ctx, want))
	must(t, cat.InsertCapture(ctx, SampleCapture("02capture", 2)))

	changed := SampleCapture("01capture", 0)
	changed.Note, changed.Actor, changed.Project = "not mine to change", "nobody", "other"
	changed.State, changed.Reason, changed.Finished, changed.Pinned, changed.Imported = ops.CaptureFailed, "no", day0.Add(time.Second), true, true
	must(t, cat.UpdateCapture(ctx, changed))
	want.State, want.Reason, want.Finished, want.Pinned, want.Imported = changed.State, changed.Reason, changed.Finished, true, true

	target := ops.CaptureTarget{
		Instance: ops.Instance{ID: "boot-1", Address: "not mine to change"}, State: ops.CaptureDone, Reason: "why", StoppedEarly: true,
		WindowStart: day0, WindowEnd: day0.Add(time.Second), Losses: []ops.Loss{{Reason: ops.LossGap, Message: "gap"}},
		Artifacts: []ops.Artifact{{Name: "not-mine-to-add"}},
	}
	must(t, cat.UpdateTarget(ctx, "01capture", target))
	target.Instance, target.Artifacts = want.Targets[1].Instance, nil
	want.Targets[1] = target
	got, err := cat.Capture(ctx, "01capture")
	must(t, err)
	same(t, got, want)
	other, err := cat.Capture(ctx, "02capture")
	must(t, err)
	same(t, other, SampleCapture("02capture", 2))
}

func catalogueArtifactStates(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	must(t, cat.InsertCapture(ctx, SampleCapture("01capture", 1)))
	ref := ops.ArtifactRef{Capture: "01capture", Instance: "boot-0", Name: "heap.pprof"}
	for i, s := range []ops.ArtifactState{ops.ArtifactReceiving, ops.ArtifactCommitting, ops.ArtifactDone, ops.ArtifactPartial, ops.ArtifactReceiving} {
		a := ops.Artifact{Name: ref.Name, Kind: ops.KindHeap, Phase: ops.PhaseAfter, TakenAt: day0, SizeBytes: int64(i) + 1}
		must(t, cat.PutArtifact(ctx, ref, a, s))
		rows, err := cat.ArtifactRows(ctx, "01capture")
		must(t, err)
		same(t, rows, []ops.ArtifactRow{{Ref: ref, Artifact: a, State: s}})
		c, err := cat.Capture(ctx, "01capture")
		must(t, err)
		if visible := len(c.Targets[0].Artifacts) == 1; visible != (s != ops.ArtifactReceiving) {
			t.Errorf("in state %s: visible is %v", s, visible)
		}
	}
	must(t, cat.DeleteArtifact(ctx, ref))
	rows, err := cat.ArtifactRows(ctx, "01capture")
	if err != nil || len(rows) != 0 {
		t.Errorf("after its deletion: %v, %v", rows, err)
	}
}

func catalogueOrder(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	c := SampleCapture("01capture", 3)
	c.Targets[0].Instance.ID, c.Targets[1].Instance.ID, c.Targets[2].Instance.ID = "zeta", "alpha", "midd"
	must(t, cat.InsertCapture(ctx, c))
	for _, name := range []string{"trace.out", "cpu.pprof", "heap.before.pprof", "heap.pprof"} {
		must(t, cat.PutArtifact(ctx, ops.ArtifactRef{Capture: c.ID, Instance: "alpha", Name: name}, ops.Artifact{Name: name}, ops.ArtifactDone))
	}
	got, err := cat.Capture(ctx, c.ID)
	must(t, err)
	var order, names []string
	for _, target := range got.Targets {
		order = append(order, string(target.Instance.ID))
	}
	for _, a := range got.Targets[1].Artifacts {
		names = append(names, a.Name)
	}
	same(t, order, []string{"zeta", "alpha", "midd"})
	same(t, names, []string{"cpu.pprof", "heap.before.pprof", "heap.pprof", "trace.out"})
}

func catalogueDelete(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	for _, id := range []ops.CaptureID{"01capture", "02capture"} {
		must(t, cat.InsertCapture(ctx, SampleCapture(id, 1)))
		must(t, cat.PutArtifact(ctx, ops.ArtifactRef{Capture: id, Instance: "boot-0", Name: "x"}, ops.Artifact{Name: "x"}, ops.ArtifactDone))
	}
	must(t, cat.DeleteCapture(ctx, "01capture"))
	_, err := cat.Capture(ctx, "01capture")
	wantKind(t, err, ops.NotFound)
	rows, err := cat.ArtifactRows(ctx, "01capture")
	if err != nil || len(rows) != 0 {
		t.Errorf("rows below a deleted capture: %v, %v", rows, err)
	}
	rows, err = cat.ArtifactRows(ctx, "02capture")
	if err != nil || len(rows) != 1 {
		t.Errorf("rows of the other capture: %v, %v", rows, err)
	}
	must(t, cat.InsertCapture(ctx, SampleCapture("01capture", 1))) // the id is free again
}

func cataloguePages(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	for i := range 60 {
		c := SampleCapture(ops.CaptureID(fmt.Sprintf("%04d-capture", i)), 2)
		if i%2 == 1 {
			c.Service = "game-service"
		}
		if i%3 == 0 {
			c.Project = "dice"
			c.Targets[1].Instance.ID = "boot-dice"
		}
		must(t, cat.InsertCapture(ctx, c))
	}
	count := func(f ops.CaptureFilter) (n int, first, last ops.CaptureID) {
		t.Helper()
		got, err := cat.Captures(ctx, f)
		must(t, err)
		for i := 1; i < len(got); i++ {
			if got[i-1].ID <= got[i].ID {
				t.Fatalf("%s comes before %s", got[i-1].ID, got[i].ID)
			}
		}
		if len(got) == 0 {
			return 0, "", ""
		}
		if len(got[0].Targets) != 2 {
			t.Fatalf("%d targets", len(got[0].Targets))
		}
		return len(got), got[0].ID, got[len(got)-1].ID
	}
	check := func(f ops.CaptureFilter, n int, first, last ops.CaptureID) {
		t.Helper()
		if gn, gf, gl := count(f); gn != n || gf != first || gl != last {
			t.Errorf("%+v: %d from %s to %s, want %d from %s to %s", f, gn, gf, gl, n, first, last)
		}
	}
	check(ops.CaptureFilter{}, 50, "0059-capture", "0010-capture")
	check(ops.CaptureFilter{Before: "0010-capture"}, 10, "0009-capture", "0000-capture")
	check(ops.CaptureFilter{Limit: 7}, 7, "0059-capture", "0053-capture")
	check(ops.CaptureFilter{Limit: 1000}, 60, "0059-capture", "0000-capture")
	check(ops.CaptureFilter{Project: "dice"}, 20, "0057-capture", "0000-capture")
	check(ops.CaptureFilter{Service: "game-service"}, 30, "0059-capture", "0001-capture")
	check(ops.CaptureFilter{Project: "dice", Service: "game-service"}, 10, "0057-capture", "0003-capture")
	check(ops.CaptureFilter{Instance: "boot-dice", Before: "0030-capture", Limit: 3}, 3, "0027-capture", "0021-capture")
	check(ops.CaptureFilter{Project: "nothing"}, 0, "", "")
}

func catalogueUnfinished(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	for i, s := range []ops.CaptureState{ops.CaptureDone, ops.CaptureCommitting, ops.CaptureFailed, ops.CaptureRequested, ops.CaptureCancelled, ops.CaptureCollecting, ops.CapturePartial} {
		c := SampleCapture(ops.CaptureID(fmt.Sprintf("%02d-capture", i)), 1)
		c.State = s
		must(t, cat.InsertCapture(ctx, c))
	}
	got, err := cat.Unfinished(ctx)
	must(t, err)
	var ids []ops.CaptureID
	for _, c := range got {
		ids = append(ids, c.ID)
		if len(c.Targets) != 1 {
			t.Errorf("%s has %d targets", c.ID, len(c.Targets))
		}
	}
	same(t, ids, []ops.CaptureID{"01-capture", "03-capture", "05-capture"})
}

func catalogueStrangeText(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	c := SampleCapture("01capture", 1)
	c.Note = `'; DROP TABLE capture; -- "$1" %s \ 🎲 <script>`
	c.Targets[0].Instance.Labels = map[string]string{`a"b`: "line\nbreak"}
	must(t, cat.InsertCapture(ctx, c))
	got, err := cat.Capture(ctx, "01capture")
	must(t, err)
	same(t, got, c)

	// What is no text is stored as near as can be rather than refused: an
	// instance may send anything, and that must not stop the centre.
	broken := SampleCapture("02capture", 1)
	broken.Note = "a\x00b\xff"
	broken.Targets[0].Instance.Address = "c\x00d\xff"
	must(t, cat.InsertCapture(ctx, broken))
	broken.Reason = "e\x00f\xff"
	must(t, cat.UpdateCapture(ctx, broken))
	got, err = cat.Capture(ctx, "02capture")
	must(t, err)
	if got.Note == "" || got.Reason == "" || got.Targets[0].Instance.Address == "" {
		t.Errorf("lost: %q %q %q", got.Note, got.Reason, got.Targets[0].Instance.Address)
	}
}

func catalogueInstances(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	old, fresh := SampleInstance("boot-old"), SampleInstance("boot-fresh")
	old.LastSeen, fresh.LastSeen = day0.Add(-25*time.Hour), day0
	must(t, cat.PutInstance(ctx, old))
	must(t, cat.PutInstance(ctx, fresh))
	fresh.State, fresh.StateReason, fresh.Predecessor = ops.InstanceGone, "clean exit", nil
	must(t, cat.PutInstance(ctx, fresh)) // replaces

	all, err := cat.Instances(ctx, time.Time{})
	must(t, err)
	same(t, all, []ops.Instance{old, fresh})
	recent, err := cat.Instances(ctx, day0.Add(-24*time.Hour))
	must(t, err)
	same(t, recent, []ops.Instance{fresh})
	exact, err := cat.Instances(ctx, day0)
	must(t, err)
	same(t, exact, []ops.Instance{fresh})

	must(t, cat.DeleteInstances(ctx, day0))
	all, err = cat.Instances(ctx, time.Time{})
	must(t, err)
	same(t, all, []ops.Instance{fresh})
	must(t, cat.DeleteInstances(ctx, day0)) // nothing to do is no error
}

func catalogueHistory(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	var want []ops.Heartbeat
	var points []ops.HistoryPoint
	for i := range 5 {
		want = append(want, SampleHeartbeat(day0.Add(time.Duration(i)*10*time.Second), i))
	}
	for _, i := range []int{3, 0, 4, 1, 2} { // in no order
		points = append(points, ops.HistoryPoint{Instance: "boot-0", Heartbeat: want[i]})
	}
	must(t, cat.AppendHistory(ctx, points[:2], ops.HistoryFineStep))
	must(t, cat.AppendHistory(ctx, points[2:], ops.HistoryFineStep))
	must(t, cat.AppendHistory(ctx, nil, ops.HistoryFineStep))

	got, err := cat.History(ctx, "boot-0", day0, day0.Add(time.Hour), ops.HistoryFineStep)
	must(t, err)
	same(t, got, want)
	got, err = cat.History(ctx, "boot-0", day0.Add(10*time.Second), day0.Add(30*time.Second), ops.HistoryFineStep)
	must(t, err)
	same(t, got, want[1:3]) // from is in, to is not
	got, err = cat.History(ctx, "boot-0", time.Time{}, day0, ops.HistoryFineStep)
	must(t, err)
	same(t, got, nil)
}

func catalogueHistoryApart(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	at := func(id ops.InstanceID, i int) []ops.HistoryPoint {
		return []ops.HistoryPoint{{Instance: id, Heartbeat: SampleHeartbeat(day0, i)}}
	}
	must(t, cat.AppendHistory(ctx, at("boot-0", 1), ops.HistoryFineStep))
	must(t, cat.AppendHistory(ctx, at("boot-0", 2), ops.HistoryCoarseStep))
	must(t, cat.AppendHistory(ctx, at("boot-1", 3), ops.HistoryFineStep))
	for _, c := range []struct {
		id   ops.InstanceID
		step time.Duration
		i    int
	}{{"boot-0", ops.HistoryFineStep, 1}, {"boot-0", ops.HistoryCoarseStep, 2}, {"boot-1", ops.HistoryFineStep, 3}} {
		got, err := cat.History(ctx, c.id, day0, day0.Add(time.Second), c.step)
		must(t, err)
		same(t, got, []ops.Heartbeat{SampleHeartbeat(day0, c.i)})
	}
	got, err := cat.History(ctx, "boot-1", day0, day0.Add(time.Second), ops.HistoryCoarseStep)
	must(t, err)
	same(t, got, nil)
}

// catalogueHistoryMany appends often enough that a catalogue which lays its
// rows out again has done so, and finds every point still there.
func catalogueHistoryMany(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	const instances, rounds = 70, 70
	id := func(i int) ops.InstanceID { return ops.InstanceID(fmt.Sprintf("boot-%03d", i)) }
	for r := range rounds {
		var points []ops.HistoryPoint
		for i := range instances {
			points = append(points, ops.HistoryPoint{Instance: id(i), Heartbeat: SampleHeartbeat(day0.Add(time.Duration(r)*10*time.Second), i*1000+r)})
		}
		must(t, cat.AppendHistory(ctx, points, ops.HistoryFineStep))
	}
	for _, i := range []int{0, 1, 63, 64, 69} {
		got, err := cat.History(ctx, id(i), day0, day0.Add(24*time.Hour), ops.HistoryFineStep)
		must(t, err)
		var want []ops.Heartbeat
		for r := range rounds {
			want = append(want, SampleHeartbeat(day0.Add(time.Duration(r)*10*time.Second), i*1000+r))
		}
		same(t, got, want)
	}
}

func catalogueHistoryDelete(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	const rounds = 150
	for r := range rounds {
		must(t, cat.AppendHistory(ctx, []ops.HistoryPoint{{Instance: "boot-0", Heartbeat: SampleHeartbeat(day0.Add(time.Duration(r)*time.Minute), r)}}, ops.HistoryFineStep))
	}
	must(t, cat.AppendHistory(ctx, []ops.HistoryPoint{{Instance: "boot-0", Heartbeat: SampleHeartbeat(day0, 1)}}, ops.HistoryCoarseStep))
	must(t, cat.AppendHistory(ctx, []ops.HistoryPoint{{Instance: "boot-gone", Heartbeat: SampleHeartbeat(day0, 1)}}, ops.HistoryFineStep))
	left := func(id ops.InstanceID, step time.Duration) int {
		t.Helper()
		got, err := cat.History(ctx, id, time.Time{}, day0.Add(24*time.Hour), step)
		must(t, err)
		return len(got)
	}
	must(t, cat.DeleteHistory(ctx, day0.Add(40*time.Minute), ops.HistoryFineStep))
	if n := left("boot-0", ops.HistoryFineStep); n != rounds-40 {
		t.Errorf("%d fine points left, want %d", n, rounds-40)
	}
	if n := left("boot-gone", ops.HistoryFineStep); n != 0 {
		t.Errorf("%d points of the gone instance left", n)
	}
	if n := left("boot-0", ops.HistoryCoarseStep); n != 1 {
		t.Errorf("%d coarse points left, want 1", n)
	}
	must(t, cat.DeleteHistory(ctx, day0.Add(24*time.Hour), ops.HistoryFineStep))
	if n := left("boot-0", ops.HistoryFineStep); n != 0 {
		t.Errorf("%d fine points left after all were deleted", n)
	}
	if n := left("boot-0", ops.HistoryCoarseStep); n != 1 {
		t.Errorf("%d coarse points left, want 1", n)
	}
	// Both go on.
	later := SampleHeartbeat(day0.Add(25*time.Hour), 5)
	for _, id := range []ops.InstanceID{"boot-0", "boot-gone"} {
		must(t, cat.AppendHistory(ctx, []ops.HistoryPoint{{Instance: id, Heartbeat: later}}, ops.HistoryFineStep))
		got, err := cat.History(ctx, id, day0, day0.Add(48*time.Hour), ops.HistoryFineStep)
		must(t, err)
		same(t, got, []ops.Heartbeat{later})
	}
}

func catalogueNaN(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	hb := SampleHeartbeat(day0, 1)
	hb.CPUCores, hb.GCCPUFraction, hb.MutexWaitRate = math.NaN(), math.Inf(1), math.Inf(-1)
	i := SampleInstance("boot-0")
	i.Heartbeat, i.Process.CPUQuotaCores = hb, math.NaN()
	must(t, cat.PutInstance(ctx, i))
	must(t, cat.AppendHistory(ctx, []ops.HistoryPoint{{Instance: "boot-0", Heartbeat: hb}}, ops.HistoryFineStep))
	c := SampleCapture("01capture", 1)
	c.Targets[0].Instance = i
	must(t, cat.InsertCapture(ctx, c))
	points, err := cat.History(ctx, "boot-0", day0, day0.Add(time.Second), ops.HistoryFineStep)
	must(t, err)
	if len(points) != 1 || points[0].Goroutines != hb.Goroutines {
		t.Errorf("history: %+v", points)
	}
}

func catalogueConcurrent(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := ops.CaptureID(fmt.Sprintf("%02d-%02d-capture", w, i))
				ref := ops.ArtifactRef{Capture: id, Instance: "boot-0", Name: "cpu.pprof"}
				c := SampleCapture(id, 1)
				for _, step := range []func() error{
					func() error { return cat.InsertCapture(ctx, c) },
					func() error {
						return cat.PutArtifact(ctx, ref, ops.Artifact{Name: ref.Name}, ops.ArtifactCommitting)
					},
					func() error {
						return cat.PutArtifact(ctx, ref, ops.Artifact{Name: ref.Name, SizeBytes: int64(i)}, ops.ArtifactDone)
					},
					func() error { c.State = ops.CaptureDone; return cat.UpdateCapture(ctx, c) },
					func() error {
						return cat.AppendHistory(ctx, []ops.HistoryPoint{{Instance: ops.InstanceID(fmt.Sprintf("boot-%d", w)), Heartbeat: SampleHeartbeat(day0.Add(time.Duration(i)*time.Second), i)}}, ops.HistoryFineStep)
					},
				} {
					if err := step(); err != nil {
						t.Errorf("%s: %v", id, err)
						return
					}
				}
				got, err := cat.Capture(ctx, id) // a writer reads what it wrote
				if err != nil || got.State != ops.CaptureDone || len(got.Targets[0].Artifacts) != 1 {
					t.Errorf("%s: %+v, %v", id, got, err)
					return
				}
			}
		})
		wg.Go(func() {
			for range each {
				if _, err := cat.Captures(ctx, ops.CaptureFilter{Limit: 20}); err != nil {
					t.Errorf("list: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	all, err := cat.Captures(ctx, ops.CaptureFilter{Limit: 1000})
	must(t, err)
	if len(all) != writers*each {
		t.Errorf("%d captures, want %d", len(all), writers*each)
	}
	for w := range writers {
		points, err := cat.History(ctx, ops.InstanceID(fmt.Sprintf("boot-%d", w)), day0, day0.Add(time.Hour), ops.HistoryFineStep)
		if err != nil || len(points) != each {
			t.Errorf("writer %d: %d points, %v", w, len(points), err)
		}
	}
}

func catalogueContested(t *testing.T, cat ops.Catalogue) {
	const writers, captures = 8, 15
	var wins [captures]atomic.Int32
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range captures {
				err := cat.InsertCapture(t.Context(), SampleCapture(ops.CaptureID(fmt.Sprintf("%02d-capture", i)), 1))
				if err == nil {
					wins[i].Add(1)
				} else if ops.KindOf(err) != ops.Conflict {
					t.Errorf("contested: %v", err)
				}
				mine := SampleCapture(ops.CaptureID(fmt.Sprintf("mine-%d-%02d", w, i)), 1)
				if err := cat.InsertCapture(t.Context(), mine); err != nil {
					t.Errorf("uncontested: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for i := range wins {
		if n := wins[i].Load(); n != 1 {
			t.Errorf("capture %d was inserted %d times", i, n)
		}
	}
	all, err := cat.Captures(t.Context(), ops.CaptureFilter{Limit: 1000})
	must(t, err)
	if len(all) != captures*(writers+1) {
		t.Errorf("%d captures, want %d", len(all), captures*(writers+1))
	}
}

func catalogueCancelled(t *testing.T, cat ops.Catalogue) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, cat.InsertCapture(gone, SampleCapture("01capture", 1)), ops.Cancelled)
	_, err := cat.Captures(gone, ops.CaptureFilter{})
	wantKind(t, err, ops.Cancelled)
	_, err = cat.Capture(t.Context(), "01capture")
	wantKind(t, err, ops.NotFound)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, sameRows); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func wantKind(t *testing.T, err error, want ops.ErrorKind) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one of kind %s", want)
	} else if got := ops.KindOf(err); got != want {
		t.Errorf("error of kind %s, want %s: %v", got, want, err)
	}
}

func catalogueFindings(t *testing.T, cat ops.Catalogue) {
	ctx := t.Context()
	f := ops.Findings{Rules: "1-aa", Made: day0, Bodies: map[ops.Lang][]byte{ops.English: []byte("{}"), ops.TraditionalChinese: []byte(`{"title":"鎖"}`)}}
	if err := cat.PutFindings(ctx, "01capture", f); ops.KindOf(err) != ops.NotFound {
		t.Errorf("findings of no capture: %v", err)
	}
	must(t, cat.InsertCapture(ctx, SampleCapture("01capture", 1)))
	if _, err := cat.Findings(ctx, "01capture"); ops.KindOf(err) != ops.NotFound {
		t.Errorf("findings before there are any: %v", err)
	}
	must(t, cat.PutFindings(ctx, "01capture", f))
	got, err := cat.Findings(ctx, "01capture")
	must(t, err)
	if diff := cmp.Diff(f, got, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	again := ops.Findings{Rules: "2-bb", Made: day0.Add(time.Hour), Bodies: map[ops.Lang][]byte{ops.English: []byte(`{"new":true}`)}}
	must(t, cat.PutFindings(ctx, "01capture", again))
	got, err = cat.Findings(ctx, "01capture")
	must(t, err)
	if diff := cmp.Diff(again, got, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	must(t, cat.DeleteCapture(ctx, "01capture"))
	if _, err := cat.Findings(ctx, "01capture"); ops.KindOf(err) != ops.NotFound {
		t.Errorf("findings of a deleted capture: %v", err)
	}
}
