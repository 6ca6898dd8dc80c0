package trace

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync"
)

// keptReader reads intervals out of a store.
type keptReader struct {
	k   *keeper
	buf []byte
}

// readers keep the buffers of queries, which are as large as a group's intervals
// of a generation.
var readers = sync.Pool{New: func() any { return new(keptReader) }}

func (k *keeper) reader() *keptReader {
	r, _ := readers.Get().(*keptReader)
	r.k = k
	return r
}

// maxPooled is the largest buffer that is kept for the next query.
const maxPooled = 16 << 20

func (r *keptReader) close() {
	r.k = nil
	if cap(r.buf) <= maxPooled {
		readers.Put(r)
	}
}

// bytes are valid until the next call.
func (r *keptReader) bytes(s *segment, from, to uint32) ([]byte, error) {
	return r.at(s.at+int64(from), int(to-from))
}

func (r *keptReader) at(off int64, n int) ([]byte, error) {
	r.buf = slices.Grow(r.buf[:0], n)[:n]
	if _, err := r.k.store.ReadAt(r.buf, off); err != nil {
		return nil, fmt.Errorf("read the kept intervals of a trace: %w", err)
	}
	return r.buf, nil
}

// spanOf is an interval with whose it is and who began it.
type spanOf struct {
	span
	by      GoID
	byStack StackID
	created bool
}

// spans hands out the intervals of one goroutine of a segment that reach into a
// time, until fn returns false.
func spans(b []byte, base uint64, id GoID, from, to uint64, fn func(*spanOf) bool) bool {
	at, n := binary.Uvarint(b)
	if n <= 0 {
		return true
	}
	b = b[n:]
	at += base
	x := spanOf{span: span{g: id}}
	for len(b) > 0 {
		flags := b[0]
		b = b[1:]
		if flags&spanGap != 0 {
			b, at = plus(b, at)
		}
		x.from = at
		b, at = plus(b, at)
		x.to, x.state = at, State(flags&spanState)
		x.reason, x.stack, x.by, x.byStack, x.created = 0, 0, NoGoroutine, 0, flags&spanCreated != 0
		if waits(x.state) && len(b) > 0 {
			x.reason = Reason(b[0])
			b = b[1:]
		}
		var v uint64
		if flags&spanStack != 0 {
			b, v = plus(b, 0)
			x.stack = StackID(v)
		}
		if flags&spanBy != 0 {
			d, n := binary.Varint(b)
			b = b[max(n, 0):]
			x.by = id + GoID(d)
			b, v = plus(b, 0)
			x.byStack = StackID(v)
		}
		if x.from >= to {
			return true
		}
		if x.to > from && x.state < NumStates && x.reason < NumReasons && !fn(&x) {
			return false
		}
	}
	return true
}

// plus adds the next number of b to v.
func plus(b []byte, v uint64) ([]byte, uint64) {
	if len(b) > 0 && b[0] < 0x80 {
		return b[1:], v + uint64(b[0])
	}
	d, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, v
	}
	return b[n:], v + d
}

// procSpans is spans for what a P did.
func procSpans(b []byte, base uint64, from, to uint64, fn func(*spanOf) bool) bool {
	at := base
	x := spanOf{by: NoGoroutine}
	for len(b) > 0 {
		flags := b[0]
		b = b[1:]
		if flags&spanGap != 0 {
			b, at = plus(b, at)
		}
		x.from = at
		b, at = plus(b, at)
		d, n := binary.Varint(b)
		b = b[max(n, 0):]
		x.g += GoID(d)
		x.to, x.state = at, procStateNames[flags&(numProcStates-1)]
		if x.from >= to {
			return true
		}
		if x.to > from && !fn(&x) {
			return false
		}
	}
	return true
}

// members are the goroutines of a group in a segment, in the order of their ids,
// and the index of the first.
func (s *segment) members(group GroupID) (ids []GoID, first int) {
	i, ok := slices.BinarySearchFunc(s.groups, group, func(g segmentGroup, id GroupID) int { return cmp.Compare(g.id, id) })
	if !ok {
		return nil, 0
	}
	return s.run(i)
}

