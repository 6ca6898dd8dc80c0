// Package profiletest makes profiles for tests and benchmarks.
package profiletest

import (
	"fmt"
	"math"
	"math/rand/v2"

	pprof "github.com/google/pprof/profile"
)

// Shape is what a synthetic profile is made of.
type Shape struct {
	Samples   int
	Functions int
	// MaxDepth is the length of the longest stacks; the mean is about half of it.
	MaxDepth int
	// Labels gives each sample that many labels of high variety.
	Labels int
	Seed   uint64
}

// Large is the shape of a profile of about 5 MB gzipped: 165,000
// different stacks with labels, nearly the worst that there is for its size.
var Large = Shape{Samples: 165_000, Functions: 4000, MaxDepth: 30, Labels: 1, Seed: 1}

// Synthetic returns a CPU profile of that shape. Calls are skewed as those of
// real programs are: a few children of each function get most of the weight.
func Synthetic(s Shape) *pprof.Profile {
	r := rand.New(rand.NewPCG(s.Seed, 7))
	p := &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000,
		TimeNanos: 1_700_000_000_000_000_000, DurationNanos: 30_000_000_000,
		Mapping: []*pprof.Mapping{{ID: 1, Start: 0x400000, Limit: 0x4000000, File: "/opt/synthetic", HasFunctions: true}},
	}
	const linesEach = 4
	for i := range s.Functions {
		f := &pprof.Function{ID: uint64(i + 1), Name: fmt.Sprintf("example.com/game/pkg%d.(*Type%d).Method%d", i%97, i%1009, i), Filename: fmt.Sprintf("/src/game/pkg%d/file%d.go", i%97, i%31), StartLine: int64(i%500 + 1)}
		f.SystemName = f.Name
		p.Function = append(p.Function, f)
		for j := range linesEach {
			id := uint64(len(p.Location) + 1)
			p.Location = append(p.Location, &pprof.Location{ID: id, Mapping: p.Mapping[0], Address: 0x400000 + id*32, Line: []pprof.Line{{Function: f, Line: f.StartLine + int64(j)*3}}})
		}
	}
	for i := range s.Samples {
		depth := 2 + r.IntN(max(1, s.MaxDepth-2))
		stack := make([]*pprof.Location, depth)
		at := s.Seed
		for d := range depth {
			// The child taken, skewed towards the first ones.
			child := uint64(math.Pow(r.Float64(), 6) * 12)
			at = (at*31 + child + 1) * 0x9E3779B97F4A7C15 >> 7
			line := uint64(0)
			if r.IntN(12) == 0 {
				line = uint64(r.IntN(linesEach))
			}
			stack[depth-1-d] = p.Location[at%uint64(s.Functions)*linesEach+line]
		}
		n := 1 + int64(r.ExpFloat64()*3)
		sample := &pprof.Sample{Location: stack, Value: []int64{n, n * 10_000_000}}
		for l := range s.Labels {
			if sample.Label == nil {
				sample.Label = map[string][]string{}
			}
			sample.Label[fmt.Sprintf("label%d", l)] = []string{fmt.Sprintf("session-%d", i%5000)}
		}
		p.Sample = append(p.Sample, sample)
	}
	return p
}

// Calls returns a profile whose stacks share most of their frames with one
// another, as those of a real program do that has many allocation sites: each
// stack goes a part of the way of the one before and then its own.
func Calls(s Shape) *pprof.Profile {
	r := rand.New(rand.NewPCG(s.Seed, 11))
	p := Synthetic(Shape{Functions: s.Functions, Seed: s.Seed})
	var path []*pprof.Location // from the root
	for range s.Samples {
		keep := len(path) - int(r.ExpFloat64()*2)
		path = path[:max(0, min(keep, s.MaxDepth-1))]
		for len(path) == 0 || len(path) < s.MaxDepth && r.IntN(5) < 3 {
			at := len(p.Location) - 1
			path = append(path, p.Location[int(math.Pow(r.Float64(), 3)*float64(at))])
		}
		stack := make([]*pprof.Location, len(path))
		for i, l := range path {
			stack[len(path)-1-i] = l
		}
		n := 1 + int64(r.ExpFloat64()*3)
		p.Sample = append(p.Sample, &pprof.Sample{Location: stack, Value: []int64{n, n * 10_000_000}})
	}
	return p
}
