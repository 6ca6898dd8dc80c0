// Package census counts the goroutines of a capture's snapshots: who is where, in
// what state, since when, and how many more or fewer there are than in another
// snapshot. It opens what it is asked for through its Config, bounds what it keeps
// and answers, and knows nothing of the wire or of what is wrong with a program.
package census

import (
	"cmp"
	"context"
	"encoding/hex"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// The most groups that are returned: what a person can go through, and what a
// browser holds without noticing.
const (
	DefaultGroups = 2_000
	MaxGroups     = 10_000
)

// kept is how many snapshots, each joined with what it is compared with, stay in
// memory: one for each of a few people who look at goroutines at the same time.
const kept = 4

// limits of one snapshot. A dump of 100,000 goroutines has 40 to 80 MB; as a
// profile it is far smaller. What is larger than this is read by machines.
var limits = profile.Limits{CompressedBytes: 256 << 20, DecompressedBytes: 256 << 20, MemoryBytes: 192 << 20}

// Config is what a Reader reads from. Both fields are needed.
type Config struct {
	Capture func(context.Context, ops.CaptureID) (ops.Capture, error)
	Open    func(context.Context, ops.ArtifactRef) (ops.Blob, ops.Artifact, error)
}

// Reader answers queries. Safe for concurrent use.
type Reader struct {
	cfg  Config
	busy chan struct{} // one reads at a time: snapshots are large

	mu     sync.Mutex // guards tables
	tables []*table   // the most recently used last
}

// New returns a Reader.
func New(cfg Config) *Reader { return &Reader{cfg: cfg, busy: make(chan struct{}, 1)} }

// Query says which snapshot, and what of it.
type Query struct {
	Of ops.ArtifactRef
	// Against is what it is compared with; nil = nothing.
	Against *ops.ArtifactRef
	// Text must be in a function, a file, a label's key or value, whatever the case.
	Text string
	// States that are wanted; empty = all.
	States []string
	Groups int // 0 = DefaultGroups
}

// Census is the answer.
type Census struct {
	Format              goroutines.Format
	Taken, AgainstTaken time.Time // zero = unknown
	Total, AgainstTotal int
	Compared            bool
	// Loss says what could not be read; "" = nothing is missing.
	Loss string
	// States count everybody, whatever the filter, the most first.
	States []StateCount
	// Frames are those of the groups' stacks.
	Frames []*evidence.Frame
	// Groups with the most goroutines in either snapshot first.
	Groups []Group
	// OmittedGroups and OmittedGoroutines match but are too many to return.
	OmittedGroups, OmittedGoroutines int
}

// StateCount is how many are in a state.
type StateCount struct {
	State          goroutines.State
	Count, Against int
}

// Group is goroutines at one place, in one state, from one creation site, in
// either of the two snapshots.
type Group struct {
	ID             string
	Count, Against int
	State          goroutines.State
	Forever        bool
	Wait           goroutines.Wait
	Labels         []goroutines.Labels
	// Stack are indexes of Census.Frames, from the leaf to the root.
	Stack []int
	// CreatedBy is an index of Census.Frames; −1 = not known.
	CreatedBy        int
	Aged             int
	Youngest, Oldest time.Duration
	IDs              []int64
	// Dumped is how many the goroutine dump of the same window had at this place,
	// where ages, ids and creation site are its own; 0 = they are the snapshot's.
	Dumped int
	Locked int
}

// Count answers a query. NotFound when an artifact is not there, Corrupt when it
// holds no goroutines, Exhausted when it is too large, Invalid when two snapshots
// of different formats are to be compared.
func (r *Reader) Count(ctx context.Context, q Query) (*Census, error) {
	t, err := r.table(ctx, q)
	if err != nil {
		return nil, err
	}
	return t.answer(q), nil
}

func (r *Reader) table(ctx context.Context, q Query) (*table, error) {
	key := q.Of.String()
	if q.Against != nil {
		key += " " + q.Against.String()
	}
	if t := r.recall(key); t != nil {
		return t, nil
	}
	select {
	case r.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-r.busy }()
	if t := r.recall(key); t != nil { // somebody asked the same while we waited
		return t, nil
	}
	t, settled, err := r.read(ctx, q)
	if err != nil {
		return nil, err
	}
	if t.key = key; settled {
		r.keep(t)
	}
	return t, nil
}

func (r *Reader) recall(key string) *table {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.tables, func(t *table) bool { return t.key == key })
	if i < 0 {
		return nil
	}
	t := r.tables[i]
	r.tables = append(slices.Delete(r.tables, i, i+1), t)
	return t
}

func (r *Reader) keep(t *table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tables = append(r.tables, t); len(r.tables) > kept {
		r.tables = slices.Delete(r.tables, 0, 1)
	}
}

