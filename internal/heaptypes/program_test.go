package heaptypes_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	guest "github.com/opscenter/opscenter/agent/heaptypes"
	"github.com/opscenter/opscenter/internal/heaptypes"
	"github.com/opscenter/opscenter/internal/profile"
)

// builds are the ways in which programs are built that change their code or what
// is known of it.
var builds = map[string][]string{
	"plain":       nil,
	"stripped":    {"-ldflags=-s -w"},
	"pie":         {"-buildmode=pie", "-ldflags=-s -w"},
	"race":        {"-race"},
	"unoptimised": {"-gcflags=-N -l"},
	"v3":          {"-trimpath"}, // with GOAMD64=v3
}

// want is what the program's functions allocate: function, form, type.
const want = `
newStruct      new        main.Session
newSmall       new        main.small
newBig         new        main.big
newPointer     new        *main.Session
newNested      new        main.nested
newArray       new        [7]main.Session
newHeader      new        []main.Session
makeSlice      slice      []main.Session
makePointers   slice      []*main.Session
makePoints     slice      []main.point
makeBytes      bytes      []uint8
appendSlice    slice      []main.Key
appendPointers slice      []*main.Key
makeMap        map        map[string]*main.Session
assignMap      map        map[int64]*main.point
assignText     map        map[string]main.point
assignNamed    map        main.Set
makeChan       chan       chan *main.Session
boxStruct      new        main.Key
boxNumber      new        8-byte value
boxString      new        string
concat         string     string
fromBytes      string     string
toBytes        bytes      []uint8
toRunes        slice      []int32
closure        closure    closure in main.closure
newNode        new        main.Node[*?]
newNode        new        main.Node[~int]
newNode        new        main.Node[~struct { main.zone int; main.player int }]
`

func TestPrograms(t *testing.T) {
	for name := range builds {
		t.Run(name, func(t *testing.T) {
			dir := build(t, name)
			p, table := run(t, dir)
			h, err := table.Join(p)
			if err != nil {
				t.Fatal(err)
			}
			checkTypes(t, p, h)
			checkSizes(t, p, table, h)
			if share := h.TypedShare(); share < 0.96 {
				t.Errorf("%.1f %% of the live bytes have a type, want 96 %%", 100*share)
			}
			for _, s := range h.Untyped.Sites {
				t.Logf("untyped: %d objects, %d bytes in %s %s:%d", s.AllocObjects, s.AllocBytes, s.Function, s.File, s.Line)
			}
			for _, u := range table.Unresolved {
				t.Logf("unresolved: %d sites: %s", u.Sites, u.Reason)
			}
		})
	}
}

// On a program that was not written for it, few bytes have no type and no type
// is of the wrong size, from inside and from the executable.
func TestRealisticProgram(t *testing.T) {
	dir := buildProgram(t, "stripped", "./testdata/realistic")
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
	for side, table := range map[string]*heaptypes.Table{"inside": inside, "outside": outside} {
		h, err := table.Join(p)
		if err != nil {
			t.Fatal(err)
		}
		checked := checkSizes(t, p, table, h)
		t.Logf("from %s: %.2f %% of %.1f MB in %d samples are of %d types; %d sizes compared", side, 100*h.TypedShare(), float64(h.Total.Bytes)/1e6, p.Samples(), len(h.Types), checked)
		if share := h.TypedShare(); share < 0.96 {
			t.Errorf("from %s: %.1f %% of the live bytes have a type, want 96 %%", side, 100*share)
		}
		if checked < 200 {
			t.Errorf("from %s: only %d sizes were compared", side, checked)
		}
		for _, l := range h.Types[:min(len(h.Types), 5)] {
			t.Logf("%9d objects ±%.1f %% %9d bytes %s", l.Objects, 100*l.Error, l.Bytes, l.Name)
		}
		for _, s := range h.Untyped.Sites[:min(len(h.Untyped.Sites), 5)] {
			t.Logf("no type: %d bytes in %s", s.Bytes, s.Function)
		}
		for _, u := range table.Unresolved {
			t.Logf("%d sites: %s", u.Sites, u.Reason)
		}
	}
}

