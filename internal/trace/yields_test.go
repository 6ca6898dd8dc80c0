package trace_test

import (
	"runtime"
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
	tr := traceOf(t, func() { looksAgain(5000) })
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
