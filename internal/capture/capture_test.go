package capture_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

const users = ops.ServiceName("user-service")

// one is a service of one instance named "i-one".
func one(l ops.Link) func(*fleet) { return func(f *fleet) { f.add(users, "i-one", l) } }

// many is a service of n instances, i-01 onwards.
func many(n int, l func(i int) ops.Link) func(*fleet) {
	return func(f *fleet) {
		for i := 1; i <= n; i++ {
			f.add(users, ops.InstanceID(fmt.Sprintf("i-%02d", i)), l(i))
		}
	}
}

func TestAWindowBecomesArtifacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(agent(0)))
		began := time.Now()
		c := h.ended(h.start(capture.Request{Service: users, Actor: "local:pia", Note: "slow logins"}))

		if c.State != ops.CaptureDone || c.Reason != "" || c.Actor != "local:pia" || c.Note != "slow logins" || c.Spec.Duration != 30*time.Second {
			t.Errorf("capture: %+v", c)
		}
		target := c.Targets[0]
		want := []string{
			"allocs.after.pprof", "allocs.before.pprof", "allocs.pprof",
			"block.after.pprof", "block.before.pprof", "block.pprof",
			"cpu.pprof",
			"goroutine.before.pprof", "goroutine.pprof", "heap.before.pprof", "heap.pprof",
			"mutex.after.pprof", "mutex.before.pprof", "mutex.pprof",
		}
		if diff := cmp.Diff(want, names(target)); diff != "" {
			t.Errorf("artifacts (-want +got):\n%s", diff)
		}
		if target.State != ops.CaptureDone || !target.WindowStart.Equal(began) || target.WindowEnd.Sub(began).Round(time.Second) != 30*time.Second {
			t.Errorf("target: %s %v %v", target.State, target.WindowStart, target.WindowEnd)
		}
		if got := sums(h.read(c.ID, "i-one", "block.pprof")); !maps.Equal(got, map[string]int64{"hot": 25}) {
			t.Errorf("block.pprof is %v, want only what the window added", got)
		}
		cpu := h.read(c.ID, "i-one", "cpu.pprof")
		if got := sums(cpu)["work"]; got < 2970 || got > 3000 {
			t.Errorf("cpu.pprof has %d samples, want those of all three segments", got)
		}
		if got := cpu.DurationNanos; got < 29.7e9 || got > 30e9 {
			t.Errorf("cpu.pprof lasts %v", time.Duration(got))
		}
		for _, a := range target.Artifacts {
			if a.Name == "cpu.pprof" {
				wantLoss := []ops.Loss{{Kind: ops.KindCPU, Reason: ops.LossGap, Message: "recorded in 3 segments: 200ms between them is not covered"}}
				if diff := cmp.Diff(wantLoss, a.Losses); diff != "" || !a.Derived {
					t.Errorf("losses of cpu.pprof (-want +got):\n%s", diff)
				}
			}
		}
		if h.archive.log[0] != "begin requested" {
			t.Errorf("the first thing that happened is %q, want the row", h.archive.log[0])
		}
		put, removed := slices.Index(h.archive.log, "put cpu.pprof"), slices.Index(h.archive.log, "remove cpu.0.pprof")
		if put < 0 || removed < put {
			t.Errorf("a segment was removed before the sum was durable: %v", h.archive.log)
		}
	})
}

