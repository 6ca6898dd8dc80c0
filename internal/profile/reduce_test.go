package profile_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

// large makes a text profile too large to be shown whole, by adding 6,000 stacks
// that each are worth one.
func large(text string) string {
	var b strings.Builder
	b.WriteString(text)
	for i := range 6000 {
		fmt.Fprintf(&b, "main.main:1;main.rare%d:%d 1 10\n", i%50, i)
	}
	return b.String()
}

func forBrowser(t testing.TB, in []byte) ([]byte, profile.Shown) {
	t.Helper()
	var out bytes.Buffer
	shown, err := profile.ForBrowser(&out, nil, profile.Limits{}, bytes.NewReader(in), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), shown
}

func TestSmallProfilesAreShownWhole(t *testing.T) {
	text := "types: samples/count cpu/nanoseconds\ntime: 5 6\nmain.main:3;main.work:7 {user=ann} 1 10\n"
	out, shown := forBrowser(t, encode(t, text))
	if diff := cmp.Diff(text, format(t, out)); diff != "" || shown.Reduced {
		t.Errorf("reduced %t\n%s", shown.Reduced, diff)
	}
}

func TestReducedCopyKeepsLinesAndSumsUpTheRest(t *testing.T) {
	in := large(`types: samples/count cpu/nanoseconds
		time: 5 6
		main.main:1;main.hot:10;main.leaf:3 {user=ann} 40000 4
		main.main:1;main.hot:11;main.leaf:3 {user=bob} 40000 4
		main.main:1;main.hot:11;main.leaf:3 {user=ann} 2 4
		main.main:1;main.few:1 20 0
		main.main:1;main.few:2 20 0
		main.main:1;main.one:9 25 0
		main.main:1;main.gone:5 -7 0
	`)
	out, shown := forBrowser(t, encode(t, in))
	// 6,000 rare stacks of 50 functions: each function is worth 120, more than
	// 1/4000, and none of its lines is.
	got := format(t, out)
	for _, want := range []string{
		"main.main:1;main.hot:10;main.leaf:3 40000 4\n", "main.main:1;main.hot:11;main.leaf:3 40002 8\n",
		"main.main:1;main.few:0 40 0\n", "main.main:1;main.one:9 25 0\n", "main.main:1;main.rare7:0 120 1200\n",
		"main.main:1;(pruned, negative):0 -7 0\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "user=") || strings.Contains(got, "main.gone") {
		t.Errorf("labels or what is too small are left in\n%s", got)
	}
	if !shown.Reduced || shown.Share != 1.0/4000 {
		t.Errorf("shown = %+v", shown)
	}
}

// totals are the sum and the sum of absolute values of each sample type.
func totals(p *pprof.Profile) (sum, absolute []int64) {
	sum, absolute = make([]int64, len(p.SampleType)), make([]int64, len(p.SampleType))
	for _, s := range p.Sample {
		for i, v := range s.Value {
			sum[i] += v
			absolute[i] += max(v, -v)
		}
	}
	return sum, absolute
}

func TestTotalsOfEverySampleTypeStay(t *testing.T) {
	for _, shape := range []profiletest.Shape{
		{Samples: 20_000, Functions: 300, MaxDepth: 30, Seed: 1},
		{Samples: 20_000, Functions: 4000, MaxDepth: 60, Labels: 2, Seed: 2},
		{Samples: 9_000, Functions: 9_000, MaxDepth: 4, Seed: 3},
	} {
		p := profiletest.Synthetic(shape)
		for i, s := range p.Sample {
			if i%7 == 0 { // as in a difference
				s.Value[0] = -s.Value[0]
			}
		}
		var in bytes.Buffer
		if err := p.Write(&in); err != nil {
			t.Fatal(err)
		}
		out, shown := forBrowser(t, in.Bytes())
		got, err := pprof.ParseData(out)
		if err != nil {
			t.Fatal(err)
		}
		sum, _ := totals(got)
		want, _ := totals(p)
		if diff := cmp.Diff(want, sum); diff != "" || !shown.Reduced {
			t.Errorf("%+v: reduced %t\n%s", shape, shown.Reduced, diff)
		}
		if len(got.Sample) > 70_000 {
			t.Errorf("%d samples are left", len(got.Sample))
		}
	}
}

// cumulative is what each function is worth with everything it calls, as
// pprof counts it.
func cumulative(p *pprof.Profile) map[string]int64 {
	cum := map[string]int64{}
	for _, s := range p.Sample {
		seen := map[string]bool{}
		for _, l := range s.Location {
			for _, line := range l.Line {
				if !seen[line.Function.Name] {
					seen[line.Function.Name] = true
					cum[line.Function.Name] += s.Value[0]
				}
			}
		}
	}
	return cum
}

