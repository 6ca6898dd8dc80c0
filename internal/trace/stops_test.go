package trace_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/opscenter/opscenter/internal/trace"
)

//go:noinline
func readsStatistics(n int) {
	var m runtime.MemStats
	for range n {
		runtime.ReadMemStats(&m)
	}
}

// Whoever has the world stopped is known by the stack of the call.
func TestStopsOfTheWorldBelongToWhoAskedForThem(t *testing.T) {
	tr := traceOf(t, func() { readsStatistics(200) })
	for _, s := range analyze(t, tr, trace.Options{}).Stops {
		for _, f := range tr.Stack(s.Stack) {
			if !strings.HasSuffix(f.Func, ".readsStatistics") {
				continue
			}
			if s.Count != 200 || s.Reason != "read mem stats" || s.Total <= 0 || s.Max > s.Total {
				t.Errorf("%d stops for %q, %s in all, %s the longest; want 200 to read mem stats", s.Count, s.Reason, s.Total, s.Max)
			}
			return
		}
	}
	t.Error("no stop was asked for by readsStatistics")
}