// run are the goroutines of the i-th group, and the index of the first.
func (s *segment) run(i int) (ids []GoID, first int) {
	end := len(s.gos)
	if i+1 < len(s.groups) {
		end = int(s.groups[i+1].first)
	}
	first = int(s.groups[i].first)
	return s.gos[first:end], first
}

// ofGroup calls fn with the intervals of a group's goroutines that reach into a
// time; those of a goroutine come one after the other within a segment.
func (k *keeper) ofGroup(ctx context.Context, s *segment, group GroupID, from, to uint64, fn func(*spanOf) bool) error {
	r := k.reader()
	defer r.close()
	if run, first := s.members(group); len(run) > 0 {
		base := s.offs[first]
		b, err := r.bytes(s, base, s.offs[first+len(run)])
		if err != nil {
			return err
		}
		for i, id := range run {
			if group == 0 && k.late[id] != 0 {
				continue
			}
			if i&1023 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if !spans(b[s.offs[first+i]-base:s.offs[first+i+1]-base], s.base, id, from, to, fn) {
				return nil
			}
		}
	}
	if group == 0 || len(k.late) == 0 {
		return nil
	}
	run, first := s.members(0)
	for i, id := range run {
		if k.late[id] != group {
			continue
		}
		b, err := r.bytes(s, s.offs[first+i], s.offs[first+i+1])
		if err != nil {
			return err
		}
		if !spans(b, s.base, id, from, to, fn) {
			return nil
		}
	}
	return nil
}

// ofGoroutine calls fn with the intervals of one goroutine in a segment.
func (k *keeper) ofGoroutine(s *segment, id GoID, from, to uint64, fn func(*spanOf) bool) error {
	r := k.reader()
	defer r.close()
	for g := range s.groups {
		run, first := s.run(g)
		for i := sort.Search(len(run), func(i int) bool { return run[i] >= id }); i < len(run) && run[i] == id; i++ {
			b, err := r.bytes(s, s.offs[first+i], s.offs[first+i+1])
			if err != nil {
				return err
			}
			if !spans(b, s.base, id, from, to, fn) {
				return nil
			}
		}
	}
	return nil
}

func (k *keeper) ofProc(s *segment, p int64, from, to uint64, fn func(*spanOf) bool) error {
	r := k.reader()
	defer r.close()
	for _, x := range s.procs {
		if int64(x.p) != p {
			continue
		}
		b, err := r.bytes(s, x.off, x.to)
		if err != nil {
			return err
		}
		if !procSpans(b, s.base, from, to, fn) {
			return nil
		}
	}
	return nil
}

// each calls fn with the intervals of a track in a segment that reach into a time.
func (k *keeper) each(ctx context.Context, s *segment, id TrackID, from, to uint64, fn func(*spanOf) bool) error {
	switch id.Kind {
	case TrackProc:
		return k.ofProc(s, id.ID, from, to, fn)
	case TrackGroup:
		if id.ID < 0 || id.ID >= maxGroups {
			return nil
		}
		return k.ofGroup(ctx, s, GroupID(id.ID), from, to, fn)
	}
	return k.ofGoroutine(s, GoID(id.ID), from, to, fn)
}

// overlapping are the segments with something in a time.
func (k *keeper) overlapping(from, to uint64) (out []*segment) {
	for i := range k.segments {
		if s := &k.segments[i]; s.from < to && s.to > from {
			out = append(out, s)
		}
	}
	return out
}

