package profile

import (
	"maps"
	"path"
	"strings"
)

type (
	// SymbolID is a place in Symbols.Symbols.
	SymbolID uint32
	// FrameID is a place in Symbols.Frames.
	FrameID uint32
)

// Symbol is what a frame is counted as, as in pprof: a function by its name,
// whichever file it is in, or all that has no name in one mapped file.
type Symbol struct {
	Name string
	// File and StartLine are those of the function seen first.
	File      string
	StartLine int64
	// Object is the mapped file of what has no name.
	Object string
}

// String is the name, or what pprof prints for what has none.
func (s Symbol) String() string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Object != "":
		return "[" + path.Base(s.Object) + "]"
	}
	return "<unknown>"
}

// Frame is one entry of a stack: a symbol, and where in it if lines are asked
// for.
type Frame struct {
	Symbol SymbolID
	// Line is 0 if unknown or not asked for.
	Line int64
	// Address is set where there is no symbol but lines were asked for.
	Address uint64
}

// Symbols is the common vocabulary of the profiles that are summed or compared.
type Symbols struct {
	Symbols []Symbol
	Frames  []Frame

	named    map[string]SymbolID
	unnamed  map[Symbol]SymbolID // by object and start line
	framesBy map[Frame]FrameID
	whole    []FrameID // by symbol: its frame without a line
	size     int64     // bytes of names and files
}

const noFrame = ^FrameID(0)

func newSymbols() *Symbols {
	return &Symbols{named: map[string]SymbolID{}, unnamed: map[Symbol]SymbolID{}, framesBy: map[Frame]FrameID{}}
}

// symbol returns the id of a function; name and file may be views of memory
// that changes later.
func (s *Symbols) symbol(name, file string, startLine int64) SymbolID {
	id, ok := s.named[name]
	if !ok {
		name, file = strings.Clone(name), strings.Clone(file)
		id = SymbolID(len(s.Symbols))
		s.named[name] = id
		s.Symbols = append(s.Symbols, Symbol{Name: name, File: file, StartLine: startLine})
		s.size += int64(len(name) + len(file) + 100)
	}
	return id
}

func (s *Symbols) nameless(object string, startLine int64) SymbolID {
	key := Symbol{Object: object, StartLine: startLine}
	id, ok := s.unnamed[key]
	if !ok {
		key.Object = strings.Clone(object)
		id = SymbolID(len(s.Symbols))
		s.unnamed[key] = id
		s.Symbols = append(s.Symbols, key)
		s.size += int64(len(object) + 100)
	}
	return id
}

func (s *Symbols) frame(f Frame) FrameID {
	if f.Line == 0 && f.Address == 0 { // the whole symbol: no search
		for len(s.whole) <= int(f.Symbol) {
			s.whole = append(s.whole, noFrame)
		}
		if s.whole[f.Symbol] == noFrame {
			s.whole[f.Symbol] = FrameID(len(s.Frames))
			s.Frames = append(s.Frames, f)
		}
		return s.whole[f.Symbol]
	}
	id, ok := s.framesBy[f]
	if !ok {
		id = FrameID(len(s.Frames))
		s.framesBy[f] = id
		s.Frames = append(s.Frames, f)
	}
	return id
}

// vocabulary is how much a Symbols held.
type vocabulary struct {
	symbols, frames int
	size            int64
}

func (s *Symbols) mark() vocabulary {
	return vocabulary{len(s.Symbols), len(s.Frames), s.size}
}

// back forgets what came since.
func (s *Symbols) back(v vocabulary) {
	if len(s.Symbols) > v.symbols {
		maps.DeleteFunc(s.named, func(_ string, id SymbolID) bool { return int(id) >= v.symbols })
		maps.DeleteFunc(s.unnamed, func(_ Symbol, id SymbolID) bool { return int(id) >= v.symbols })
	}
	if len(s.Frames) > v.frames {
		maps.DeleteFunc(s.framesBy, func(_ Frame, id FrameID) bool { return int(id) >= v.frames })
	}
	s.Symbols, s.Frames, s.size = s.Symbols[:v.symbols], s.Frames[:v.frames], v.size
	s.whole = s.whole[:min(len(s.whole), v.symbols)]
	for i, f := range s.whole {
		if f != noFrame && int(f) >= v.frames {
			s.whole[i] = noFrame
		}
	}
}

// Find returns the symbol of that printed name.
func (s *Symbols) Find(name string) (SymbolID, bool) {
	if id, ok := s.named[name]; ok {
		return id, true
	}
	for _, id := range s.unnamed {
		if s.Symbols[id].String() == name {
			return id, true
		}
	}
	return 0, false
}

// Of returns the symbol of a frame.
func (s *Symbols) Of(f FrameID) Symbol { return s.Symbols[s.Frames[f].Symbol] }

// Package returns the import path of a Go function's package: "net/http" of
// "net/http.(*conn).serve", "main" of "main.work[go.shape.int].func1". Of a name
// that has no dot it is the name itself.
func Package(function string) string {
	name := function
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i]
	}
	// A receiver may hold slashes of a type argument's path, never the package's own.
	if i := strings.IndexByte(name, '('); i > 0 {
		name = name[:i]
	}
	slash := strings.LastIndexByte(name, '/') + 1
	if dot := strings.IndexByte(name[slash:], '.'); dot >= 0 {
		return strings.ReplaceAll(name[:slash+dot], "%2e", ".")
	}
	return name
}
