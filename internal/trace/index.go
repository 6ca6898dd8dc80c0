// Package trace reads execution traces of Go 1.22 and later. It finds the
// generations that a trace is made of and cuts traces between them; a generation
// is about a second of events that can be read without the others. From their
// events it tells what every goroutine did and waited for, who ended the wait,
// which locks were held meanwhile, and what a timeline of it looks like. It takes
// any bytes, in bounded memory, and knows nothing of where traces come from or
// who looks at them.
package trace

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Index says where the generations of a trace are.
type Index struct {
	// GoMinor is the minor Go version that the trace's format is named after: 22,
	// 23, 25 or 26. A Go version that did not change the format bears the name
	// of the one before.
	GoMinor     int
	Generations []Generation
	// SizeBytes is the size of the whole file.
	SizeBytes int64
	// Loss says what part of the file cannot be read, and why; nil = all of it can.
	Loss *ops.Loss

	zero   uint64  // ticks; the time of the first batch
	nsTick float64 // nanoseconds per tick
}

// Generation is a part of a trace that can be read by itself.
type Generation struct {
	Number uint64
	// Offset and SizeBytes are its place in the file.
	Offset, SizeBytes int64
	// Start is when its first batch began, since the first of the trace, and End
	// when the next generation began. The last one's End is the start of its
	// last batch: its duration is not known without reading its events.
	Start, End time.Duration
	// Wall is the process's clock at the generation's beginning; the zero time
	// for formats before Go 1.25, which do not tell.
	Wall    time.Time
	Batches int
}

const (
	headerSize   = 16
	maxBatchSize = 64 << 10
	// maxGenerations is eighteen hours of trace; more is not a trace.
	maxGenerations = 1 << 16
)

// ReadIndex finds the generations of a trace by the headers of its batches,
// without reading events. A trace that is cut off or damaged yields the
// generations before the damage and states the loss; one without any readable
// generation is Corrupt. Errors of r are returned as they are, wrapped.
func ReadIndex(r io.ReaderAt, size int64) (Index, error) {
	ix := Index{SizeBytes: size}
	s := scanner{r: r, size: size}
	minor, err := s.header()
	if err != nil {
		return ix, err
	}
	ix.GoMinor = minor

	gens, end, problem := s.generations(minor)
	var damage *damage
	if problem != nil && !errors.As(problem, &damage) {
		return ix, fmt.Errorf("read trace: %w", problem)
	}
	if len(gens) == 0 {
		what := "it holds no events"
		if damage != nil {
			what = damage.what
		}
		return ix, ops.Errorf(ops.Corrupt, "no part of this trace can be read (%s): capture it again", what)
	}
	// Times are in ticks until the frequency is known, from whichever
	// generation tells.
	freq := uint64(1e9)
	for _, g := range gens {
		if g.freq > 0 {
			freq = g.freq
			break
		}
	}
	ix.zero, ix.nsTick = gens[0].minTime, 1e9/float64(freq)
	since := func(ticks uint64) time.Duration {
		if ticks < gens[0].minTime {
			return 0
		}
		return time.Duration(float64(ticks-gens[0].minTime) * 1e9 / float64(freq))
	}
	for i, g := range gens {
		last := g.maxTime
		if i+1 < len(gens) {
			last = max(gens[i+1].minTime, g.minTime)
		}
		ix.Generations = append(ix.Generations, Generation{
			Number: g.number, Offset: g.offset, SizeBytes: g.end - g.offset, Batches: g.batches,
			Start: since(g.minTime), End: since(last), Wall: g.wall,
		})
	}
	if damage != nil {
		ix.Loss = &ops.Loss{Kind: ops.KindTrace, Reason: ops.LossTruncated, Message: fmt.Sprintf(
			"the last %s of the trace cannot be read (%s): everything before is shown", bytesText(size-end), damage.what)}
	}
	return ix, nil
}

