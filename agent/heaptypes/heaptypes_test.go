package heaptypes

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// ours gives the process, or skips where types are not named.
func ours(t testing.TB) *Process {
	t.Helper()
	if runtime.GOOS != "linux" || architectureOf(runtime.GOARCH) == nil {
		t.Skip("types are not named on " + runtime.GOOS + "/" + runtime.GOARCH)
	}
	p, err := NewProcess()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// parcel is what this test keeps; large, so that each is sampled.
type parcel struct {
	to      *parcel
	content [1 << 20]byte
}

func TestCollect(t *testing.T) {
	p := ours(t)
	kept := &parcel{to: &parcel{}}
	kept.to.to = kept
	for range 2 { // the second time from memory
		table, err := p.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(table.Types, func(t Type) bool { return strings.HasSuffix(t.Name, "/agent/heaptypes.parcel") })
		if i < 0 {
			t.Fatalf("no parcels among %d types of %d sites", len(table.Types), len(table.Sites))
		}
		got := table.Types[i]
		if got.Size != 1<<20+8 || got.Kind != "struct" || len(got.Fields) != 2 || table.Types[*table.Types[got.Fields[0]].Elem].Name != got.Name {
			t.Errorf("%+v", got)
		}
		if table.Schema != Schema || table.Records == 0 || table.TextStart == 0 || table.Taken.IsZero() || len(table.Losses) != 0 {
			t.Errorf("%+v", table.Build)
		}
	}
	runtime.KeepAlive(kept)
}

// What the process describes of itself is what reflect knows.
func TestTypesAreNamedInFull(t *testing.T) {
	p := ours(t)
	for want, typ := range map[string]reflect.Type{
		"int":               reflect.TypeFor[int](),
		"[]string":          reflect.TypeFor[[]string](),
		"error":             reflect.TypeFor[error](),
		"*reflect.rtype":    reflect.TypeOf(reflect.TypeFor[int]()),
		"[3]reflect.Method": reflect.TypeFor[[3]reflect.Method](),
		"map[string]*encoding/binary.AppendByteOrder": reflect.TypeFor[map[string]*binary.AppendByteOrder](),
		"<-chan encoding/binary.ByteOrder":            reflect.TypeFor[<-chan binary.ByteOrder](),
		"struct { a int; b string }": reflect.TypeFor[struct {
			a int
			b string
		}](),
		"func(int) error": reflect.TypeFor[func(int) error](),
		"github.com/opscenter/opscenter/agent/heaptypes.named":                                                           reflect.TypeFor[named](),
		"*github.com/opscenter/opscenter/agent/heaptypes.pair[int,github.com/opscenter/opscenter/agent/heaptypes.named]": reflect.TypeFor[*pair[int, named]](),
	} {
		d := p.resolver.typeAt(descriptorOf(typ))
		if d == nil || d.name != want || d.size != int64(typ.Size()) || d.kind != typ.Kind() {
			t.Errorf("%v is %+v, want %s", typ, d, want)
		}
	}
}

type named map[string]*probe

type pair[A, B any] struct {
	a A
	b B
}

// A build in which types lie elsewhere is noticed before anything is believed.
func TestSelfTestNotices(t *testing.T) {
	for what, spoil := range map[string]func(p *Process){
		"another base":    func(p *Process) { p.base += 8 },
		"no constants":    func(p *Process) { p.readOnly = nil },
		"other constants": func(p *Process) { p.readOnly = p.text },
		"no code":         func(p *Process) { p.text = p.text[:0] },
		"another convention": func(p *Process) {
			a := *p.resolver.arch
			a.loads = func(code []byte, base uint64, n operand, isCall func(uint64) bool, yield func(uint64) bool) {
				architectureOf(runtime.GOARCH).loads(code, base, (n+1)%3, isCall, yield)
			}
			p.resolver.arch = &a
		},
	} {
		p := ours(t)
		p.resolver.forget()
		spoil(p)
		if err := p.tryIt(); err == nil {
			t.Errorf("%s: all is well", what)
		} else if !strings.HasPrefix(err.Error(), "in this build (go") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNothingElseIsRead(t *testing.T) {
	b := []byte("0123456789abcdef")
	at := uint64(reflect.ValueOf(b).Pointer())
	spans := []span{{at + 4, at + 8}, {at + 8, at + 12}}
	for _, tc := range []struct {
		from uint64
		n    int
		want string
	}{
		{at + 4, 4, "4567"}, {at + 8, 4, "89ab"}, {at + 11, 1, "b"},
		{at + 3, 1, ""}, {at + 4, 5, ""}, {at + 12, 1, ""}, {at + 4, 0, ""}, {at + 4, -1, ""},
		{at + 4, math.MaxInt, ""}, {math.MaxUint64, 4, ""}, {math.MaxUint64 - 1, math.MaxInt, ""}, {0, 8, ""},
	} {
		if got := string(bytesWithin(spans, tc.from, tc.n)); got != tc.want {
			t.Errorf("%d bytes from +%d: %q, want %q", tc.n, int64(tc.from-at), got, tc.want)
		}
	}
}

func TestLoads(t *testing.T) {
	words := func(w ...uint32) (out []byte) {
		for _, v := range w {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
		return out
	}
	for _, tc := range []struct {
		what, arch string
		code       []byte
		n          operand
		want       string
	}{
		{"LEAQ 0x100(RIP), AX", "amd64", []byte{0x48, 0x8d, 0x05, 0, 1, 0, 0}, first, "[401107]"},
		{"LEAQ -0x10(RIP), SI", "amd64", []byte{0x90, 0x48, 0x8d, 0x35, 0xf0, 0xff, 0xff, 0xff}, fifth, "[400ff8]"},
		{"of another register", "amd64", []byte{0x48, 0x8d, 0x1d, 0, 1, 0, 0}, first, "[]"},
		{"the last first", "amd64", []byte{0x48, 0x8d, 0x1d, 0, 1, 0, 0, 0x48, 0x8d, 0x1d, 0, 2, 0, 0}, second, "[40120e 401107]"},
		{"before a call", "amd64", []byte{0x48, 0x8d, 0x05, 0, 1, 0, 0, 0xe8, 0, 0, 0, 0}, first, "[]"},
		{"cut", "amd64", []byte{0x48, 0x8d, 0x05, 0, 1, 0}, first, "[]"},
		{"ADRP 0x2000, R0; ADD $0x30, R0", "arm64", words(0xd0000000, 0x9100c000), first, "[403030]"},
		{"ADRP -0x1000, R4; NOP; ADD $8, R4", "arm64", words(0xf0ffffe4, 0xd503201f, 0x91002084), fifth, "[400008]"},
		{"through another register", "arm64", words(0xd0000003, 0x9100c060), first, "[403030]"},
		{"ADD alone", "arm64", words(0xd503201f, 0x9100c000), first, "[]"},
		{"before a call", "arm64", words(0xd0000000, 0x9100c000, 0x94000000), first, "[]"},
	} {
		got := []string{}
		architectureOf(tc.arch).loads(tc.code, 0x401000, tc.n, func(uint64) bool { return true }, func(a uint64) bool {
			got = append(got, fmt.Sprintf("%x", a))
			return true
		})
		if fmt.Sprint(got) != tc.want {
			t.Errorf("%s: %v, want %s", tc.what, got, tc.want)
		}
	}
	for _, tc := range []struct {
		arch string
		code []byte
		want uint64
	}{
		{"amd64", []byte{0xe8, 0xfb, 0xff, 0xff, 0xff}, 0x401000 - 5},
		{"amd64", []byte{0xe9, 0, 0, 0, 0}, 0},
		{"arm64", words(0x97ffffff), 0x401000 - 8},
		{"arm64", words(0x14000001), 0},
	} {
		if got, ok := architectureOf(tc.arch).target(tc.code, 0x401000); got != tc.want || ok != (tc.want != 0) {
			t.Errorf("%s % x leads to %#x, want %#x", tc.arch, tc.code, got, tc.want)
		}
	}
}

func TestReadable(t *testing.T) {
	for in, want := range map[string]string{
		"main.Node[go.shape.*uint8]":               "main.Node[*?]",
		"main.Pair[go.shape.int,go.shape.[]uint8]": "main.Pair[~int,~[]uint8]",
		"a.M[go.shape.5c276125c1448b797108e7d7251b8f2673614bc93d657927dcb30c91c78a763b,go.shape.int]":          "a.M[~struct {…},~int]",
		"a.M[go.shape.struct { A struct { B int }; C string }]":                                                "a.M[~struct { A struct { B int }; C string }]",
		"a.M[go.shape.struct { A struct { B int }; C " + strings.Repeat("*", 60) + "string },go.shape.*uint8]": "a.M[~struct {…},*?]",
		"a.M[go.shape.struct { " + strings.Repeat("x", 100):                                                    "a.M[~struct { " + strings.Repeat("x", 100),
		"main.Plain": "main.Plain",
	} {
		if got := readable(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// A type whose size contradicts that of the objects is not believed.
func TestSizesMustFit(t *testing.T) {
	for _, tc := range []struct {
		form         Form
		typ, objects int64
		fits         bool
	}{
		{FormNew, 96, 96, true}, {FormNew, 96, 0, true}, {FormNew, 96, 48, false}, {FormNew, 96, 208, false},
		{FormNew, 3, 16, true}, {FormNew, 520, 576, true}, {FormNew, 4097, 4864, true}, {FormNew, 40000, 40960, true}, {FormNew, 40000, 57344, false},
		{FormNew, 88, 96, true}, {FormNew, 88, 112, false}, {FormNew, 257, 288, true}, {FormNew, 769, 896, true}, {FormNew, 513, 640, false}, {FormNew, 3457, 4096, true},
		{FormSlice, 24, 48, true}, {FormSlice, 24, 16, false}, {FormMap, 8, 4096, true},
	} {
		if got := Fits(tc.form, tc.typ, tc.objects); got != tc.fits {
			t.Errorf("%s of %d bytes in objects of %d: %v", tc.form, tc.typ, tc.objects, got)
		}
	}
}

// Whatever size a type has, its own size class fits.
func TestEverySizeClassFits(t *testing.T) {
	class := func(n int64) int64 { return int64(cap(append([]byte(nil), make([]byte, n)...))) }
	for n := int64(1); n < 70_000; n += 1 + n/100 {
		if c := class(n); !Fits(FormNew, n, c) {
			t.Errorf("%d bytes in a class of %d", n, c)
		}
		if c := class(n + 8); n > 512 && !Fits(FormNew, n, c) {
			t.Errorf("%d bytes with a header in a class of %d", n, c)
		}
	}
}

// A table has an end.
func TestTablesAreBounded(t *testing.T) {
	r := NewResolver(image{arch: "amd64"})
	b := r.NewBuilder(0, nil)
	n := 0
	for b.Add(Record{Stack: []uint64{uint64(n) + 1}, Leaf: uint64(n)}) {
		n++
	}
	if n != maxSites {
		t.Errorf("%d sites, want %d", n, maxSites)
	}
	if len(r.pcs) > maxRemembered {
		t.Errorf("%d addresses are remembered", len(r.pcs))
	}
	r.NewBuilder(0, nil)
	r.pcs[1] = nil
	for i := range maxRemembered + 1 {
		r.pcs[uint64(i)] = nil
	}
	if r.NewBuilder(0, nil); len(r.pcs) != 0 {
		t.Error("what was remembered is not forgotten")
	}
}

// image is a program of any bytes: code at 0x1000, constants at 0x100000.
type image struct {
	arch       string
	code, data []byte
}

func (m image) Arch() string     { return m.arch }
func (m image) TypeBase() uint64 { return 0x100000 }

func (m image) Code(addr uint64, n int) []byte     { return piece(m.code, 0x1000, addr, n) }
func (m image) ReadOnly(addr uint64, n int) []byte { return piece(m.data, 0x100000, addr, n) }

func piece(b []byte, base, addr uint64, n int) []byte {
	if addr < base || n <= 0 || addr-base > uint64(len(b)) || uint64(n) > uint64(len(b))-(addr-base) {
		return nil
	}
	return b[addr-base:][:n]
}

// Entry has a function every 64 bytes, Name makes some of them allocators.
func (m image) Entry(pc uint64) uint64 {
	if piece(m.code, 0x1000, pc, 1) == nil {
		return 0
	}
	return pc &^ 63
}

func (m image) Name(entry uint64) string {
	names := []string{"main.f", "runtime.newobject", "main.g", "runtime.growslice", "runtime.mallocgc", "reflect.New", "runtime.mapassign", "runtime.gcAssistAlloc", "runtime.makechan", "runtime.convT"}
	return names[(entry-0x1000)/64%uint64(len(names))]
}

// tinyImage allocates a main.T of 96 bytes in main.f.
func tinyImage() image {
	m := image{arch: "amd64", code: make([]byte, 2048), data: make([]byte, 512)}
	copy(m.code[40:], []byte{0x48, 0x8d, 0x05, 0xd1, 0xef, 0x0f, 0}) // LEAQ 0x100000, AX
	copy(m.code[50:], []byte{0xe8, 9, 0, 0, 0})                      // CALL runtime.newobject
	copy(m.data, []byte{96, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 8, 25})
	m.data[40] = 0x80
	copy(m.data[0x80:], "\x00\x06main.T")
	return m
}

// What the runtime allocates for itself while the program allocates is none of
// the program's objects, whichever is seen first.
func TestDetours(t *testing.T) {
	const inF, newobject, mallocgc, assist = 0x1000 + 55, 0x1000 + 64 + 9, 0x1000 + 4*64 + 9, 0x1000 + 7*64 + 9
	object := Record{Stack: []uint64{mallocgc, newobject, inF}, Leaf: inF - 1, Size: 96}
	for what, detour := range map[string]Record{
		"assisting the collector": {Stack: []uint64{mallocgc, newobject, assist, mallocgc, newobject, inF}, Leaf: inF - 1, Size: 96},
		"a second allocator":      {Stack: []uint64{mallocgc, 0x1000 + 3*64 + 9, newobject, inF}, Leaf: inF - 1, Size: 96},
		"no allocator at all":     {Stack: []uint64{0x1000 + 3*64 + 9, inF}, Leaf: inF - 1, Size: 96},
		"another size":            {Stack: []uint64{mallocgc, newobject, inF}, Leaf: inF - 1, Size: 16},
	} {
		for _, order := range [][]Record{{object, detour}, {detour, object}} {
			b := NewResolver(tinyImage()).NewBuilder(2, nil)
			for _, rec := range order {
				b.Add(rec)
			}
			if table := b.Table(); len(table.Sites) != 1 || table.Sites[0].Form != FormNew || table.Types[table.Sites[0].Type].Name != "main.T" {
				t.Errorf("%s: %+v of %+v", what, table.Sites, table.Types)
			}
		}
		b := NewResolver(tinyImage()).NewBuilder(1, nil)
		b.Add(detour)
		if table := b.Table(); len(table.Sites) == 1 && table.Sites[0].Form != FormRuntime {
			t.Errorf("%s alone is %+v", what, table.Sites)
		}
	}
}

// Whatever code and constants are, no more comes of it than a wrong type.
func FuzzResolver(f *testing.F) {
	tiny := tinyImage()
	f.Add(tiny.code, tiny.data, uint16(55), uint16(200))
	if p, err := NewProcess(); err == nil { // some of our own
		at := p.text[0].from
		f.Add(p.Code(at+0x1000, 4096), p.ReadOnly(p.base, 4096), uint16(100), uint16(2000))
	}
	f.Fuzz(func(t *testing.T, code, data []byte, a, b uint16) {
		for _, arch := range []string{"amd64", "arm64"} {
			r := NewResolver(image{arch, code, data})
			builder := r.NewBuilder(0, nil)
			for off := uint64(0); off < min(uint64(len(code)), 4096); off++ {
				builder.Add(Record{Stack: []uint64{0x1000 + off, 0x1000 + uint64(a), 0x1000 + uint64(b)}, Leaf: off, Size: int64(a)})
			}
			table := builder.Table()
			for _, s := range table.Sites {
				if s.Type < 0 || s.Type >= len(table.Types) || table.Types[s.Type].Name == "" {
					t.Fatalf("%+v of %d types", s, len(table.Types))
				}
			}
		}
	})
}

func BenchmarkCollect(b *testing.B) {
	p := ours(b)
	for b.Loop() {
		if _, err := p.Collect(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