func TestLargeFunctionsKeepTheirWeight(t *testing.T) {
	p := profiletest.Synthetic(profiletest.Shape{Samples: 20_000, Functions: 40, MaxDepth: 12, Seed: 4})
	var in bytes.Buffer
	if err := p.Write(&in); err != nil {
		t.Fatal(err)
	}
	out, _ := forBrowser(t, in.Bytes())
	got, err := pprof.ParseData(out)
	if err != nil {
		t.Fatal(err)
	}
	_, total := totals(p)
	after := cumulative(got)
	for name, want := range cumulative(p) {
		// A function loses what it was worth on paths that were cut off.
		if lost := want - after[name]; lost < 0 || lost > total[0]/4 {
			t.Errorf("%s was worth %d and is worth %d of %d", name, want, after[name], total[0])
		}
	}
}

var totalLine = regexp.MustCompile(`(?m)^Showing nodes accounting for .* of (\S+) total$`)

// pprofTop runs the stock tool over two profiles in files.
func pprofTop(t *testing.T, base, main []byte, sampleType string) (total string, rows map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{"base": base, "main": main} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "tool", "pprof", "-symbolize=none", "-sample_index="+sampleType, "-top", "-nodecount=100000", "-nodefraction=0", "-diff_base", filepath.Join(dir, "base"), filepath.Join(dir, "main"))
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := totalLine.FindSubmatch(out)
	if m == nil {
		t.Fatalf("no total in\n%s", out)
	}
	rows = map[string]string{}
	_, table, _ := strings.Cut(string(out), "cum%\n")
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) >= 6 {
			rows[strings.Join(f[5:], " ")] = f[3]
		}
	}
	return string(m[1]), rows
}

func TestDiffOfReducedCopiesIsThatOfTheStockTool(t *testing.T) {
	shape := profiletest.Shape{Samples: 20_000, Functions: 300, MaxDepth: 20, Seed: 5}
	base := profiletest.Synthetic(shape)
	main := profiletest.Synthetic(shape)
	// One function got slower, and many small ones changed a little.
	for i, s := range main.Sample {
		if s.Location[len(s.Location)-1].Line[0].Function.ID%5 == 0 {
			s.Value[0] += 3
			s.Value[1] += 30_000_000
		}
		if i%3 == 0 {
			s.Value[0]++
			s.Value[1] += 10_000_000
		}
	}
	var a, b, ra, rb bytes.Buffer
	if err := base.Write(&a); err != nil {
		t.Fatal(err)
	}
	if err := main.Write(&b); err != nil {
		t.Fatal(err)
	}
	shown, err := profile.ForBrowser(&rb, &ra, profile.Limits{}, bytes.NewReader(b.Bytes()), bytes.NewReader(a.Bytes()))
	if err != nil || !shown.Reduced {
		t.Fatalf("%+v, %v", shown, err)
	}
	for _, sampleType := range shown.SampleTypes {
		want, wantRows := pprofTop(t, a.Bytes(), b.Bytes(), sampleType)
		got, gotRows := pprofTop(t, ra.Bytes(), rb.Bytes(), sampleType)
		if got != want {
			t.Errorf("%s: total %s, stock says %s", sampleType, got, want)
		}
		// The roots of the stacks are worth the most and are never cut off.
		compared := 0
		for _, l := range base.Sample[0].Location[len(base.Sample[0].Location)-1:] {
			name := l.Line[0].Function.Name
			if wantRows[name] == "" || gotRows[name] == "" {
				continue
			}
			compared++
			if gotRows[name] == "0" && wantRows[name] != "0" {
				t.Errorf("%s: %s changed by %s, stock says %s", sampleType, name, gotRows[name], wantRows[name])
			}
		}
		if compared == 0 {
			t.Error("nothing was compared")
		}
	}
}

func TestBothSidesOfADiffAreCutAtTheSamePlaces(t *testing.T) {
	// main.b is tiny in the base and large in the profile: it must be a frame of
	// its own in both, or the difference would blame "(pruned)".
	base := large("types: samples/count cpu/nanoseconds\nmain.main:1;main.a:1 900000 9\nmain.main:1;main.b:1 1 1\n")
	main := large("types: samples/count cpu/nanoseconds\nmain.main:1;main.a:1 900000 9\nmain.main:1;main.b:1 90000 9\n")
	var a, b bytes.Buffer
	if _, err := profile.ForBrowser(&b, &a, profile.Limits{}, bytes.NewReader(encode(t, main)), bytes.NewReader(encode(t, base))); err != nil {
		t.Fatal(err)
	}
	if got := format(t, a.Bytes()); !strings.Contains(got, "main.main:1;main.b:1 1 1\n") {
		t.Errorf("main.b is cut off in the base:\n%s", got)
	}
}

func TestDiffOfDifferentKindsIsRefused(t *testing.T) {
	for _, grow := range []func(string) string{func(s string) string { return s }, large} {
		var a, b bytes.Buffer
		_, err := profile.ForBrowser(&b, &a, profile.Limits{},
			bytes.NewReader(encode(t, grow("types: samples/count cpu/nanoseconds\nmain.main:1 1 1\n"))),
			bytes.NewReader(encode(t, grow("types: contentions/count delay/nanoseconds\nmain.main:1 1 1\n"))))
		want := "these profiles are of different kinds (samples/count cpu/nanoseconds per cpu/nanoseconds, and contentions/count delay/nanoseconds per cpu/nanoseconds): choose profiles of one kind"
		if err == nil || err.Error() != want || ops.KindOf(err) != ops.Invalid {
			t.Errorf("got %v", err)
		}
	}
}

