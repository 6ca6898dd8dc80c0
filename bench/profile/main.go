// Profile measures how fast many profiles become one call tree: from gzipped
// pprof files, and again from the weights that were kept when they were first
// read. Its peer is google/pprof (parse each, merge all). Inflating alone is the
// floor for whoever reads the files. Everything runs on one core; rounds are
// interleaved, so that a busy machine is equally busy for all. With a checkout of
// Pyroscope its merge code is a peer as well: inflate, decode and merge one after
// the other, built with the checkout's own dependencies and run in processes of
// its own.
//
//	go run ./bench/profile [-short] [-pyroscope DIR] [file.pprof …]
//
// Without files the profiles are synthetic: of the size and shape of a server's
// 30 s CPU profile and of a language server's heap profile
// (0.9 MB). Each is a random 70 % of the samples, with other values.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"time"

	pprof "github.com/google/pprof/profile"
	"github.com/klauspost/compress/gzip"

	"github.com/opscenter/opscenter/bench/internal/measure"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

func main() {
	short := flag.Bool("short", false, "a tenth of the profiles, one round")
	checkout := flag.String("pyroscope", "", "a checkout of github.com/grafana/pyroscope to compare with")
	flag.Parse()
	if err := run(context.Background(), flag.Args(), *checkout, *short); err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
}

// set is a number of profiles of one kind.
type set struct {
	name  string
	files [][]byte
	plain int64 // bytes when inflated
}

// way is a way to sum a set. What it returns is checked: the sum of all values.
type way struct {
	name string
	sum  func(s set) (int64, error)
}

// measured is what a way took here.
func (w way) measured(s set) (r spent, err error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, began := measure.Used().CPU, time.Now()
	if r.Total, err = w.sum(s); err != nil {
		return r, err
	}
	r.Seconds, r.CPU = time.Since(began).Seconds(), (measure.Used().CPU - used).Seconds()
	runtime.ReadMemStats(&after)
	r.Allocated = float64(after.TotalAlloc - before.TotalAlloc)
	return r, nil
}

func run(ctx context.Context, files []string, checkout string, short bool) error {
	runtime.GOMAXPROCS(1)
	fmt.Println(measure.Machine() + ", GOMAXPROCS=1")
	cpus, heaps, rounds := 1000, 100, 3
	if short {
		cpus, heaps, rounds = 100, 10, 1
	}
	type source struct {
		name    string
		count   int
		profile *pprof.Profile
	}
	var sources []source
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		p, err := pprof.ParseData(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		sources = append(sources, source{name, heaps, p})
	}
	if len(sources) == 0 {
		sources = []source{
			{"CPU", cpus, profiletest.Calls(profiletest.Shape{Samples: 3600, Functions: 700, MaxDepth: 40, Seed: 1})},
			{"heap", heaps, heap(profiletest.Calls(profiletest.Shape{Samples: 84_000, Functions: 4000, MaxDepth: 36, Seed: 2}))},
		}
	}
	dir, err := os.MkdirTemp("", "bench-profile")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var peer *pyroscope
	if checkout != "" {
		if peer, err = buildPyroscope(ctx, checkout, dir); err != nil {
			return err
		}
	}
	var table measure.Table
	table.Row("profiles", "way", "seconds", "CPU s", "allocated", "× less CPU", "× less than Pyroscope", "of google/pprof's allocation")
	for _, src := range sources {
		s, err := variants(src.name, src.count, src.profile)
		if err != nil {
			return err
		}
		var weights []profile.Weights
		sum, err := profile.NewSum(profile.Limits{}, profile.Filter{})
		if err != nil {
			return err
		}
		kept := 0
		for _, f := range s.files {
			if err := sum.Add(bytes.NewReader(f)); err != nil {
				return err
			}
			w := sum.Weights()
			weights = append(weights, w)
			kept += len(w)
		}
		tree := sum.Tree()
		ways := []way{
			{"google/pprof: parse, merge", googlePprof},
			{"ours: sum", ours},
			{"inflate alone", inflate},
			{fmt.Sprintf("ours: all types, from weights kept (%.1f MB)", float64(kept)/1e6), func(set) (int64, error) {
				tree.Reset()
				for _, w := range weights {
					if err := tree.Add(w); err != nil {
						return 0, err
					}
				}
				return tree.Total(0, tree.Columns()-1), nil
			}},
			{"ours: one type, from weights kept", func(set) (int64, error) {
				tree.Reset()
				for _, w := range weights {
					if err := tree.Add(w, tree.Columns()-1); err != nil {
						return 0, err
					}
				}
				return tree.Total(0, tree.Columns()-1), nil
			}},
		}
		const pyroscopeName = "Pyroscope: inflate, decode, merge"
		if peer != nil {
			ways = append(ways, way{name: pyroscopeName})
		}
		all := make([][]spent, len(ways))
		for range rounds {
			for i, w := range ways {
				var r spent
				if w.sum != nil {
					r, err = w.measured(s)
				} else {
					r, err = peer.sum(ctx, s, dir)
				}
				if err != nil {
					return fmt.Errorf("%s of %s: %w", w.name, s.name, err)
				}
				all[i] = append(all[i], r)
				if want := all[0][0].Total; w.name != "inflate alone" && r.Total != want {
					return fmt.Errorf("%s of %s: the sum is %d, google/pprof says %d", w.name, s.name, r.Total, want)
				}
			}
		}
		median := func(i int, of func(spent) float64) float64 {
			var v []float64
			for _, r := range all[i] {
				v = append(v, of(r))
			}
			return measure.Median(v)
		}
		size := 0
		for _, f := range s.files {
			size += len(f)
		}
		label := fmt.Sprintf("%d × %s, %.0f KB gzip, %.0f KB plain", len(s.files), s.name, float64(size)/float64(len(s.files))/1e3, float64(s.plain)/float64(len(s.files))/1e3)
		cpu, allocated := func(r spent) float64 { return r.CPU }, func(r spent) float64 { return r.Allocated }
		for i, w := range ways {
			took, bytes := median(i, cpu), median(i, allocated)
			pyro := ""
			if peer != nil {
				pyro = fmt.Sprintf("%.1f", median(len(ways)-1, cpu)/took)
			}
			table.Row(label, w.name, fmt.Sprintf("%.4f", median(i, func(r spent) float64 { return r.Seconds })), fmt.Sprintf("%.4f", took), fmt.Sprintf("%.1f MB", bytes/1e6),
				fmt.Sprintf("%.1f", median(0, cpu)/took), pyro, fmt.Sprintf("1/%.0f", median(0, allocated)/max(bytes, 1)))
		}
	}
	table.Print(os.Stdout)
	return nil
}

