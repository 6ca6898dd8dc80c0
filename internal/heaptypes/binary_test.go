package heaptypes_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
	"github.com/opscenter/opscenter/internal/heaptypes"
	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
)

// A profile and the executable say what the process itself says.
func TestResolveELF(t *testing.T) {
	for name := range builds {
		t.Run(name, func(t *testing.T) {
			dir := build(t, name)
			p, inside := run(t, dir)
			f, err := os.Open(filepath.Join(dir, "program"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			outside, err := heaptypes.ResolveELF(f, p)
			if err != nil {
				t.Fatal(err)
			}
			h, err := outside.Join(p)
			if err != nil {
				t.Fatal(err)
			}
			checkTypes(t, p, h)
			checkSizes(t, p, outside, h)
			checkDictionaries(t, h)
			if share := h.TypedShare(); share < 0.99 {
				t.Errorf("%.1f %% of the live bytes have a type, want 99 %%", 100*share)
			}
			names := map[guest.Address]string{}
			for _, s := range inside.Sites {
				names[s.Address] = inside.Types[s.Type].Name
			}
			same := 0
			for _, s := range outside.Sites {
				if want, ok := names[s.Address]; ok && len(s.Callers) == 0 {
					same++
					if got := outside.Types[s.Type].Name; got != want && !strings.HasPrefix(want, "closure") {
						t.Errorf("%#x is %s from inside and %s from outside", uint64(s.Address), want, got)
					}
				}
			}
			if same < 60 {
				t.Errorf("only %d sites are known from both sides", same)
			}
			for _, u := range outside.Unresolved {
				t.Logf("unresolved: %d sites: %s", u.Sites, u.Reason)
			}
		})
	}
}

// checkDictionaries looks for what one generic function allocates for two
// callers, at one address.
func checkDictionaries(t *testing.T, h *heaptypes.Heap) {
	t.Helper()
	got := map[string]int64{}
	for _, typ := range h.Types {
		for _, s := range typ.Sites {
			if strings.HasPrefix(s.Function, "main.makeOf[") && s.Confidence == guest.Caller {
				got[typ.Name] += s.Objects
			}
		}
	}
	if len(got) != 2 || got["[]*main.Session"] != 20 || got["[]*main.Key"] != 20 {
		t.Errorf("makeOf allocates %v", got)
	}
}

// Programs for other machines cannot be run here, but read.
func TestEveryCallOfAProgram(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			if testing.Short() && arch != "arm64" {
				t.Skip("builds programs, which takes a while: run without -short")
			}
			path := filepath.Join(t.TempDir(), "program")
			cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-buildmode=pie", "-o", path, "./testdata/program")
			cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b, err := heaptypes.OpenELF(f)
			if err != nil {
				t.Fatal(err)
			}
			checkCalls(t, b)
		})
	}
}

// checkCalls resolves each call by itself, without and with the flow, and
// compares the two.
func checkCalls(t *testing.T, b *heaptypes.Binary) {
	near, far := guest.NewResolver(b), guest.NewResolver(b)
	far.Fallback = b.Operand()
	got := map[string]bool{}
	resolved, missed, found := 0, 0, 0
	b.EachCall(func(function string, ret uint64) {
		if strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, "internal/runtime/") || strings.HasPrefix(function, "reflect.") {
			return
		}
		one := func(r *guest.Resolver) guest.Table {
			builder := r.NewBuilder(1, func(uint64) string { return function })
			builder.Add(guest.Record{Stack: []uint64{ret}, Leaf: ret - 1})
			return builder.Table()
		}
		table := one(near)
		switch {
		case len(table.Sites) == 1:
			resolved++
			s := table.Sites[0]
			name := table.Types[s.Type].Name
			if s.Form == guest.FormSlice {
				name = "[]" + name
			}
			if s.Form == guest.FormInterface {
				s.Form = guest.FormNew
			}
			function, _, _ = strings.Cut(strings.TrimPrefix(function, "main."), "[")
			got[function+" "+string(s.Form)+" "+name] = true
		case strings.HasPrefix(table.Unresolved[0].Reason, "the type's"):
			missed++
			if len(one(far).Sites) == 1 {
				found++
			}
		}
	})
	for line := range strings.Lines(strings.TrimSpace(want)) {
		f := strings.Fields(line)
		if row := f[0] + " " + f[1] + " " + strings.Join(f[2:], " "); !got[row] && f[0] != "boxNumber" {
			t.Errorf("missing: %s", row)
		}
	}
	t.Logf("%d calls resolved from nearby; of %d others the flow found %d", resolved, missed, found)
	if resolved < 1000 || missed > resolved/50 {
		t.Errorf("%d of %d calls were not resolved from nearby", missed, resolved+missed)
	}
}

