package profile_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	runtimepprof "runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

// stock is the pprof of the Go toolchain, whose figures ours must equal.
func stock(t testing.TB, args ...string) string {
	t.Helper()
	path, err := stockPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"-symbolize=none", "-nodefraction=0", "-edgefraction=0", "-nodecount=0"}, args...)...)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pprof %v: %v\n%s", args, err, stderr.Bytes())
	}
	return string(out)
}

var stockPath = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "pprof").Output()
	return strings.TrimSpace(string(out)), err
})

// figures are the rows of a table as text: flat, cum and name.
type figures []string

var (
	tableLine  = regexp.MustCompile(`^\s*(-?\d+)\S*\s+\S+%\s+\S+%\s+(-?\d+)\S*\s+\S+%  (.*)\n$`)
	inlineMark = regexp.MustCompile(` \((partial-)?inline\)$`)
)

func stockTop(t testing.TB, unit string, args ...string) (rows figures) {
	t.Helper()
	out := stock(t, append([]string{"-top", "-unit=" + unit}, args...)...)
	_, table, ok := strings.Cut(out, "cum%\n")
	if !ok {
		t.Fatalf("no table in\n%s", out)
	}
	for line := range strings.Lines(table) {
		m := tableLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("row %q", line)
		}
		rows = append(rows, m[1]+" "+m[2]+" "+inlineMark.ReplaceAllString(m[3], ""))
	}
	return rows
}

func ourTop(t testing.TB, p *profile.Profile, typ int, f profile.Filter) (rows figures) {
	t.Helper()
	v, err := p.View(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range v.Top(typ).Rows {
		rows = append(rows, fmt.Sprintf("%d %d %s", r.Flat, r.Cum, r.Symbol))
	}
	return rows
}

// subject is a profile to be compared on.
type subject struct {
	name string
	file string
	data []byte
}

func subjects(t testing.TB) (all []subject) {
	t.Helper()
	dir := t.TempDir()
	add := func(name string, write func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, subject{name, file, b.Bytes()})
	}
	busy := work(t)
	add("cpu", func(b *bytes.Buffer) error { _, err := b.Write(busy); return err })
	for _, kind := range []string{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate"} {
		add(kind, func(b *bytes.Buffer) error { return runtimepprof.Lookup(kind).WriteTo(b, 0) })
	}
	for i, shape := range []profiletest.Shape{
		{Samples: 1500, Functions: 100, MaxDepth: 30, Labels: 1, Seed: 1},
		{Samples: 1000, Functions: 3000, MaxDepth: 60, Seed: 2},
		{Samples: 1000, Functions: 5, MaxDepth: 20, Seed: 3}, // mostly recursion
	} {
		p := profiletest.Synthetic(shape)
		add(fmt.Sprintf("synthetic%d", i), func(b *bytes.Buffer) error { return p.Write(b) })
		for i, s := range p.Sample { // as in a delta
			for k := range s.Value {
				s.Value[k] *= int64(i%3 - 1)
			}
		}
		add(fmt.Sprintf("delta%d", i), func(b *bytes.Buffer) error { return p.Write(b) })
	}
	for name, p := range foreign() {
		if err := p.CheckValid(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		add(name, func(b *bytes.Buffer) error { return p.Write(b) })
	}
	return all
}

// work keeps a CPU, a lock, a channel and the heap busy under labels, and
// returns the CPU profile of it.
func work(t testing.TB) []byte {
	t.Helper()
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	defer runtime.SetBlockProfileRate(0)
	defer runtime.SetMutexProfileFraction(0)
	var b bytes.Buffer
	if err := runtimepprof.StartCPUProfile(&b); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	c := make(chan []string)
	for _, user := range []string{"ann", "bob"} {
		wg.Go(func() {
			runtimepprof.Do(context.Background(), runtimepprof.Labels("user", user), func(context.Context) {
				for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
					s := strings.Split(strings.Repeat("a,b,", 500), ",")
					slices.SortFunc(s, func(a, b string) int { return strings.Compare(regexp.QuoteMeta(a), b) })
					mu.Lock()
					c <- s
					mu.Unlock()
				}
			})
		})
	}
	go func() { wg.Wait(); close(c) }()
	for range c {
	}
	runtimepprof.StopCPUProfile()
	return b.Bytes()
}

