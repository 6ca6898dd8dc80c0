package trace

// bins say for every P and every group what share of each bin of time it spent in
// which state: for the whole trace, or finer for a window of it. A bin is a power
// of two of ticks, so that finding it is a shift. Each generation fills its own,
// which is added to that of the whole.
type bins struct {
	geometry
	procFirst  uint64 // number of the first bin
	groupFirst uint64
	procBins   int
	groupBins  int
	procs      [][]procCell // nil until used
	groups     [][]groupCell
	procLimit  int
	// watched has what is to be known exactly; nil for a whole trace.
	watched *watched
}

// geometry is what the bins of all generations have in common, in ticks.
type geometry struct {
	zero, end  uint64 // what is outside is left out
	procShift  uint8
	groupShift uint8
	watch      *watchList
}

// watchList says what to collect exactly, and how much at most of each track.
type watchList struct {
	procs      map[int32]bool
	goroutines map[GoID]bool
	most       int
}

type watched struct {
	*watchList
	procSpans map[int32][]span
	goSpans   map[GoID][]span
	goCells   map[GoID][]groupCell
}

// span is an interval with what is known of it.
type span struct {
	from, to uint64 // ticks
	state    State
	reason   Reason
	g        GoID
	stack    StackID
}

// procCell has the ticks of a bin that a P spent in each state.
type procCell [numProcStates]uint32

// groupCell has the goroutine-ticks of the parts of a bin, and how many intervals
// that cover bins as a whole begin (end: negative) with it.
type groupCell struct {
	part  [NumStates]uint64
	whole [NumStates]int32
}

// Bins are about a millisecond of a P and 17 ms of a group, and longer in long
// traces.
const (
	procBinNanos  = 1 << 20
	groupBinNanos = 1 << 24
	maxProcBins   = 1 << 15
	maxGroupBins  = 1 << 11
	maxProcBytes  = 64 << 20
)

// wholeTrace is the geometry of the base level.
func wholeTrace(t *Trace) geometry {
	length := t.last - t.zero
	return geometry{
		zero: t.zero, end: t.last,
		procShift:  shiftFor(t.nsTick, procBinNanos, length, maxProcBins),
		groupShift: shiftFor(t.nsTick, groupBinNanos, length, maxGroupBins),
	}
}

// shiftFor is the binary logarithm of a bin's ticks: of at most so many
// nanoseconds, unless there would be too many bins.
func shiftFor(nsTick float64, nanos uint64, ticks uint64, most uint64) (shift uint8) {
	for shift < 31 && float64(uint64(1)<<(shift+1))*nsTick <= float64(nanos)*1.01 {
		shift++
	}
	for shift < 63 && ticks>>shift >= most {
		shift++
	}
	return shift
}

// newBins covers the part of a geometry that is between two times.
func newBins(geo geometry, from, to uint64) *bins {
	b := &bins{geometry: geo, groups: make([][]groupCell, maxGroups)}
	from = min(max(from, geo.zero), geo.end) - geo.zero
	to = max(from, min(max(to, geo.zero), geo.end)-geo.zero)
	b.procFirst, b.groupFirst = from>>b.procShift, from>>b.groupShift
	b.procBins = int(min(to>>b.procShift-b.procFirst, 2*maxProcBins)) + 1
	b.groupBins = int(min(to>>b.groupShift-b.groupFirst, 2*maxProcBins)) + 2 // one for ends
	b.procLimit = max(1, maxProcBytes/(16*b.procBins))
	if geo.watch != nil {
		b.watched = &watched{watchList: geo.watch, procSpans: map[int32][]span{}, goSpans: map[GoID][]span{}, goCells: map[GoID][]groupCell{}}
	}
	return b
}

// clip makes two times ones since the beginning; empty if nothing is inside.
func (b *bins) clip(from, to uint64) (uint64, uint64, bool) {
	from, to = max(from, b.zero), min(to, b.end)
	return from - b.zero, to - b.zero, from < to
}

// bin is the index of a time since the beginning; at most n-1.
func bin(ticks uint64, shift uint8, first uint64, n int) int {
	i := ticks >> (shift & 63)
	if i <= first {
		return 0
	}
	return int(min(i-first, uint64(n-1)))
}

// proc adds an interval of a P.
func (b *bins) proc(p int32, from, to uint64, state uint8, g GoID) {
	if b.watched != nil {
		b.watched.proc(b, p, span{from: from, to: to, state: procStateNames[state], g: g})
	}
	from, to, ok := b.clip(from, to)
	if !ok || int(p) >= b.procLimit {
		return
	}
	for int(p) >= len(b.procs) {
		b.procs = append(b.procs, nil)
	}
	cells := b.procs[p]
	if cells == nil {
		cells = make([]procCell, b.procBins)
		b.procs[p] = cells
	}
	i, last := bin(from, b.procShift, b.procFirst, b.procBins), bin(to, b.procShift, b.procFirst, b.procBins)
	for ; i < last; i++ {
		if end := (b.procFirst + uint64(i) + 1) << b.procShift; end > from {
			cells[i][state] += uint32(end - from)
			from = end
		}
	}
	if to > from {
		cells[i][state] += uint32(to - from)
	}
}