// What is read from just before a call is what following the flow of values
// finds, at every call of a large program.
func TestNearAgreesWithFlow(t *testing.T) {
	b := openSelf(t)
	near, far := guest.NewResolver(b), guest.NewResolver(callsOnly{b})
	far.Fallback = b.Operand()
	agree, nearOnly, farOnly := 0, 0, 0
	b.EachCall(func(function string, ret uint64) {
		if strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, "internal/runtime/") {
			return
		}
		n, m := typeAt(near, ret), typeAt(far, ret)
		switch {
		case n == m && n != "":
			agree++
		case n == "" && m != "":
			farOnly++
		case m == "" && n != "":
			nearOnly++
		case n != m:
			t.Errorf("in %s a %s is read and a %s found", function, n, m)
		}
	})
	t.Logf("%d calls read and found alike, %d found only, %d read only", agree, farOnly, nearOnly)
	if agree < 2000 || farOnly+nearOnly > agree/200 {
		t.Errorf("%d calls agree, %d were not read, %d not found", agree, farOnly, nearOnly)
	}
}

// openSelf opens the test's own executable.
func openSelf(t *testing.T) *heaptypes.Binary {
	t.Helper()
	onLinux(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := heaptypes.OpenELF(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onLinux skips what runs or is an ELF executable.
func onLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("executables are read on linux, of amd64 and arm64")
	}
}

// typeAt is what the call that returns to ret allocates, "" if it is not known
// from an operand.
func typeAt(r *guest.Resolver, ret uint64) string {
	builder := r.NewBuilder(1, nil)
	builder.Add(guest.Record{Stack: []uint64{ret}, Leaf: ret - 1})
	table := builder.Table()
	if len(table.Sites) == 0 || table.Sites[0].Confidence == guest.Implied {
		return ""
	}
	return string(table.Sites[0].Form) + " " + table.Types[table.Sites[0].Type].Name
}

// callsOnly hides what lies before calls.
type callsOnly struct{ *heaptypes.Binary }

func (c callsOnly) Code(addr uint64, n int) []byte {
	if n > 5 {
		return nil
	}
	return c.Binary.Code(addr, n)
}

func TestWrongExecutable(t *testing.T) {
	p := heapProfile(t, "b2", 1, row{1, 8, []uint64{0x402000}})
	b := openSelf(t)
	_, err := b.Resolve(p)
	wantError(t, err, ops.Conflict, "the profile is of build b2 and the executable is build "+b.BuildID+": give the one that the process was started from")
	_, err = b.Resolve(&profile.Profile{})
	wantError(t, err, ops.Invalid, "the profile does not say where the program was mapped: take it again as the runtime writes it")
	_, err = heaptypes.OpenELF(strings.NewReader("#!/bin/sh\n"))
	if ops.KindOf(err) != ops.Invalid || !strings.HasPrefix(err.Error(), "this is no ELF file: ") {
		t.Errorf("a script: %v", err)
	}
	if sh, err := os.Open("/bin/sh"); err == nil {
		defer sh.Close()
		_, err := heaptypes.OpenELF(sh)
		wantError(t, err, ops.Invalid, "the executable has no table of Go functions: it is no Go program, or was packed; give the file that the Go linker wrote")
	}
}

// Whatever is wrong with an executable, it is refused or read, and its code leads
// nowhere else.
func FuzzOpenELF(f *testing.F) {
	small := tinyELF(f)
	f.Add(small, uint16(0), uint64(0))
	for i := range 40 {
		f.Add(small, uint16(i*97), uint64(1)<<(i%64))
	}
	p := heapProfile(f, "", 512<<10, row{3, 96, []uint64{0x401010, 0x401020}}, row{3, 96, []uint64{0x401080}})
	f.Fuzz(func(t *testing.T, file []byte, at uint16, with uint64) {
		if len(file) > 1<<20 {
			return
		}
		file = bytes.Clone(file)
		for i := range 8 {
			if n := int(at) + i; n < len(file) {
				file[n] ^= byte(with >> (8 * i))
			}
		}
		b, err := heaptypes.OpenELF(bytes.NewReader(file))
		if err != nil {
			if k := ops.KindOf(err); k != ops.Corrupt && k != ops.Invalid && k != ops.Exhausted {
				t.Errorf("%v: %v", k, err)
			}
			return
		}
		if table, err := b.Resolve(p); err == nil {
			if _, err := table.Join(p); err != nil {
				t.Error(err)
			}
		}
	})
}

// tinyELF is an executable as small as one can be that has all that is looked
// for: two functions, a call between them, a type.
func tinyELF(t testing.TB) []byte {
	t.Helper()
	const base = 0x401000
	le := func(v uint64, n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(v >> (8 * i))
		}
		return out
	}
	text := bytes.Repeat([]byte{0x90}, 0x100)
	copy(text[5:], []byte{0x48, 0x8d, 0x05, 0xf4, 0x0f, 0, 0}) // LEAQ the type, AX
	copy(text[12:], append([]byte{0xe8}, le(0x80-17, 4)...))   // CALL runtime.newobject
	names := []byte("\x00main.f\x00runtime.newobject\x00")
	pcln := append([]byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}, le(2, 8)...)
	pcln = append(pcln, make([]byte, 16)...)
	pcln = append(pcln, le(72, 8)...)
	pcln = append(pcln, make([]byte, 24)...)
	pcln = append(pcln, le(112, 8)...)
	pcln = append(pcln, names...)
	pcln = append(pcln, make([]byte, 112-len(pcln))...)
	for _, v := range []uint64{0, 24, 0x80, 32, 0x100, 0, 0, 1, 0x80, 8} {
		pcln = append(pcln, le(v, 4)...)
	}
	typ := bytes.Join([][]byte{le(96, 8), le(8, 8), le(1, 4), {0, 8, 8, 25}, make([]byte, 16), le(64, 4), le(0, 4), make([]byte, 16), {0, 3, 'a', '.', 'b', 0, 0, 0}}, nil)
	module := make([]byte, 304)
	copy(module, le(0x403000, 8))
	copy(module[176:], le(base, 8))
	copy(module[296:], le(0x402000, 8))
	type sec struct {
		name  string
		flags elf.SectionFlag
		addr  uint64
		data  []byte
	}
	sections := []sec{{".text", elf.SHF_ALLOC | elf.SHF_EXECINSTR, base, text}, {".rodata", elf.SHF_ALLOC, 0x402000, typ}, {".gopclntab", elf.SHF_ALLOC, 0x403000, pcln}, {".data", elf.SHF_ALLOC | elf.SHF_WRITE, 0x404000, module}}
	return writeELF(le, sections[0].addr, func(add func(name string, flags elf.SectionFlag, addr uint64, data []byte)) {
		for _, s := range sections {
			add(s.name, s.flags, s.addr, s.data)
		}
	})
}