// read opens the snapshots and joins them. settled is whether they can no longer
// change: the captures have ended.
func (r *Reader) read(ctx context.Context, q Query) (_ *table, settled bool, err error) {
	c, err := r.cfg.Capture(ctx, q.Of.Capture)
	if err != nil {
		return nil, false, err
	}
	i := slices.IndexFunc(c.Targets, func(t ops.CaptureTarget) bool { return t.Instance.ID == q.Of.Instance })
	if i < 0 {
		return nil, false, ops.Errorf(ops.NotFound, "capture %s has no instance %s", q.Of.Capture, q.Of.Instance)
	}
	target := c.Targets[i]
	after, taken, err := r.snapshot(ctx, q.Of)
	if err != nil {
		return nil, false, err
	}
	t := newTable(target.Instance.Build.ModulePath, after, taken)
	if q.Against != nil {
		before, when, err := r.snapshot(ctx, *q.Against)
		if err != nil {
			return nil, false, err
		}
		if before.Format != after.Format {
			return nil, false, ops.Errorf(ops.Invalid, "%s and %s are written in two formats, which name places differently: compare two snapshots of one format", q.Of.Name, q.Against.Name)
		}
		t.compare(before, when)
	}
	if after.Format != goroutines.Dump {
		if dump := r.dump(ctx, q.Of, target); dump != nil {
			t.enrich(dump)
		}
	}
	t.finish()
	return t, c.State.Ended(), nil
}

func (r *Reader) snapshot(ctx context.Context, ref ops.ArtifactRef) (*goroutines.Snapshot, time.Time, error) {
	blob, a, err := r.cfg.Open(ctx, ref)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer blob.Close() //nolint:errcheck // it was only read
	s, err := goroutines.Read(io.NewSectionReader(blob, 0, blob.Size()), limits)
	if err != nil {
		return nil, time.Time{}, err
	}
	if s.Taken.IsZero() {
		return s, a.TakenAt, nil
	}
	return s, s.Taken, nil
}

// dump is the goroutine dump of the same window, which has what a profile lacks.
// It only adds: where it cannot be read, the snapshot stands for itself.
func (r *Reader) dump(ctx context.Context, of ops.ArtifactRef, target ops.CaptureTarget) *goroutines.Snapshot {
	for _, a := range target.Artifacts {
		if a.Kind != ops.KindGoroutineDump {
			continue
		}
		s, _, err := r.snapshot(ctx, ops.ArtifactRef{Capture: of.Capture, Instance: of.Instance, Name: a.Name})
		if err == nil && s.Format == goroutines.Dump {
			return s
		}
	}
	return nil
}

// table is a snapshot, joined with another.
type table struct {
	key    string
	census Census // without Groups; Frames are those of all groups
	frames *evidence.Frames
	index  map[*evidence.Frame]int
	lower  []string // of each frame, what is searched for
	groups []Group
	byKey  map[string]int
	places map[string][]int // groups by the part of their stack that a dump shows
}

func newTable(module string, s *goroutines.Snapshot, taken time.Time) *table {
	t := &table{frames: evidence.NewFrames(module), index: map[*evidence.Frame]int{}, byKey: map[string]int{}, places: map[string][]int{}}
	t.census = Census{Format: s.Format, Taken: taken, Total: s.Total, Loss: s.Loss}
	for i := range s.Groups {
		t.group(&s.Groups[i]).Count += s.Groups[i].Count
	}
	return t
}

func (t *table) frame(f goroutines.Frame) int {
	fr := t.frames.Of(f.Function, f.File, int(f.Line))
	at, ok := t.index[fr]
	if !ok {
		at = len(t.census.Frames)
		t.index[fr] = at
		t.census.Frames = append(t.census.Frames, fr)
		t.lower = append(t.lower, strings.ToLower(fr.Function+"\x00"+fr.File))
	}
	return at
}

// group finds the group of the same place, state and creation site, or makes it
// without anybody in it.
func (t *table) group(g *goroutines.Group) *Group {
	to := Group{State: g.State, Forever: g.Forever, Wait: g.Wait, CreatedBy: -1, Stack: make([]int, len(g.Stack))}
	for i, f := range g.Stack {
		to.Stack[i] = t.frame(f)
	}
	if g.CreatedBy != nil {
		to.CreatedBy = t.frame(*g.CreatedBy)
	}
	key := t.identity(&to)
	if at, ok := t.byKey[key]; ok {
		return &t.groups[at]
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, key) // a hash takes everything
	to.ID = hex.EncodeToString(h.Sum(nil))
	to.Labels, to.Aged, to.Youngest, to.Oldest, to.IDs, to.Locked = g.Labels, g.Aged, g.Youngest, g.Oldest, g.IDs, g.Locked
	t.byKey[key] = len(t.groups)
	t.groups = append(t.groups, to)
	return &t.groups[len(t.groups)-1]
}

// identity is the same for the same place in any snapshot: by names and lines, for
// indexes differ.
func (t *table) identity(g *Group) string {
	b := append([]byte(g.State), 0)
	write := func(i int) {
		f := t.census.Frames[i]
		b = append(b, f.Function...)
		b = append(b, 0)
		b = strconv.AppendInt(b, int64(f.Line), 36)
		b = append(b, 0)
	}
	if g.Forever {
		b = append(b, '!')
	}
	if g.CreatedBy >= 0 {
		write(g.CreatedBy)
	}
	b = append(b, 1)
	for _, i := range g.Stack {
		write(i)
	}
	return string(b)
}

