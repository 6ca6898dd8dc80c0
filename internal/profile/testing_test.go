package profile_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	pprof "github.com/google/pprof/profile"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parseText makes a profile out of lines such as
//
//	types: samples/count cpu/nanoseconds
//	time: 1000 500
//	main.main:3;main.work:7 {user=ann bytes=12} 1 10
//
// Stacks run from the root to the leaf. Every function:line is one location at
// an address of its own.
func parseText(t testing.TB, text string) *pprof.Profile {
	t.Helper()
	p := &pprof.Profile{PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10}
	p.Mapping = []*pprof.Mapping{{ID: 1, Start: 0x400000, Limit: 0x900000, File: "/opt/game/server", BuildID: "b1", HasFunctions: true}}
	functions, locations := map[string]*pprof.Function{}, map[string]*pprof.Location{}
	location := func(frame string) *pprof.Location {
		if l := locations[frame]; l != nil {
			return l
		}
		name, lineText, _ := strings.Cut(frame, ":")
		line, err := strconv.ParseInt(lineText, 10, 64)
		if err != nil {
			t.Fatalf("frame %q: %v", frame, err)
		}
		f := functions[name]
		if f == nil {
			f = &pprof.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name, Filename: "/src/" + name + ".go", StartLine: 1}
			functions[name] = f
			p.Function = append(p.Function, f)
		}
		l := &pprof.Location{ID: uint64(len(p.Location) + 1), Mapping: p.Mapping[0], Address: 0x400000 + uint64(crc32.ChecksumIEEE([]byte(frame))&0xffff)*16, Line: []pprof.Line{{Function: f, Line: line}}}
		locations[frame] = l
		p.Location = append(p.Location, l)
		return l
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "types:"):
			for _, f := range strings.Fields(line)[1:] {
				typ, unit, _ := strings.Cut(f, "/")
				p.SampleType = append(p.SampleType, &pprof.ValueType{Type: typ, Unit: unit})
			}
		case strings.HasPrefix(line, "time:"):
			if _, err := fmt.Sscanf(line, "time: %d %d", &p.TimeNanos, &p.DurationNanos); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		default:
			s := &pprof.Sample{}
			stack, rest, _ := strings.Cut(line, " ")
			for _, frame := range slices.Backward(strings.Split(stack, ";")) {
				s.Location = append(s.Location, location(frame))
			}
			if labels, values, ok := strings.Cut(rest, "} "); ok {
				rest = values
				for _, l := range strings.Fields(strings.TrimPrefix(labels, "{")) {
					k, v, _ := strings.Cut(l, "=")
					if n, err := strconv.ParseInt(v, 10, 64); err == nil {
						s.NumLabel = map[string][]int64{k: {n}}
						s.NumUnit = map[string][]string{k: {"bytes"}}
					} else {
						s.Label = map[string][]string{k: {v}}
					}
				}
			}
			for _, v := range strings.Fields(rest) {
				n, err := strconv.ParseInt(v, 10, 64)
				if err != nil {
					t.Fatalf("value %q: %v", v, err)
				}
				s.Value = append(s.Value, n)
			}
			p.Sample = append(p.Sample, s)
		}
	}
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	return p
}

// encode is the gzipped profile of a text.
func encode(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := parseText(t, text).Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// format renders a profile as parseText reads it, its samples sorted.
func format(t testing.TB, encoded []byte) string {
	t.Helper()
	p, err := pprof.ParseData(encoded)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range p.Sample {
		var frames, labels []string
		for _, l := range slices.Backward(s.Location) {
			if len(l.Line) == 0 {
				frames = append(frames, fmt.Sprintf("%#x", l.Address))
			}
			for _, line := range slices.Backward(l.Line) {
				frames = append(frames, fmt.Sprintf("%s:%d", line.Function.Name, line.Line))
			}
		}
		for _, k := range slices.Sorted(maps.Keys(s.Label)) {
			labels = append(labels, k+"="+strings.Join(s.Label[k], ","))
		}
		for _, k := range slices.Sorted(maps.Keys(s.NumLabel)) {
			labels = append(labels, fmt.Sprintf("%s=%d", k, s.NumLabel[k][0]))
		}
		line := strings.Join(frames, ";")
		if labels != nil {
			line += " {" + strings.Join(labels, " ") + "}"
		}
		out = append(out, line+" "+strings.Trim(fmt.Sprint(s.Value), "[]"))
	}
	slices.Sort(out)
	types := "types:"
	for _, st := range p.SampleType {
		types += " " + st.Type + "/" + st.Unit
	}
	return fmt.Sprintf("%s\ntime: %d %d\n%s\n", types, p.TimeNanos, p.DurationNanos, strings.Join(out, "\n"))
}
