package trace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	runtimetrace "runtime/trace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	exptrace "golang.org/x/exp/trace"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded is a trace of 2.5 s of work. Generations of the runtime last a second.
var recorded = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := runtimetrace.Start(&b); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); {
		for range 20 {
			wg.Go(func() { runtimetrace.WithRegion(context.Background(), "work", func() { time.Sleep(time.Millisecond) }) })
		}
		wg.Wait()
	}
	runtimetrace.Stop()
	return b.Bytes()
})

func readIndex(t testing.TB, b []byte) trace.Index {
	t.Helper()
	ix, err := trace.ReadIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// count reads a trace to its end with the reader that Go's own tools use.
func count(t testing.TB, b []byte) (events int) {
	t.Helper()
	r, err := exptrace.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := r.ReadEvent(); errors.Is(err, io.EOF) {
			return events
		} else if err != nil {
			t.Fatalf("after %d events: %v", events, err)
		}
		events++
	}
}

func TestIndexOfALiveTrace(t *testing.T) {
	b := recorded()
	ix := readIndex(t, b)
	if len(ix.Generations) < 2 || ix.Loss != nil {
		t.Fatalf("%d generations, loss %v; want at least 2 and none", len(ix.Generations), ix.Loss)
	}
	at := int64(16)
	for i, g := range ix.Generations {
		if g.Offset != at || g.Batches == 0 {
			t.Errorf("generation %d is at %d, want at %d", g.Number, g.Offset, at)
		}
		at += g.SizeBytes
		if i > 0 && g.Start != ix.Generations[i-1].End {
			t.Errorf("generation %d starts at %v, the one before ends at %v", g.Number, g.Start, ix.Generations[i-1].End)
		}
		if time.Since(g.Wall) < 0 || time.Since(g.Wall) > time.Hour {
			t.Errorf("generation %d began at %v, want just now", g.Number, g.Wall)
		}
	}
	if at != int64(len(b)) {
		t.Errorf("generations end at %d of %d bytes", at, len(b))
	}
	if last := ix.Generations[len(ix.Generations)-1]; last.End < time.Second || last.End > time.Minute {
		t.Errorf("the trace ends at %v, want about 2.5 s", last.End)
	}
}

func TestEachGenerationCutOutCanBeReadAlone(t *testing.T) {
	b := recorded()
	ix := readIndex(t, b)
	for _, g := range ix.Generations {
		var part bytes.Buffer
		if err := ix.Cut(&part, bytes.NewReader(b), g.Number, g.Number); err != nil {
			t.Fatal(err)
		}
		if n := count(t, part.Bytes()); n < 10 {
			t.Errorf("generation %d alone has %d events", g.Number, n)
		}
	}
	var whole bytes.Buffer
	if err := ix.Cut(&whole, bytes.NewReader(b), ix.Generations[0].Number, ix.Generations[len(ix.Generations)-1].Number); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole.Bytes(), b) {
		t.Error("all generations cut out are not the trace")
	}
}

func TestTracesOfOlderGoVersions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.trace")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d traces, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ix := readIndex(t, b)
			if len(ix.Generations) < 2 || ix.Loss != nil {
				t.Fatalf("%d generations, loss %v", len(ix.Generations), ix.Loss)
			}
			for _, g := range ix.Generations {
				var part bytes.Buffer
				if err := ix.Cut(&part, bytes.NewReader(b), g.Number, g.Number); err != nil {
					t.Fatal(err)
				}
				if count(t, part.Bytes()) < 10 {
					t.Errorf("generation %d has hardly any events", g.Number)
				}
			}
		})
	}
}

func TestATraceCutAnywhereGivesItsWholeGenerations(t *testing.T) {
	b := recorded()
	whole := readIndex(t, b)
	for i := 1; i <= 40; i++ {
		end := len(b) * i / 41
		ix, err := trace.ReadIndex(bytes.NewReader(b[:end]), int64(end))
		want := 0
		for _, g := range whole.Generations {
			if g.Offset+g.SizeBytes <= int64(end) {
				want++
			}
		}
		if want == 0 {
			if ops.KindOf(err) != ops.Corrupt {
				t.Errorf("cut at %d: %v, want Corrupt", end, err)
			}
			continue
		}
		if err != nil || len(ix.Generations) != want || ix.Loss == nil {
			t.Errorf("cut at %d: %d generations, loss %v, %v; want %d and a loss", end, len(ix.Generations), ix.Loss, err, want)
		}
	}
}

// build writes a trace by hand: "1: sync strings x; end; 2: sync" has two
// generations with the batches named.
func build(minor int, text string) []byte {
	b := fmt.Appendf(nil, "go 1.%d trace\x00\x00\x00", minor)
	for part := range strings.SplitSeq(text, ";") {
		gen, batches, _ := strings.Cut(strings.TrimSpace(part), ":")
		if gen == "end" {
			b = append(b, 52)
			continue
		}
		for _, name := range strings.Fields(batches) {
			data := map[string][]byte{"sync": {50, 8, 100}, "freq": {8, 100}, "strings": {4}, "x": {9, 1, 1, 1}, "exp": {1, 2, 3}}[name]
			if name == "exp" {
				b = append(b, 49, 1)
			} else {
				b = append(b, 1)
			}
			b = append(b, gen[0]-'0', 7, gen[0]-'0', byte(len(data)))
			b = append(b, data...)
		}
	}
	return b
}