// writeELF lays out header, one program header, the sections' bytes and their
// headers.
func writeELF(le func(uint64, int) []byte, base uint64, each func(add func(string, elf.SectionFlag, uint64, []byte))) []byte {
	var body, headers, names []byte
	names = append(names, 0)
	const start = 64 + 56
	header := func(name string, kind elf.SectionType, flags elf.SectionFlag, addr uint64, data []byte) {
		headers = append(headers, bytes.Join([][]byte{le(uint64(len(names)), 4), le(uint64(kind), 4), le(uint64(flags), 8), le(addr, 8), le(uint64(start+len(body)), 8), le(uint64(len(data)), 8), make([]byte, 24)}, nil)...)
		names = append(append(names, name...), 0)
		body = append(body, data...)
	}
	headers = append(headers, make([]byte, 64)...)
	n := uint64(2)
	each(func(name string, flags elf.SectionFlag, addr uint64, data []byte) {
		header(name, elf.SHT_PROGBITS, flags, addr, data)
		n++
	})
	names = append(names, ".shstrtab\x00"...)
	headers = append(headers, bytes.Join([][]byte{le(uint64(len(names)-10), 4), le(uint64(elf.SHT_STRTAB), 4), make([]byte, 16), le(uint64(start+len(body)), 8), le(uint64(len(names)), 8), make([]byte, 24)}, nil)...)
	body = append(body, names...)
	program := bytes.Join([][]byte{le(uint64(elf.PT_LOAD), 4), le(uint64(elf.PF_R|elf.PF_X), 4), le(start, 8), le(base, 8), le(base, 8), le(0x100, 8), le(0x100, 8), le(4096, 8)}, nil)
	ident := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	head := bytes.Join([][]byte{ident, le(2, 2), le(62, 2), le(1, 4), le(base, 8), le(64, 8), le(uint64(start+len(body)), 8), le(0, 4), le(64, 2), le(56, 2), le(1, 2), le(64, 2), le(n, 2), le(n-1, 2)}, nil)
	return bytes.Join([][]byte{head, program, body, headers}, nil)
}

// The seed is worth something: it is read, and the call in it resolved.
func TestTinyELF(t *testing.T) {
	b, err := heaptypes.OpenELF(bytes.NewReader(tinyELF(t)))
	if err != nil {
		t.Fatal(err)
	}
	builder := guest.NewResolver(b).NewBuilder(1, nil)
	builder.Add(guest.Record{Stack: []uint64{0x401011}, Leaf: 0x401010})
	if table := builder.Table(); len(table.Sites) != 1 || table.Types[table.Sites[0].Type].Name != "a.b" || table.Types[0].Size != 96 {
		t.Errorf("%+v", table)
	}
}