// foreign are profiles as other languages and profilers write them.
func foreign() map[string]*pprof.Profile {
	out := map[string]*pprof.Profile{}
	build := func(name string, types ...string) (p *pprof.Profile, fn func(name, file string) *pprof.Function, loc func(m *pprof.Mapping, address uint64, lines ...pprof.Line) *pprof.Location, sample func(values []int64, stack ...*pprof.Location) *pprof.Sample) {
		p = &pprof.Profile{PeriodType: &pprof.ValueType{}}
		for i := 0; i < len(types); i += 2 {
			p.SampleType = append(p.SampleType, &pprof.ValueType{Type: types[i], Unit: types[i+1]})
		}
		out[name] = p
		fn = func(name, file string) *pprof.Function {
			f := &pprof.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name, Filename: file}
			p.Function = append(p.Function, f)
			return f
		}
		loc = func(m *pprof.Mapping, address uint64, lines ...pprof.Line) *pprof.Location {
			l := &pprof.Location{ID: uint64(len(p.Location) + 1), Mapping: m, Address: address, Line: lines}
			p.Location = append(p.Location, l)
			return l
		}
		sample = func(values []int64, stack ...*pprof.Location) *pprof.Sample {
			s := &pprof.Sample{Location: stack, Value: values}
			p.Sample = append(p.Sample, s)
			return s
		}
		return
	}
	line := func(f *pprof.Function, n int64) pprof.Line { return pprof.Line{Function: f, Line: n} }

	p, fn, loc, sample := build("ebpf", "samples", "count", "cpu", "nanoseconds")
	p.Mapping = []*pprof.Mapping{
		{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/usr/bin/nginx", BuildID: "ab"},
		{ID: 2, Start: 0x7f00, Limit: 0x8f00, File: "/lib/x86_64-linux-gnu/libc.so.6"},
		{ID: 3, File: "[kernel.kallsyms]_stext"},
		{ID: 4, File: "https://example.com/binary"},
	}
	user, libc, kernel, url, nowhere := loc(p.Mapping[0], 0x1234), loc(p.Mapping[1], 0x7f10), loc(p.Mapping[2], 0, line(fn("do_syscall_64", ""), 0)), loc(p.Mapping[3], 0x99), loc(nil, 0xdeadbeef)
	sample([]int64{3, 30}, kernel, libc, user)
	sample([]int64{4, 40}, libc, loc(p.Mapping[1], 0x7f20), user)
	sample([]int64{5, 50}, url, nowhere, user)
	sample([]int64{6, 60}, nowhere)
	sample([]int64{7, 70}) // no stack at all

	_, fn, loc, sample = build("java", "cpu", "nanoseconds")
	run, get := fn("java.lang.Thread.run", "Thread.java"), fn("com.example.Käse.get(int, java.lang.String)", "Käse.java")
	lambda := fn("com.example.Käse$$Lambda$14.apply", "")
	for i := range 5 {
		s := sample([]int64{int64(i) * 10}, loc(nil, 0, line(lambda, 0)), loc(nil, 0, line(get, int64(i))), loc(nil, 0, line(run, 9)))
		s.Label = map[string][]string{"thread": {fmt.Sprintf("pool-%d", i%2)}, "state": {"RUNNABLE"}}
	}

	p, fn, loc, sample = build("node", "wall", "microseconds", "sample", "count")
	anonymous, unnamed := fn("(anonymous)", "file:///srv/app.js"), fn("", "file:///srv/app.js")
	unnamed.StartLine = 7
	root := loc(nil, 0, line(fn("(root)", ""), 0))
	sample([]int64{100, 1}, loc(nil, 0, line(anonymous, 3)), loc(nil, 0, line(unnamed, 12)), root)
	sample([]int64{50, 1}, loc(nil, 0, line(unnamed, 13)), root)
	p.DefaultSampleType = "wall"

	p, fn, loc, sample = build("c++", "space", "bytes", "objects", "count")
	p.Mapping = []*pprof.Mapping{{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/opt/server"}}
	p.DropFrames, p.KeepFrames = `operator new.*|tc_malloc|\(anonymous namespace\)::Alloc`, `tc_malloc_keep`
	alloc, vec := fn("(anonymous namespace)::Alloc(unsigned long)", "a.cc"), fn("std::vector<int, std::allocator<int> >::operator()(int) const", "vector")
	opNew, drawn, mainFn := fn("operator new(unsigned long)", "new.cc"), fn("ui::Widget::Draw()", "widget.cc"), fn("main", "main.cc")
	leaf := loc(p.Mapping[0], 0x2000, line(alloc, 1))
	inlined := loc(p.Mapping[0], 0x2010, line(opNew, 2), line(vec, 3), line(drawn, 4))
	top := loc(p.Mapping[0], 0x2020, line(mainFn, 5))
	sample([]int64{1 << 40, 1}, leaf, inlined, top)
	sample([]int64{4096, 2}, inlined, top, inlined, top) // recursion
	sample([]int64{-4096, -2}, leaf, inlined)
	sample([]int64{512, 1}, leaf)

	p, fn, loc, sample = build("rust", "samples", "count")
	closure := fn("core::ops::function::FnOnce::call_once{{vtable.shim}}", "/rustc/abc/library/core/src/ops/function.rs")
	poll := fn("<tokio::runtime::task::core::Core<T,S> as Future>::poll::h0123", "core.rs")
	sample([]int64{9}, loc(nil, 1, line(closure, 250), line(poll, 328)), loc(nil, 2, line(poll, 328)))
	p.Location[0].ID, p.Location[1].ID, p.Function[0].ID = 1<<40, 7_000_000, 1<<63 // ids as they come

	p, _, _, _ = build("empty", "inuse_objects", "count", "inuse_space", "bytes")
	p.DefaultSampleType = "inuse_space"
	return out
}

// filters are those that have a counterpart in pprof.
var filters = []struct {
	args   []string
	filter profile.Filter
}{
	{nil, profile.Filter{}},
	{[]string{"-focus=a.*[Mm]"}, profile.Filter{Focus: "a.*[Mm]"}},
	{[]string{"-ignore=(?i)sort|Method1|libc|Draw"}, profile.Filter{Ignore: "(?i)sort|Method1|libc|Draw"}},
	{[]string{"-hide=^runtime|pkg1[0-9]|nginx|vector|^main"}, profile.Filter{Hide: "^runtime|pkg1[0-9]|nginx|vector|^main"}},
	{[]string{"-show=profile_test|pkg[2-5]|main|Käse|poll|libc"}, profile.Filter{Show: "profile_test|pkg[2-5]|main|Käse|poll|libc"}},
	{[]string{"-focus=e", "-ignore=regexp|Method2", "-hide=file1|strings"}, profile.Filter{Focus: "e", Ignore: "regexp|Method2", Hide: "file1|strings"}},
	{[]string{"-tagfocus=user=^ann$"}, profile.Filter{Labels: []profile.LabelFilter{{Key: "user", Value: "ann"}}}},
	{[]string{"-tagignore=thread=^pool.0$"}, profile.Filter{Labels: []profile.LabelFilter{{Key: "thread", Value: "pool-0", Not: true}}}},
}

func TestTablesEqualThoseOfTheStockTool(t *testing.T) {
	for _, s := range subjects(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p, err := profile.Read(bytes.NewReader(s.data), profile.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for typ, vt := range p.Types {
				for i, f := range filters {
					if i > 0 && typ != len(p.Types)-1 {
						continue // filters do not look at values
					}
					want := stockTop(t, vt.Unit, append(slices.Clone(f.args), "-sample_index="+strconv.Itoa(typ), s.file)...)
					got := ourTop(t, p, typ, f.filter)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s %v (- pprof, + ours):\n%s", vt.Type, f.args, diff)
					}
				}
			}
		})
	}
}

