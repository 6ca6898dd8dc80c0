package profile

import (
	"bytes"
	"io"
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

	// Stacks that were seen, in the order in which they were first, by a hash of
	// the frames. With 64 bits under a seed that nobody knows, any two of ten
	// million different stacks are taken for one with a chance of 1 in 369,000.
	seed uint64
	seen []seenStack
	// byHash finds them: open addressing, index + 1.
	byHash []uint32
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
	s := &Sum{limits: lim.withDefaults(), filter: m, seed: rand.Uint64(), byHash: make([]uint32, 1<<13)}
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
	next := 0
	for i, r := range v.rows {
		stack := p.stacks[r.from:r.to]
		h := s.seed
		for _, l := range stack {
			h = mix(h, s.hashes[l])
		}
		at := s.find(h, next)
		if at < 0 {
			n := NodeID(0)
			for _, l := range slices.Backward(stack) {
				for _, f := range slices.Backward(v.framesOf(l)) {
					n = t.child(n, f)
				}
			}
			at = s.remember(seenStack{h, n})
			if room := s.limits.MemoryBytes; t.memory()+int64(cap(s.seen))*16+int64(len(s.byHash))*4+t.Symbols.size > room {
				return ops.Errorf(ops.Exhausted, "the profiles' stacks are too different to be summed in %d MiB of memory, which is the limit: choose fewer profiles", room>>20)
			}
		}
		s.leaves[i] = s.seen[at].leaf
		next = at + 1
	}
	return nil
}

// find returns which of the stacks has a hash; -1 if none. Profiles of one program
// have their stacks in much the same order: it is one of those from next on, most
// of the time, and that takes no walk through memory.
func (s *Sum) find(h uint64, next int) int {
	for i := next; i < min(next+4, len(s.seen)); i++ {
		if s.seen[i].hash == h {
			return i
		}
	}
	mask := uint64(len(s.byHash) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		if n := s.byHash[i]; n == 0 || s.seen[n-1].hash == h {
			return int(n) - 1
		}
	}
}

// remember returns which the stack is, which must be new.
func (s *Sum) remember(e seenStack) int {
	s.seen = append(s.seen, e)
	if len(s.seen)*2 > len(s.byHash) {
		s.byHash = make([]uint32, 2*len(s.byHash))
		for i := range s.seen {
			s.put(i)
		}
	} else {
		s.put(len(s.seen) - 1)
	}
	return len(s.seen) - 1
}

func (s *Sum) put(n int) {
	mask := uint64(len(s.byHash) - 1)
	i := s.seen[n].hash & mask
	for s.byHash[i] != 0 {
		i = (i + 1) & mask
	}
	s.byHash[i] = uint32(n) + 1
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
