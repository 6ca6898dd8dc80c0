package profile

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// The ids of one profile's tables: where an entry is, from zero. They mean
// nothing in another profile.
type (
	// StringID is a place in Profile.Strings; 0 is the empty string.
	StringID uint32
	// FuncID is a place in Profile.Functions.
	FuncID uint32
	// MappingID is a place in Profile.Mappings, or NoMapping.
	MappingID uint32
	// LocID is a place in Profile.Locations.
	LocID uint32
)

// NoMapping is the mapping of what belongs to no known file.
const NoMapping = ^MappingID(0)

// Profile is one profile in columns, all of it, as it was written. It is not
// changed by anything that reads it.
type Profile struct {
	Header
	Strings   []string
	Functions []Function
	Mappings  []Mapping
	Locations []Location
	// Lines are those of all locations, one location after the other.
	Lines []Line
	// Values has one column for each of Header.Types, with a value for each sample.
	Values [][]int64

	samples   int
	stacks    []LocID
	stackEnds []uint32 // of each sample's stack in stacks
	labels    []Label
	labelEnds []uint32 // of each sample's labels in labels; empty if no sample has any
}

// Header is what a profile says of itself.
type Header struct {
	Types      []ValueType
	PeriodType ValueType
	Period     int64
	// TimeNanos is since 1970; 0 is unknown.
	TimeNanos, DurationNanos int64
	// DropFrames and KeepFrames are regular expressions over function names: what
	// lies under a frame that the first matches, and the second does not, is the
	// profiler's own business and is left out of every view.
	DropFrames, KeepFrames string
	// DefaultType is the type that the profile's author would show first.
	DefaultType string
	Comments    []string
}

// ValueType names what is measured and in which unit: "cpu", "nanoseconds".
type ValueType struct{ Type, Unit string }

// Function is a function as the profile's symbols have it.
type Function struct {
	Name, SystemName, File StringID
	StartLine              int64
}

// Mapping is a file that was mapped into the process.
type Mapping struct {
	Start, Limit, Offset uint64
	File, BuildID        StringID
}

// Location is an address. Its lines are Lines[From:To], from the innermost of
// the inlined functions to the outermost; there are none if nothing is known of
// the address.
type Location struct {
	Address  uint64
	Mapping  MappingID
	From, To uint32
}

// Line is a place in a function's source.
type Line struct {
	Function     FuncID
	Line, Column int64
}

// Label is a note on a sample: a text if Unit and Number are not set.
type Label struct {
	Key, Text, Unit StringID
	Number          int64
	Numeric         bool
}

// Read reads any pprof profile: of any Go version or another language, gzip,
// zstd or plain. Corrupt when it is none, Exhausted when it passes a limit.
func Read(r io.Reader, lim Limits) (*Profile, error) {
	lim = lim.withDefaults()
	raw, err := Decompress(r, lim)
	if err != nil {
		return nil, err
	}
	p := &Profile{}
	if err := p.decode(raw, lim, &scratch{}); err != nil {
		return nil, err
	}
	return p, nil
}

// Samples is how many samples there are.
func (p *Profile) Samples() int { return p.samples }

// Stack returns the locations of sample i, from the leaf to the root.
func (p *Profile) Stack(i int) []LocID {
	from := uint32(0)
	if i > 0 {
		from = p.stackEnds[i-1]
	}
	return p.stacks[from:p.stackEnds[i]]
}

// Labels returns the labels of sample i.
func (p *Profile) Labels(i int) []Label {
	if len(p.labelEnds) == 0 {
		return nil
	}
	from := uint32(0)
	if i > 0 {
		from = p.labelEnds[i-1]
	}
	return p.labels[from:p.labelEnds[i]]
}

// Type returns which of the sample types has that name; the profile's default,
// or else the last, for "". The error is Invalid and says which there are.
func (p *Profile) Type(name string) (int, error) { return p.Header.index(name) }

func (h *Header) index(name string) (int, error) {
	named := func(name string) int {
		return slices.IndexFunc(h.Types, func(t ValueType) bool { return t.Type == name })
	}
	if name == "" {
		if i := named(h.DefaultType); i >= 0 && h.DefaultType != "" {
			return i, nil
		}
		return len(h.Types) - 1, nil
	}
	if i := named(name); i >= 0 {
		return i, nil
	}
	var names []string
	for _, t := range h.Types {
		names = append(names, t.Type)
	}
	return 0, ops.Errorf(ops.Invalid, "the profile has no values of type %q: choose one of %s", name, strings.Join(names, ", "))
}

// kind names the sample types and the period type.
func (h *Header) kind() string {
	var names []string
	for _, t := range h.Types {
		names = append(names, t.Type+"/"+t.Unit)
	}
	return strings.Join(names, " ") + " per " + h.PeriodType.Type + "/" + h.PeriodType.Unit
}

// Total is the sum of the absolute values of one type, which percentages refer to.
func (p *Profile) Total(typ int) (total int64) {
	for _, v := range p.Values[typ] {
		total += max(v, -v)
	}
	return total
}

// LabelText is how a label's value reads.
func (p *Profile) LabelText(l Label) string {
	if l.Numeric {
		return fmt.Sprintf("%d%s", l.Number, p.Strings[l.Unit])
	}
	return p.Strings[l.Text]
}