func TestComparisonEqualsThatOfTheStockTool(t *testing.T) {
	all := subjects(t)
	named := func(name string) subject {
		i := slices.IndexFunc(all, func(s subject) bool { return s.name == name })
		return all[i]
	}
	for _, pair := range [][2]string{{"cpu", "synthetic0"}, {"synthetic0", "synthetic1"}, {"synthetic1", "delta1"}, {"delta2", "synthetic2"}, {"heap", "allocs"}, {"empty", "heap"}, {"synthetic0", "ebpf"}, {"block", "mutex"}, {"c++", "c++"}} {
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			t.Parallel()
			before, after := named(pair[0]), named(pair[1])
			b, err := profile.Read(bytes.NewReader(before.data), profile.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			a, err := profile.Read(bytes.NewReader(after.data), profile.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			file := withPeriodOf(t, before, after) // pprof compares one period type only
			for i, f := range []int{0, 5, 0, 3} {
				normalise := i >= 2
				if normalise && !slices.Equal(a.Types, b.Types) {
					continue // which pprof refuses
				}
				c, err := profile.Compare(b, a, filters[f].filter, normalise)
				if err != nil {
					t.Fatal(err)
				}
				for typ, vt := range c.Types {
					args := append(slices.Clone(filters[f].args), "-sample_index="+vt.Type, "-normalize="+strconv.FormatBool(normalise), "-diff_base", before.file, file)
					want := stockTop(t, vt.Unit, args...)
					var got figures
					for _, r := range c.Top(typ).Rows {
						if r.Flat() != 0 || r.Cum() != 0 {
							got = append(got, fmt.Sprintf("%d %d %s", r.Flat(), r.Cum(), r.Symbol))
						}
					}
					slices.Sort(want)
					slices.Sort(got)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s normalise %t %v (- pprof, + ours):\n%s", vt.Type, normalise, filters[f].args, diff)
					}
				}
			}
		})
	}
}

