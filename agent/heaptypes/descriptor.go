package heaptypes

import (
	"encoding/binary"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// descriptor is what the compiler left in the program about a type.
type descriptor struct {
	addr     uint64
	name     string
	kind     reflect.Kind
	size     int64
	shape    bool
	closure  bool
	named    bool
	elem     uint64 // 0 = none
	key      uint64
	fields   uint64 // the address of a struct's fields
	fieldLen int

	// in is the number of the table that has the type whole, at place.
	in    uint32
	place int
}

// The layout of internal/abi.Type and what follows it, the same from Go 1.21 to
// 1.27 on 64-bit machines.
const (
	sizeOfType    = 48
	offPtrBytes   = 8
	offHash       = 16
	offFlags      = 20
	offAlign      = 21
	offFieldAlign = 22
	offKind       = 23
	offStr        = 40
	offElem       = 48 // of pointers, slices, arrays, channels; the key of maps
	offMapElem    = 56
	offLen        = 64 // of arrays
	offFields     = 56 // of structs: address, then length
	sizeOfField   = 24
	offFieldType  = 8

	flagUncommon  = 1 << 0
	flagExtraStar = 1 << 1
	flagNamed     = 1 << 2
	flagsKnown    = 0x3f

	maxTypeName  = 2048
	maxNameParts = 6 // how deep a name is put together from those of its parts
)

// importPath returns what lies behind a type's other fields, by kind.
func (r *Resolver) importPath(d *descriptor) string {
	at := func(off uint64) string {
		if b := r.img.ReadOnly(d.addr+off, 4); b != nil {
			return r.nameAt(int32(binary.LittleEndian.Uint32(b)))
		}
		return ""
	}
	switch d.kind {
	case reflect.Pointer, reflect.Slice, reflect.Func:
		return at(56)
	case reflect.Chan:
		return at(64) // the direction is in between
	case reflect.Array:
		return at(72)
	case reflect.Struct, reflect.Interface:
		return at(80)
	case reflect.Map:
		if path := at(112); path != "" {
			return path
		}
		return at(128) // since Go 1.27
	}
	return at(sizeOfType)
}

// sizeOfKind is what every type of a kind measures; 0 if they differ.
func sizeOfKind(k reflect.Kind) int64 {
	switch k {
	case reflect.Bool, reflect.Int8, reflect.Uint8:
		return 1
	case reflect.Int16, reflect.Uint16:
		return 2
	case reflect.Int32, reflect.Uint32, reflect.Float32:
		return 4
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64, reflect.Uintptr, reflect.Float64, reflect.Complex64,
		reflect.Pointer, reflect.Func, reflect.Chan, reflect.Map, reflect.UnsafePointer:
		return 8
	case reflect.Complex128, reflect.String, reflect.Interface:
		return 16
	case reflect.Slice:
		return 24
	}
	return 0
}

// typeAt returns the descriptor at addr, or nil if what lies there is none.
func (r *Resolver) typeAt(addr uint64) *descriptor {
	if d, ok := r.types[addr]; ok {
		return d
	}
	d := r.readType(addr, 0)
	r.types[addr] = d
	return d
}

func (r *Resolver) readType(addr uint64, depth int) *descriptor {
	if addr == 0 || addr%8 != 0 || depth > maxNameParts {
		return nil
	}
	b := r.img.ReadOnly(addr, sizeOfType)
	if b == nil {
		return nil
	}
	le := binary.LittleEndian
	d := descriptor{addr: addr, kind: reflect.Kind(b[offKind] & 31), size: int64(le.Uint64(b))}
	flags, align := b[offFlags], b[offAlign]
	switch {
	case d.kind == reflect.Invalid || d.kind > reflect.UnsafePointer,
		flags&^flagsKnown != 0,
		align == 0 || align > 16 || align&(align-1) != 0 || b[offFieldAlign] > 16,
		d.size < 0 || d.size > 1<<40 || d.size%int64(align) != 0,
		le.Uint64(b[offPtrBytes:]) > uint64(d.size),
		le.Uint32(b[offHash:]) == 0:
		return nil
	}
	if want := sizeOfKind(d.kind); want != 0 && d.size != want {
		return nil
	}
	name := r.nameAt(int32(le.Uint32(b[offStr:])))
	if flags&flagExtraStar != 0 {
		if !strings.HasPrefix(name, "*") {
			return nil
		}
		name = name[1:]
	}
	if name == "" {
		return nil
	}
	d.named = flags&flagNamed != 0
	r.readParts(&d)
	d.name = r.fullName(&d, name, flags, depth)
	d.shape = strings.Contains(d.name, "go.shape.")
	d.closure = d.kind == reflect.Struct && !d.named && strings.HasPrefix(name, "struct { F uintptr")
	kept := next(&r.descriptors)
	*kept = d
	return kept
}

// readParts notes what the type is made of, unchecked.
func (r *Resolver) readParts(d *descriptor) {
	le := binary.LittleEndian
	word := func(off uint64) uint64 {
		if b := r.img.ReadOnly(d.addr+off, 8); b != nil {
			return le.Uint64(b)
		}
		return 0
	}
	switch d.kind {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Chan:
		d.elem = word(offElem)
	case reflect.Map:
		d.key, d.elem = word(offElem), word(offMapElem)
	case reflect.Struct:
		d.fields = word(offFields)
		d.fieldLen = int(min(word(offFields+8), 1<<12))
	}
}

// fullName gives a type's name its import path, for which the descriptor has a
// place of its own.
func (r *Resolver) fullName(d *descriptor, short string, flags byte, depth int) string {
	if d.named {
		if flags&flagUncommon == 0 {
			return short
		}
		path := r.importPath(d)
		pkg, rest, ok := strings.Cut(short, ".")
		if !ok || strings.ContainsAny(pkg, "[ ") || !strings.HasSuffix(path, pkg) && !strings.Contains(path, "/") {
			return short
		}
		return path + "." + rest
	}
	elem := func(addr uint64) string {
		e, ok := r.types[addr]
		if !ok {
			e = r.readType(addr, depth+1)
		}
		if e != nil {
			return e.name
		}
		return ""
	}
	full := ""
	switch e := elem(d.elem); {
	case e == "":
		return short
	case d.kind == reflect.Pointer:
		full = "*" + e
	case d.kind == reflect.Slice:
		full = "[]" + e
	case d.kind == reflect.Array:
		if b := r.img.ReadOnly(d.addr+offLen, 8); b != nil {
			full = "[" + strconv.FormatUint(binary.LittleEndian.Uint64(b), 10) + "]" + e
		}
	case d.kind == reflect.Map:
		if k := elem(d.key); k != "" {
			full = "map[" + k + "]" + e
		}
	case d.kind == reflect.Chan:
		for _, arrow := range []string{"<-chan ", "chan<- ", "chan "} {
			if strings.HasPrefix(short, arrow) {
				full = arrow + e
				break
			}
		}
	}
	if full == "" || len(full) > maxTypeName {
		return short
	}
	return full
}

// nameAt reads a name by its offset; "" if there is none.
func (r *Resolver) nameAt(off int32) string {
	if off <= 0 {
		return ""
	}
	at := r.img.TypeBase() + uint64(off)
	head := r.img.ReadOnly(at, 3)
	if head == nil || head[0]&^0xf != 0 {
		return ""
	}
	n, header := int(head[1]), uint64(2)
	if n&0x80 != 0 {
		if head[2]&0x80 != 0 {
			return "" // longer than any name we want
		}
		n, header = n&0x7f|int(head[2])<<7, 3
	}
	if n == 0 || n > maxTypeName {
		return ""
	}
	b := r.img.ReadOnly(at+header, n)
	if b == nil || !utf8.Valid(b) {
		return ""
	}
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return ""
		}
	}
	if r.stays {
		return unsafe.String(&b[0], n)
	}
	return string(b)
}

