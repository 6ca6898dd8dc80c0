package heaptypes

import (
	"debug/elf"
	"io"
	"time"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// ResolveELF makes the table of a heap profile from the executable of the
// process that it is of, where there is no heap-types.json: the process had no
// agent, or one that could not. Errors are those of OpenELF and Resolve.
func ResolveELF(r io.ReaderAt, p *profile.Profile) (*Table, error) {
	b, err := OpenELF(r)
	if err != nil {
		return nil, err
	}
	return b.Resolve(p)
}

// Resolve makes the table of a heap profile. Conflict if the profile is of
// another build, Invalid if it is of no file at all.
func (b *Binary) Resolve(p *profile.Profile) (*Table, error) {
	m, err := b.mapping(p)
	if err != nil {
		return nil, err
	}
	r := guest.NewResolver(b)
	flow := newFlow(b)
	r.Fallback = flow.operand
	names := map[uint64]string{}
	builder := r.NewBuilder(p.Samples(), func(leaf uint64) string { return names[leaf] })
	var stack, above []uint64
	for i := range p.Samples() {
		stack, above = stack[:0], above[:0]
		for _, l := range p.Stack(i) {
			loc := p.Locations[l]
			if loc.Mapping == profile.NoMapping || p.Mappings[loc.Mapping] != m {
				break
			}
			addr, ok := b.place(m, loc.Address)
			if !ok {
				break
			}
			stack = append(stack, addr+1)
			above = append(above, loc.Address)
		}
		if len(stack) == 0 {
			continue
		}
		names[above[0]] = leafName(p, i)
		if !builder.Add(guest.Record{Stack: stack, Leaf: above[0], Above: above[1:], Size: size(p, i)}) {
			break
		}
	}
	t := builder.Table()
	t.Taken = time.Unix(0, p.TimeNanos).UTC()
	t.Build = guest.Build{GOOS: "linux", GOARCH: b.arch, BuildID: b.BuildID}
	t.TextStart = guest.Address(m.Start)
	if t.Records < p.Samples() {
		t.Losses = append(t.Losses, "some samples are of no function of the executable, or the table is full")
	}
	return index(t)
}

// mapping returns where the executable was mapped in the process.
func (b *Binary) mapping(p *profile.Profile) (profile.Mapping, error) {
	counts := map[profile.MappingID]int{}
	for _, l := range p.Locations {
		if l.Mapping != profile.NoMapping {
			counts[l.Mapping]++
		}
	}
	best, most := profile.NoMapping, 0
	for id, n := range counts {
		if b.gnuID && p.Strings[p.Mappings[id].BuildID] == b.BuildID {
			return p.Mappings[id], nil
		}
		if n > most || n == most && id < best {
			best, most = id, n
		}
	}
	if best == profile.NoMapping {
		return profile.Mapping{}, ops.Errorf(ops.Invalid, "the profile does not say where the program was mapped: take it again as the runtime writes it")
	}
	m := p.Mappings[best]
	if id := p.Strings[m.BuildID]; id != "" && b.gnuID {
		return m, ops.Errorf(ops.Conflict, "the profile is of build %.40s and the executable is build %.40s: give the one that the process was started from", id, b.BuildID)
	}
	return m, nil
}

// place turns an address of the process into one of the file.
func (b *Binary) place(m profile.Mapping, addr uint64) (uint64, bool) {
	off := addr - m.Start + m.Offset
	for _, p := range b.loads {
		if p.Flags&elf.PF_X != 0 && off >= p.Off && off-p.Off < p.Filesz {
			return off - p.Off + p.Vaddr, true
		}
	}
	return 0, false
}

func leafName(p *profile.Profile, i int) string {
	loc := p.Locations[p.Stack(i)[0]]
	if loc.From == loc.To {
		return ""
	}
	return p.Strings[p.Functions[p.Lines[loc.From].Function].Name]
}

// size is that of each object of a sample, if the profile has it.
func size(p *profile.Profile, i int) int64 {
	for _, l := range p.Labels(i) {
		if l.Numeric && p.Strings[l.Key] == "bytes" {
			return l.Number
		}
	}
	return 0
}