// build compiles the program that allocates in every way and returns where it
// lies.
func build(t *testing.T, name string) (dir string) {
	t.Helper()
	return buildProgram(t, name, "./testdata/program")
}

func buildProgram(t *testing.T, name, what string) (dir string) {
	t.Helper()
	onLinux(t)
	if testing.Short() && name != "plain" {
		t.Skip("builds programs, which takes a while: run without -short")
	}
	dir = t.TempDir()
	args := append([]string{"build", "-o", filepath.Join(dir, "program")}, builds[name]...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, what)...)
	cmd.Env = os.Environ()
	if name == "v3" {
		cmd.Env = append(cmd.Env, "GOAMD64=v3")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return dir
}

// run runs the program and reads what it wrote.
func run(t *testing.T, dir string) (*profile.Profile, *heaptypes.Table) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, filepath.Join(dir, "program"), dir).CombinedOutput(); err != nil {
		t.Fatalf("the program: %v\n%s", err, out)
	}
	return readHeap(t, dir), readTable(t, dir)
}

func readHeap(t *testing.T, dir string) *profile.Profile {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "heap.pprof"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Read(f, profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readTable(t *testing.T, dir string) *heaptypes.Table {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, guest.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := heaptypes.Read(f, heaptypes.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// checkTypes compares with what the program's functions are known to allocate.
func checkTypes(t *testing.T, p *profile.Profile, h *heaptypes.Heap) {
	t.Helper()
	got := map[string]bool{}
	for _, typ := range h.Types {
		for _, s := range typ.Sites {
			function, _, _ := strings.Cut(strings.TrimPrefix(s.Function, "main."), "[")
			got[function+" "+string(typ.Form)+" "+typ.Name] = true
		}
	}
	for line := range strings.Lines(strings.TrimSpace(want)) {
		f := strings.Fields(line)
		row := f[0] + " " + f[1] + " " + strings.Join(f[2:], " ")
		if !got[row] {
			t.Errorf("missing: %s", row)
			for g := range got {
				if strings.HasPrefix(g, f[0][:4]) {
					t.Errorf("    have %s", g)
				}
			}
		}
	}
}

// checkSizes compares each type that one object is one value of with the size of
// the objects, which the profile has exactly.
func checkSizes(t *testing.T, p *profile.Profile, table *heaptypes.Table, h *heaptypes.Heap) (checked int) {
	t.Helper()
	for _, typ := range h.Types {
		if typ.Form != guest.FormNew && typ.Form != guest.FormClosure || typ.Size == 0 {
			continue
		}
		for _, s := range typ.Sites {
			if s.Confidence == guest.Implied {
				continue
			}
			for _, i := range s.Stacks {
				size := int64(0)
				for _, l := range p.Labels(i) {
					if p.Strings[l.Key] == "bytes" {
						size = l.Number
					}
				}
				if size == 0 {
					continue // allocated after the collection that the profile is as of
				}
				checked++
				if !isClass(typ.Size, size) {
					t.Errorf("%s of %d bytes is said to be allocated in %s, where objects have %d bytes", typ.Name, typ.Size, s.Function, size)
				}
			}
		}
	}
	for _, u := range table.Unresolved {
		if strings.Contains(u.Reason, "another size") {
			t.Errorf("at %d sites a type was read that cannot be right", u.Sites)
		}
	}
	if checked < 15 {
		t.Errorf("only %d sizes were compared", checked)
	}
	return checked
}

// isClass reports whether the allocator gives that many bytes to an object of
// that size: its own class, the next if a header is added, or the block that tiny
// objects share.
func isClass(size, got int64) bool {
	class := func(n int64) int64 { return int64(cap(append([]byte(nil), make([]byte, n)...))) }
	return got == class(size) || got == class(size+8) || size < 16 && got == 16
}
