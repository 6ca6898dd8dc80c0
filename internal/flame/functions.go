package flame

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Row is a function's worth: by itself, and with everything that it calls.
type Row struct {
	Frame
	Self, Total         int64
	BaseSelf, BaseTotal int64
}

// Table is the functions, the largest Self first, or the largest change of it.
type Table struct {
	Subject
	Rows []Row
	// Functions is how many there are in all.
	Functions int
}

// Top answers with at most so many rows; 0 = all.
func (r *Reader) Top(ctx context.Context, q Query, rows int) (*Table, error) {
	q.Filter.Lines = false
	before, after, err := r.both(ctx, q)
	if err != nil {
		return nil, err
	}
	t := &Table{}
	if before == nil {
		err = t.one(after, q)
	} else {
		err = t.two(before, after, q)
	}
	if err != nil {
		return nil, err
	}
	t.Functions = len(t.Rows)
	if rows > 0 && len(t.Rows) > rows {
		t.Rows = t.Rows[:rows]
	}
	return t, nil
}

func (t *Table) one(p *loaded, q Query) error {
	typ, err := p.Type(q.Type)
	if err != nil {
		return err
	}
	t.Subject = about(p.Types, typ, nil, p, false)
	v, err := p.View(q.Filter)
	if err != nil {
		return err
	}
	for _, row := range v.Top(typ).Rows {
		t.Rows = append(t.Rows, Row{Frame: frameOf(row.Symbol), Self: row.Flat, Total: row.Cum})
	}
	return nil
}

func (t *Table) two(before, after *loaded, q Query) error {
	c, err := profile.Compare(before.Profile, after.Profile, q.Filter, q.Normalise)
	if err != nil {
		return err
	}
	typ, err := c.Type(q.Type)
	if err != nil {
		return err
	}
	t.Subject = about(c.Types, typ, before, after, q.Normalise)
	for _, row := range c.Top(typ).Rows {
		t.Rows = append(t.Rows, Row{Frame: frameOf(row.Symbol), Self: row.FlatAfter, Total: row.CumAfter, BaseSelf: row.FlatBefore, BaseTotal: row.CumBefore})
	}
	return nil
}

func frameOf(s profile.Symbol) Frame { return Frame{s.String(), s.File, s.StartLine} }

// Function is a function, who calls it, whom it calls (both worth what goes
// through the edge, as Total), and what each of its lines is worth.
type Function struct {
	Subject
	Row
	Callers, Callees []Row
	// Lines by number: Self where the program was, Total where it was or had
	// called from.
	Lines []Row
}

// Function answers for one function. NotFound if neither side has it.
func (r *Reader) Function(ctx context.Context, q Query, name string) (*Function, error) {
	q.Filter.Lines = true
	before, after, err := r.both(ctx, q)
	if err != nil {
		return nil, err
	}
	f := &Function{}
	types, typ, err := commonType(before, after, q.Type)
	if err != nil {
		return nil, err
	}
	f.Subject = about(types, typ, before, after, q.Normalise)
	own, err := around(after, q.Filter, types[typ], name)
	if err != nil && (before == nil || ops.KindOf(err) != ops.NotFound) {
		return nil, err
	}
	base := &surroundings{}
	if before != nil {
		var missing error
		if base, missing = around(before, q.Filter, types[typ], name); missing != nil && (err != nil || ops.KindOf(missing) != ops.NotFound) {
			return nil, missing
		}
		if all := after.sum(types[typ]); q.Normalise && all != 0 {
			own.scale(float64(before.sum(types[typ])) / float64(all))
		}
	}
	rows := join([]Row{own.row}, []Row{base.row}, func(Row) string { return "" })
	f.Row = rows[0]
	byName := func(r Row) string { return r.Name }
	f.Callers, f.Callees = join(own.callers, base.callers, byName), join(own.callees, base.callees, byName)
	f.Lines = join(own.lines, base.lines, func(r Row) int64 { return r.Line })
	slices.SortFunc(f.Lines, func(a, b Row) int { return cmp.Compare(a.Line, b.Line) })
	return f, nil
}

