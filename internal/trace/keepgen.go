package trace

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// keptGen collects the intervals of one generation. Those of different goroutines
// end in turns: each goroutine has a chain of small chunks.
type keptGen struct {
	gos       []keptGo // [0] is no goroutine
	blocks    []*[chunksPerBlock]chunk
	chunks    uint32 // in use
	procs     []procEncoder
	intervals int64
	buf       []byte
	seg       segment
	sums      []float32
}

type keptGo struct {
	id          GoID
	group       GroupID
	first, last uint32 // chunks; 0 = none
	n           uint32 // bytes
}

// chunk is a cache line: most goroutines of a busy service live so shortly that
// they need only one.
type chunk struct {
	data [chunkBytes]byte
	next uint32
}

const (
	chunkBytes     = 60
	chunksPerBlock = 1 << 14
)

func (k *keptGen) reset() {
	k.gos, k.chunks, k.intervals = append(k.gos[:0], keptGo{id: NoGoroutine}), 1, 0
	for i := range k.procs {
		k.procs[i] = procEncoder{data: k.procs[i].data[:0]}
	}
	k.seg = segment{}
}

// of is the number of a goroutine within the generation.
func (k *keptGen) of(g *goAcct) uint32 {
	if g.kept == 0 {
		g.kept = uint32(len(k.gos))
		k.gos = append(k.gos, keptGo{id: g.id, group: g.group})
	}
	return g.kept
}

func (k *keptGen) chunk(i uint32) *chunk { return &k.blocks[i/chunksPerBlock][i%chunksPerBlock] }

func (k *keptGen) newChunk() uint32 {
	i := k.chunks
	k.chunks++
	if int(i/chunksPerBlock) == len(k.blocks) {
		k.blocks = append(k.blocks, new([chunksPerBlock]chunk))
	}
	k.chunk(i).next = 0
	return i
}

// add ends an interval of g, whose state was st.
func (k *keptGen) add(a *genStates, g *goAcct, now uint64, st State) {
	x := &k.gos[k.of(g)]
	s := spanOf{span: span{from: g.since, to: now, state: st, reason: g.reason, g: g.id, stack: a.ids[g.stack]}, by: k.gos[g.by].id, byStack: a.ids[g.byStack], created: g.made}
	var scratch [maxSpan]byte
	b := scratch[:0]
	if x.n == 0 {
		b = binary.AppendUvarint(b, max(g.since, a.min)-a.min)
	}
	k.append(x, s.encode(b, 0))
	k.intervals++
}

func (k *keptGen) append(x *keptGo, b []byte) {
	for len(b) > 0 {
		used := x.n % chunkBytes
		if used == 0 {
			c := k.newChunk()
			if x.n == 0 {
				x.first = c
			} else {
				k.chunk(x.last).next = c
			}
			x.last = c
		}
		n := copy(k.chunk(x.last).data[used:], b)
		x.n += uint32(n)
		b = b[n:]
	}
}

// settle tells the group of a goroutine, which is known only when it has ended or
// the generation has.
func (k *keptGen) settle(g *goAcct) {
	if g.kept != 0 {
		k.gos[g.kept].group = g.group
	}
}

func (k *keptGen) proc(p int32, from, to uint64, state uint8, g GoID, base uint64) {
	for int(p) >= len(k.procs) {
		k.procs = append(k.procs, procEncoder{})
	}
	k.procs[p].add(max(from, base)-base, max(to, base)-base, state, g)
}

// seal writes what was collected to the keeper's store.
func (k *keptGen) seal(keep *keeper, base, end uint64) error {
	seg := &k.seg
	seg.base, seg.from, seg.to = base, math.MaxUint64, 0
	sorted := make([]uint32, 0, len(k.gos))
	total := 0
	for i := range k.gos {
		if k.gos[i].n > 0 {
			sorted = append(sorted, uint32(i))
			total += int(k.gos[i].n)
		}
	}
	slices.SortFunc(sorted, func(a, b uint32) int {
		x, y := &k.gos[a], &k.gos[b]
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.id, y.id), cmp.Compare(a, b))
	})
	seg.gos, seg.offs = make([]GoID, 0, len(sorted)), make([]uint32, 0, len(sorted)+1)
	off := 0
	for _, i := range sorted {
		x := &k.gos[i]
		seg.begin(x.group, x.id, off)
		off += int(x.n)
	}
	seg.offs = append(seg.offs, uint32(off))
	for p := range k.procs {
		if n := len(k.procs[p].data); n > 0 {
			seg.procs = append(seg.procs, segmentProc{int32(p), uint32(off), uint32(off + n)})
			off += n
		}
	}
	seg.cells = newCells(base, end, len(seg.groups), total)
	size := seg.cells.sizeBytes(len(seg.groups))
	seg.at = keep.reserve(off + size)
	seg.cells.at = seg.at + int64(off)
	w := blockWriter{keep: keep, at: seg.at, buf: k.buf[:0]}
	group := -1
	for n, i := range sorted {
		if next := group + 1; next < len(seg.groups) && int(seg.groups[next].first) == n {
			k.flushCells(&w, group)
			group = next
		}
		k.copy(&w, &k.gos[i])
	}
	k.flushCells(&w, group)
	for p := range k.procs {
		x := &k.procs[p]
		if len(x.data) > 0 {
			seg.from, seg.to = min(seg.from, base+x.first), max(seg.to, base+x.last)
			w.write(x.data)
		}
	}
	w.flush()
	k.buf = w.buf
	return w.err
}

