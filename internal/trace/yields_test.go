package trace_test

import (
	"bytes"
	"runtime"
	runtimetrace "runtime/trace"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/trace"
)

//go:noinline
func looksAgain(n int) {
	for range n {
		runtime.Gosched()
	}
}

// A call of Gosched is counted where it was made, and being preempted is none.
func TestYieldsAreCountedAtTheirCalls(t *testing.T) {
	var b bytes.Buffer
	if err := runtimetrace.Start(&b); err != nil {
		t.Skip(err) // another test traces
	}
	looksAgain(5000)
	runtimetrace.Stop()
	tr := open(t, b.Bytes())
	var calls int64
	for _, y := range analyze(t, tr, trace.Options{}).Yields {
		for _, f := range tr.Stack(y.Stack) {
			if strings.HasSuffix(f.Func, ".looksAgain") {
				calls += y.Count
				break
			}
		}
	}
	if calls != 5000 {
		t.Errorf("%d calls, want 5000", calls)
	}
}
