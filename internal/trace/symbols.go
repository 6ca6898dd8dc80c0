package trace

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// StackID names a call stack of a trace; 0 is no stack. Equal stacks of different
// generations have the same one.
type StackID uint32

// GroupID names all goroutines that began with one function; 0 is those whose
// beginning the trace does not show.
type GroupID uint32

// Frame is one call.
type Frame struct {
	Func string // "net/http.(*conn).serve"
	File string
	Line int
	PC   uint64
}

// Limits of what a trace may make us remember. A real process has some thousand
// stacks; what goes beyond is no stack.
const (
	maxStacks      = 1 << 20
	maxAllFrames   = 8 << 20
	maxGroups      = 1 << 10
	maxStringBytes = 64 << 20
)

// symbols has the stacks and names of all generations. The ids in a generation
// are its own: equal stacks are found by a hash over their PCs.
type symbols struct {
	seed maphash.Seed

	mu       sync.RWMutex // all below; what has been added never changes
	byHash   map[uint64]StackID
	stacks   []stackEntry // [0] is no stack
	frames   []frameEntry
	names    []string // [0] is ""
	byName   map[string]uint32
	bytes    int
	groups   []uint32 // the name of the function; [0] is unknown
	byFunc   map[uint32]GroupID
	overflow bool
}

type stackEntry struct {
	first, end uint32
	group      GroupID
	weak       bool // the group is that of a helper which starts other functions
	traits     traits
}

type frameEntry struct {
	pc             uint64
	fn, file, line uint32
}

func (s *symbols) init() {
	s.seed = maphash.MakeSeed()
	s.byHash = map[uint64]StackID{}
	s.stacks = make([]stackEntry, 1)
	s.names = make([]string, 1)
	s.byName = map[string]uint32{}
	s.groups = make([]uint32, 1)
	s.byFunc = map[uint32]GroupID{}
}

// intern makes the stacks of a generation known and returns the ids for its
// indexes.
func (s *symbols) intern(g *loaded) []StackID {
	out := make([]StackID, max(1, len(g.stacks.values)))
	var missing []uint32
	var hashes []uint64
	b := make([]byte, 0, 8*maxFrames)
	s.mu.RLock()
	for i := 1; i < len(out); i++ {
		raw := g.stacks.values[i]
		if raw.first == raw.end {
			continue
		}
		b = b[:0]
		for _, f := range g.frames[raw.first:raw.end] {
			b = binary.LittleEndian.AppendUint64(b, f.pc)
		}
		h := maphash.Bytes(s.seed, b)
		if id, ok := s.byHash[h]; ok {
			out[i] = id
		} else {
			missing = append(missing, uint32(i))
			hashes = append(hashes, h)
		}
	}
	s.mu.RUnlock()
	if len(missing) == 0 {
		return out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make(map[uint64]uint32, 64)
	for n, i := range missing {
		out[i] = s.add(hashes[n], g, g.stacks.values[i], names)
	}
	return out
}

// add must be called with mu held for writing. names has the global numbers of
// the generation's strings that are known already.
func (s *symbols) add(hash uint64, g *loaded, raw rawStack, names map[uint64]uint32) StackID {
	if id, ok := s.byHash[hash]; ok {
		return id
	}
	if len(s.stacks) >= maxStacks || len(s.frames) >= maxAllFrames || s.bytes >= maxStringBytes {
		s.overflow = true
		return 0
	}
	name := func(id uint64) uint32 {
		n, ok := names[id]
		if !ok {
			n = s.name(g.strings.at(g.strings.index(id)))
			names[id] = n
		}
		return n
	}
	e := stackEntry{first: uint32(len(s.frames))}
	for _, f := range g.frames[raw.first:raw.end] {
		s.frames = append(s.frames, frameEntry{pc: f.pc, fn: name(f.fn), file: name(f.file), line: uint32(min(f.line, 1<<31))})
	}
	e.end = uint32(len(s.frames))
	root := s.frames[e.end-1].fn
	if startsOthers(s.names[root]) {
		// The function that was handed to it says more, once it is seen.
		if e.weak = e.end-e.first < 2; !e.weak {
			root = s.frames[e.end-2].fn
		}
	}
	group, ok := s.byFunc[root]
	if !ok && len(s.groups) < maxGroups {
		group = GroupID(len(s.groups))
		s.groups = append(s.groups, root)
		s.byFunc[root] = group
	}
	// A stack that is cut off at its root tells nothing of the beginning.
	if e.end-e.first < maxFrames {
		e.group = group
	}
	e.traits = traitsOf(func(yield func(fn string) bool) {
		for _, f := range s.frames[e.first:e.end] {
			if !yield(s.names[f.fn]) {
				return
			}
		}
	})
	id := StackID(len(s.stacks))
	s.stacks = append(s.stacks, e)
	s.byHash[hash] = id
	return id
}

// startsOthers knows the helpers that many kinds of goroutines begin with.
func startsOthers(fn string) bool {
	switch fn {
	case "sync.(*WaitGroup).Go.func1", "golang.org/x/sync/errgroup.(*Group).Go.func1", "golang.org/x/sync/errgroup.(*Group).TryGo.func1":
		return true
	}
	return false
}

func (s *symbols) name(b []byte) uint32 {
	if n, ok := s.byName[string(b)]; ok {
		return n
	}
	if s.bytes >= maxStringBytes {
		s.overflow = true
		return 0
	}
	n := uint32(len(s.names))
	name := string(b)
	s.names = append(s.names, name)
	s.byName[name] = n
	s.bytes += len(b) + 64
	return n
}

// lockedName is name for callers that do not hold mu.
func (s *symbols) lockedName(b []byte) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name(b)
}

func (s *symbols) text(n uint32) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.names[n]
}

// entries are those of ids, in their order.
func (s *symbols) entries(ids []StackID) []stackEntry {
	out := make([]stackEntry, len(ids))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, id := range ids {
		out[i] = s.stacks[id]
	}
	return out
}

// Stack returns the frames of a stack, innermost first.
func (t *Trace) Stack(id StackID) []Frame {
	s := &t.symbols
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id == 0 || int(id) >= len(s.stacks) {
		return nil
	}
	e := s.stacks[id]
	out := make([]Frame, 0, e.end-e.first)
	for _, f := range s.frames[e.first:e.end] {
		out = append(out, Frame{Func: s.names[f.fn], File: s.names[f.file], Line: int(f.line), PC: f.pc})
	}
	return out
}

// GroupName is the function that the goroutines of a group began with; "" for
// group 0.
func (t *Trace) GroupName(id GroupID) string {
	s := &t.symbols
	s.mu.RLock()
	defer s.mu.RUnlock()
	if int(id) >= len(s.groups) {
		return ""
	}
	return s.names[s.groups[id]]
}
