package heaptypes

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/ops"
)

// Binary is a Go program's executable, of which the code, the constants and the
// table of functions are held in memory. It needs no symbols. It is not changed
// by anything that reads it.
type Binary struct {
	// BuildID is the linker's: the GNU build id in hex, else Go's own.
	BuildID string

	arch     string
	gnuID    bool
	sections []section
	loads    []elf.ProgHeader
	text     uint64 // what the table of functions counts from
	types    uint64
	funcs    functions
}

// section is a piece of the file that is mapped when the program runs.
type section struct {
	addr           uint64
	data           []byte
	code, readOnly bool
	name           string
}

// Limits of an executable: the largest Go programs that are known have 300 MB.
const (
	maxBinary   = 2 << 30
	maxSections = 1000
	maxNote     = 4096
)

// OpenELF reads a Go program's executable for Linux, of amd64 or arm64, stripped
// or not. Corrupt when it is damaged, Invalid when it is something else.
func OpenELF(r io.ReaderAt) (b *Binary, err error) {
	defer func() {
		if p := recover(); p != nil { // debug/elf promises nothing for hostile files
			b, err = nil, damaged("%v", p)
		}
	}()
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, ops.Errorf(ops.Invalid, "this is no ELF file: %w; give the executable that the profile is of", err)
	}
	b = &Binary{}
	switch {
	case f.Class == elf.ELFCLASS64 && f.ByteOrder == binary.ByteOrder(binary.LittleEndian) && f.Machine == elf.EM_X86_64:
		b.arch = "amd64"
	case f.Class == elf.ELFCLASS64 && f.ByteOrder == binary.ByteOrder(binary.LittleEndian) && f.Machine == elf.EM_AARCH64:
		b.arch = "arm64"
	default:
		return nil, ops.Errorf(ops.Invalid, "the executable is for %v: types can be read from those for amd64 and arm64", f.Machine)
	}
	if err := b.readSections(f); err != nil {
		return nil, err
	}
	b.relocate(f)
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			b.loads = append(b.loads, p.ProgHeader)
		}
	}
	if id := note(f, ".note.gnu.build-id"); id != nil {
		b.BuildID, b.gnuID = hex.EncodeToString(id), true
	} else {
		b.BuildID = string(note(f, ".note.go.buildid"))
	}
	return b, b.findModule()
}

func damaged(format string, args ...any) error {
	return ops.Errorf(ops.Corrupt, "the executable is damaged: %w; give the file that the process was started from", fmt.Errorf(format, args...))
}

func (b *Binary) readSections(f *elf.File) error {
	if len(f.Sections) > maxSections {
		return damaged("it has %d sections", len(f.Sections))
	}
	total := uint64(0)
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Flags&elf.SHF_COMPRESSED != 0 || s.Type == elf.SHT_NOBITS || s.Addr == 0 || s.Size == 0 {
			continue
		}
		if total += s.FileSize; s.FileSize > maxBinary || total > maxBinary {
			return ops.Errorf(ops.Exhausted, "the executable is larger than %d MiB, the most that is read", maxBinary>>20)
		}
		if s.Addr+s.FileSize < s.Addr {
			return damaged("section %.40q lies nowhere", s.Name)
		}
		data, err := s.Data()
		if err != nil {
			return damaged("section %.40q: %w", s.Name, err)
		}
		code := s.Flags&elf.SHF_EXECINSTR != 0
		// What is written by the dynamic linker alone is read-only afterwards.
		readOnly := !code && (s.Flags&elf.SHF_WRITE == 0 || strings.HasPrefix(s.Name, ".data.rel.ro") || s.Name == ".typelink" || s.Name == ".gopclntab")
		b.sections = append(b.sections, section{addr: s.Addr, data: data, code: code, readOnly: readOnly, name: s.Name})
	}
	slices.SortFunc(b.sections, func(x, y section) int {
		if x.addr < y.addr {
			return -1
		}
		return 1
	})
	return nil
}

