// Package goroutines reads goroutine profiles of every Go version and in every
// format that Go writes: as a pprof profile (debug=0), as text by stack (debug=1)
// and as a dump of each goroutine (debug=2). It groups them by stack and creation
// site, says what each group does or waits for, and what grew between two of
// them. It takes any bytes within limits and knows nothing of where they come
// from or of what is wrong with a program.
package goroutines

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// Format is how a snapshot was written, which decides what it can tell.
type Format int

const (
	// Protobuf (debug=0) has all frames and labels; no ages, no ids, no creation
	// sites. Running and ready to run look alike.
	Protobuf Format = iota
	// Stacks (debug=1) is Protobuf as text, without the runtime's own frames: a
	// wait for a channel does not say which way.
	Stacks
	// Dump (debug=2, and what a crash prints) has each goroutine with its state,
	// creation site and, from a minute on, its age.
	Dump
)

// String names the format: "protobuf", "stacks" or "dump".
func (f Format) String() string { return [...]string{"protobuf", "stacks", "dump"}[f] }

// Snapshot is the goroutines of one process at one moment.
type Snapshot struct {
	Format Format
	// Taken is when, if the format says it.
	Taken time.Time
	// Total is how many goroutines there are.
	Total int
	// Groups of goroutines with equal stacks, states and creation sites, the
	// largest first.
	Groups []Group
	// Loss says what could not be read; "" if nothing is missing.
	Loss string
}

// Group is goroutines that are at the same place for the same reason.
type Group struct {
	Count int
	// Stack is from the leaf to the root.
	Stack []Frame
	// CreatedBy is the go statement that started them; nil where the format does
	// not say.
	CreatedBy *Frame
	State     State
	// Forever is set if nothing can ever end the wait: a nil channel, or a select
	// without cases.
	Forever bool
	// Wait is what they wait in, as far as it is known by name.
	Wait Wait
	// Labels are the label sets of the group, the most frequent first, at most 20.
	Labels []Labels
	// Aged is how many have an age; Youngest and Oldest are theirs, in whole
	// minutes. Go states it from a minute on and counts from the garbage collection
	// before the one that first saw the wait: a process that does not collect has
	// no ages.
	Aged             int
	Youngest, Oldest time.Duration
	// IDs are some of the goroutines' ids, at most 10.
	IDs []int64
	// Locked is how many are locked to their thread.
	Locked int
}

// Labels is a set of profiler labels and how many goroutines have it.
type Labels struct {
	Count int
	Set   map[string]string
}

// Frame is one entry of a stack.
type Frame struct {
	Function, File string
	Line           int64
}

// Site is where the group comes from: its creation site, or else the function
// that its goroutines were started with.
func (g *Group) Site() Frame {
	if g.CreatedBy != nil {
		return *g.CreatedBy
	}
	if len(g.Stack) > 0 {
		root := g.Stack[len(g.Stack)-1]
		return Frame{Function: root.Function, File: root.File}
	}
	return Frame{}
}

// The most of each that a group keeps.
const (
	maxLabels = 20
	maxIDs    = 10
)

// Read reads a snapshot, whatever its format. Corrupt when it is none, Exhausted
// when it passes a limit. A dump that ends early is read as far as it goes and
// says so in Loss.
func Read(r io.Reader, lim profile.Limits) (*Snapshot, error) {
	raw, err := profile.Decompress(r, lim)
	if err != nil {
		return nil, err
	}
	b := newBuilder(lim)
	switch text := bytes.TrimLeft(raw, " \t\r\n"); {
	case bytes.HasPrefix(text, []byte("goroutine profile: total ")):
		err = b.readStacks(text)
	case isDump(text):
		err = b.readDump(text)
	default:
		err = b.readProtobuf(raw, lim)
	}
	if err != nil {
		return nil, err
	}
	return b.finish(), nil
}

func notGoroutines(what string) error {
	return ops.Errorf(ops.Corrupt, "this is no goroutine profile (%s): capture it again", what)
}

// builder collects goroutines into groups.
type builder struct {
	snapshot Snapshot
	groups   map[string]*building
	order    []*building
	key      []byte
	names    map[string]string // each name once, and no view of the whole input
	size     int64
	room     int64
}

type building struct {
	Group
	labels map[string]*Labels
}

// maxMemory bounds the groups: by estimate, as lim.MemoryBytes bounds a profile.
const maxMemory = 1 << 30

func newBuilder(lim profile.Limits) *builder {
	b := &builder{groups: map[string]*building{}, names: map[string]string{}, room: lim.MemoryBytes}
	if b.room <= 0 {
		b.room = maxMemory
	}
	return b
}

func (b *builder) name(s string) string {
	if kept, ok := b.names[s]; ok {
		return kept
	}
	s = strings.Clone(s)
	b.names[s] = s
	b.size += int64(len(s)) + 50
	return s
}

// goroutine is one, or several that are alike, as a format tells of them.
type goroutine struct {
	count   int
	stack   []Frame
	created *Frame
	state   State
	forever bool
	labels  map[string]string
	id      int64 // 0 = unknown
	age     time.Duration
	locked  bool
}