func (t *table) compare(before *goroutines.Snapshot, taken time.Time) {
	t.census.Compared, t.census.AgainstTaken, t.census.AgainstTotal = true, taken, before.Total
	if before.Loss != "" && t.census.Loss == "" {
		t.census.Loss = before.Loss
	}
	for i := range before.Groups {
		t.group(&before.Groups[i]).Against += before.Groups[i].Count
	}
}

// visible is the part of a stack that a dump shows: without the runtime's frames.
func visible(frames []*evidence.Frame, stack []int) string {
	var b []byte
	for _, i := range stack {
		f := frames[i]
		if f.Package == "runtime" {
			continue
		}
		b = append(b, f.Function...)
		b = append(b, 0)
		b = strconv.AppendInt(b, int64(f.Line), 36)
		b = append(b, 0)
	}
	return string(b)
}

// enrich gives groups the ages, ids and creation sites of the goroutines that a
// dump found at the same place.
func (t *table) enrich(dump *goroutines.Snapshot) {
	for i := range t.groups {
		place := visible(t.census.Frames, t.groups[i].Stack)
		t.places[place] = append(t.places[place], i)
	}
	for i := range dump.Groups {
		d := &dump.Groups[i]
		stack := make([]int, len(d.Stack))
		for k, f := range d.Stack {
			stack[k] = t.frame(f)
		}
		for _, at := range t.places[visible(t.census.Frames, stack)] {
			g := &t.groups[at]
			if g.Dumped == 0 && d.CreatedBy != nil {
				g.CreatedBy = t.frame(*d.CreatedBy)
			}
			g.Dumped += d.Count
			if d.Aged > 0 {
				if g.Aged == 0 || d.Youngest < g.Youngest {
					g.Youngest = d.Youngest
				}
				g.Oldest = max(g.Oldest, d.Oldest)
				g.Aged += d.Aged
			}
			g.IDs = append(g.IDs, d.IDs[:min(len(d.IDs), max(0, 10-len(g.IDs)))]...)
			g.Locked += d.Locked
			g.Forever = g.Forever || d.Forever
		}
	}
}

// finish counts states and puts the heaviest first.
func (t *table) finish() {
	t.byKey, t.places, t.index = nil, nil, nil
	slices.SortStableFunc(t.groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(max(b.Count, b.Against), max(a.Count, a.Against)), cmp.Compare(b.Count, a.Count))
	})
	at := map[goroutines.State]int{}
	for i := range t.groups {
		g := &t.groups[i]
		n, ok := at[g.State]
		if !ok {
			n = len(t.census.States)
			at[g.State] = n
			t.census.States = append(t.census.States, StateCount{State: g.State})
		}
		t.census.States[n].Count += g.Count
		t.census.States[n].Against += g.Against
	}
	slices.SortStableFunc(t.census.States, func(a, b StateCount) int { return cmp.Compare(b.Count, a.Count) })
}

func (t *table) answer(q Query) *Census {
	most := q.Groups
	if most <= 0 {
		most = DefaultGroups
	}
	most = min(most, MaxGroups)
	out := t.census
	match := t.filter(q)
	used := make([]int, len(t.census.Frames)) // 1 + the frame's index in the answer
	out.Frames = nil
	use := func(i int) int {
		if used[i] == 0 {
			out.Frames = append(out.Frames, t.census.Frames[i])
			used[i] = len(out.Frames)
		}
		return used[i] - 1
	}
	for i := range t.groups {
		g := t.groups[i]
		if !match(&g) {
			continue
		}
		if len(out.Groups) >= most {
			out.OmittedGroups++
			out.OmittedGoroutines += g.Count
			continue
		}
		stack := make([]int, len(g.Stack))
		for k, f := range g.Stack {
			stack[k] = use(f)
		}
		g.Stack = stack
		if g.CreatedBy >= 0 {
			g.CreatedBy = use(g.CreatedBy)
		}
		out.Groups = append(out.Groups, g)
	}
	return &out
}

func (t *table) filter(q Query) func(*Group) bool {
	text := strings.ToLower(strings.TrimSpace(q.Text))
	var in []bool // frames that have the text
	if text != "" {
		in = make([]bool, len(t.lower))
		for i, s := range t.lower {
			in[i] = strings.Contains(s, text)
		}
	}
	return func(g *Group) bool {
		if len(q.States) > 0 && !slices.Contains(q.States, string(g.State)) {
			return false
		}
		return text == "" || g.CreatedBy >= 0 && in[g.CreatedBy] || slices.ContainsFunc(g.Stack, func(i int) bool { return in[i] }) || labelled(g, text)
	}
}

func labelled(g *Group, text string) bool {
	for _, l := range g.Labels {
		for k, v := range l.Set {
			if strings.Contains(strings.ToLower(k), text) || strings.Contains(strings.ToLower(v), text) {
				return true
			}
		}
	}
	return false
}
