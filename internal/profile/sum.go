package profile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"

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
	profile Profile
	scratch scratch
	view    View
	gzip    gzip.Reader
	in, raw []byte
	hashes  []uint64 // of each location's frames
	leaves  []NodeID // of each row

	// Stacks that were seen, by a hash of the frames: open addressing. With 63
	// bits under a seed that nobody knows, any two of ten million different stacks
	// are taken for one with a chance of 1 in 180,000.
	seed   uint64
	stacks []seenStack
	seen   int
}

type seenStack struct {
	hash uint64
	leaf NodeID
}

// NewSum returns an empty sum of what the filter shows. The error is Invalid if
// an expression cannot be read.
func NewSum(lim Limits, f Filter) (*Sum, error) {
	m, err := compile(f)
	if err != nil {
		return nil, err
	}
	s := &Sum{limits: lim.withDefaults(), filter: m, seed: rand.Uint64(), stacks: make([]seenStack, 1<<12)}
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
	if err := s.profile.decode(raw, s.limits, &s.scratch); err != nil {
		return err
	}
	p := &s.profile
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
	if err := s.view.set(p, s.filter); err != nil {
		return err
	}
	if err := s.place(); err != nil {
		return err
	}
	for i, r := range s.view.rows {
		row := s.tree.self[int(s.leaves[i])*s.tree.columns:][:s.tree.columns]
		for c := range row {
			row[c] += p.Values[c][r.sample]
		}
	}
	s.tree.total = nil
	s.Profiles++
	return nil
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
	if len(in) < 18 || in[0] != 0x1f || in[1] != 0x8b {
		return decompress(in, s.limits)
	}
	if err := s.gzip.Reset(bytes.NewReader(in)); err != nil {
		return nil, damagedGzip(err)
	}
	if hint := gzipHint(in, s.limits); int64(cap(s.raw)) < hint {
		s.raw = make([]byte, 0, hint+hint/8)
	}
	raw, err := readInto(s.raw[:0], &s.gzip, s.limits.bound(len(in)))
	s.raw = raw
	if err != nil && ops.KindOf(err) != ops.Exhausted {
		return nil, damagedGzip(err)
	}
	return raw, err
}

// place finds the leaf of each row in the tree, and makes it if it is new.
func (s *Sum) place() error {
	p, v, t := &s.profile, &s.view, s.tree
	s.hashes = resize(s.hashes, len(p.Locations))
	from := uint32(0)
	for l, to := range v.ends {
		h := uint64(to - from)
		for _, f := range v.frames[from:to] {
			h = mix(h, s.seed^uint64(f))
		}
		s.hashes[l] = h
		from = to
	}
	s.leaves = resize(s.leaves, len(v.rows))
	for i, r := range v.rows {
		stack := p.stacks[r.from:r.to]
		h := s.seed
		for _, l := range stack {
			h = mix(h, s.hashes[l])
		}
		h |= 1 // 0 is an empty place
		at := s.find(h)
		if at.hash == 0 {
			n := NodeID(0)
			for _, l := range slices.Backward(stack) {
				for _, f := range slices.Backward(v.framesOf(l)) {
					n = t.child(n, f)
				}
			}
			*at = seenStack{h, n}
			if s.seen++; s.seen*2 > len(s.stacks) {
				s.grow()
			}
			s.leaves[i] = n
			if room := s.limits.MemoryBytes; t.memory()+int64(len(s.stacks))*16+t.Symbols.size > room {
				return ops.Errorf(ops.Exhausted, "the profiles' stacks are too different to be summed in %d MiB of memory, which is the limit: choose fewer profiles", room>>20)
			}
			continue
		}
		s.leaves[i] = at.leaf
	}
	return nil
}

// find returns the place of a hash, empty if it was never seen.
func (s *Sum) find(h uint64) *seenStack {
	mask := uint64(len(s.stacks) - 1)
	for i := h >> 1 & mask; ; i = (i + 1) & mask {
		if at := &s.stacks[i]; at.hash == h || at.hash == 0 {
			return at
		}
	}
}