func TestKilledAtSecond25(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(agent(25*time.Second)))
		c := h.ended(h.start(capture.Request{Service: users}))

		if c.State != ops.CapturePartial || c.Reason != "connection lost at 83 %" {
			t.Errorf("capture is %s, %q", c.State, c.Reason)
		}
		target := c.Targets[0]
		want := []string{"allocs.before.pprof", "block.before.pprof", "cpu.pprof", "goroutine.before.pprof", "heap.before.pprof", "mutex.before.pprof", "trace.out"}
		if diff := cmp.Diff(want, names(target)); diff != "" {
			t.Errorf("artifacts (-want +got):\n%s", diff)
		}
		if got := h.read(c.ID, "i-one", "cpu.pprof").DurationNanos; got < 20e9 {
			t.Errorf("cpu.pprof lasts %v, want at least 20 s", time.Duration(got))
		}
		missing := func(k ops.Kind) ops.Loss {
			return ops.Loss{Kind: k, Reason: ops.LossFailed, Message: fmt.Sprintf("the snapshot from the window's end is missing, so that there is no %s.pprof of the window: %[1]s.before.pprof holds the totals of the process up to its start", k)}
		}
		wantLosses := []ops.Loss{
			{Reason: ops.LossDisconnected, Message: "connection lost at 83 %: what had not arrived by then is missing (read tcp 127.0.0.1:1: connection reset by peer)"},
			missing(ops.KindAllocs), missing(ops.KindBlock), missing(ops.KindMutex),
		}
		if diff := cmp.Diff(wantLosses, target.Losses); diff != "" {
			t.Errorf("losses (-want +got):\n%s", diff)
		}
		for _, a := range target.Artifacts {
			switch a.Name {
			case "cpu.pprof":
				if !slices.ContainsFunc(a.Losses, func(l ops.Loss) bool {
					return l.Reason == ops.LossGap && l.Message == "covers 20.9s of the 30s that were asked for"
				}) {
					t.Errorf("cpu.pprof does not say what it misses: %+v", a.Losses)
				}
			case "trace.out":
				if !a.Partial || a.Losses[0].Message != "cut off: connection lost at 83 %" {
					t.Errorf("trace.out: %+v", a)
				}
			}
		}
	})
}

func TestOneOfThreeDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, many(3, func(i int) ops.Link {
			if i == 2 {
				return agent(19 * time.Second)
			}
			return agent(0)
		}))
		c := h.ended(h.start(capture.Request{Service: users}))
		if want := "2 of 3 instances; user-service/i-02: connection lost at 63 %"; c.State != ops.CapturePartial || c.Reason != want {
			t.Errorf("capture is %s, %q, want %q", c.State, c.Reason, want)
		}
		for i, want := range []ops.CaptureState{ops.CaptureDone, ops.CapturePartial, ops.CaptureDone} {
			if got := c.Targets[i].State; got != want {
				t.Errorf("target %d is %s, want %s", i, got, want)
			}
		}
	})
}

func TestWindowsOfACaptureBeginTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links := map[int]*link{}
		h := newHouse(t, capture.Limits{PerCenter: 200}, many(100, func(i int) ops.Link {
			links[i] = pieces(piece{name: "heap.pprof", kind: ops.KindHeap, data: []byte("x")})
			return links[i]
		}))
		var ids []ops.InstanceID
		for _, i := range h.fleet.instances {
			ids = append(ids, i.ID)
		}
		c := h.ended(h.start(capture.Request{Instances: ids, Spec: ops.Spec{Duration: 2 * time.Second}}))
		if c.State != ops.CaptureDone || len(c.Targets) != 100 {
			t.Fatalf("capture of %d is %s: %s", len(c.Targets), c.State, c.Reason)
		}
		for i, l := range links {
			if !l.began0().Equal(links[1].began0()) {
				t.Errorf("window %d began at %v, the first at %v", i, l.began0(), links[1].began0())
			}
		}
	})
}

func TestAnInstanceWithoutLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, many(2, func(i int) ops.Link {
			if i == 1 {
				return agent(0)
			}
			return nil
		}))
		c := h.ended(h.start(capture.Request{Service: users}))
		if want := "1 of 2 instances; user-service/i-02: could not be reached: instance i-02 has no link"; c.Reason != want || c.State != ops.CapturePartial {
			t.Errorf("capture is %s, %q, want %q", c.State, c.Reason, want)
		}
		alone := h.ended(h.start(capture.Request{Instances: []ops.InstanceID{"i-02"}}))
		if want := "could not be reached: instance i-02 has no link"; alone.Reason != want || alone.State != ops.CaptureFailed {
			t.Errorf("capture is %s, %q, want %q", alone.State, alone.Reason, want)
		}
	})
}