// queryKept answers a query from the kept intervals, and from what is summed up
// where that is fine enough.
func (l *Timeline) queryKept(ctx context.Context, w window) ([]Row, error) {
	width := (w.to - w.from) / uint64(w.q.Columns)
	rows := make([]Row, len(w.q.Tracks))
	var ask []int
	for i, id := range w.q.Tracks {
		switch {
		case id.Kind == TrackProc && width >= 1<<l.bins.procShift:
			rows[i] = w.proc(l.bins, id)
		case id.Kind == TrackGroup && width >= 1<<l.bins.groupShift:
			rows[i] = Row{Track: id}
			var cells []groupCell
			if id.ID >= 0 && id.ID < int64(len(l.bins.groups)) {
				cells = l.bins.groups[id.ID]
			}
			w.groupShares(&rows[i], l.bins, cells)
		default:
			ask = append(ask, i)
		}
	}
	if len(ask) == 0 {
		return rows, ctx.Err()
	}
	// Each worker takes a segment at a time and paints all tracks of it.
	segments := make(chan *segment)
	workers := max(1, min(queryWorkers, runtime.GOMAXPROCS(0)))
	painted, errs := make([][]painter, workers), make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		painted[n] = make([]painter, len(ask))
		for j, i := range ask {
			painted[n][j] = newPainter(&w, w.q.Tracks[i])
		}
		wg.Go(func() {
			for s := range segments {
				for j := range painted[n] {
					if errs[n] == nil {
						errs[n] = l.kept.paint(ctx, s, &painted[n][j])
					}
				}
			}
		})
	}
	for _, s := range l.kept.overlapping(w.zero+w.from, w.zero+w.to) {
		segments <- s
	}
	close(segments)
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		return nil, err
	}
	for j, i := range ask {
		p := &painted[0][j]
		for _, other := range painted[1:] {
			p.join(&other[j])
		}
		rows[i] = p.done()
	}
	return rows, nil
}

// queryWorkers bounds how many cores a query takes: others want to see something,
// too.
const queryWorkers = 4

// paint adds what a segment has of a track.
func (k *keeper) paint(ctx context.Context, s *segment, p *painter) error {
	w := p.w
	if c := &s.cells; p.row.Track.Kind == TrackGroup && c.n > 0 && (w.to-w.from)/uint64(w.q.Columns) >= 1<<c.shift {
		return k.paintCells(s, p)
	}
	return k.each(ctx, s, p.row.Track, w.zero+w.from, w.zero+w.to, p.add)
}

// paintCells adds the sums of a group instead of its intervals.
func (k *keeper) paintCells(s *segment, p *painter) error {
	c, w := &s.cells, p.w
	r := k.reader()
	defer r.close()
	for i, g := range s.groups {
		if g.id != GroupID(p.row.Track.ID) {
			continue
		}
		// The bins that reach into the window.
		begin := s.base - w.zero
		first := int((max(w.from, begin) - begin) >> c.shift)
		end := min(int((max(w.to, begin)-begin)>>c.shift)+1, c.n)
		if first >= end {
			return nil
		}
		b, err := r.at(c.at+int64((i*c.n+first)*bytesPerBin), (end-first)*bytesPerBin)
		if err != nil {
			return err
		}
		for n := first; n < end; n++ {
			from := begin + uint64(n)<<c.shift
			from, to := max(from, w.from), min(from+1<<c.shift, w.to)
			for st := range NumStates {
				v := math.Float32frombits(binary.LittleEndian.Uint32(b))
				b = b[4:]
				if v != 0 && from < to {
					p.dense(from-w.from, to-w.from, st, v)
				}
			}
		}
	}
	return nil
}

// painter makes a row of the intervals of a track.
type painter struct {
	w      *window
	row    Row
	most   int // intervals that are shown one by one; -1 = none
	spans  []spanOf
	ticks  [NumStates]float64
	shares []float32
	column float64 // ticks
}

func newPainter(w *window, id TrackID) painter {
	p := painter{w: w, row: Row{Track: id}, most: 4 * w.q.Columns, column: float64(w.to-w.from) / float64(w.q.Columns)}
	if id.Kind == TrackGroup {
		p.most = -1
	}
	return p
}