// copy writes the intervals of a goroutine and adds them to the sums of its group.
func (k *keptGen) copy(w *blockWriter, x *keptGo) {
	b := w.room(int(x.n))
	for at := x.first; at != 0; {
		c := k.chunk(at)
		b = append(b, c.data[:min(chunkBytes, int(x.n)-len(b))]...)
		at = c.next
	}
	w.took(len(b))
	seg := &k.seg
	if seg.cells.n > 0 && len(k.sums) == 0 {
		k.sums = slices.Grow(k.sums, seg.cells.n*int(NumStates))[:seg.cells.n*int(NumStates)]
		clear(k.sums)
	}
	spans(b, seg.base, x.id, 0, math.MaxUint64, func(s *spanOf) bool {
		seg.from, seg.to = min(seg.from, s.from), max(seg.to, s.to)
		seg.cells.add(k.sums, s.from-seg.base, s.to-seg.base, s.state)
		return true
	})
}

// flushCells writes the sums of the i-th group of the segment.
func (k *keptGen) flushCells(w *blockWriter, i int) {
	c := &k.seg.cells
	if i < 0 || c.n == 0 {
		return
	}
	b := make([]byte, 0, 4*len(k.sums))
	for _, v := range k.sums {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	if err := w.keep.write(b, c.at+int64(i*len(b))); err != nil && w.err == nil {
		w.err = err
	}
	k.sums = k.sums[:0]
}

// cells are the sums of every group of a segment in short bins of time, so that a
// window of some seconds needs not look at every interval. They are goroutines on
// average, and not more bytes than half of the intervals are.
type cells struct {
	at    int64 // in the store: of each group, the states of each bin
	n     int   // bins; 0 = there are none
	shift uint8 // a bin is so many ticks, as a power of two
	// size is a bin's ticks.
	size float64
}

// bytesPerBin are those of a group in a bin.
const bytesPerBin = 4 * int(NumStates)

func newCells(from, to uint64, groups, dataBytes int) (c cells) {
	most := uint64(min(dataBytes/2/bytesPerBin/max(1, groups), 1<<12))
	if most < 16 || to <= from {
		return cells{}
	}
	for c.shift = 8; (to-from)>>c.shift >= most; c.shift++ { //nolint:revive // all is in the head
	}
	c.n, c.size = int((to-from)>>c.shift)+1, float64(uint64(1)<<c.shift)
	return c
}

func (c *cells) sizeBytes(groups int) int { return c.n * bytesPerBin * groups }

func (c *cells) add(sums []float32, from, to uint64, st State) {
	if c.n == 0 || to <= from {
		return
	}
	i, last := int(from>>c.shift), min(int(to>>c.shift), c.n-1)
	if i >= last {
		sums[min(i, last)*int(NumStates)+int(st)] += float32(float64(to-from) / c.size)
		return
	}
	sums[i*int(NumStates)+int(st)] += float32(i+1) - float32(float64(from)/c.size)
	for i++; i < last; i++ {
		sums[i*int(NumStates)+int(st)]++
	}
	sums[last*int(NumStates)+int(st)] += float32(float64(to)/c.size - float64(last))
}

// blockWriter writes to a store in blocks.
type blockWriter struct {
	keep *keeper
	at   int64 // of the beginning of buf
	buf  []byte
	err  error
}

const writeBlock = 256 << 10

// room returns an empty slice with room for n bytes, which are written once took
// says how many they became.
func (w *blockWriter) room(n int) []byte {
	if len(w.buf)+n > cap(w.buf) {
		w.flush()
		if n > cap(w.buf) {
			w.buf = make([]byte, 0, max(n, writeBlock))
		}
	}
	return w.buf[len(w.buf):len(w.buf):cap(w.buf)]
}

func (w *blockWriter) took(n int) { w.buf = w.buf[:len(w.buf)+n] }

func (w *blockWriter) write(b []byte) {
	w.took(copy(w.room(len(b))[:len(b)], b))
}

func (w *blockWriter) flush() {
	if len(w.buf) > 0 && w.err == nil {
		w.err = w.keep.write(w.buf, w.at)
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
}