func TestStopKeeps(t *testing.T) {
	for _, late := range []time.Duration{0, 3 * time.Second} {
		t.Run(fmt.Sprintf("window opens after %v", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := agent(0)
				l.opensLate = late
				h := newHouse(t, capture.Limits{}, one(l))
				id := h.start(capture.Request{Service: users})
				time.Sleep(1500 * time.Millisecond)
				if err := h.Stop(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				c := h.ended(id)
				if c.State != ops.CaptureDone || !c.Targets[0].StoppedEarly {
					t.Errorf("capture is %s (%s), stopped early %v", c.State, c.Reason, c.Targets[0].StoppedEarly)
				}
				if took := c.Finished.Sub(c.Created); took > 4*time.Second {
					t.Errorf("took %v", took)
				}
				if !slices.Contains(names(c.Targets[0]), "cpu.pprof") || !slices.Contains(names(c.Targets[0]), "block.pprof") {
					t.Errorf("kept %v", names(c.Targets[0]))
				}
				err := h.Stop(t.Context(), id)
				if want := fmt.Sprintf("capture %s has ended (done)", id); ops.KindOf(err) != ops.Conflict || err.Error() != want {
					t.Errorf("Stop of an ended capture: %v, want %q", err, want)
				}
			})
		})
	}
}

func TestCancelDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, many(2, func(i int) ops.Link {
			if i == 1 {
				return agent(0)
			}
			return agent(3 * time.Second) // has ended when the cancel comes
		}))
		id := h.start(capture.Request{Service: users})
		time.Sleep(12 * time.Second)
		if err := h.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		c := h.ended(id)
		if c.State != ops.CaptureCancelled || c.Reason != "cancelled: its data was dropped" {
			t.Errorf("capture is %s, %q", c.State, c.Reason)
		}
		for _, target := range c.Targets {
			if target.State != ops.CaptureCancelled || len(target.Artifacts) > 0 {
				t.Errorf("%s is %s with %v", target.Instance.ID, target.State, names(target))
			}
		}
		if len(h.archive.data) > 0 {
			t.Errorf("left in the archive: %v", slices.Collect(maps.Keys(h.archive.data)))
		}
		err := h.Cancel(t.Context(), id)
		if want := fmt.Sprintf("capture %s has ended (cancelled): delete it to drop its data", id); ops.KindOf(err) != ops.Conflict || err.Error() != want {
			t.Errorf("Cancel of an ended capture: %v, want %q", err, want)
		}
		if err := h.Cancel(t.Context(), "unknown"); ops.KindOf(err) != ops.NotFound {
			t.Errorf("Cancel of an unknown capture: %v", err)
		}
	})
}

func TestTheCallerMayHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(agent(0)))
		ctx, hangUp := context.WithCancel(t.Context())
		c, err := h.Start(ctx, capture.Request{Instances: []ops.InstanceID{"i-one"}})
		if err != nil {
			t.Fatal(err)
		}
		hangUp()
		if got := h.ended(c.ID); got.State != ops.CaptureDone {
			t.Errorf("capture is %s: %s", got.State, got.Reason)
		}
		if _, err := h.Start(ctx, capture.Request{Instances: []ops.InstanceID{"i-one"}}); ops.KindOf(err) != ops.Cancelled {
			t.Errorf("Start for a caller who has gone: %v", err)
		}
	})
}

func TestTheArchiveIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := agent(0)
		h := newHouse(t, capture.Limits{PerHour: 2}, one(l))
		full := ops.Errorf(ops.Exhausted, "the disk reserve is reached: delete captures")
		h.archive.set(func() { h.archive.writeErr, h.archive.writeMost = full, 1200 })
		c := h.ended(h.start(capture.Request{Service: users}))
		if c.State != ops.CapturePartial || c.Reason != full.Error() {
			t.Errorf("capture is %s, %q", c.State, c.Reason)
		}
		if got := c.Targets[0].Losses[0]; got.Reason != ops.LossTruncated {
			t.Errorf("loss: %+v", got)
		}

		h.archive.set(func() { h.archive.beginErr = full })
		for range 3 { // refused ones hold no place
			if _, err := h.Start(t.Context(), capture.Request{Instances: []ops.InstanceID{"i-one"}}); !errors.Is(err, full) {
				t.Errorf("Start: %v", err)
			}
		}
		if l.calls() != 1 {
			t.Errorf("%d commands were sent, want none without a row", l.calls()-1)
		}
		h.archive.set(func() { h.archive.beginErr, h.archive.writeErr = nil, nil })
		if c := h.ended(h.start(capture.Request{Service: users})); c.State != ops.CaptureDone {
			t.Errorf("capture is %s: %s", c.State, c.Reason)
		}
	})
}

func TestTheEndIsRecordedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(agent(0)))
		id := h.start(capture.Request{Service: users, Spec: ops.Spec{Duration: 10 * time.Second}})
		time.Sleep(5 * time.Second)
		h.archive.set(func() { h.archive.updateErr = ops.Errorf(ops.Exhausted, "no space") })
		if c := h.ended(id); c.State != ops.CaptureDone || c.Targets[0].State != ops.CaptureDone || len(c.Targets[0].Artifacts) == 0 {
			t.Errorf("capture is %s", c.State)
		}
		row, err := h.archive.Capture(t.Context(), id)
		if err != nil || row.State != ops.CaptureCollecting {
			t.Fatalf("the row says %s: the test breaks nothing", row.State)
		}
		h.archive.set(func() { h.archive.updateErr = nil })
		time.Sleep(10 * time.Second)
		row, err = h.archive.Capture(t.Context(), id)
		if err != nil || row.State != ops.CaptureDone || row.Targets[0].State != ops.CaptureDone || row.Finished.IsZero() {
			t.Errorf("the row says %s", row.State)
		}
	})
}

func TestAPinOfARunningCaptureStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(agent(0)))
		id := h.start(capture.Request{Service: users})
		time.Sleep(time.Second)
		if s, err := h.Pin(t.Context(), id, true); err != nil || !s.Pinned {
			t.Fatalf("Pin: %v %v", s.Pinned, err)
		}
		if c := h.ended(id); !c.Pinned {
			t.Error("the end of the capture has taken the pin off")
		}
	})
}

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(agent(0)))
		id := h.start(capture.Request{Service: users})
		err := h.Delete(t.Context(), id)
		if want := fmt.Sprintf("capture %s is still running: cancel it, or stop it first", id); ops.KindOf(err) != ops.Conflict || err.Error() != want {
			t.Errorf("Delete of a running capture: %v, want %q", err, want)
		}
		h.ended(id)
		if err := h.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
		if _, err := h.Capture(t.Context(), id); ops.KindOf(err) != ops.NotFound {
			t.Errorf("after Delete: %v", err)
		}
	})
}

func TestImportIsTold(t *testing.T) {
	h := newHouse(t, capture.Limits{}, one(agent(0)))
	sub := h.Subscribe()
	defer sub.Close()
	c, err := h.Import(t.Context(), strings.NewReader("zip"), 3, "local:pia")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sub.Next(t.Context()); err != nil || !slices.Equal(got, []ops.CaptureID{c.ID}) {
		t.Errorf("told %v, %v", got, err)
	}
}

func TestShutdownKeepsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := &link{collect: func(ctx context.Context, _ ops.CaptureID, spec ops.Spec, sink ops.Sink, _ <-chan struct{}) (ops.CollectSummary, error) {
			if err := send(sink, ops.Artifact{Name: "heap.before.pprof", Kind: ops.KindHeap}, blockProfile(nil)); err != nil {
				return ops.CollectSummary{}, err
			}
			sink.Progress(ops.Progress{Elapsed: 6 * time.Second, Duration: spec.Duration})
			<-ctx.Done()
			return ops.CollectSummary{}, ctx.Err()
		}}
		h := newHouse(t, capture.Limits{}, many(2, func(i int) ops.Link {
			if i == 1 {
				return agent(0)
			}
			return stuck
		}))
		id := h.start(capture.Request{Service: users})
		time.Sleep(6 * time.Second)
		at := time.Now()
		h.end()
		if took := time.Since(at); took > 11*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		c := *h.archive.rows[id]
		if want := "1 of 2 instances; user-service/i-02: the centre was shut down, at 20 %"; c.State != ops.CapturePartial || c.Reason != want {
			t.Errorf("capture is %s, %q, want %q", c.State, c.Reason, want)
		}
		if got := c.Targets[0]; got.State != ops.CaptureDone || !got.StoppedEarly {
			t.Errorf("the first is %s (%s), stopped early %v", got.State, got.Reason, got.StoppedEarly)
		}
		if got := c.Targets[1]; got.State != ops.CapturePartial || len(got.Losses) != 2 {
			t.Errorf("the second is %s with %+v", got.State, got.Losses)
		}
		_, err := h.Start(context.WithoutCancel(t.Context()), capture.Request{Instances: []ops.InstanceID{"i-01"}})
		if want := "the centre is starting or shutting down and takes no captures: try again in a moment"; ops.KindOf(err) != ops.Unavailable || err.Error() != want {
			t.Errorf("Start after the end: %v", err)
		}
	})
}

