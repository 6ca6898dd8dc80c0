package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// Trace is an execution trace that can be asked. Its methods may be called at the
// same time.
type Trace struct {
	ix     Index
	r      io.ReaderAt
	mapped []byte // the whole file, where it can be mapped
	unmap  func() error
	zero   uint64  // ticks; the time of the first batch
	nsTick float64 // nanoseconds per tick
	// whole is nsTick where that is a whole number, as it is on Linux; of fewer ticks
	// than exact, their product is what the product of floating-point numbers is.
	whole, exact uint64
	last         uint64 // ticks; the latest event
	symbols      symbols
	// readers keep the memory that a generation took for the next one.
	readers sync.Pool
}

// maxBuffered is the largest generation that is read into memory where the file
// cannot be mapped.
const maxBuffered = 256 << 20

// Open reads the index of a trace. A file is mapped and must keep its size until
// Close; everything else is read a generation at a time. Errors are those of
// ReadIndex.
func Open(r io.ReaderAt, size int64) (*Trace, error) {
	ix, err := ReadIndex(r, size)
	if err != nil {
		return nil, err
	}
	t := &Trace{ix: ix, r: r, zero: ix.zero, nsTick: ix.nsTick, unmap: func() error { return nil }}
	if whole := uint64(t.nsTick); whole > 0 && whole < 1<<20 && float64(whole) == t.nsTick {
		t.whole, t.exact = whole, 1<<53/whole
	}
	t.symbols.init()
	if f, ok := r.(*os.File); ok {
		if b, unmap, err := mapFile(f, size); err == nil {
			t.mapped, t.unmap = b, unmap
		}
	}
	n := len(ix.Generations) - 1
	t.last = t.ticks(ix.Generations[n].Start)
	if err := t.load(n, nil, func(g *loaded) error {
		t.last = max(t.last, g.last())
		return nil
	}); err != nil {
		// Whoever reads its events will be told; it ends where its batches begin.
		t.last = max(t.last, t.ticks(ix.Generations[n].End))
	}
	t.ix.Generations[n].End = t.since(t.last)
	return t, nil
}

// Close gives back what Open took. No other call may be under way.
func (t *Trace) Close() error {
	t.mapped = nil
	return t.unmap()
}

// Index says where the generations are. The End of the last one is that of its
// last event.
func (t *Trace) Index() Index { return t.ix }

// Duration is from the first batch to the last event.
func (t *Trace) Duration() time.Duration { return t.since(t.last) }

// since converts the trace's clock to the time since the trace began.
func (t *Trace) since(ticks uint64) time.Duration {
	if ticks <= t.zero {
		return 0
	}
	return t.span(ticks - t.zero)
}