func (b *builder) add(g goroutine) error {
	key := b.key[:0]
	frame := func(f Frame) {
		key = append(key, f.Function...)
		key = append(key, 0)
		key = append(key, f.File...)
		key = append(key, 0)
		key = strconv.AppendInt(key, f.Line, 36)
		key = append(key, 0)
	}
	key = append(key, string(g.state)...)
	key = append(key, 0, '0')
	if g.forever {
		key = append(key, '1')
	}
	if g.created != nil {
		frame(*g.created)
	}
	key = append(key, 1)
	for _, f := range g.stack {
		frame(f)
	}
	b.key = key
	to := b.groups[string(key)]
	if to == nil {
		to = &building{Group: Group{State: g.state, Forever: g.forever}, labels: map[string]*Labels{}}
		for _, f := range g.stack {
			to.Stack = append(to.Stack, Frame{b.name(f.Function), b.name(f.File), f.Line})
		}
		if g.created != nil {
			to.CreatedBy = &Frame{b.name(g.created.Function), b.name(g.created.File), g.created.Line}
		}
		to.Wait = WaitOf(to.Stack)
		b.groups[string(key)] = to
		b.order = append(b.order, to)
		if b.size += int64(len(key)) + int64(len(g.stack))*48 + 400; b.size > b.room {
			return b.tooMany()
		}
	}
	b.snapshot.Total += g.count
	to.Count += g.count
	if g.age > 0 {
		if to.Aged == 0 || g.age < to.Youngest {
			to.Youngest = g.age
		}
		to.Oldest = max(to.Oldest, g.age)
		to.Aged += g.count
	}
	if g.id != 0 && len(to.IDs) < maxIDs {
		to.IDs = append(to.IDs, g.id)
	}
	if g.locked {
		to.Locked += g.count
	}
	if len(g.labels) > 0 {
		b.addLabels(to, g)
	}
	return nil
}

func (b *builder) tooMany() error {
	return ops.Errorf(ops.Exhausted, "the goroutines have too many different stacks for %d MiB of memory, which is the limit: download the file and read it with go tool pprof", b.room>>20)
}

func (b *builder) addLabels(to *building, g goroutine) {
	names := make([]string, 0, len(g.labels))
	for k := range g.labels {
		names = append(names, k)
	}
	slices.Sort(names)
	var key []byte
	for _, k := range names {
		key = strconv.AppendQuote(key, k)
		key = strconv.AppendQuote(key, g.labels[k])
	}
	set := to.labels[string(key)]
	if set == nil {
		if len(to.labels) >= 50*maxLabels {
			return // sets of one goroutine each tell nothing together
		}
		set = &Labels{Set: map[string]string{}}
		for k, v := range g.labels {
			set.Set[b.name(k)] = b.name(v)
		}
		to.labels[string(key)] = set
		b.size += int64(len(key)) + 200
	}
	set.Count += g.count
}

func (b *builder) finish() *Snapshot {
	s := &b.snapshot
	for _, g := range b.order {
		for _, k := range sortedKeys(g.labels) {
			g.Labels = append(g.Labels, *g.labels[k])
		}
		slices.SortStableFunc(g.Labels, func(x, y Labels) int { return cmp.Compare(y.Count, x.Count) })
		g.Labels = g.Labels[:min(len(g.Labels), maxLabels)]
		s.Groups = append(s.Groups, g.Group)
	}
	slices.SortStableFunc(s.Groups, func(x, y Group) int { return cmp.Compare(y.Count, x.Count) })
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// readProtobuf reads debug=0.
func (b *builder) readProtobuf(raw []byte, lim profile.Limits) error {
	p, err := profile.Read(bytes.NewReader(raw), lim)
	if err != nil {
		return err
	}
	typ := slices.IndexFunc(p.Types, func(t profile.ValueType) bool {
		return t.Type == "goroutine" || t.Type == "goroutines" || t.Type == "goroutineleak"
	})
	if typ < 0 {
		return notGoroutines("it has no values of type goroutine")
	}
	b.snapshot.Format = Protobuf
	if p.TimeNanos > 0 {
		b.snapshot.Taken = time.Unix(0, p.TimeNanos)
	}
	var stack []Frame
	for i := range p.Samples() {
		stack = stack[:0]
		for _, l := range p.Stack(i) {
			at := p.Locations[l]
			for _, line := range p.Lines[at.From:at.To] {
				f := p.Functions[line.Function]
				stack = append(stack, Frame{p.Strings[f.Name], p.Strings[f.File], line.Line})
			}
			if at.From == at.To {
				stack = append(stack, Frame{Function: "0x" + strconv.FormatUint(at.Address, 16)})
			}
		}
		count := p.Values[typ][i]
		if count <= 0 || count > 1<<40 {
			if count != 0 {
				b.snapshot.Loss = "counts that are negative or beyond belief are left out: this is a difference, or damaged"
			}
			continue
		}
		g := goroutine{count: int(count), state: stateOf(stack), stack: stack}
		if labels := p.Labels(i); len(labels) > 0 {
			g.labels = map[string]string{}
			for _, l := range labels {
				g.labels[p.Strings[l.Key]] = p.LabelText(l)
			}
		}
		if err := b.add(g); err != nil {
			return err
		}
	}
	return nil
}