func TestDamageIsStatedInWords(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"whole", build(26, "1: sync x strings; end; 2: sync x exp; end"), "1 2"},
		{"whole, old", build(22, "1: x strings freq; 2: x strings freq"), "1 2"},
		{"no end", build(26, "1: sync x; end; 2: sync x"), "1; the last 17 bytes of the trace cannot be read (it ends within generation 2): everything before is shown"},
		{"old, no strings", build(25, "1: sync strings; 2: sync x"), "1; the last 17 bytes of the trace cannot be read (it ends within generation 2): everything before is shown"},
		{"out of order", build(22, "2: x strings freq; 1: x strings freq"), "2; the last 22 bytes of the trace cannot be read (generation 1 is out of order): everything before is shown"},
		{"no strings in between", build(22, "1: x strings freq; 2: x freq; 3: x strings freq"), "1; the last 38 bytes of the trace cannot be read (generation 2 is incomplete): everything before is shown"},
		{"interleaved", build(26, "1: sync; end; 2: sync; 3: sync; end"), "1; the last 17 bytes of the trace cannot be read (generation 2 does not end): everything before is shown"},
		{"garbage", append(build(26, "1: sync; end"), "hello"...), "1; the last 5 bytes of the trace cannot be read (byte 25 is not the beginning of a batch): everything before is shown"},
		{"huge batch", append(build(26, "1: sync; end"), 1, 2, 7, 9, 0xff, 0xff, 0xff, 0x7f), "1; the last 8 bytes of the trace cannot be read (the batch at byte 25 claims 268435455 bytes): everything before is shown"},
		{"no clock", build(26, "1: x; end"), "corrupt: no part of this trace can be read (generation 1 is incomplete): capture it again"},
		{"nothing", build(26, ""), "corrupt: no part of this trace can be read (it holds no events): capture it again"},
		{"empty", nil, "corrupt: this is not a Go execution trace: choose another artifact"},
		{"profile", []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "corrupt: this is not a Go execution trace: choose another artifact"},
		{"too old", build(21, ""), "invalid: this trace was written by Go 1.21 and only those of Go 1.22 and later can be opened in parts: download it and run go tool trace"},
		{"too new", build(31, ""), "invalid: this trace was written in the format of Go 1.31, which is newer than this program knows: update it, or download the trace and run go tool trace"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ix, err := trace.ReadIndex(bytes.NewReader(tt.in), int64(len(tt.in)))
			got := ""
			if err != nil {
				got = fmt.Sprintf("%s: %v", ops.KindOf(err), err)
			} else {
				for _, g := range ix.Generations {
					got += fmt.Sprintf(" %d", g.Number)
				}
				got = got[1:]
				if ix.Loss != nil {
					got += "; " + ix.Loss.Message
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWindowsGroupGenerationsBySize(t *testing.T) {
	ix := trace.Index{Generations: []trace.Generation{
		{Number: 3, SizeBytes: 4, Start: 0, End: 1}, {Number: 4, SizeBytes: 6, Start: 1, End: 2},
		{Number: 5, SizeBytes: 1, Start: 2, End: 3}, {Number: 6, SizeBytes: 30, Start: 3, End: 4}, {Number: 7, SizeBytes: 2, Start: 4, End: 5},
	}}
	want := []trace.Window{
		{From: 3, To: 4, Start: 0, End: 2, SizeBytes: 10},
		{From: 5, To: 5, Start: 2, End: 3, SizeBytes: 1},
		{From: 6, To: 6, Start: 3, End: 4, SizeBytes: 30},
		{From: 7, To: 7, Start: 4, End: 5, SizeBytes: 2},
	}
	if diff := cmp.Diff(want, ix.Windows(10)); diff != "" {
		t.Error(diff)
	}
}

func TestIndexingLargeTracesIsQuickAndSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100 MB")
	}
	big := endless{size: 100 << 20}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	ix, err := trace.ReadIndex(big, big.size)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	// Without end marks this is one incomplete generation: every batch was read.
	if err == nil || ops.KindOf(err) != ops.Corrupt {
		t.Errorf("%d generations, %v", len(ix.Generations), err)
	}
	if took > time.Minute {
		t.Errorf("took %v", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("allocated %d bytes", n)
	}
}

// endless is a trace of full batches of one generation.
type endless struct{ size int64 }

func (e endless) ReadAt(p []byte, at int64) (int, error) {
	header := build(26, "")
	batch := []byte{1, 1, 7, 1, 0x80, 0x80, 0x04} // 64 KiB follow
	period := int64(len(batch) + maxBatch)
	for i := range p {
		pos := at + int64(i)
		switch {
		case pos < int64(len(header)):
			p[i] = header[pos]
		default:
			p[i] = 9
			if in := (pos - int64(len(header))) % period; in < int64(len(batch)) {
				p[i] = batch[in]
			}
		}
	}
	return len(p), nil
}

const maxBatch = 64 << 10

func FuzzIndex(f *testing.F) {
	f.Add(build(26, "1: sync x strings; end; 2: sync x exp; end"))
	f.Add(build(22, "1: x strings freq; 2: x strings freq"))
	f.Add(build(25, "1: sync strings; 2: sync x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		ix, err := trace.ReadIndex(r, int64(len(b)))
		if err != nil {
			if ops.KindOf(err) == ops.Internal {
				t.Fatalf("blamed on us: %v", err)
			}
			return
		}
		for _, w := range ix.Windows(64) {
			var out bytes.Buffer
			if err := ix.Cut(&out, r, w.From, w.To); err != nil {
				t.Fatal(err)
			}
			if again, err := trace.ReadIndex(bytes.NewReader(out.Bytes()), int64(out.Len())); err != nil || again.Loss != nil {
				t.Fatalf("what was cut out cannot be read: %v, %v", err, again.Loss)
			}
		}
	})
}