func (p *painter) add(x *spanOf) bool {
	if len(p.spans) <= p.most {
		p.spans = append(p.spans, *x)
	}
	from, to := max(x.from-p.w.zero, p.w.from)-p.w.from, min(x.to-p.w.zero, p.w.to)-p.w.from
	p.ticks[x.state] += float64(to - from)
	if len(p.spans) > p.most {
		p.paintAll()
		p.paint(from, to, x.state, 1)
	}
	return true
}

// dense adds goroutines that were in a state on average.
func (p *painter) dense(from, to uint64, st State, goroutines float32) {
	p.paintAll()
	p.ticks[st] += float64(to-from) * float64(goroutines)
	p.paint(from, to, st, goroutines)
}

// paintAll begins to paint: there are too many intervals to show them one by one.
func (p *painter) paintAll() {
	if p.shares != nil {
		return
	}
	p.shares = make([]float32, p.w.q.Columns*int(NumStates))
	for i := range p.spans[:min(len(p.spans), max(0, p.most))] {
		x := &p.spans[i]
		p.paint(max(x.from-p.w.zero, p.w.from)-p.w.from, min(x.to-p.w.zero, p.w.to)-p.w.from, x.state, 1)
	}
}

func (p *painter) paint(from, to uint64, st State, weight float32) {
	at, end := float64(from)/p.column, float64(to)/p.column
	i, last := int(at), min(int(end), p.w.q.Columns-1)
	if i >= last {
		p.shares[min(i, last)*int(NumStates)+int(st)] += weight * float32(end-at)
		return
	}
	p.shares[i*int(NumStates)+int(st)] += weight * float32(float64(i+1)-at)
	for i++; i < last; i++ {
		p.shares[i*int(NumStates)+int(st)] += weight
	}
	p.shares[last*int(NumStates)+int(st)] += weight * float32(end-float64(last))
}

// join adds what another painter has of the same track.
func (p *painter) join(o *painter) {
	for s, v := range o.ticks {
		p.ticks[s] += v
	}
	if p.shares == nil && o.shares == nil && len(p.spans)+len(o.spans) <= max(p.most, 0) {
		p.spans = append(p.spans, o.spans...)
		return
	}
	// The one of both that has not begun to paint has at most as many as it may.
	p.paintAll()
	o.paintAll()
	p.spans = p.spans[:0]
	for i, v := range o.shares {
		p.shares[i] += v
	}
}

func (p *painter) done() Row {
	for s, v := range p.ticks {
		p.row.Total[s] = p.w.t.span(uint64(v))
	}
	if p.shares == nil && p.most < 0 {
		p.paintAll()
	}
	if p.shares != nil {
		p.row.Shares = p.shares
		return p.row
	}
	slices.SortStableFunc(p.spans, func(a, b spanOf) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	p.row.Intervals = make([]Interval, 0, len(p.spans))
	for i := range p.spans {
		iv := p.w.t.interval(&p.spans[i])
		if p.row.Track.Kind != TrackProc {
			iv.Goroutine = NoGoroutine
		}
		if n := len(p.row.Intervals); n > 0 {
			last := &p.row.Intervals[n-1]
			if last.To == iv.From && last.State == iv.State && last.Goroutine == iv.Goroutine && last.Stack == iv.Stack && last.Reason == iv.Reason && iv.Waker == NoGoroutine {
				last.To = iv.To
				continue
			}
		}
		p.row.Intervals = append(p.row.Intervals, iv)
	}
	return p.row
}

func (t *Trace) interval(x *spanOf) Interval {
	return Interval{
		From: t.since(x.from), To: t.since(x.to), State: x.state, Reason: x.reason, Stack: x.stack, Goroutine: x.g,
		Waker: x.by, WakerStack: x.byStack, Created: x.created,
	}
}

// Kept reports how many intervals of goroutines were kept, in how many bytes; 0 =
// Options.Keep was not set.
func (l *Timeline) Kept() (intervals, sizeBytes int64) {
	if l.kept == nil {
		return 0, 0
	}
	return l.kept.intervals, l.kept.size.Load()
}
