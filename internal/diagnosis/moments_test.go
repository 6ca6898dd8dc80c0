package diagnosis

import (
	"reflect"
	"testing"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

func TestProofsOfTheTraceSayWhereToLook(t *testing.T) {
	frames := evidence.NewFrames("example.com/shop")
	site := func(state trace.State, longest time.Duration, who trace.GoID, line int) evidence.Site {
		return evidence.Site{
			Stack: evidence.Stack{frames.Of("sync.(*Mutex).Lock", "/go/src/sync/mutex.go", 45), frames.Of("main.pay", "/src/pay.go", line)},
			State: state, Max: longest, Longest: who, LongestFrom: time.Second,
		}
	}
	tr := &evidence.Trace{Sites: []evidence.Site{
		site(trace.StateSync, 10*time.Millisecond, 7, 22), site(trace.StateSync, 40*time.Millisecond, 9, 22), site(trace.StateSync, 15*time.Millisecond, 7, 22),
		site(trace.StateIdle, time.Hour, 11, 22), site(trace.StateNetwork, time.Minute, 12, 30), site(trace.StateSync, time.Minute, trace.NoGoroutine, 22),
	}}
	finding := func(where ...ops.Place) ops.Diagnosis {
		return ops.Diagnosis{Findings: []ops.Finding{{Where: where, Evidence: []ops.Proof{{Artifact: ops.KindMutex}, {Artifact: ops.KindTrace}}, CounterEvidence: []ops.Proof{{Artifact: ops.KindTrace}}}}}
	}
	nowhere, lock := ops.Place{Function: "main.other"}, ops.Place{Function: "main.pay", File: "pay.go", Line: 22}
	d := finding(nowhere, lock)
	moments(&d, tr)
	want := &ops.Moment{From: time.Second, To: time.Second + 40*time.Millisecond, Goroutines: []int64{9, 7}}
	f := d.Findings[0]
	if f.Evidence[0].Moment != nil || !reflect.DeepEqual(f.Evidence[1].Moment, want) || !reflect.DeepEqual(f.CounterEvidence[0].Moment, want) {
		t.Errorf("%+v, want %+v of the trace's proofs alone", f, want)
	}
	// A function without a line takes in all of it.
	d = finding(ops.Place{Function: "main.pay"})
	moments(&d, tr)
	if m := d.Findings[0].Evidence[1].Moment; m == nil || m.Goroutines[0] != 12 {
		t.Errorf("%+v", m)
	}
	// Who does the I/O comes before the longest of those who wait for it, of whom one is told.
	queue, io := lock, ops.Place{Role: ops.RoleIO, Function: "main.pay", File: "pay.go", Line: 30}
	queue.Role = ops.RoleWait
	d = finding(queue, io)
	moments(&d, tr)
	want = &ops.Moment{From: time.Second, To: time.Second + time.Minute, Goroutines: []int64{12, 9}}
	if m := d.Findings[0].Evidence[1].Moment; !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, want %+v", m, want)
	}
	for _, tr := range []*evidence.Trace{nil, {}, tr} {
		d = finding(nowhere)
		moments(&d, tr)
		if m := d.Findings[0].Evidence[1].Moment; m != nil {
			t.Errorf("nobody waited there: %+v", m)
		}
	}
}