func TestATargetThatNeverDelivers(t *testing.T) {
	hang := func(ctx context.Context, _ ops.CaptureID, _ ops.Spec, _ ops.Sink, _ <-chan struct{}) (ops.CollectSummary, error) {
		<-ctx.Done()
		return ops.CollectSummary{}, ctx.Err()
	}
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprintf("stop %v", stop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, capture.Limits{Transfer: time.Minute}, one(&link{collect: hang}))
				id := h.start(capture.Request{Service: users})
				want := 90 * time.Second
				if stop {
					time.Sleep(time.Second)
					if err := h.Stop(t.Context(), id); err != nil {
						t.Fatal(err)
					}
					want = 61 * time.Second
				}
				c := h.ended(id)
				if c.State != ops.CaptureFailed || c.Reason != "did not deliver in time, before the window began" {
					t.Errorf("capture is %s, %q", c.State, c.Reason)
				}
				if took := c.Finished.Sub(c.Created); took != want {
					t.Errorf("given up after %v, want %v", took, want)
				}
				if c.Targets[0].Losses[0].Reason != ops.LossTimedOut {
					t.Errorf("losses: %+v", c.Targets[0].Losses)
				}
			})
		})
	}
}

func TestProgressIsLiveAndCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, capture.Limits{}, one(&link{collect: func(ctx context.Context, _ ops.CaptureID, spec ops.Spec, sink ops.Sink, _ <-chan struct{}) (ops.CollectSummary, error) {
			w, err := sink.Begin(ops.Artifact{Name: "trace.out", Kind: ops.KindTrace})
			if err != nil {
				return ops.CollectSummary{}, err
			}
			for i := range 1000 {
				time.Sleep(10 * time.Millisecond)
				if _, err := w.Write(make([]byte, 100)); err != nil {
					return ops.CollectSummary{}, err
				}
				sink.Progress(ops.Progress{Elapsed: time.Duration(i) * 10 * time.Millisecond, Duration: spec.Duration, Activity: "trace"})
			}
			return ops.CollectSummary{}, w.Abort(ops.Loss{Reason: ops.LossTruncated, Message: "cut"})
		}}))
		sub := h.Subscribe()
		defer sub.Close()
		id := h.start(capture.Request{Service: users, Spec: ops.Spec{Duration: 10 * time.Second}})
		told := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := sub.Next(ctx)
			cancel()
			if err != nil {
				break
			}
			told++
			if told == 20 {
				s, err := h.Capture(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				l := s.Live["i-one"]
				if s.State != ops.CaptureCollecting || l.Progress.Activity != "trace" || l.Progress.Duration != 10*time.Second || l.ReceivedBytes < 10_000 || l.ReceivedBytes > 90_000 {
					t.Errorf("half way: %s %+v", s.State, l)
				}
				list, err := h.Captures(t.Context(), ops.CaptureFilter{})
				if err != nil || len(list) != 1 || list[0].Live["i-one"].ReceivedBytes == 0 {
					t.Errorf("list: %+v, %v", list, err)
				}
			}
		}
		if told < 30 || told > 50 {
			t.Errorf("told %d times in 10 s, want about 4 a second", told)
		}
	})
}

func TestHostileNamesEndACollection(t *testing.T) {
	for name, want := range map[string]string{
		"../etc/passwd": `the instance sent an artifact named "../etc/passwd", which cannot be a file name`,
		"heap.pprof":    `the instance sent artifact heap.pprof twice`,
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, capture.Limits{}, one(&link{collect: func(_ context.Context, _ ops.CaptureID, _ ops.Spec, sink ops.Sink, _ <-chan struct{}) (ops.CollectSummary, error) {
					for _, n := range []string{"heap.pprof", name} {
						if err := send(sink, ops.Artifact{Name: n, Kind: ops.KindHeap}, []byte("x")); err != nil {
							return ops.CollectSummary{}, err
						}
					}
					return ops.CollectSummary{}, nil
				}}))
				c := h.ended(h.start(capture.Request{Service: users}))
				if c.State != ops.CapturePartial || c.Reason != want {
					t.Errorf("capture is %s, %q", c.State, c.Reason)
				}
			})
		})
	}
}