// group adds an interval of a goroutine of a group.
func (b *bins) group(g GroupID, from, to uint64, st State) {
	from, to, ok := b.clip(from, to)
	if !ok {
		return
	}
	cells := b.groups[g]
	if cells == nil {
		cells = make([]groupCell, b.groupBins)
		b.groups[g] = cells
	}
	b.cover(cells, from, to, st)
}

// cover adds an interval, in ticks since the beginning, to the cells of one track.
func (b *bins) cover(cells []groupCell, from, to uint64, st State) {
	n := b.groupBins - 1
	i, j := bin(from, b.groupShift, b.groupFirst, n), bin(to, b.groupShift, b.groupFirst, n)
	if i >= j {
		cells[i].part[st] += to - from
		return
	}
	cells[i].part[st] += (b.groupFirst+uint64(i)+1)<<b.groupShift - from
	cells[j].part[st] += to - (b.groupFirst+uint64(j))<<b.groupShift
	cells[i+1].whole[st]++
	cells[j].whole[st]--
}

// goroutine notes an interval of a goroutine if it is watched.
func (b *bins) goroutine(id GoID, s span) {
	if !b.watched.goroutines[id] {
		return
	}
	from, to, ok := b.clip(s.from, s.to)
	if !ok {
		return
	}
	w := b.watched
	if len(w.goSpans[id]) <= w.most {
		w.goSpans[id] = append(w.goSpans[id], s)
	}
	if w.goCells[id] == nil {
		w.goCells[id] = make([]groupCell, b.groupBins)
	}
	b.cover(w.goCells[id], from, to, s.state)
}

func (w *watched) proc(b *bins, p int32, s span) {
	if _, _, ok := b.clip(s.from, s.to); ok && w.procs[p] && len(w.procSpans[p]) <= w.most {
		w.procSpans[p] = append(w.procSpans[p], s)
	}
}

// merge adds what a generation filled.
func (b *bins) merge(o *bins) {
	for p, cells := range o.procs {
		if cells == nil || p >= b.procLimit {
			continue
		}
		for p >= len(b.procs) {
			b.procs = append(b.procs, nil)
		}
		if b.procs[p] == nil {
			b.procs[p] = make([]procCell, b.procBins)
		}
		to := b.procs[p]
		for i, c := range cells {
			k := min(int(o.procFirst-b.procFirst)+i, len(to)-1)
			for s, v := range c {
				to[k][s] += v
			}
		}
	}
	for g, cells := range o.groups {
		if cells == nil {
			continue
		}
		if b.groups[g] == nil {
			b.groups[g] = make([]groupCell, b.groupBins)
		}
		b.mergeCells(b.groups[g], o, cells)
	}
	if o.watched == nil {
		return
	}
	for p, s := range o.watched.procSpans {
		b.watched.procSpans[p] = append(b.watched.procSpans[p], s...)
	}
	for id, s := range o.watched.goSpans {
		b.watched.goSpans[id] = append(b.watched.goSpans[id], s...)
	}
	for id, cells := range o.watched.goCells {
		if b.watched.goCells[id] == nil {
			b.watched.goCells[id] = make([]groupCell, b.groupBins)
		}
		b.mergeCells(b.watched.goCells[id], o, cells)
	}
}

func (b *bins) mergeCells(to []groupCell, o *bins, from []groupCell) {
	for i := range from {
		c := &to[min(int(o.groupFirst-b.groupFirst)+i, len(to)-1)]
		for s, v := range from[i].part {
			c.part[s] += v
			c.whole[s] += from[i].whole[s]
		}
	}
}

// seal turns intervals that cover bins as a whole into parts of them. Nothing can
// be added afterwards.
func (b *bins) seal() {
	for _, cells := range b.groups {
		b.sealCells(cells)
	}
	if b.watched != nil {
		for _, cells := range b.watched.goCells {
			b.sealCells(cells)
		}
	}
}

func (b *bins) sealCells(cells []groupCell) {
	var open [NumStates]int64
	for i := range cells {
		for s := range open {
			open[s] += int64(cells[i].whole[s])
			if open[s] > 0 {
				cells[i].part[s] += uint64(open[s]) << b.groupShift
			}
			cells[i].whole[s] = 0
		}
	}
}
