package capture_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/capture"
	"github.com/opscenter/opscenter/internal/ops"
)

// piece is one artifact that a scripted instance sends.
type piece struct {
	name    string
	kind    ops.Kind
	from    int // seconds into the window
	to      int
	data    []byte
	partial bool
	losses  []ops.Loss
}

func pieces(list ...piece) *link {
	return &link{collect: func(_ context.Context, _ ops.CaptureID, spec ops.Spec, sink ops.Sink, _ <-chan struct{}) (ops.CollectSummary, error) {
		start := time.Now()
		for _, p := range list {
			a := ops.Artifact{
				Name: p.name, Kind: p.kind, Losses: p.losses,
				TakenAt:     start.Add(time.Duration(p.from) * time.Second),
				WindowStart: start.Add(time.Duration(p.from) * time.Second), WindowEnd: start.Add(time.Duration(p.to) * time.Second),
			}
			if !p.partial {
				if err := send(sink, a, p.data); err != nil {
					return ops.CollectSummary{}, err
				}
				continue
			}
			w, err := sink.Begin(a)
			if err != nil {
				return ops.CollectSummary{}, err
			}
			if _, err := w.Write(p.data[:len(p.data)/2]); err != nil {
				return ops.CollectSummary{}, err
			}
			if err := w.Abort(ops.Loss{Kind: p.kind, Reason: ops.LossTruncated, Message: "cut"}); err != nil {
				return ops.CollectSummary{}, err
			}
		}
		return ops.CollectSummary{WindowStart: start, WindowEnd: start.Add(spec.Duration)}, nil
	}}
}

func TestDerivedArtifacts(t *testing.T) {
	segment := func(i, from, to int) piece {
		d := time.Duration(to-from) * time.Second
		return piece{name: fmt.Sprintf("cpu.%d.pprof", i), kind: ops.KindCPU, from: from, to: to, data: cpuProfile(time.Unix(1_700_000_000+int64(from), 0), d, map[string]int64{"work": int64(to - from)})}
	}
	snapshot := func(name string, kind ops.Kind, at int) piece {
		return piece{name: name, kind: kind, from: at, to: at, data: blockProfile(map[string]int64{"hot": int64(at + 1)})}
	}
	bad := func(p piece) piece { p.data = []byte("\x1f\x8bno gzip at all"); return p }
	cut := func(p piece) piece { p.partial = true; return p }

	for _, c := range []struct {
		name   string
		sent   []piece
		files  []string
		losses []string // of the target
		cpu    int64    // sum of cpu.pprof
		state  ops.CaptureState
		reason string
	}{
		{
			name: "segments out of order", sent: []piece{segment(2, 20, 30), segment(0, 0, 10), segment(1, 10, 20)},
			files: []string{"cpu.pprof"}, cpu: 30, state: ops.CaptureDone,
		},
		{
			name: "one piece already", sent: []piece{{name: "cpu.pprof", kind: ops.KindCPU, from: 0, to: 30, data: cpuProfile(time.Unix(1, 0), 30*time.Second, map[string]int64{"work": 7})}},
			files: []string{"cpu.pprof"}, cpu: 7, state: ops.CaptureDone,
		},
		{
			name: "a segment was cut", sent: []piece{segment(0, 0, 10), cut(segment(1, 10, 20)), segment(2, 20, 30)},
			files: []string{"cpu.1.pprof", "cpu.pprof"}, cpu: 20, state: ops.CapturePartial,
			losses: []string{"cpu truncated: cpu.1.pprof arrived incomplete and is not part of cpu.pprof: it is kept as it is"},
			reason: "cpu.1.pprof arrived incomplete and is not part of cpu.pprof: it is kept as it is",
		},
		{
			name: "a segment is no profile", sent: []piece{segment(0, 0, 10), bad(segment(1, 10, 20)), segment(2, 20, 30)},
			files: []string{"cpu.1.pprof", "cpu.pprof"}, cpu: 20, state: ops.CapturePartial,
			losses: []string{"cpu failed: cpu.1.pprof is not part of cpu.pprof, and kept as it is: "},
			reason: "cpu.1.pprof is not part of cpu.pprof, and kept as it is: ",
		},
		{
			name: "no segment is a profile", sent: []piece{bad(segment(0, 0, 10))},
			files: []string{"cpu.0.pprof"}, state: ops.CapturePartial,
			losses: []string{"cpu failed: cpu.0.pprof is not part of cpu.pprof, and kept as it is: "},
			reason: "cpu.0.pprof is not part of cpu.pprof, and kept as it is: ",
		},
		{
			name: "only the end of a delta", sent: []piece{snapshot("mutex.after.pprof", ops.KindMutex, 30)},
			files: []string{"mutex.after.pprof"}, state: ops.CapturePartial,
			losses: []string{"mutex failed: the snapshot from the window's start is missing, so that there is no mutex.pprof of the window: mutex.after.pprof holds the totals of the process up to its end"},
			reason: "mutex: the snapshot from the window's start is missing, so that there is no mutex.pprof of the window: mutex.after.pprof holds the totals of the process up to its end",
		},
		{
			name: "a snapshot was cut", sent: []piece{snapshot("mutex.before.pprof", ops.KindMutex, 0), cut(snapshot("mutex.after.pprof", ops.KindMutex, 30))},
			files: []string{"mutex.after.pprof", "mutex.before.pprof"}, state: ops.CapturePartial,
			losses: []string{"mutex truncated: a snapshot arrived incomplete, so that there is no mutex.pprof of the window: mutex.before.pprof and mutex.after.pprof are kept as they are"},
			reason: "mutex: a snapshot arrived incomplete, so that there is no mutex.pprof of the window: mutex.before.pprof and mutex.after.pprof are kept as they are",
		},
		{
			name: "a snapshot is no profile", sent: []piece{bad(snapshot("block.before.pprof", ops.KindBlock, 0)), snapshot("block.after.pprof", ops.KindBlock, 30)},
			files: []string{"block.after.pprof", "block.before.pprof"}, state: ops.CapturePartial,
			losses: []string{"block failed: block.before.pprof could not be subtracted from block.after.pprof; both are kept as they are: "},
			reason: "block.before.pprof could not be subtracted from block.after.pprof; both are kept as they are: ",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, capture.Limits{}, one(pieces(c.sent...)))
				got := h.ended(h.start(capture.Request{Service: users}))
				target := got.Targets[0]
				if diff := cmp.Diff(c.files, names(target)); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
				if c.cpu > 0 {
					if sum := sums(h.read(got.ID, "i-one", "cpu.pprof"))["work"]; sum != c.cpu {
						t.Errorf("cpu.pprof sums to %d, want %d", sum, c.cpu)
					}
				}
				var losses []string
				for i, l := range target.Losses {
					s := fmt.Sprintf("%s %s: %s", l.Kind, l.Reason, l.Message)
					losses = append(losses, prefixOf(s, at(c.losses, i)))
				}
				if diff := cmp.Diff(c.losses, losses); diff != "" {
					t.Errorf("losses (-want +got):\n%s", diff)
				}
				if got.State != c.state || prefixOf(got.Reason, c.reason) != c.reason {
					t.Errorf("capture is %s: %q, want %s: %q", got.State, got.Reason, c.state, c.reason)
				}
			})
		})
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// prefixOf cuts s to the length of a wanted text that ends in ": ", whose rest
// is another package's words.
func prefixOf(s, want string) string {
	if n := len(want); n > 2 && want[n-2:] == ": " && len(s) > n {
		return s[:n]
	}
	return s
}
