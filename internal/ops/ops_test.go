package ops_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

func TestSpecNormalizes(t *testing.T) {
	got, err := ops.Spec{Duration: 3 * time.Second, Kinds: []ops.Kind{ops.KindTrace, ops.KindCPU, ops.KindTrace}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	if want := []ops.Kind{ops.KindCPU, ops.KindTrace}; !slices.Equal(got.Kinds, want) {
		t.Errorf("kinds %v, want %v", got.Kinds, want)
	}
	if got.TraceWindow != 3*time.Second {
		t.Errorf("the trace window %v outlasts the window", got.TraceWindow)
	}
	if got.Fidelity != ops.FidelityFull || got.TraceMaxBytes != 128<<20 {
		t.Errorf("%+v", got)
	}
}

func TestSpecOutOfRange(t *testing.T) {
	for want, spec := range map[string]ops.Spec{
		"duration 500ms is out of range: use 1s to 10m0s":                          {Duration: 500 * time.Millisecond},
		"duration 11m0s is out of range: use 1s to 10m0s":                          {Duration: 11 * time.Minute},
		"trace window 1m0s is out of range: use up to 30s":                         {TraceWindow: time.Minute},
		"trace cap of 5 bytes is out of range: use 1 MiB to 512 MiB":               {TraceMaxBytes: 5},
		`unknown fidelity "best": use full or balanced`:                            {Fidelity: "best"},
		fmt.Sprintf("unknown artifact kind %q: use one of %v", "x", ops.FullSet()): {Kinds: []ops.Kind{"x"}},
	} {
		_, err := spec.Normalize()
		if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestFileNamesAreTheBriefs(t *testing.T) {
	var got []string
	for _, k := range ops.FullSet() {
		got = append(got, k.FileName())
	}
	want := []string{"cpu.pprof", "heap.pprof", "allocs.pprof", "goroutine.pprof", "block.pprof", "mutex.pprof", "trace.out", "runtime.json", "goroutine.txt", "goroutineleak.pprof", "heap-types.json"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := ops.KindBlock.FileNameBefore() + " " + ops.KindBlock.FileNameAfter() + " " + ops.KindCPU.FileNameSegment(2); got != "block.before.pprof block.after.pprof cpu.2.pprof" {
		t.Error(got)
	}
}

func TestNamesThatWouldEscapeAPath(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "../x", "a/b", `a\b`, "a\x00b", "a\nb", ".hidden", "中文"} {
		if ops.ValidName(bad) {
			t.Errorf("%q is taken for a name", bad)
		}
		if ops.CaptureID(bad).Valid() || ops.InstanceID(bad).Valid() {
			t.Errorf("%q is taken for an id", bad)
		}
	}
	if !ops.ValidName("heap.before.pprof") || !ops.CaptureID("01jd3f-x").Valid() {
		t.Error("a good name is refused")
	}
}

func TestKindOf(t *testing.T) {
	inner := ops.Errorf(ops.NotFound, "no capture x")
	for want, err := range map[ops.ErrorKind]error{
		ops.NotFound:    fmt.Errorf("opening: %w", inner),
		ops.Conflict:    ops.Errorf(ops.Conflict, "outer judges: %w", inner),
		ops.Cancelled:   fmt.Errorf("x: %w", context.Canceled),
		ops.Unavailable: context.DeadlineExceeded,
		ops.Internal:    errors.New("surprise"),
	} {
		if got := ops.KindOf(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
	if !errors.Is(ops.Errorf(ops.Conflict, "outer: %w", inner), inner) {
		t.Error("the cause is lost")
	}
}