// relocate fills in the pointers that the dynamic linker would: in a
// position-independent executable the file has them apart.
func (b *Binary) relocate(f *elf.File) {
	relative := uint32(elf.R_X86_64_RELATIVE)
	if b.arch == "arm64" {
		relative = uint32(elf.R_AARCH64_RELATIVE)
	}
	for i, s := range f.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_COMPRESSED != 0 || s.FileSize > maxBinary || i >= maxSections {
			continue
		}
		data, err := s.Data()
		if err != nil {
			continue // the pointers stay what they are, and are then no types
		}
		for ; len(data) >= 24; data = data[24:] {
			if binary.LittleEndian.Uint32(data[8:]) != relative {
				continue
			}
			if at := b.at(binary.LittleEndian.Uint64(data), 8); at != nil {
				copy(at.data[binary.LittleEndian.Uint64(data)-at.addr:], data[16:24])
			}
		}
	}
}

// at returns the section that holds all of n bytes, or nil.
func (b *Binary) at(addr uint64, n int) *section {
	i, found := slices.BinarySearchFunc(b.sections, addr, func(s section, a uint64) int {
		switch {
		case s.addr < a:
			return -1
		case s.addr > a:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 || n < 0 {
		return nil
	}
	s := &b.sections[i]
	if off := addr - s.addr; off > uint64(len(s.data)) || uint64(n) > uint64(len(s.data))-off {
		return nil
	}
	return s
}

// Arch implements the guest's Image.
func (b *Binary) Arch() string { return b.arch }

// TypeBase implements the guest's Image.
func (b *Binary) TypeBase() uint64 { return b.types }

// Code implements the guest's Image.
func (b *Binary) Code(addr uint64, n int) []byte {
	if s := b.at(addr, n); s != nil && s.code {
		return s.data[addr-s.addr:][:n]
	}
	return nil
}

// ReadOnly implements the guest's Image.
func (b *Binary) ReadOnly(addr uint64, n int) []byte {
	if s := b.at(addr, n); s != nil && s.readOnly {
		return s.data[addr-s.addr:][:n]
	}
	return nil
}

// Entry implements the guest's Image.
func (b *Binary) Entry(pc uint64) uint64 {
	if entry, _, name := b.funcs.find(pc - b.text); len(name) > 0 {
		return b.text + entry
	}
	return 0
}

// Name implements the guest's Image.
func (b *Binary) Name(entry uint64) string {
	_, _, name := b.funcs.find(entry - b.text)
	return string(name)
}

// The layout of runtime.moduledata, from Go 1.20 to 1.27.
const (
	moduleText   = 176
	moduleTypes  = 296
	sizeOfModule = 304
)

// findModule finds the table of functions and what it and types count from: the
// one place in the data that points to the table, which begins the module's
// description of itself.
func (b *Binary) findModule() error {
	var table *section
	for i, s := range b.sections {
		if strings.HasSuffix(s.name, "gopclntab") {
			table = &b.sections[i]
		}
	}
	if table == nil {
		return ops.Errorf(ops.Invalid, "the executable has no table of Go functions: it is no Go program, or was packed; give the file that the Go linker wrote")
	}
	var err error
	if b.funcs, err = readFunctions(table.data); err != nil {
		return err
	}
	pointer := binary.LittleEndian.AppendUint64(nil, table.addr)
	for _, s := range b.sections {
		if s.code || s.name == table.name {
			continue
		}
		for off := 0; off+sizeOfModule <= len(s.data); {
			n := bytes.Index(s.data[off:len(s.data)-sizeOfModule+8], pointer)
			if n < 0 {
				break
			}
			module := s.data[off+n:]
			off += n + 8
			if len(module) < sizeOfModule {
				break
			}
			text, types := binary.LittleEndian.Uint64(module[moduleText:]), binary.LittleEndian.Uint64(module[moduleTypes:])
			if b.Code(text, 1) != nil && b.ReadOnly(types, 1) != nil {
				b.text, b.types = text, types
				return nil
			}
		}
	}
	return ops.Errorf(ops.Invalid, "the executable does not describe itself as programs of Go 1.20 to 1.27 do: types cannot be read from it")
}

// note returns what the one note of a section says.
func note(f *elf.File, name string) []byte {
	s := f.Section(name)
	if s == nil || s.FileSize > maxNote {
		return nil
	}
	data, err := s.Data()
	if err != nil || len(data) < 12 {
		return nil
	}
	owner, desc := uint64(binary.LittleEndian.Uint32(data)), uint64(binary.LittleEndian.Uint32(data[4:]))
	from := 12 + (owner+3)&^3
	if from+desc > uint64(len(data)) {
		return nil
	}
	return data[from : from+desc]
}
