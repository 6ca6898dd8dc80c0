package profile

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
)

// Merge writes the sum of the profiles, gzipped: the segments of one CPU
// profile, or one kind of several processes. Samples are summed by stack and
// labels; addresses, lines, mappings, sample types and comments stay. The time
// is that of the earliest; the duration is that of the union of their windows,
// so that segments with a gap between them do not claim the gap, and processes
// recorded at the same time do not claim it twice.
//
// Profiles of different sample or period types are Invalid.
func Merge(w io.Writer, lim Limits, in ...io.Reader) error {
	if len(in) == 0 {
		return ops.Errorf(ops.Invalid, "nothing to merge: name at least one profile")
	}
	lim = lim.withDefaults()
	profiles := make([]*pprof.Profile, len(in))
	for i, r := range in {
		p, used, err := parse(r, lim)
		if err != nil {
			return fmt.Errorf("profile %d of %d: %w", i+1, len(in), err)
		}
		lim.MemoryBytes = max(1, lim.MemoryBytes-used) // all are held at once
		profiles[i] = p
	}
	sum, err := merge(profiles)
	if err != nil {
		return err
	}
	sum.DurationNanos = unionNanos(profiles)
	return write(w, sum)
}

// Delta writes after − before, gzipped: what a cumulative profile gained in a
// window. Samples that did not change are dropped; what shrank is negative. The
// time is before's and the duration lasts to after's.
func Delta(w io.Writer, lim Limits, before, after io.Reader) error {
	lim = lim.withDefaults()
	b, used, err := parse(before, lim)
	if err != nil {
		return fmt.Errorf("profile before the window: %w", err)
	}
	lim.MemoryBytes = max(1, lim.MemoryBytes-used)
	a, _, err := parse(after, lim)
	if err != nil {
		return fmt.Errorf("profile after the window: %w", err)
	}
	for _, s := range b.Sample {
		for i := range s.Value {
			s.Value[i] = -s.Value[i]
		}
	}
	diff, err := merge([]*pprof.Profile{a, b})
	if err != nil {
		return err
	}
	diff.TimeNanos, diff.DurationNanos = 0, 0
	if b.TimeNanos > 0 && a.TimeNanos >= b.TimeNanos {
		diff.TimeNanos, diff.DurationNanos = b.TimeNanos, a.TimeNanos-b.TimeNanos
	}
	return write(w, diff)
}

// parse reads one profile within the limits and estimates what it takes.
func parse(r io.Reader, lim Limits) (p *pprof.Profile, memory int64, err error) {
	raw, err := Decompress(r, lim)
	if err != nil {
		return nil, 0, err
	}
	shape, err := inspect(raw, lim)
	if err != nil {
		return nil, 0, err
	}
	p, err = parseRaw(raw)
	return p, shape.memory(), err
}

// parseRaw decodes what inspect let through. A panic of the decoder is the
// profile's fault and says so.
func parseRaw(raw []byte) (p *pprof.Profile, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, damaged(fmt.Sprint(r))
		}
	}()
	p, err = pprof.ParseUncompressed(raw)
	if err == nil {
		err = p.CheckValid()
	}
	if err != nil {
		return nil, damaged(err.Error())
	}
	return p, nil
}

func merge(profiles []*pprof.Profile) (*pprof.Profile, error) {
	first := typesOf(profiles[0])
	for _, p := range profiles[1:] {
		if types := typesOf(p); types != first {
			return nil, differentKinds(first, types)
		}
	}
	sum, err := pprof.Merge(profiles)
	if err != nil {
		return nil, fmt.Errorf("merge profiles: %w", err)
	}
	return sum, nil
}

// typesOf names the sample types and the period type.
func typesOf(p *pprof.Profile) string {
	var names []string
	for _, t := range p.SampleType {
		names = append(names, t.Type+"/"+t.Unit)
	}
	return strings.Join(names, " ") + " per " + p.PeriodType.Type + "/" + p.PeriodType.Unit
}

func differentKinds(a, b string) error {
	return ops.Errorf(ops.Invalid, "these profiles are of different kinds (%s, and %s): choose profiles of one kind", a, b)
}

func write(w io.Writer, p *pprof.Profile) error {
	if err := p.Write(w); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

// unionNanos is the time that at least one of the profiles covers. Without
// start times nothing is known to overlap, so that durations add up.
func unionNanos(profiles []*pprof.Profile) (total int64) {
	type window struct{ from, to int64 }
	var windows []window
	for _, p := range profiles {
		switch {
		case p.DurationNanos <= 0:
		case p.TimeNanos <= 0 || p.TimeNanos+p.DurationNanos < p.TimeNanos:
			total += p.DurationNanos
		default:
			windows = append(windows, window{p.TimeNanos, p.TimeNanos + p.DurationNanos})
		}
	}
	slices.SortFunc(windows, func(a, b window) int { return cmp.Compare(a.from, b.from) })
	var end int64
	for _, w := range windows {
		total += max(0, w.to-max(w.from, end))
		end = max(end, w.to)
	}
	return total
}