// span converts a number of ticks.
func (t *Trace) span(ticks uint64) time.Duration {
	if ticks < t.exact {
		return time.Duration(ticks * t.whole)
	}
	ns := float64(ticks) * t.nsTick
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

// ticks is the inverse of since.
func (t *Trace) ticks(d time.Duration) uint64 {
	return t.zero + uint64(math.Ceil(float64(max(d, 0))/t.nsTick))
}

// buffer is memory for generations that cannot be mapped, kept between them.
type buffer struct{ b []byte }

// load reads the n-th generation and calls fn with it; what fn gets is valid
// during the call. An error is damage or that of the file.
func (t *Trace) load(n int, buf *buffer, fn func(*loaded) error) (err error) {
	where := t.ix.Generations[n]
	var b []byte
	if t.mapped != nil {
		// A file that shrinks under us is a fault at its address and no reason to
		// end the process.
		defer func(old bool) {
			debug.SetPanicOnFault(old)
			if r := recover(); r != nil {
				fault, ok := r.(interface{ Addr() uintptr })
				if !ok {
					panic(r)
				}
				err = fmt.Errorf("read trace: the file shrank while it was read (fault at %#x)", fault.Addr())
			}
		}(debug.SetPanicOnFault(true))
		b = t.mapped[where.Offset : where.Offset+where.SizeBytes]
	} else {
		if where.SizeBytes > maxBuffered {
			return damaged("generation %d is too large for memory", where.Number)
		}
		if buf == nil {
			buf = new(buffer)
		}
		if int64(cap(buf.b)) < where.SizeBytes {
			buf.b = make([]byte, where.SizeBytes)
		}
		b = buf.b[:where.SizeBytes]
		if _, err := t.r.ReadAt(b, where.Offset); err != nil {
			return fmt.Errorf("read trace: %w", err)
		}
	}
	g, err := load(b, t.ix.GoMinor)
	if err != nil {
		return err
	}
	if t.ix.GoMinor >= 25 && where.Number != g.number {
		return damaged("generation %d is not where it was", where.Number)
	}
	return fn(g)
}

// Event is what happened at one moment.
type Event struct {
	// Time since the trace began. Never before the event before it in its
	// generation, but threads enter a generation one after the other: it may be
	// before the last ones of the generation before.
	Time time.Duration
	// Clock is what its thread's clock said: less than Time if the thread had been
	// stopped while it wrote an event that others follow from.
	Clock time.Duration
	Kind  EventKind
	// Thread, Proc and Goroutine are those that it happened on, as they were
	// before it.
	Thread    ThreadID
	Proc      ProcID
	Goroutine GoID
	// Subject is the goroutine that it happened to, where the kind has one: the
	// started, unblocked, created or described one.
	Subject GoID
	// Stack is where it happened; Start where a created goroutine begins.
	Stack, Start StackID
	// Text is the reason, name, label or category; Text2 the message of a log.
	Text, Text2 string
	// Args are the numbers of the kind, without its time.
	Args [4]uint64
}

// Events calls fn with every event of the n-th generation of the index, in the
// order in which they happened, until fn returns false; the event is valid during
// the call. CPU samples are among them. An error of kind Corrupt says why
// the generation ends early, or what is wrong with it although it could be read; fn
// has had everything before.
func (t *Trace) Events(ctx context.Context, n int, fn func(*Event) bool) error {
	if n < 0 || n >= len(t.ix.Generations) {
		return ops.Errorf(ops.NotFound, "the trace has no generation number %d of %d: choose one of its index", n, len(t.ix.Generations))
	}
	r, _ := t.readers.Get().(*reader)
	if r == nil {
		r = &reader{}
	}
	defer func() {
		r.out = eventSink{}
		r.d.gen, r.d.stacks, r.d.samples, r.d.sink, r.d.ctx = nil, nil, nil, nil, nil
		t.readers.Put(r)
	}()
	err := t.load(n, nil, func(g *loaded) error {
		r.out = eventSink{t: t, d: &r.d, g: g, stacks: t.symbols.intern(g), texts: make([]string, max(1, len(g.strings.values))), fn: fn}
		return r.d.run(ctx, g, n == 0, &r.out)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return readable(err)
}

// reader is what one walk writes to at every event, in one piece and with nobody
// else's within reach: cores that write to the same cache line take turns.
type reader struct {
	_   [cacheLines]byte
	d   decoder
	out eventSink
	_   [cacheLines]byte
}

// cacheLines is two of most processors, which fetch them in pairs.
const cacheLines = 128

// errEnough ends a walk that has seen what it wanted.
var errEnough = errors.New("enough")

// readable turns damage into an error that says what to do.
func readable(err error) error {
	var d *damage
	if asDamage(err, &d) && d.whole {
		return ops.Errorf(ops.Corrupt, "%s: all of it is shown, but go tool trace will not open it", d.what)
	}
	if d != nil {
		return ops.Errorf(ops.Corrupt, "the trace is damaged (%s): capture it again", d.what)
	}
	return err
}

// eventSink turns events into what callers see.
type eventSink struct {
	t      *Trace
	d      *decoder
	g      *loaded
	stacks []StackID
	texts  []string // by index into loaded.strings, as far as seen
	fn     func(*Event) bool
	out    Event
	said   bool // out has a text
}

func (s *eventSink) text(i uint32) string {
	if i != 0 && s.texts[i] == "" {
		s.texts[i] = string(s.g.strings.at(i))
	}
	return s.texts[i]
}

func (s *eventSink) event(e *event) {
	if s.d.halt != nil {
		return
	}
	out := &s.out
	out.Time = s.t.since(e.time)
	out.Clock = out.Time
	if e.own != e.time {
		out.Clock = s.t.since(e.own)
	}
	out.Kind, out.Proc = e.kind, ProcID(e.p)
	out.Stack, out.Start = s.stacks[e.stack], s.stacks[e.start]
	out.Args[0], out.Args[1], out.Args[2], out.Args[3] = e.args[0], e.args[1], e.args[2], e.args[3] // one by one: to load two at a time what was stored singly stalls
	out.Thread = NoThread
	if e.m >= 0 {
		out.Thread = s.d.ms[e.m].id
	}
	out.Goroutine, out.Subject = s.d.goID(e.g), s.d.goID(e.s)
	if texts := e.str != 0 || e.str2 != 0; texts || s.said {
		out.Text, out.Text2, s.said = s.text(e.str), s.text(e.str2), texts
	}
	if !s.fn(out) {
		s.d.halt = errEnough
	}
}

// goID is the id of the i-th goroutine; NoGoroutine, which is -1, of -1. Without a
// jump for that: every other event has none, and there is no guessing which.
func (d *decoder) goID(i int32) GoID {
	if len(d.gs) == 0 {
		return NoGoroutine
	}
	return d.gs[max(i, 0)].id | GoID(i>>31)
}

// asDamage is errors.As for what is the trace's fault.
func asDamage(err error, d **damage) bool { return errors.As(err, d) }