func (s *Sum) grow() {
	old := s.stacks
	s.stacks = make([]seenStack, 2*len(old))
	for _, e := range old {
		if e.hash != 0 {
			*s.find(e.hash) = e
		}
	}
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

// Weights are what one profile is worth in a sum's tree: for each type, leaf
// nodes and their values, in a few bytes each. They can be added to that tree
// again without reading the profile.
//
// Each type is a part: its length in bytes, how many nodes have a value that is
// not zero, what all values are multiples of (a CPU profile's are of its period),
// the distance of each node from the one before, and the multiples; all as
// varints.
type Weights []byte

// Weights returns those of the profile that was added last.
func (s *Sum) Weights() Weights {
	if s.Profiles == 0 {
		return nil
	}
	order := make([]uint32, len(s.leaves))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(s.leaves[a], s.leaves[b]) })
	var out, nodes, multiples []byte
	var values []int64
	for _, column := range s.profile.Values {
		nodes, multiples, values = nodes[:0], multiples[:0], values[:0]
		unit, last := uint64(0), NodeID(0)
		for i := 0; i < len(order); {
			n, value := s.leaves[order[i]], int64(0)
			for ; i < len(order) && s.leaves[order[i]] == n; i++ {
				value += column[s.view.rows[order[i]].sample]
			}
			if value != 0 {
				nodes = binary.AppendUvarint(nodes, uint64(n-last))
				values = append(values, value)
				unit = divisor(unit, magnitude(value))
				last = n
			}
		}
		if unit > math.MaxInt64 {
			unit = 1
		}
		for _, v := range values {
			multiples = binary.AppendVarint(multiples, v/int64(unit))
		}
		head := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(values))), unit)
		out = binary.AppendUvarint(out, uint64(len(head)+len(nodes)+len(multiples)))
		out = slices.Concat(out, head, nodes, multiples)
	}
	return out
}

// divisor is the greatest that both are multiples of.
func divisor(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Add adds weights of profiles that were added to the sum that made the tree:
// the columns named, or all if none is. After Reset, the tree's values are theirs
// alone. Corrupt if they belong to another tree, as far as that shows; the tree's
// values are then part of them: Reset it.
func (t *Tree) Add(w Weights, columns ...int) error {
	t.total = nil
	for c := range t.columns {
		size, n := uvarint(w)
		if n <= 0 || size > uint64(len(w)-n) {
			return foreignWeights()
		}
		part := w[n : n+int(size)]
		w = w[n+int(size):]
		if len(columns) == 0 || slices.Contains(columns, c) {
			if err := t.addPart(part, c); err != nil {
				return err
			}
		}
	}
	if len(w) > 0 {
		return foreignWeights()
	}
	return nil
}

func foreignWeights() error {
	return ops.Errorf(ops.Corrupt, "the stored weights do not belong to this call tree: sum the profiles again")
}

func (t *Tree) addPart(w []byte, column int) error {
	count, at := uvarint(w)
	if at <= 0 || count > uint64(len(w)) {
		return foreignWeights()
	}
	unit, n := uvarint(w[at:])
	if n <= 0 {
		return foreignWeights()
	}
	at += n
	t.rows = resize(t.rows, int(count))
	node := uint64(0)
	for i := range t.rows {
		d, n := small(w, at)
		if n <= 0 {
			return foreignWeights()
		}
		at += n
		if node += d; node >= uint64(len(t.parents)) {
			return foreignWeights()
		}
		t.rows[i] = uint32(node)
	}
	self := t.self[column:]
	for _, node := range t.rows {
		v, n := small(w, at)
		if n <= 0 {
			return foreignWeights()
		}
		at += n
		self[int(node)*t.columns] += (int64(v>>1) ^ -int64(v&1)) * int64(unit)
	}
	if at != len(w) {
		return foreignWeights()
	}
	return nil
}

// small is uvarint at a place, quick for numbers of one byte and two.
func small(w []byte, at int) (uint64, int) {
	if at+1 < len(w) {
		if w[at] < 0x80 {
			return uint64(w[at]), 1
		}
		if w[at+1] < 0x80 {
			return uint64(w[at]&0x7f) | uint64(w[at+1])<<7, 2
		}
	}
	return uvarint(w[at:])
}

// Reset makes all values zero and keeps the nodes.
func (t *Tree) Reset() {
	clear(t.self)
	t.total = nil
}
