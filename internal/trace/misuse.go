package trace

import "bytes"

// ranges are what user code and the runtime say that they are within. They order
// nothing; they are followed because go tool trace refuses traces in which they do
// not fit together, and whoever looks at one should be told.
type ranges struct {
	regions map[int32][]region // by goroutine, the innermost last
	stops   map[int32][]uint32 // reasons of stops of the world, by goroutine
	tasks   map[uint64]struct{}
	n       int // what is in the three
	misuse  *damage
}

type region struct {
	task uint64
	name uint32 // in loaded.strings
}

// maxRanges bounds what is followed. Beyond, nothing is.
const maxRanges = 1 << 18

func (r *ranges) reset() { *r = ranges{} }

// soft is damage that costs nothing.
func (d *decoder) soft(format string, args ...any) {
	if d.ranges.misuse == nil {
		d.ranges.misuse = &damage{what: damaged(format, args...).Error(), whole: true}
	}
}

// follow takes a beginning or end; the thread has a goroutine.
func (d *decoder) follow(e *event) bool {
	r := &d.ranges
	if r.regions == nil {
		r.regions, r.stops, r.tasks = map[int32][]region{}, map[int32][]uint32{}, map[uint64]struct{}{}
	}
	d.gs[e.g].ranges = true
	switch e.kind {
	case EvSTWBegin:
		for _, reason := range r.stops[e.g] {
			if reason == e.str {
				return d.fail("a stop of the world begins twice")
			}
		}
		if r.n < maxRanges {
			r.stops[e.g] = append(r.stops[e.g], e.str)
			r.n++
		}
	case EvSTWEnd:
		in := r.stops[e.g]
		if len(in) == 0 {
			return !d.first || r.n >= maxRanges || d.fail("a stop of the world ends without beginning")
		}
		r.stops[e.g] = in[1:]
		r.n--
	case EvUserRegionBegin:
		if r.n < maxRanges {
			r.regions[e.g] = append(r.regions[e.g], region{e.args[0], e.str})
			r.n++
		}
	case EvUserRegionEnd:
		in := r.regions[e.g]
		if len(in) == 0 || r.n >= maxRanges {
			break // it began before the trace
		}
		if last := in[len(in)-1]; last.task != e.args[0] || !bytes.Equal(d.gen.strings.at(last.name), d.gen.strings.at(e.str)) {
			d.soft("goroutine %d ends the region %q, which is not its innermost", d.gs[e.g].id, d.gen.strings.at(e.str))
		}
		r.regions[e.g] = in[:len(in)-1]
		r.n--
	case EvUserTaskBegin:
		if _, ok := r.tasks[e.args[0]]; ok {
			d.soft("task %d begins twice", e.args[0])
		}
		if r.n < maxRanges {
			r.tasks[e.args[0]] = struct{}{}
			r.n++
		}
	case EvUserTaskEnd:
		if _, ok := r.tasks[e.args[0]]; ok {
			delete(r.tasks, e.args[0])
			r.n--
		}
	}
	return true
}

// forget is for a goroutine that ends.
func (r *ranges) forget(i int32) {
	r.n -= len(r.regions[i]) + len(r.stops[i])
	delete(r.regions, i)
	delete(r.stops, i)
}