// heap makes a CPU profile one of the four values of a heap profile.
func heap(p *pprof.Profile) *pprof.Profile {
	p.SampleType = nil
	for _, t := range []string{"alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"} {
		name, unit, _ := strings.Cut(t, "/")
		p.SampleType = append(p.SampleType, &pprof.ValueType{Type: name, Unit: unit})
	}
	p.PeriodType = &pprof.ValueType{Type: "space", Unit: "bytes"}
	r := rand.New(rand.NewPCG(3, 4))
	for _, s := range p.Sample {
		n := 1 + int64(r.ExpFloat64()*50)
		size := int64(16) << r.IntN(10)
		live := int64(0) // most of what was ever allocated is gone
		if r.IntN(8) == 0 {
			live = 1 + n/4
		}
		s.Value = []int64{n, n * size, live, live * size}
		s.NumLabel, s.NumUnit = map[string][]int64{"bytes": {size}}, map[string][]string{"bytes": {"bytes"}}
	}
	return p
}

// variants are profiles like p: each has a random 70 % of its samples.
func variants(name string, count int, p *pprof.Profile) (set, error) {
	s := set{name: name}
	r := rand.New(rand.NewPCG(5, 6))
	for range count {
		v := &pprof.Profile{
			SampleType: p.SampleType, PeriodType: p.PeriodType, Period: p.Period, TimeNanos: p.TimeNanos, DurationNanos: p.DurationNanos,
			Mapping: p.Mapping, Location: p.Location, Function: p.Function,
		}
		for _, sample := range p.Sample {
			if r.IntN(10) < 7 {
				scaled := *sample
				scaled.Value = make([]int64, len(sample.Value))
				factor := 1 + int64(r.IntN(4))
				for i, x := range sample.Value {
					scaled.Value[i] = x * factor
				}
				v.Sample = append(v.Sample, &scaled)
			}
		}
		var b, plain bytes.Buffer
		if err := v.Write(&b); err != nil {
			return s, err
		}
		if err := v.WriteUncompressed(&plain); err != nil {
			return s, err
		}
		s.plain += int64(plain.Len())
		s.files = append(s.files, b.Bytes())
	}
	return s, nil
}

func googlePprof(s set) (int64, error) {
	var all []*pprof.Profile
	for _, f := range s.files {
		p, err := pprof.ParseData(f)
		if err != nil {
			return 0, err
		}
		all = append(all, p)
	}
	p, err := pprof.Merge(all)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, sample := range p.Sample {
		total += sample.Value[len(sample.Value)-1]
	}
	return total, nil
}

func ours(s set) (int64, error) {
	sum, err := profile.NewSum(profile.Limits{}, profile.Filter{})
	if err != nil {
		return 0, err
	}
	for _, f := range s.files {
		if err := sum.Add(bytes.NewReader(f)); err != nil {
			return 0, err
		}
	}
	return sum.Tree().Total(0, len(sum.Types())-1), nil
}

func inflate(s set) (int64, error) {
	var zr gzip.Reader
	total := int64(0)
	for _, f := range s.files {
		if err := zr.Reset(bytes.NewReader(f)); err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, &zr)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
