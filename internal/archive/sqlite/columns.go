package sqlite

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
)

// point is a heartbeat of the instance with that number.
type point struct {
	num int64
	hb  ops.Heartbeat
}

// maxPoints bounds what one row of points may claim to hold.
const maxPoints = 1 << 16

// columnsVersion is the first byte of every row of points.
const columnsVersion = 1

// How a column is written: one value for all points, or the first value and then
// the step to each next one (the difference of integers, the changed bits of
// fractions).
const (
	columnSame  = 0
	columnSteps = 1
)

// column is one number of a point. Fractions travel as the bits of a float32:
// six digits are more than a sparkline shows, and half the bytes.
type column struct {
	fraction bool
	get      func(*point) int64
	set      func(*point, int64)
}

func whole(field func(*point) *int64) column {
	return column{
		get: func(p *point) int64 { return *field(p) },
		set: func(p *point, v int64) { *field(p) = v },
	}
}

func fraction(field func(*ops.Heartbeat) *float64) column {
	return column{
		fraction: true,
		get:      func(p *point) int64 { return int64(math.Float32bits(float32(finiteOrZero(*field(&p.hb))))) },
		set:      func(p *point, v int64) { *field(&p.hb) = float64(math.Float32frombits(uint32(v))) },
	}
}

// columns is the order in which rows of points hold them: append only, and count
// up columnsVersion when it grows.
var columns = []column{
	whole(func(p *point) *int64 { return &p.num }),
	{get: func(p *point) int64 { return millis(p.hb.At) }, set: func(p *point, v int64) { p.hb.At = moment(v) }},
	fraction(func(h *ops.Heartbeat) *float64 { return &h.CPUCores }),
	whole(func(p *point) *int64 { return &p.hb.Goroutines }),
	whole(func(p *point) *int64 { return &p.hb.GoroutinesRunning }),
	whole(func(p *point) *int64 { return &p.hb.GoroutinesRunnable }),
	whole(func(p *point) *int64 { return &p.hb.GoroutinesWaiting }),
	whole(func(p *point) *int64 { return &p.hb.GoroutinesSyscall }),
	whole(func(p *point) *int64 { return &p.hb.LiveHeapBytes }),
	whole(func(p *point) *int64 { return &p.hb.HeapObjects }),
	whole(func(p *point) *int64 { return &p.hb.RSSBytes }),
	whole(func(p *point) *int64 { return &p.hb.MemoryLimitBytes }),
	fraction(func(h *ops.Heartbeat) *float64 { return &h.GCCPUFraction }),
	whole(func(p *point) *int64 { return &p.hb.GCCycles }),
	fraction(func(h *ops.Heartbeat) *float64 { return &h.SchedLatencyP99Second }),
	fraction(func(h *ops.Heartbeat) *float64 { return &h.ThrottledFraction }),
	whole(func(p *point) *int64 { return &p.hb.PoolWaiters }),
	fraction(func(h *ops.Heartbeat) *float64 { return &h.MutexWaitRate }),
	fraction(func(h *ops.Heartbeat) *float64 { return &h.CPUQuotaCores }),
	{get: func(p *point) int64 { return int64(p.hb.GOMAXPROCS) }, set: func(p *point, v int64) { p.hb.GOMAXPROCS = int(v) }},
	whole(func(p *point) *int64 { return &p.hb.Threads }),
}

// encodePoints lays points out column by column.
func encodePoints(points []point) []byte {
	out := make([]byte, 0, 64+40*len(points))
	out = append(out, columnsVersion)
	out = binary.AppendUvarint(out, uint64(len(points)))
	if len(points) == 0 {
		return out
	}
	for _, c := range columns {
		first := c.get(&points[0])
		same := true
		for i := 1; i < len(points) && same; i++ {
			same = c.get(&points[i]) == first
		}
		if same {
			out = append(out, columnSame)
			out = binary.AppendVarint(out, first)
			continue
		}
		out = append(out, columnSteps)
		last := int64(0)
		for i := range points {
			v := c.get(&points[i])
			if c.fraction {
				out = binary.AppendUvarint(out, uint64(v^last))
			} else {
				out = binary.AppendVarint(out, v-last) // wraps around, and back
			}
			last = v
		}
	}
	return out
}

// decodePoints reads what encodePoints wrote, or returns a Corrupt error.
func decodePoints(in []byte) ([]point, error) {
	if len(in) == 0 || in[0] != columnsVersion {
		return nil, damagedPoints("its version is unknown")
	}
	in = in[1:]
	n, used := binary.Uvarint(in)
	if used <= 0 || n > maxPoints {
		return nil, damagedPoints("its length is wrong")
	}
	in = in[used:]
	if n == 0 {
		return nil, nil
	}
	points := make([]point, n)
	for _, c := range columns {
		if len(in) == 0 {
			return nil, damagedPoints("a column is missing")
		}
		mode := in[0]
		in = in[1:]
		switch mode {
		case columnSame:
			v, used := binary.Varint(in)
			if used <= 0 {
				return nil, damagedPoints("a column ends early")
			}
			in = in[used:]
			for i := range points {
				c.set(&points[i], v)
			}
		case columnSteps:
			last := int64(0)
			for i := range points {
				var step int64
				var used int
				if c.fraction {
					var u uint64
					u, used = binary.Uvarint(in)
					step = int64(u) ^ last
				} else {
					step, used = binary.Varint(in)
					step += last
				}
				if used <= 0 {
					return nil, damagedPoints("a column ends early")
				}
				in = in[used:]
				last = step
				c.set(&points[i], last)
			}
		default:
			return nil, damagedPoints("a column's form is unknown")
		}
	}
	return points, nil
}

func damagedPoints(why string) error {
	return ops.Errorf(ops.Corrupt, "a row of heartbeat history is damaged: %s", why)
}

// span is the first and last time of points, of which there is at least one.
func span(points []point) (first, last int64) {
	first, last = math.MaxInt64, math.MinInt64
	for i := range points {
		at := millis(points[i].hb.At)
		first, last = min(first, at), max(last, at)
	}
	return first, last
}

// between keeps the points of num in [from, to).
func between(points []point, num int64, from, to time.Time, out []ops.Heartbeat) []ops.Heartbeat {
	for i := range points {
		if p := &points[i]; p.num == num && !p.hb.At.Before(from) && p.hb.At.Before(to) {
			out = append(out, p.hb)
		}
	}
	return out
}
