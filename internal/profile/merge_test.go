package profile_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	googlepprof "github.com/google/pprof/profile"
	"github.com/klauspost/compress/zstd"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

func TestMergeSumsSegmentsAndTheUnionOfTheirWindows(t *testing.T) {
	in := []string{`
		types: samples/count cpu/nanoseconds
		time: 1000 500
		main.main:3;main.work:7 {user=ann} 1 10
		main.main:3;main.work:7 {user=bob} 2 20
		main.main:3;main.work:9 {bytes=16} 4 40
	`, `
		types: samples/count cpu/nanoseconds
		time: 1510 490
		main.main:3;main.work:7 {user=ann} 100 1000
		main.main:3;main.rest:1 1 10
	`, `
		types: samples/count cpu/nanoseconds
		time: 1900 200
		main.main:3;main.rest:1 1 10
	`}
	var out bytes.Buffer
	if err := profile.Merge(&out, profile.Limits{}, readers(t, in...)...); err != nil {
		t.Fatal(err)
	}
	want := `types: samples/count cpu/nanoseconds
time: 1000 1090
main.main:3;main.rest:1 2 20
main.main:3;main.work:7 {user=ann} 101 1010
main.main:3;main.work:7 {user=bob} 2 20
main.main:3;main.work:9 {bytes=16} 4 40
`
	if diff := cmp.Diff(want, format(t, out.Bytes())); diff != "" {
		t.Error(diff)
	}
	p, err := googlepprof.ParseData(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Mapping[0]; m.File != "/opt/game/server" || m.BuildID != "b1" || m.Start != 0x400000 {
		t.Errorf("mapping = %+v, want it as it was", m)
	}
	for _, l := range p.Location {
		if l.Address < 0x400010 || l.Mapping == nil {
			t.Errorf("location lost its address: %+v", l)
		}
	}
}

func TestDeltaIsWhatTheWindowAdded(t *testing.T) {
	// The second counter is beyond what a float64 holds exactly.
	before := `
		types: contentions/count delay/nanoseconds
		time: 1000 0
		main.main:3;main.send:7 5 9007199254740993
		main.main:3;main.quiet:1 8 80
		main.main:3;main.freed:1 8 80
	`
	after := `
		types: contentions/count delay/nanoseconds
		time: 31000 0
		main.main:3;main.send:7 7 9007199254740996
		main.main:3;main.quiet:1 8 80
		main.main:3;main.freed:1 8 70
		main.main:3;main.fresh:2 1 1
	`
	var out bytes.Buffer
	in := readers(t, before, after)
	if err := profile.Delta(&out, profile.Limits{}, in[0], in[1]); err != nil {
		t.Fatal(err)
	}
	want := `types: contentions/count delay/nanoseconds
time: 1000 30000
main.main:3;main.freed:1 0 -10
main.main:3;main.fresh:2 1 1
main.main:3;main.send:7 2 3
`
	if diff := cmp.Diff(want, format(t, out.Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestDeltaOfTheRuntimesOwnProfiles(t *testing.T) {
	snapshot := func() []byte {
		runtime.GC()
		var b bytes.Buffer
		if err := pprof.Lookup("allocs").WriteTo(&b, 0); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	before := snapshot()
	// Blocks of sixteen times the sampling rate are all sampled, so that the sum
	// has no error worth speaking of.
	hold := make([][]byte, 0, 8)
	for range 8 {
		hold = append(hold, make([]byte, 8<<20))
	}
	after := snapshot()
	runtime.KeepAlive(hold)

	var out bytes.Buffer
	if err := profile.Delta(&out, profile.Limits{}, bytes.NewReader(before), bytes.NewReader(after)); err != nil {
		t.Fatal(err)
	}
	p, err := googlepprof.ParseData(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var allocated int64
	for _, s := range p.Sample {
		allocated += s.Value[1]
	}
	if allocated < 60<<20 || allocated > 80<<20 {
		t.Errorf("the window allocated %d bytes, want about 64 MiB", allocated)
	}
	if p.DefaultSampleType != "alloc_space" {
		t.Errorf("default sample type = %q, want that of the input", p.DefaultSampleType)
	}
}

func TestMergeKeepsGoroutineLabels(t *testing.T) {
	done := make(chan struct{})
	started := make(chan struct{})
	go pprof.Do(context.Background(), pprof.Labels("room", "lobby"), func(context.Context) { close(started); <-done })
	<-started
	var b, out bytes.Buffer
	err := pprof.Lookup("goroutine").WriteTo(&b, 0)
	close(done)
	if err != nil {
		t.Fatal(err)
	}
	if err := profile.Merge(&out, profile.Limits{}, &b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(format(t, out.Bytes()), "{room=lobby} 1") {
		t.Error("the label room=lobby is gone")
	}
}

func TestDecompressDetectsByContent(t *testing.T) {
	plain := []byte("\x0a\x04\x08\x01\x10\x02 and then some")
	var gz, zst bytes.Buffer
	zw := gzip.NewWriter(&gz)
	zw.Write(plain)
	zw.Close()
	enc, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	enc.Write(plain)
	enc.Close()
	for name, in := range map[string][]byte{"plain": plain, "gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		got, err := profile.Decompress(bytes.NewReader(in), profile.Limits{})
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestWhatPassesALimitIsRefusedInWords(t *testing.T) {
	gz := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
		return out.Bytes()
	}
	zst := func(b []byte) []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		return w.EncodeAll(b, nil)
	}
	// Samples without any content, behind a sample type and a string.
	empties := append([]byte{0x0a, 0x02, 0x08, 0x00, 0x32, 0x00}, bytes.Repeat([]byte{0x12, 0x00}, 1<<18)...)
	deep := encode(t, "types: n/count\n"+strings.TrimSuffix(strings.Repeat("f:1;", 1100), ";")+" 1")
	tests := []struct {
		name string
		in   []byte
		lim  profile.Limits
		kind ops.ErrorKind
		want string
	}{
		{"nothing", nil, profile.Limits{}, ops.Corrupt, "the profile is empty: capture it again"},
		{"zeroes in gzip", gz(make([]byte, 20<<20)), profile.Limits{}, ops.Exhausted, "the profile is larger than 16 MiB when unpacked, which is the limit for its size: download it and open it with go tool pprof"},
		{"zeroes in zstd", zst(make([]byte, 20<<20)), profile.Limits{}, ops.Exhausted, "the profile is larger than 16 MiB when unpacked, which is the limit for its size: download it and open it with go tool pprof"},
		{"plain and too large", make([]byte, 3<<20), profile.Limits{DecompressedBytes: 1 << 20}, ops.Exhausted, "the profile is larger than 1 MiB when unpacked, which is the limit for its size: download it and open it with go tool pprof"},
		{"too many samples", gz(empties), profile.Limits{Samples: 1000}, ops.Exhausted, "the profile has 262144 samples and the limit is 1000: download it and open it with go tool pprof"},
		{"too much memory", gz(empties), profile.Limits{MemoryBytes: 16 << 20}, ops.Exhausted, "the profile would take about 40 MiB of memory and the limit is 16 MiB: download it and open it with go tool pprof"},
		{"too deep", deep, profile.Limits{}, ops.Exhausted, "the profile has a stack of 1100 frames and the limit is 1024: download it and open it with go tool pprof"},
		{"cut gzip", deep[:len(deep)-20], profile.Limits{}, ops.Corrupt, "the profile's gzip data is damaged (unexpected EOF): capture it again"},
		{"text", []byte("goroutine profile: total 3\n"), profile.Limits{}, ops.Corrupt, "the profile is damaged (it is not a protocol buffer, or it is cut off): capture it again"},
		{"another protocol buffer", []byte{0x78, 0x01}, profile.Limits{}, ops.Corrupt, "this is not a pprof profile: it names no sample type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := profile.Merge(io.Discard, tt.lim, bytes.NewReader(tt.in))
			if err == nil {
				t.Fatal("accepted")
			}
			if got := err.Error(); got != "profile 1 of 1: "+tt.want || ops.KindOf(err) != tt.kind {
				t.Errorf("%s: %s\nwant %s: %s", ops.KindOf(err), got, tt.kind, tt.want)
			}
		})
	}
}

func TestMergeRefusesDifferentKinds(t *testing.T) {
	in := readers(t, "types: cpu/nanoseconds\nmain.main:1 1", "types: delay/nanoseconds\nmain.main:1 1")
	err := profile.Merge(io.Discard, profile.Limits{}, in...)
	want := "these profiles are of different kinds (cpu/nanoseconds per cpu/nanoseconds, and delay/nanoseconds per cpu/nanoseconds): choose profiles of one kind"
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestSeveralInputsShareTheMemoryLimit(t *testing.T) {
	var text strings.Builder
	text.WriteString("types: n/count\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "main.main:1;main.f%d:1 1\n", i)
	}
	one := text.String()
	lim := profile.Limits{MemoryBytes: 2 << 20}
	if err := profile.Merge(io.Discard, lim, readers(t, one)...); err != nil {
		t.Fatal(err)
	}
	err := profile.Merge(io.Discard, lim, readers(t, one, one, one, one, one, one)...)
	if ops.KindOf(err) != ops.Exhausted {
		t.Errorf("six of them: %v, want Exhausted", err)
	}
}

// FuzzMerge feeds any bytes to everything that reads profiles.
func FuzzMerge(f *testing.F) {
	f.Add(encode(f, "types: n/count\nmain.main:1;main.f:2 {user=ann} 1"))
	f.Add([]byte{0x0a, 0x02, 0x08, 0x00, 0x32, 0x00, 0x12, 0x00})
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	raw, err := profile.Decompress(bytes.NewReader(encode(f, "types: n/count t/nanoseconds\ntime: 5 6\nmain.main:1;main.f:2 {bytes=7} 1 2\nmain.main:1 3 4")), profile.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, in []byte) {
		lim := profile.Limits{DecompressedBytes: 1 << 20, MemoryBytes: 16 << 20}
		var sum bytes.Buffer
		if err := profile.Merge(&sum, lim, bytes.NewReader(in), bytes.NewReader(in)); err != nil {
			return
		}
		var zero bytes.Buffer
		if err := profile.Delta(&zero, profile.Limits{}, bytes.NewReader(sum.Bytes()), bytes.NewReader(sum.Bytes())); err != nil {
			t.Fatalf("what Merge wrote cannot be read: %v", err)
		}
		if p, err := googlepprof.ParseData(zero.Bytes()); err != nil || len(p.Sample) != 0 {
			t.Fatalf("a profile less itself is not empty: %v, %v", p, err)
		}
	})
}

func readers(t testing.TB, texts ...string) []io.Reader {
	t.Helper()
	var out []io.Reader
	for _, text := range texts {
		out = append(out, bytes.NewReader(encode(t, text)))
	}
	return out
}
