package trace_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// verdict is what a reader says of a trace: why it is not whole, "" if it is, and
// what is in it.
type verdict struct {
	why    string
	counts map[string]int
}

func stockVerdict(b []byte) (v verdict) {
	defer func() {
		if r := recover(); r != nil {
			v = verdict{why: fmt.Sprint("panic: ", r)}
		}
	}()
	counts, err := stockCounts(b)
	if err != nil {
		return verdict{why: err.Error()}
	}
	return verdict{counts: counts}
}

func ownVerdict(t *testing.T, b []byte) verdict {
	t.Helper()
	tr, err := trace.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return verdict{why: err.Error()}
	}
	defer func() { _ = tr.Close() }()
	if l := tr.Index().Loss; l != nil {
		return verdict{why: l.Message}
	}
	for i := range tr.Index().Generations {
		if err := tr.Events(context.Background(), i, func(*trace.Event) bool { return true }); err != nil {
			return verdict{why: err.Error()}
		}
	}
	a, err := tr.Analyze(context.Background(), trace.Options{Workers: 1})
	switch {
	case err != nil:
		t.Fatal(err)
	case a.Loss != nil:
		return verdict{why: a.Loss.Message}
	}
	return verdict{counts: ownCounts(t, tr)}
}

// agree checks how our verdict relates to that of Go's own parser: what it reads
// whole, we read whole, with the same counts; what it rejects is an error or a
// stated loss, never a silent success.
//
// There is one exception, and in it we say more: nothing marks the end of a trace
// before Go 1.26, and Go's parser takes one that is cut off between two batches for
// whole. Ours misses the strings that end every generation.
func agree(t *testing.T, what string, b []byte) {
	t.Helper()
	stock, own := stockVerdict(b), ownVerdict(t, b)
	switch {
	case stock.why == "" && own.why == "":
		if !maps.Equal(stock.counts, own.counts) {
			t.Errorf("%s: -stock +own:\n%s", what, cmp.Diff(stock.counts, own.counts))
		}
	case stock.why == "" && !strings.Contains(own.why, "it ends within generation"):
		t.Errorf("%s: we reject what Go's parser reads: %s", what, own.why)
	case own.why == "":
		t.Errorf("%s: we read what Go's parser rejects: %.200s", what, stock.why)
	}
}

func TestGoldenTracesOfGosParserReadAlike(t *testing.T) {
	for name, b := range goTraces(t) {
		agree(t, name, b)
	}
}

func TestDamagedTracesReadAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(22, 26)) //nolint:gosec // the same bytes each time
	everyTrace(t, func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return // the live one: too slow for Go's parser
		}
		for n := 0; n < len(b); n += len(b)/60 + 1 {
			agree(t, fmt.Sprintf("cut off at %d", n), b[:n])
		}
		for range 100 {
			at := rng.IntN(len(b))
			c := bytes.Clone(b)
			c[at] ^= 1 << rng.IntN(8)
			agree(t, fmt.Sprintf("byte %d is %d, not %d", at, c[at], b[at]), c)
			c[at] = byte(rng.IntN(256))
			agree(t, fmt.Sprintf("byte %d is %d, not %d", at, c[at], b[at]), c)
		}
	})
}

// tables are what else a generation of Go 1.22 needs.
func tables(gen int) string {
	return fmt.Sprintf(`EventBatch gen=%[1]d m=18446744073709551615 time=5
Frequency freq=1000000000
EventBatch gen=%[1]d m=18446744073709551615 time=5
Stacks
EventBatch gen=%[1]d m=18446744073709551615 time=5
Strings
String id=1
	data="pack"
String id=2
	data="send"
`, gen)
}

func TestInconsistenciesAreSaidInWords(t *testing.T) {
	const begin = "Trace Go1.22\n"
	const running = "EventBatch gen=1 m=7 time=10\nProcStatus dt=1 p=0 pstatus=1\nGoStatus dt=1 g=1 m=7 gstatus=2\n"
	tests := []struct{ name, in, want string }{
		{
			"regions", begin + running + `UserRegionBegin dt=1 task=0 name=1 stack=0
UserRegionBegin dt=1 task=0 name=2 stack=0
UserRegionEnd dt=1 task=0 name=1 stack=0
UserRegionEnd dt=1 task=0 name=2 stack=0
` + tables(1),
			`6 events, goroutine 1 ends the region "pack", which is not its innermost: all of it is shown, but go tool trace will not open it`,
		},
		{
			"tasks", begin + running + "UserTaskBegin dt=1 task=3 parent=0 name=1 stack=0\nUserTaskBegin dt=1 task=3 parent=0 name=1 stack=0\n" + tables(1),
			"4 events, task 3 begins twice: all of it is shown, but go tool trace will not open it",
		},
		{
			"stops", begin + running + "STWBegin dt=1 reason=1 stack=0\nSTWEnd dt=1\nSTWEnd dt=1\n" + tables(1),
			"4 events, the trace is damaged (generation 1 is inconsistent: a stop of the world ends without beginning): capture it again",
		},
		{
			"a goroutine from nowhere", begin + running + tables(1) +
				"EventBatch gen=2 m=7 time=20\nProcStatus dt=1 p=0 pstatus=1\nGoStatus dt=1 g=2 m=7 gstatus=2\n" + tables(2),
			"4 events, 1 goroutines or Ps changed their state between two parts of the trace without an event: a part is missing",
		},
		{
			"a P in another state", begin + running + tables(1) +
				"EventBatch gen=2 m=7 time=20\nProcStatus dt=1 p=0 pstatus=2\nGoStatus dt=1 g=1 m=7 gstatus=2\n" + tables(2),
			"4 events, 1 goroutines or Ps changed their state between two parts of the trace without an event: a part is missing",
		},
		{
			"a P in a syscall of nobody", begin + "EventBatch gen=1 m=7 time=10\nProcStatus dt=1 p=0 pstatus=4\nProcStart dt=1 p=0 seq=1\n" + tables(1),
			"1 events, the trace is damaged (the events of generation 1 do not fit together): capture it again",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := fromText(t, tt.in)
			agree(t, tt.name, b)
			tr := open(t, b)
			n, why := 0, ""
			for i := range tr.Index().Generations {
				if err := tr.Events(context.Background(), i, func(*trace.Event) bool { n++; return true }); err != nil {
					why = err.Error()
					if ops.KindOf(err) != ops.Corrupt {
						t.Errorf("%v is no damage", err)
					}
				}
			}
			a, err := tr.Analyze(context.Background(), trace.Options{})
			if err != nil || a.Loss == nil {
				t.Fatalf("loss %v, %v", a.Loss, err)
			}
			if why == "" {
				why = a.Loss.Message
			}
			if got := fmt.Sprintf("%d events, %s", n, why); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