// withPeriodOf writes a copy of a profile that has the period type of another.
func withPeriodOf(t testing.TB, of, s subject) string {
	t.Helper()
	a, err := pprof.ParseData(of.data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pprof.ParseData(s.data)
	if err != nil {
		t.Fatal(err)
	}
	p.PeriodType = a.PeriodType
	file := filepath.Join(t.TempDir(), "copy")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := p.Write(w); err != nil {
		t.Fatal(err)
	}
	return file
}

var peekLine = regexp.MustCompile(`^\s+(-?\d+)\S*\s+\S+ \|   (.*)$`)

func TestCallersAndCalleesEqualThoseOfTheStockTool(t *testing.T) {
	for _, s := range subjects(t) {
		p, err := profile.Read(bytes.NewReader(s.data), profile.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.View(profile.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		typ := len(p.Types) - 1
		rows := v.Top(typ).Rows
		for i := 0; i < len(rows); i += 1 + len(rows)/3 {
			name := rows[i].Symbol.String()
			if rows[i].Symbol.Name == "" {
				continue
			}
			got, err := v.Around(typ, name)
			if err != nil {
				t.Fatal(err)
			}
			out := stock(t, "-peek=^"+regexp.QuoteMeta(name)+"$", "-unit="+p.Types[typ].Unit, "-sample_index="+strconv.Itoa(typ), s.file)
			var want, have []string
			side := "caller"
			for line := range strings.Lines(out) {
				line = strings.TrimRight(line, "\n")
				if m := peekLine.FindStringSubmatch(line); m != nil {
					want = append(want, side+" "+m[1]+" "+inlineMark.ReplaceAllString(m[2], ""))
				} else if strings.Contains(line, "                | ") {
					side = "callee"
				}
			}
			for _, e := range got.Callers {
				have = append(have, fmt.Sprintf("caller %d %s", e.Value, e.Symbol))
			}
			for _, e := range got.Callees {
				have = append(have, fmt.Sprintf("callee %d %s", e.Value, e.Symbol))
			}
			slices.Sort(want)
			slices.Sort(have)
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("%s %s (- pprof, + ours):\n%s", s.name, name, diff)
			}
			if got.Flat != rows[i].Flat || got.Cum != rows[i].Cum {
				t.Errorf("%s %s: flat %d cum %d, in the table %d and %d", s.name, name, got.Flat, got.Cum, rows[i].Flat, rows[i].Cum)
			}
		}
	}
}