// commonType finds the sample type that is asked for among those that all sides
// have.
func commonType(before, after *loaded, name string) ([]profile.ValueType, int, error) {
	if before == nil {
		typ, err := after.Type(name)
		return after.Types, typ, err
	}
	// An empty filter: this is about types alone.
	c, err := profile.Compare(&profile.Profile{Header: before.Header, Values: make([][]int64, len(before.Types))},
		&profile.Profile{Header: after.Header, Values: make([][]int64, len(after.Types))}, profile.Filter{}, false)
	if err != nil {
		return nil, 0, err
	}
	typ, err := c.Type(name)
	return c.Types, typ, err
}

// surroundings are what one side knows of a function.
type surroundings struct {
	row                     Row
	callers, callees, lines []Row
}

func around(p *loaded, filter profile.Filter, t profile.ValueType, name string) (*surroundings, error) {
	v, err := p.View(filter)
	if err != nil {
		return &surroundings{}, err
	}
	typ := slices.Index(p.Types, t)
	a, err := v.Around(typ, name)
	if err != nil {
		return &surroundings{}, err
	}
	s := &surroundings{row: Row{Frame: frameOf(a.Symbol), Self: a.Flat, Total: a.Cum}}
	edges := func(list []profile.Edge) (out []Row) {
		for _, e := range list {
			out = append(out, Row{Frame: frameOf(e.Symbol), Total: e.Value})
		}
		return out
	}
	s.callers, s.callees = edges(a.Callers), edges(a.Callees)
	s.lines = linesOf(v, p.Values[typ], name, a.Symbol.File)
	return s, nil
}

// linesOf sums up the lines of one function. A sample counts once for each line.
func linesOf(v *profile.View, values []int64, name, file string) (out []Row) {
	id, _ := v.Symbols.Find(name)
	at := map[int64]int{}
	var seen []int64 // in this sample
	v.Each(func(sample int, stack []profile.FrameID) {
		value := values[sample]
		if value == 0 {
			return
		}
		seen = seen[:0]
		for i, id2 := range stack {
			f := v.Symbols.Frames[id2]
			if f.Symbol != id || f.Line == 0 {
				continue
			}
			n, ok := at[f.Line]
			if !ok {
				n = len(out)
				at[f.Line] = n
				out = append(out, Row{Frame: Frame{name, file, f.Line}})
			}
			if !slices.Contains(seen, f.Line) {
				seen = append(seen, f.Line)
				out[n].Total += value
			}
			if i == len(stack)-1 {
				out[n].Self += value
			}
		}
	})
	return out
}

func (s *surroundings) scale(ratio float64) {
	s.row = s.row.scaled(ratio)
	for _, rows := range [][]Row{s.callers, s.callees, s.lines} {
		for i := range rows {
			rows[i] = rows[i].scaled(ratio)
		}
	}
}

// sum of the values of a type, which is what profile.Compare makes equal.
func (l *loaded) sum(t profile.ValueType) (sum int64) {
	for _, v := range l.Values[slices.Index(l.Types, t)] {
		sum += v
	}
	return sum
}

func (r Row) scaled(ratio float64) Row {
	r.Self, r.Total = int64(math.Round(float64(r.Self)*ratio)), int64(math.Round(float64(r.Total)*ratio))
	return r
}

// join puts the rows of both sides next to each other, the largest first.
func join[K comparable](own, base []Row, key func(Row) K) []Row {
	out := slices.Clone(own)
	at := map[K]int{}
	for i, r := range out {
		at[key(r)] = i
	}
	for _, b := range base {
		i, ok := at[key(b)]
		if !ok {
			i = len(out)
			out = append(out, Row{Frame: b.Frame})
		} else if out[i].Name == "" {
			out[i].Frame = b.Frame
		}
		out[i].BaseSelf, out[i].BaseTotal = b.Self, b.Total
	}
	size := func(r Row) int64 { return max(r.Total, r.BaseTotal, -r.Total, -r.BaseTotal) }
	slices.SortStableFunc(out, func(a, b Row) int { return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.Name, b.Name)) })
	return out
}
