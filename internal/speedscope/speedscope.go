// Package speedscope writes a profile in speedscope's own file format, with every
// sample type as a profile of its own: speedscope's import of pprof shows only one
// of them. It reads no files and knows nothing of where a profile comes from.
package speedscope

import (
	"bufio"
	"encoding/json"
	"io"
	"strconv"

	"github.com/opscenter/opscenter/internal/profile"
)

const schema = "https://www.speedscope.app/file-format-schema.json"

// units are those that speedscope can write; every other is a plain number.
var units = map[string]string{
	"nanoseconds": "nanoseconds", "microseconds": "microseconds", "milliseconds": "milliseconds", "seconds": "seconds", "bytes": "bytes",
}

type frame struct {
	Name string `json:"name"`
	File string `json:"file,omitempty"`
	Line int64  `json:"line,omitempty"`
}

// Write writes p under that name. Samples without a positive value are left out:
// the format has no room for less than nothing.
func Write(w io.Writer, p *profile.Profile, name string) error {
	out := &writer{Writer: bufio.NewWriterSize(w, 64<<10), p: p, index: map[frame]int{}, of: make([][]int, len(p.Locations))}
	out.text(`{"$schema":`)
	out.json(schema)
	out.text(`,"exporter":"OPS Center","name":`)
	out.json(name)
	out.text(`,"activeProfileIndex":` + strconv.Itoa(out.active()) + `,"shared":{"frames":[`)
	for i, f := range out.frames() {
		if i > 0 {
			out.text(",")
		}
		out.json(f)
	}
	out.text(`]},"profiles":[`)
	for typ := range p.Types {
		if typ > 0 {
			out.text(",")
		}
		out.profile(typ)
	}
	out.text("]}\n")
	if out.err != nil {
		return out.err
	}
	return out.Flush()
}

// writer keeps the first error: what follows it is not written.
type writer struct {
	*bufio.Writer
	p     *profile.Profile
	index map[frame]int
	of    [][]int // frames of each location, from the root
	err   error
}

func (w *writer) text(s string) {
	if w.err == nil {
		_, w.err = w.WriteString(s)
	}
}

func (w *writer) json(v any) {
	b, err := json.Marshal(v)
	if w.err == nil {
		w.err = err
	}
	if w.err == nil {
		_, w.err = w.Write(b)
	}
}

func (w *writer) active() int {
	if i, err := w.p.Type(w.p.DefaultType); err == nil {
		return i
	}
	return max(0, len(w.p.Types)-1)
}

// frames are the different ones of all locations.
func (w *writer) frames() []frame {
	var all []frame
	add := func(f frame) int {
		at, ok := w.index[f]
		if !ok {
			at = len(all)
			w.index[f] = at
			all = append(all, f)
		}
		return at
	}
	for i, l := range w.p.Locations {
		lines := w.p.Lines[l.From:l.To]
		if len(lines) == 0 {
			w.of[i] = []int{add(frame{Name: "0x" + strconv.FormatUint(l.Address, 16)})}
			continue
		}
		for k := len(lines) - 1; k >= 0; k-- { // the last is the one that the others are inlined into
			f := w.p.Functions[lines[k].Function]
			w.of[i] = append(w.of[i], add(frame{Name: w.p.Strings[f.Name], File: w.p.Strings[f.File], Line: lines[k].Line}))
		}
	}
	return all
}

func (w *writer) profile(typ int) {
	t := w.p.Types[typ]
	unit := units[t.Unit]
	if unit == "" {
		unit = "none"
	}
	var total int64
	values := w.p.Values[typ]
	for _, v := range values {
		total += max(0, v)
	}
	w.text(`{"type":"sampled","name":`)
	w.json(t.Type)
	w.text(`,"unit":"` + unit + `","startValue":0,"endValue":` + strconv.FormatInt(total, 10) + `,"samples":[`)
	var b []byte
	first := true
	for i, v := range values {
		if v <= 0 {
			continue
		}
		b = b[:0]
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '[')
		stack := w.p.Stack(i)
		for k := len(stack) - 1; k >= 0; k-- {
			for _, f := range w.of[stack[k]] {
				if b[len(b)-1] != '[' {
					b = append(b, ',')
				}
				b = strconv.AppendInt(b, int64(f), 10)
			}
		}
		w.text(string(append(b, ']')))
	}
	w.text(`],"weights":[`)
	first = true
	for _, v := range values {
		if v <= 0 {
			continue
		}
		b = b[:0]
		if !first {
			b = append(b, ',')
		}
		first = false
		w.text(string(strconv.AppendInt(b, v, 10)))
	}
	w.text("]}")
}
