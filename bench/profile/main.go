// Profile measures how fast many profiles become one call tree: from gzipped
// pprof files, and again from the weights that were kept when they were first
// read. Its peer is google/pprof (parse each, merge all). Inflating alone is the
// floor for whoever reads the files. Everything runs on one core; rounds are
// interleaved, so that a busy machine is equally busy for all.
//
//	go run ./bench/profile [-short] [file.pprof …]
//
// Without files the profiles are synthetic: of the size and shape of a server's
// 30 s CPU profile and of a language server's heap profile
// (0.9 MB). Each is a random 70 % of the samples, with other values.
package main

import (
	"bytes"
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
	flag.Parse()
	if err := run(flag.Args(), *short); err != nil {
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

func run(files []string, short bool) error {
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
	var table measure.Table
	table.Row("profiles", "way", "seconds", "CPU s", "allocated", "times less CPU", "of its allocation")
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
		seconds, cpu, allocated := make([][]float64, len(ways)), make([][]float64, len(ways)), make([][]float64, len(ways))
		for range rounds {
			var want int64
			for i, w := range ways {
				runtime.GC()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				used, began := measure.Used().CPU, time.Now()
				got, err := w.sum(s)
				if err != nil {
					return fmt.Errorf("%s of %s: %w", w.name, s.name, err)
				}
				seconds[i] = append(seconds[i], time.Since(began).Seconds())
				cpu[i] = append(cpu[i], (measure.Used().CPU - used).Seconds())
				runtime.ReadMemStats(&after)
				allocated[i] = append(allocated[i], float64(after.TotalAlloc-before.TotalAlloc))
				switch {
				case i == 0:
					want = got
				case w.name != "inflate alone" && got != want:
					return fmt.Errorf("%s of %s: the sum is %d, google/pprof says %d", w.name, s.name, got, want)
				}
			}
		}
		size := 0
		for _, f := range s.files {
			size += len(f)
		}
		label := fmt.Sprintf("%d × %s, %.0f KB gzip, %.0f KB plain", len(s.files), s.name, float64(size)/float64(len(s.files))/1e3, float64(s.plain)/float64(len(s.files))/1e3)
		peer, peerAllocated := measure.Median(cpu[0]), measure.Median(allocated[0])
		for i, w := range ways {
			took, bytes := measure.Median(cpu[i]), measure.Median(allocated[i])
			table.Row(label, w.name, fmt.Sprintf("%.4f", measure.Median(seconds[i])), fmt.Sprintf("%.4f", took), fmt.Sprintf("%.1f MB", bytes/1e6), fmt.Sprintf("%.1f", peer/took), fmt.Sprintf("1/%.0f", peerAllocated/max(bytes, 1)))
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