// fieldTypes returns the types of a struct's fields that can hold others, each
// once.
func (r *Resolver) fieldTypes(d *descriptor) (out []*descriptor) {
	for i := range d.fieldLen {
		b := r.img.ReadOnly(d.fields+uint64(i)*sizeOfField+offFieldType, 8)
		if b == nil {
			return out
		}
		f := r.typeAt(binary.LittleEndian.Uint64(b))
		if f == nil {
			return out // this is no list of fields
		}
		switch f.kind {
		case reflect.Pointer, reflect.Struct, reflect.Array, reflect.Slice, reflect.Map, reflect.Chan:
		default:
			continue
		}
		seen := false
		for _, o := range out {
			seen = seen || o == f
		}
		if !seen {
			out = append(out, f)
		}
		if len(out) == maxFieldTypes {
			return out
		}
	}
	return out
}

// maxFieldTypes is how many types of fields one struct lists.
const maxFieldTypes = 32

// readable writes a shape as a person would: "~int" is any type whose underlying
// type is int and "*?" any pointer. Long structs are left out.
func readable(name string) string {
	const shape = "go.shape."
	if !strings.Contains(name, shape) {
		return name
	}
	var b strings.Builder
	for {
		before, after, more := strings.Cut(name, shape)
		b.WriteString(before)
		if !more {
			return b.String()
		}
		n := structLen(after)
		switch {
		case strings.HasPrefix(after, "*uint8"):
			b.WriteString("*?")
			name = after[len("*uint8"):]
		case n == hashLen || n > maxShownStruct:
			b.WriteString("~struct {…}")
			name = after[n:]
		default:
			b.WriteString("~")
			name = after
		}
	}
}

const (
	// maxShownStruct is how long the text of a struct may be within a type's name.
	maxShownStruct = 80
	// hashLen is how long the compiler's hash of a struct is.
	hashLen = 64
)

// structLen is how long the struct at the beginning of s is, written out or as
// the hash that the compiler gives those that are too long for it; 0 if there is
// none.
func structLen(s string) int {
	hash := 0
	for hash < len(s) && (s[hash] >= '0' && s[hash] <= '9' || s[hash] >= 'a' && s[hash] <= 'f') {
		hash++
	}
	if hash == hashLen {
		return hash
	}
	if !strings.HasPrefix(s, "struct {") {
		return 0
	}
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
