package profile

import (
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/inflate"
	"github.com/opscenter/opscenter/internal/ops"
)

// Sum adds up many profiles into one call tree, one after the other, in memory
// that depends on how different their stacks are and not on how many there are.
// It is not safe for concurrent use.
type Sum struct {
	// Profiles is how many were added.
	Profiles int

	limits Limits
	filter *matcher
	header Header
	tree   *Tree

	// of the profile that is being added
	profile  Profile
	scratch  scratch
	view     View
	inflater inflate.Inflater
	in, raw  []byte
	hashes   []uint64 // of each location's frames
	byID     []uint64 // the same by the profile's own ids; 0 is none
	stack    []LocID
	leaves   []NodeID // of each row
	values   []int64  // of each row, one for each type

	// keys make a location's hash depend on where it is in a stack. They are odd:
	// two stacks of which one has a location once more have different hashes but for
	// one case in 2^64.
	keys [1024]uint64
	// Stacks that were seen, in the order in which they were first, by a hash of
	// the frames. With 64 bits under a seed that nobody knows, any two of ten
	// million different stacks are taken for one with a chance of 1 in 369,000.
	seed uint64
	seen []seenStack
	// The first is none and stands before them all. byHash finds the others: open
	// addressing, 0 is free.
	byHash []uint32
	// last is the stack that was found last, if it was where it was expected; lost is
	// how many were not, one after the other.
	last uint32
	lost int
}

type seenStack struct {
	hash uint64
	leaf NodeID
	next uint32 // follows it in most profiles; 0 is the begin and the end
}

// NewSum returns an empty sum of what the filter shows. The error is Invalid if
// an expression cannot be read.
func NewSum(lim Limits, f Filter) (*Sum, error) {
	m, err := compile(f)
	if err != nil {
		return nil, err
	}
	s := &Sum{limits: lim.withDefaults(), filter: m, seed: rand.Uint64(), seen: make([]seenStack, 1), byHash: make([]uint32, 1<<13)}
	for i := range s.keys {
		s.keys[i] = rand.Uint64() | 1
	}
	s.view.Symbols = newSymbols()
	return s, nil
}

// Add reads one more profile. All must be of one kind: another is Invalid. The
// sum stays as it was if there is an error.
func (s *Sum) Add(r io.Reader) error {
	raw, err := s.decompress(r)
	if err != nil {
		return err
	}
	before := s.mark()
	if err := s.read(raw); err != nil {
		s.back(before)
		return err
	}
	columns := s.tree.columns
	for i, leaf := range s.leaves {
		row := s.tree.self[int(leaf)*columns:][:columns]
		for c, v := range s.values[i*columns:][:columns] {
			row[c] += v
		}
	}
	s.tree.total = nil
	s.Profiles++
	return nil
}

// read finds the leaf and the values of each sample, and makes the nodes that are
// missing.
func (s *Sum) read(raw []byte) error {
	p := &s.profile
	room, err := p.decodeTables(raw, s.limits, &s.scratch)
	if err != nil {
		return err
	}
	if s.tree == nil {
		s.header = p.Header
		s.header.Types, s.header.Comments = cloneTypes(p.Types), nil
		s.header.PeriodType = cloneType(p.PeriodType)
		s.header.DefaultType = strings.Clone(p.DefaultType)
		s.header.DropFrames, s.header.KeepFrames = "", ""
		s.tree = newTree(s.view.Symbols, len(p.Types))
	} else if a, b := s.header.kind(), p.kind(); a != b {
		return differentKinds(a, b)
	}
	if s.filter.takesAll(p) {
		return s.stream(raw, room)
	}
	if err := p.decodeSamples(raw, &s.scratch, s.limits, room); err != nil {
		return err
	}
	if err := s.view.set(p, s.filter); err != nil {
		return err
	}
	return s.place()
}

// state is where a sum was before a profile.
type state struct {
	tree        *Tree
	header      Header
	nodes, seen int
	symbols     vocabulary
}

func (s *Sum) mark() state {
	m := state{tree: s.tree, header: s.header, seen: len(s.seen), symbols: s.view.Symbols.mark()}
	if s.tree != nil {
		m.nodes = s.tree.Len()
	}
	return m
}

// back takes out what was added since.
func (s *Sum) back(m state) {
	s.tree, s.header = m.tree, m.header
	if s.tree != nil && s.tree.Len() > m.nodes {
		s.tree.truncate(m.nodes)
	}
	if len(s.seen) > m.seen {
		s.seen = s.seen[:m.seen]
		for i := range s.seen {
			s.seen[i].next = uint32((i + 1) % len(s.seen))
		}
		s.index(len(s.byHash))
	}
	s.view.Symbols.back(m.symbols)
}

func cloneType(t ValueType) ValueType {
	return ValueType{strings.Clone(t.Type), strings.Clone(t.Unit)}
}

func cloneTypes(types []ValueType) (out []ValueType) {
	for _, t := range types {
		out = append(out, cloneType(t))
	}
	return out
}

// decompress is Decompress in memory that is kept.
func (s *Sum) decompress(r io.Reader) ([]byte, error) {
	in, err := readInto(s.in[:0], r, s.limits.CompressedBytes)
	s.in = in
	if err != nil {
		return nil, err
	}
	if !isGzip(in) {
		return decompress(in, s.limits)
	}
	raw, err := inflated(&s.inflater, s.raw, in, s.limits)
	s.raw = raw
	return raw, err
}