// Cut writes a trace of the generations numbered from from to to, which stock
// readers accept. NotFound if the trace has no such generation.
func (ix Index) Cut(w io.Writer, r io.ReaderAt, from, to uint64) error {
	first := slices.IndexFunc(ix.Generations, func(g Generation) bool { return g.Number == from })
	last := slices.IndexFunc(ix.Generations, func(g Generation) bool { return g.Number == to })
	if first < 0 || last < first {
		return ops.Errorf(ops.NotFound, "the trace has no generations %d to %d: choose a window from its list", from, to)
	}
	start := ix.Generations[first].Offset
	end := ix.Generations[last].Offset + ix.Generations[last].SizeBytes
	for _, part := range []*io.SectionReader{io.NewSectionReader(r, 0, headerSize), io.NewSectionReader(r, start, end-start)} {
		if n, err := io.Copy(w, part); err != nil {
			return fmt.Errorf("cut trace: %w", err)
		} else if n < part.Size() {
			return fmt.Errorf("cut trace: %w", io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// Window is a run of generations of a size that a viewer can open.
type Window struct {
	From, To   uint64 // generation numbers
	Start, End time.Duration
	Wall       time.Time
	SizeBytes  int64
}

// Windows groups the generations into runs of at most maxBytes each. A
// generation larger than that is a window by itself: it cannot be divided.
func (ix Index) Windows(maxBytes int64) []Window {
	var out []Window
	for _, g := range ix.Generations {
		if n := len(out); n > 0 && out[n-1].SizeBytes+g.SizeBytes <= maxBytes {
			out[n-1].To, out[n-1].End = g.Number, g.End
			out[n-1].SizeBytes += g.SizeBytes
			continue
		}
		out = append(out, Window{From: g.Number, To: g.Number, Start: g.Start, End: g.End, Wall: g.Wall, SizeBytes: g.SizeBytes})
	}
	return out
}

// damage is why reading a trace ended early.
type damage struct {
	what string
	// whole is set if everything could be read nevertheless.
	whole bool
}

func (d *damage) Error() string { return d.what }

func damaged(format string, args ...any) error { return &damage{what: fmt.Sprintf(format, args...)} }

// scanner walks a file by batch headers, through a small window of it.
type scanner struct {
	r    io.ReaderAt
	size int64
	at   int64  // of the next byte
	buf  []byte // the bytes from bufAt on
	from int64
	mem  [4096]byte
}

// peek returns at least n bytes from at on, or what there is until the end.
func (s *scanner) peek(n int) ([]byte, error) {
	have := s.from + int64(len(s.buf)) - s.at
	if s.at < s.from || have < int64(n) && s.from+int64(len(s.buf)) < s.size {
		want := min(int64(len(s.mem)), s.size-s.at)
		got, err := s.r.ReadAt(s.mem[:want], s.at)
		if int64(got) < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		s.buf, s.from = s.mem[:want], s.at
	}
	return s.buf[min(s.at-s.from, int64(len(s.buf))):], nil
}

func (s *scanner) header() (minor int, err error) {
	b, err := s.peek(headerSize)
	if err != nil {
		return 0, fmt.Errorf("read trace: %w", err)
	}
	_, err = fmt.Sscanf(string(b[:min(headerSize, len(b))]), "go 1.%d trace\x00\x00\x00", &minor)
	switch {
	case err != nil || len(b) < headerSize:
		return 0, ops.Errorf(ops.Corrupt, "this is not a Go execution trace: choose another artifact")
	case minor < 22:
		return 0, ops.Errorf(ops.Invalid, "this trace was written by Go 1.%d and only those of Go 1.22 and later can be opened in parts: download it and run go tool trace", minor)
	case minor == 24:
		return 0, ops.Errorf(ops.Corrupt, "this is not a Go execution trace: no format bears the name of Go 1.24: choose another artifact")
	case minor > 26:
		return 0, ops.Errorf(ops.Invalid, "this trace was written in the format of Go 1.%d, which is newer than this program knows: update it, or download the trace and run go tool trace", minor)
	}
	s.at = headerSize
	return minor, nil
}

// rawGeneration is a generation with its times in ticks.
type rawGeneration struct {
	number           uint64
	offset, end      int64
	batches          int
	minTime, maxTime uint64
	freq             uint64
	synced, strings  bool
	wall             time.Time
}

// generations returns the complete ones, and where the last of them ends. The
// problem is a *damage if the file is to blame.
func (s *scanner) generations(minor int) (complete []rawGeneration, end int64, problem error) {
	var g rawGeneration
	end = s.at
	finish := func() error {
		switch {
		case !g.synced, minor < 26 && !g.strings:
			return damaged("generation %d is incomplete", g.number)
		case len(complete) == maxGenerations:
			return damaged("it has more than %d generations", maxGenerations)
		}
		g.end = s.at
		end = s.at
		complete = append(complete, g)
		g = rawGeneration{}
		return nil
	}
	for s.at < s.size {
		b, err := s.batch()
		if err != nil {
			return complete, end, err
		}
		if b.endOfGeneration {
			if minor < 26 || g.batches == 0 {
				return complete, end, damaged("an end of generation is where none can be")
			}
			s.at = b.end
			if err := finish(); err != nil {
				return complete, end, err
			}
			continue
		}
		if g.batches > 0 && b.generation != g.number {
			if minor >= 26 {
				return complete, end, damaged("generation %d does not end", g.number)
			}
			if err := finish(); err != nil {
				return complete, end, err
			}
		}
		if g.batches == 0 {
			if b.generation == 0 || len(complete) > 0 && b.generation <= complete[len(complete)-1].number {
				return complete, end, damaged("generation %d is out of order", b.generation)
			}
			g.number, g.offset, g.minTime = b.generation, s.at, b.time
		}
		g.batches++
		g.minTime, g.maxTime = min(g.minTime, b.time), max(g.maxTime, b.time)
		g.strings = g.strings || b.first == evStrings
		if b.sync {
			g.synced = true
			g.freq, g.wall = b.freq, b.wall
		}
		s.at = b.end
	}
	// In a format without end marks, a generation is complete if what is written
	// last, its strings, is there.
	if g.batches > 0 {
		if minor >= 26 || !g.synced || !g.strings {
			return complete, end, damaged("it ends within generation %d", g.number)
		}
		if err := finish(); err != nil {
			return complete, end, err
		}
	}
	return complete, end, nil
}

// batch is what the header of a batch says, and its first bytes.
type batch struct {
	endOfGeneration  bool
	generation, time uint64
	end              int64
	first            EventKind // its first event; 0 = none, or experimental
	sync             bool
	freq             uint64 // ticks per second
	wall             time.Time
}

// batch reads the header at s.at and does not move.
func (s *scanner) batch() (b batch, err error) {
	// A header takes up to 42 bytes, and what a sync batch tells up to 65 more.
	buf, err := s.peek(128)
	if err != nil {
		return b, err
	}
	c := cursor{b: buf}
	typ := EventKind(c.byte())
	switch typ {
	case evEndOfGeneration:
		return batch{endOfGeneration: true, end: s.at + 1}, nil
	case evExperimentalBatch:
		c.byte() // which experiment
	case evEventBatch:
	default:
		return b, damaged("byte %d is not the beginning of a batch", s.at)
	}
	b.generation = c.uvarint()
	c.uvarint() // thread
	b.time = c.uvarint()
	size := c.uvarint()
	switch {
	case c.bad && len(buf) < 128:
		return b, damaged("it ends within a batch")
	case c.bad:
		return b, damaged("the batch at byte %d cannot be read", s.at)
	case size > maxBatchSize:
		return b, damaged("the batch at byte %d claims %d bytes", s.at, size)
	}
	b.end = s.at + int64(len(buf)-len(c.b)) + int64(size)
	if b.end > s.size {
		return b, damaged("it ends within a batch")
	}
	if typ == evExperimentalBatch || size == 0 {
		return b, nil
	}
	c.b = c.b[:min(uint64(len(c.b)), size)]
	b.first = EventKind(c.b[0])
	if b.first == evSync {
		c.byte()
	} else if b.first != evFrequency {
		return b, nil
	}
	for len(c.b) > 0 && !c.bad {
		switch EventKind(c.byte()) {
		case evFrequency:
			b.freq = c.uvarint()
			b.sync = !c.bad && b.freq > 0
		case evClockSnapshot:
			c.uvarint() // time
			c.uvarint() // monotonic
			sec, nsec := c.uvarint(), c.uvarint()
			if !c.bad && sec < 1<<40 && nsec < 1e9 {
				b.wall = time.Unix(int64(sec), int64(nsec))
			}
		default:
			c.bad = true
		}
	}
	return b, nil
}

// cursor reads from a slice; reading past its end sets bad.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uvarint() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := c.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			c.bad = c.bad || shift == 63 && b > 1
			return v
		}
	}
	c.bad = true
	return 0
}

func bytesText(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
