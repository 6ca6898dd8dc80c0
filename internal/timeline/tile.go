package timeline

import (
	"context"
	"encoding/binary"
	"math"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/trace"
)

// TileQuery asks for one tile: columns of 2^Level ns, from Index × Columns × 2^Level
// ns on. There are few of them, so that they are worth caching.
type TileQuery struct {
	Tracks  []Track
	Level   int
	Index   int64
	Columns int // 0 = 512
}

// Bounds of a tile: what one screen can show, and a column of 18 minutes.
const (
	maxTileTracks  = 256
	maxTileColumns = 4096
	maxTileLevel   = 40
	tileColumns    = 512
)

// Tile has the rows of a tile in the order of its tracks.
type Tile struct {
	Rows []Row
	// Stacks are what the rows' stacks are indexes of; the first is none.
	Stacks []Stack
}

// Row is what a track looks like: its intervals, or the shares of columns. The
// slices are what the wire carries: little-endian columns, see TimelineRow in
// timeline.proto.
type Row struct {
	From, To, State, Reason, Stack, WakerStack, Goroutine []byte
	ShareStates, Shares, Goroutines                       []byte
}

// Tile answers a query.
func (v *View) Tile(ctx context.Context, q TileQuery) (Tile, error) {
	if q.Columns == 0 {
		q.Columns = tileColumns
	}
	switch {
	case len(q.Tracks) > maxTileTracks:
		return Tile{}, ops.Errorf(ops.Invalid, "a tile of %d tracks is too large: ask for at most %d at once", len(q.Tracks), maxTileTracks)
	case q.Columns < 1 || q.Columns > maxTileColumns:
		return Tile{}, ops.Errorf(ops.Invalid, "a tile of %d columns cannot be drawn: ask for 1 to %d", q.Columns, maxTileColumns)
	case q.Level < 0 || q.Level > maxTileLevel:
		return Tile{}, ops.Errorf(ops.Invalid, "there is no level %d: ask for 0 to %d", q.Level, maxTileLevel)
	}
	span := int64(q.Columns) << q.Level
	if q.Index < 0 || q.Index > int64(v.analysis.Duration)/span {
		return Tile{}, ops.Errorf(ops.Invalid, "tile %d is not within the trace: ask for 0 to %d", q.Index, int64(v.analysis.Duration)/span)
	}
	query := trace.Query{From: time.Duration(q.Index * span), To: time.Duration((q.Index + 1) * span), Columns: q.Columns}
	for _, t := range q.Tracks {
		id, err := v.id(t)
		if err != nil {
			return Tile{}, err
		}
		query.Tracks = append(query.Tracks, id)
	}
	rows, err := v.analysis.Timeline.Query(ctx, query)
	if err != nil {
		return Tile{}, err
	}
	b := tileBuilder{view: v, stacks: map[trace.StackID]uint16{0: 0}, out: Tile{Stacks: []Stack{nil}}}
	for i := range rows {
		b.row(&rows[i], q.Columns)
	}
	return b.out, nil
}

type tileBuilder struct {
	view   *View
	stacks map[trace.StackID]uint16
	out    Tile
}

// stack is the number of a stack within the tile; beyond what 16 bits can count,
// it is none.
func (b *tileBuilder) stack(id trace.StackID) uint16 {
	n, ok := b.stacks[id]
	if !ok && len(b.out.Stacks) <= math.MaxUint16 {
		n = uint16(len(b.out.Stacks))
		b.stacks[id] = n
		b.out.Stacks = append(b.out.Stacks, b.view.stack(id))
	}
	return n
}

func (b *tileBuilder) row(r *trace.Row, columns int) {
	var out Row
	if r.Shares != nil {
		shares(&out, r.Shares, columns, r.Track.Kind == trace.TrackProc)
	} else {
		for i := range r.Intervals {
			b.interval(&out, r.Track.Kind, &r.Intervals[i])
		}
	}
	b.out.Rows = append(b.out.Rows, out)
}

func (b *tileBuilder) interval(out *Row, kind trace.TrackKind, iv *trace.Interval) {
	out.From = number(out.From, float64(iv.From))
	out.To = number(out.To, float64(iv.To))
	out.State = append(out.State, byte(iv.State))
	out.Reason = append(out.Reason, byte(iv.Reason))
	out.Stack = binary.LittleEndian.AppendUint16(out.Stack, b.stack(iv.Stack))
	who, wakerStack := max(iv.Waker, 0), b.stack(iv.WakerStack)
	switch {
	case kind == trace.TrackProc:
		who, wakerStack = max(iv.Goroutine, 0), 0
	case iv.Created:
		who = -who
	}
	out.WakerStack = binary.LittleEndian.AppendUint16(out.WakerStack, wakerStack)
	out.Goroutine = number(out.Goroutine, float64(who))
}

func number(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

// shares turns goroutines on average into shares of 255. What is rounded away goes
// to the largest share: a column that is full stays full.
func shares(out *Row, in []float32, columns int, proc bool) {
	const states = int(trace.NumStates)
	var used [states]bool
	for i, v := range in {
		used[i%states] = used[i%states] || v > 0
	}
	planes := [states]int{}
	for s := range states {
		if used[s] {
			planes[s] = len(out.ShareStates) * columns
			out.ShareStates = append(out.ShareStates, byte(s))
		}
	}
	out.Shares = make([]byte, len(out.ShareStates)*columns)
	out.Goroutines = make([]byte, 0, 4*columns)
	for c := range columns {
		column := in[c*states : (c+1)*states]
		sum := float32(0)
		for _, v := range column {
			sum += v
		}
		out.Goroutines = binary.LittleEndian.AppendUint32(out.Goroutines, math.Float32bits(sum))
		if sum < 1e-6 {
			continue
		}
		whole := sum
		if proc {
			whole = max(1, sum) // the rest it was idle
		}
		left, largest := 255*sum/whole+0.5, -1
		for s, v := range column {
			if v <= 0 {
				continue
			}
			n := int(255 * v / whole)
			left -= float32(n)
			out.Shares[planes[s]+c] = byte(n)
			if largest < 0 || v > column[largest] {
				largest = s
			}
		}
		out.Shares[planes[largest]+c] += byte(max(0, min(left, 255-float32(out.Shares[planes[largest]+c]))))
	}
}