// hash gives each location a number by its frames. None is zero.
func (s *Sum) hash() {
	v := &s.view
	s.hashes = resize(s.hashes, len(s.profile.Locations))
	from := uint32(0)
	for l, to := range v.ends {
		h := uint64(to - from)
		for _, f := range v.frames[from:to] {
			h = mix(h, s.seed^uint64(f))
		}
		s.hashes[l] = max(h, 1)
		from = to
	}
}

// place finds the leaf of each row of the view in the tree, and makes it if it is
// new.
func (s *Sum) place() error {
	p, v := &s.profile, &s.view
	s.hash()
	s.leaves, s.values = resize(s.leaves, len(v.rows)), s.values[:0]
	s.last, s.lost = 0, 0
	for i, r := range v.rows {
		stack := p.stacks[r.from:r.to]
		sum := stackHash{keys: &s.keys}
		for _, l := range stack {
			sum.add(s.hashes[l])
		}
		hash := sum.sum(s.seed)
		at := s.find(hash)
		if at < 0 {
			var err error
			if at, err = s.grow(hash, stack); err != nil {
				return err
			}
		}
		s.leaves[i] = s.seen[at].leaf
		for _, column := range p.Values {
			s.values = append(s.values, column[r.sample])
		}
	}
	return nil
}

// stackHash is a number for a stack by those of its locations, one after the
// other: a sum, because that waits for nothing, of products with keys that depend
// on where in the stack a location is.
type stackHash struct {
	keys  *[1024]uint64
	hash  uint64
	depth int
}

func (h *stackHash) add(location uint64) {
	if h.depth == len(h.keys) { // deeper than the Go runtime's stacks
		h.hash, h.depth = mix(h.keys[0], h.hash), 0
	}
	h.hash += h.keys[h.depth] * location
	h.depth++
}

func (h *stackHash) sum(seed uint64) uint64 { return mix(seed, h.hash) }

// grow makes the leaf of a stack that was not seen, and remembers it.
func (s *Sum) grow(hash uint64, stack []LocID) (int, error) {
	t, n := s.tree, NodeID(0)
	for _, l := range slices.Backward(stack) {
		for _, f := range slices.Backward(s.view.framesOf(l)) {
			n = t.child(n, f)
		}
	}
	at := s.remember(hash, n)
	if room := s.limits.MemoryBytes; t.memory()+int64(cap(s.seen))*16+int64(len(s.byHash))*4+t.Symbols.size > room {
		return 0, ops.Errorf(ops.Exhausted, "the profiles' stacks are too different to be summed in %d MiB of memory, which is the limit: choose fewer profiles", room>>20)
	}
	return at, nil
}

// find returns which of the stacks has a hash; -1 if none. Profiles of one program
// have their stacks in much the same order: it is one of those that followed the
// last, most of the time, and that takes no walk through memory.
func (s *Sum) find(hash uint64) int {
	if s.lost < 16 {
		at := s.last // itself: samples that differ in a label
		for range 7 {
			e := &s.seen[at]
			if e.hash == hash {
				s.last, s.lost = at, 0
				return int(at)
			}
			at = e.next
		}
	}
	mask := uint64(len(s.byHash) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		n := s.byHash[i]
		if n == 0 {
			return -1
		}
		if s.seen[n].hash == hash {
			// Once is a stack that comes twice, after that the order is another.
			if s.lost++; s.lost > 1 {
				s.last = n
			}
			if s.lost == 64 {
				s.lost = 0 // look again
			}
			return int(n)
		}
	}
}

// remember returns which the stack is, which must be new: from now on it follows
// the last.
func (s *Sum) remember(hash uint64, leaf NodeID) int {
	n := uint32(len(s.seen))
	s.seen = append(s.seen, seenStack{hash, leaf, s.seen[s.last].next})
	s.seen[s.last].next, s.last = n, n
	if len(s.seen)*2 > len(s.byHash) {
		s.index(2 * len(s.byHash))
	} else {
		s.put(int(n))
	}
	return int(n)
}

// index makes byHash anew, of that size.
func (s *Sum) index(size int) {
	s.byHash = make([]uint32, size)
	for i := 1; i < len(s.seen); i++ {
		s.put(i)
	}
}

func (s *Sum) put(n int) {
	mask := uint64(len(s.byHash) - 1)
	i := s.seen[n].hash & mask
	for s.byHash[i] != 0 {
		i = (i + 1) & mask
	}
	s.byHash[i] = uint32(n)
}

// Types are the columns of the tree; none before the first profile.
func (s *Sum) Types() []ValueType { return s.header.Types }

// Type returns which of Types has that name, as Profile.Type does.
func (s *Sum) Type(name string) (int, error) {
	if s.tree == nil {
		return 0, ops.Errorf(ops.Invalid, "nothing has been summed: name at least one profile")
	}
	return s.header.index(name)
}

// Tree is the sum so far, with a column for each of Types; nil before the first
// profile. It is in use by the sum: do not add while reading it.
func (s *Sum) Tree() *Tree { return s.tree }