func TestNamesThatPagesDoNotEscapeAreMadeHarmless(t *testing.T) {
	evil := `/opt/x" ]; N9 [label="click" URL="javascript:alert(1)`
	for _, samples := range []string{"main.main:1 1 1\n", large("main.main:1 1 1\n")} {
		p := parseText(t, "types: samples/count cpu/nanoseconds\n"+samples)
		p.Mapping[0].File, p.Mapping[0].BuildID = evil, evil
		p.SampleType[0].Type, p.DocURL, p.DefaultSampleType = evil, "javascript:alert(1)", evil
		var in bytes.Buffer
		if err := p.Write(&in); err != nil {
			t.Fatal(err)
		}
		out, _ := forBrowser(t, in.Bytes())
		got, err := pprof.ParseData(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{got.Mapping[0].File, got.Mapping[0].BuildID, got.SampleType[0].Type, got.DefaultSampleType} {
			if s == "" || strings.ContainsAny(s, "\"'<>;[]= /:()") {
				t.Errorf("%q is left", s)
			}
		}
		if got.DocURL != "" {
			t.Errorf("the link %q is left", got.DocURL)
		}
	}
}

func TestFramesWithoutSymbolsKeepTheirAddress(t *testing.T) {
	p := parseText(t, large("types: samples/count cpu/nanoseconds\nmain.main:1;main.raw:1 90000 9\n"))
	for _, l := range p.Location {
		if l.Line[0].Function.Name == "main.raw" {
			l.Line, l.Address = nil, 0xabcdef
		}
	}
	var in bytes.Buffer
	if err := p.Write(&in); err != nil {
		t.Fatal(err)
	}
	out, _ := forBrowser(t, in.Bytes())
	if got := format(t, out); !strings.Contains(got, "main.main:1;0xabcdef 90000 9\n") {
		t.Errorf("no such stack in\n%s", got)
	}
}

func TestInlinedBombIsRefused(t *testing.T) {
	// Each of 6,000 samples names a location of 1,000 inlined lines a thousand
	// times: six billion frames in a few megabytes.
	p := parseText(t, "types: n/count\nmain.main:1 1\n")
	l := p.Location[0]
	l.Line = slices.Repeat(l.Line, 1000)
	s := p.Sample[0]
	s.Location = slices.Repeat(s.Location, 1000)
	p.Sample = nil
	for range 6000 {
		p.Sample = append(p.Sample, &pprof.Sample{Location: s.Location, Value: s.Value})
	}
	var in bytes.Buffer
	if err := p.Write(&in); err != nil {
		t.Fatal(err)
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(512 << 20))
	_, err := profile.ForBrowser(&bytes.Buffer{}, nil, profile.Limits{MemoryBytes: 64 << 20}, &in, nil)
	want := "the profile's stacks have more than 16777216 frames in all, which is the limit: download it and open it with go tool pprof"
	if err == nil || err.Error() != want || ops.KindOf(err) != ops.Exhausted {
		t.Errorf("got %v", err)
	}
}

func FuzzForBrowser(f *testing.F) {
	for _, text := range []string{
		"types: n/count\nmain.main:1;main.f:2 {user=ann} 1",
		"types: n/count t/nanoseconds\ntime: 5 6\nmain.main:1;main.f:2 1 2\nmain.main:1 3 4",
	} {
		raw, err := profile.Decompress(bytes.NewReader(encode(f, text)), profile.Limits{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, false)
		f.Add(raw, true)
	}
	// Enough samples to be reduced, in a few bytes each.
	f.Add(append([]byte{0x0a, 0x02, 0x08, 0x00, 0x32, 0x00, 0x22, 0x06, 0x08, 0x01, 0x22, 0x02, 0x08, 0x01, 0x2a, 0x02, 0x08, 0x01}, bytes.Repeat([]byte{0x12, 0x06, 0x0a, 0x01, 0x01, 0x12, 0x01, 0x05}, 5100)...), false)
	f.Fuzz(func(t *testing.T, in []byte, diff bool) {
		lim := profile.Limits{DecompressedBytes: 1 << 20, MemoryBytes: 16 << 20}
		var a, b bytes.Buffer
		var err error
		if diff {
			_, err = profile.ForBrowser(&a, &b, lim, bytes.NewReader(in), bytes.NewReader(in))
		} else {
			_, err = profile.ForBrowser(&a, nil, lim, bytes.NewReader(in), nil)
		}
		if err != nil {
			if ops.KindOf(err) == ops.Internal {
				t.Fatalf("blamed on us: %v", err)
			}
			return
		}
		for _, out := range []*bytes.Buffer{&a, &b} {
			if out.Len() == 0 {
				continue
			}
			if p, err := pprof.ParseData(out.Bytes()); err != nil || p.CheckValid() != nil {
				t.Fatalf("the copy cannot be read: %v", err)
			}
		}
	})
}
