package profile_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pprof "github.com/google/pprof/profile"

	"github.com/opscenter/opscenter/internal/ops"
	"github.com/opscenter/opscenter/internal/profile"
	"github.com/opscenter/opscenter/internal/profile/profiletest"
)

// byStack sums a profile of google/pprof's by stack of function names.
func byStack(sums map[string][]int64, p *pprof.Profile) {
	for _, s := range p.Sample {
		var stack []string
		for _, l := range slices.Backward(s.Location) {
			for _, line := range slices.Backward(l.Line) {
				stack = append(stack, line.Function.Name)
			}
		}
		key := strings.Join(stack, ";")
		if sums[key] == nil {
			sums[key] = make([]int64, len(s.Value))
		}
		for i, v := range s.Value {
			sums[key][i] += v
		}
	}
	for k, v := range sums {
		if !slices.ContainsFunc(v, func(v int64) bool { return v != 0 }) {
			delete(sums, k)
		}
	}
}

// treeByStack is what byStack gives, of a tree.
func treeByStack(t *profile.Tree) map[string][]int64 {
	out := map[string][]int64{}
	for n := profile.NodeID(0); int(n) < t.Len(); n++ {
		var stack []string
		for _, f := range t.Stack(n) {
			stack = append(stack, t.Symbols.Symbols[f.Symbol].Name)
		}
		row := make([]int64, t.Columns())
		for c := range row {
			row[c] = t.Self(n, c)
		}
		if slices.ContainsFunc(row, func(v int64) bool { return v != 0 }) {
			out[strings.Join(stack, ";")] = row
		}
	}
	return out
}

func newSum(t testing.TB, lim profile.Limits, f profile.Filter) *profile.Sum {
	t.Helper()
	s, err := profile.NewSum(lim, f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSumIsThatOfAllStacks(t *testing.T) {
	s := newSum(t, profile.Limits{}, profile.Filter{})
	want := map[string][]int64{}
	var weights []profile.Weights
	for i := range 12 {
		p := profiletest.Synthetic(profiletest.Shape{Samples: 500 * (i%4 + 1), Functions: 50 + 10*i, MaxDepth: 25, Seed: uint64(i / 3)})
		if i == 5 {
			for _, s := range p.Sample {
				s.Value[0] = -s.Value[0]
			}
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := s.Add(&b); err != nil {
			t.Fatal(err)
		}
		byStack(want, p)
		weights = append(weights, s.Weights())
	}
	if diff := cmp.Diff(want, treeByStack(s.Tree())); diff != "" {
		t.Errorf("(- google/pprof, + ours):\n%s", diff)
	}
	if s.Profiles != 12 || len(s.Types()) != 2 {
		t.Errorf("%d profiles of types %v", s.Profiles, s.Types())
	}
	tree := s.Tree()
	tree.Reset()
	if tree.Total(0, 0) != 0 {
		t.Error("something is left after Reset")
	}
	for _, w := range weights {
		if err := tree.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	tree.Reset()
	for _, w := range weights {
		if err := tree.Add(w, 1); err != nil {
			t.Fatal(err)
		}
	}
	if tree.Total(0, 0) != 0 || tree.Total(0, 1) == 0 {
		t.Errorf("column 1 alone: %d and %d", tree.Total(0, 0), tree.Total(0, 1))
	}
	for _, w := range weights {
		if err := tree.Add(w, 0); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, treeByStack(tree)); diff != "" {
		t.Errorf("from weights (- google/pprof, + ours):\n%s", diff)
	}
}

func TestSumUnderAFilterIsTheTreeOfTheView(t *testing.T) {
	for _, s := range subjects(t) {
		for _, f := range filters {
			sum := newSum(t, profile.Limits{}, f.filter)
			if err := sum.Add(bytes.NewReader(s.data)); err != nil {
				t.Fatal(err)
			}
			p, err := profile.Read(bytes.NewReader(s.data), profile.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			v, err := p.View(f.filter)
			if err != nil {
				t.Fatal(err)
			}
			for typ := range p.Types {
				tree, err := v.Tree(typ, profile.TreeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := sum.Tree().Total(0, typ), tree.Total(0, 0); got != want {
					t.Errorf("%s %v: the sum is worth %d, the view %d", s.name, f.args, got, want)
				}
			}
		}
	}
}

func TestSumRefusesInWords(t *testing.T) {
	s := newSum(t, profile.Limits{MemoryBytes: 1 << 20}, profile.Filter{})
	add := func(text string) error { return s.Add(bytes.NewReader(encode(t, text))) }
	if err := add("types: n/count\nmain.main:1 1\n"); err != nil {
		t.Fatal(err)
	}
	expect := func(err error, kind ops.ErrorKind, want string) {
		t.Helper()
		if err == nil || err.Error() != want || ops.KindOf(err) != kind {
			t.Errorf("got %v (%v)", err, ops.KindOf(err))
		}
	}
	expect(add("types: space/bytes\nmain.main:1 1\n"), ops.Invalid, "these profiles are of different kinds (n/count per cpu/nanoseconds, and space/bytes per cpu/nanoseconds): choose profiles of one kind")
	var err error
	added := int64(1)
	for i := 0; err == nil && i < 100; i++ {
		var b strings.Builder
		b.WriteString("types: n/count\n")
		for k := range 1000 {
			fmt.Fprintf(&b, "main.f%d:1;main.g%d:1;main.h%d_%d:1 1\n", k%7, k%50, i, k)
		}
		if err = add(b.String()); err == nil {
			added += 1000
		}
	}
	expect(err, ops.Exhausted, "the profiles' stacks are too different to be summed in 1 MiB of memory, which is the limit: choose fewer profiles")
	expect(s.Add(strings.NewReader("\x1f\x8b and nothing that follows")), ops.Corrupt, "the profile's gzip data is damaged (gzip: invalid header): capture it again")
	if got := s.Tree().Total(0, 0); got != added || int64(s.Profiles) != 1+added/1000 {
		t.Errorf("worth %d of %d profiles, want %d: those without an error", got, s.Profiles, added)
	}
	for _, w := range []profile.Weights{
		nil, {9}, {0}, {1, 1}, // no parts
		{8, 1, 0, 1, 0xff, 0xff, 0xff, 0x7f, 2},  // no such node
		{3, 1, 0, 1}, {2, 1, 0}, {4, 1, 0, 1, 0}, // fewer entries than there should be
		{6, 1, 0, 1, 0, 2, 2}, {5, 1, 0, 1, 0, 2, 7}, // more
		{2, 1, 1}, // like itself
		bytes.Repeat([]byte{0xff}, 20),
	} {
		expect(s.Tree().Add(w), ops.Corrupt, "the stored weights do not belong to this call tree: sum the profiles again")
	}
}

func TestARefusedProfileLeavesTheSumAsItWas(t *testing.T) {
	const known = "types: n/count\nmain.main:1;main.f:2 1\nmain.main:1;main.g:3 2"
	s := newSum(t, profile.Limits{}, profile.Filter{Lines: true})
	add := func(b []byte) error { return s.Add(bytes.NewReader(b)) }
	unknown, err := profile.Decompress(bytes.NewReader(encode(t, "types: n/count\nmain.main:1;main.new:9;main.f:2 5\nmain.main:1;main.f:2 5")), profile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	// A last sample, of a location that is not there.
	damaged := append(unknown, 0x12, 6, 0x0a, 1, 0x7f, 0x12, 1, 1)
	if err := add(damaged); ops.KindOf(err) != ops.Corrupt || s.Tree() != nil || s.Types() != nil {
		t.Fatalf("%v, and there is a tree with %v", err, s.Types())
	}
	for range 2 {
		if err := add(encode(t, known)); err != nil {
			t.Fatal(err)
		}
		before, nodes, symbols, frames := treeByStack(s.Tree()), s.Tree().Len(), len(s.Tree().Symbols.Symbols), len(s.Tree().Symbols.Frames)
		if err := add(damaged); ops.KindOf(err) != ops.Corrupt {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, treeByStack(s.Tree())); diff != "" {
			t.Error(diff)
		}
		if s.Tree().Len() != nodes || len(s.Tree().Symbols.Symbols) != symbols || len(s.Tree().Symbols.Frames) != frames {
			t.Errorf("%d nodes were %d, %d symbols were %d, %d frames were %d", s.Tree().Len(), nodes, len(s.Tree().Symbols.Symbols), symbols, len(s.Tree().Symbols.Frames), frames)
		}
	}
	if err := add(unknown[:len(unknown):len(unknown)]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]int64{"main.main;main.f": {2 + 5}, "main.main;main.g": {4}, "main.main;main.new;main.f": {5}}, treeByStack(s.Tree())); diff != "" {
		t.Error(diff)
	}
}

func TestStacksOfAnyDepthAndOrderAreToldApart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	text.WriteString("types: n/count\n")
	for i := range 300 {
		depth := 1 + r.IntN(12)
		if i%50 == 0 {
			depth = 1000 + r.IntN(1500) // more than there are keys
		}
		for range depth {
			fmt.Fprintf(&text, "f%d:1;", r.IntN(200)) // ids of one and two bytes
		}
		fmt.Fprintf(&text, "leaf:1 %d\n", 1+i)
	}
	data := encode(t, text.String())
	want := map[string][]int64{}
	p, err := pprof.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	byStack(want, p)
	r.Shuffle(len(p.Sample), func(i, j int) { p.Sample[i], p.Sample[j] = p.Sample[j], p.Sample[i] })
	byStack(want, p)
	for i, l := range p.Location {
		l.ID = uint64(1 + i*97) // of one to three bytes
	}
	var shuffled bytes.Buffer
	if err := p.Write(&shuffled); err != nil {
		t.Fatal(err)
	}
	s := newSum(t, profile.Limits{Depth: 4000}, profile.Filter{})
	for _, b := range [][]byte{data, shuffled.Bytes()} {
		if err := s.Add(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, treeByStack(s.Tree())); diff != "" {
		t.Errorf("(- google/pprof, + ours):\n%.2000s", diff)
	}
}

func TestWeightsOfTypesThatAreProportionalTakeTheRoomOfOne(t *testing.T) {
	size := func(text string) int {
		s := newSum(t, profile.Limits{}, profile.Filter{})
		if err := s.Add(bytes.NewReader(encode(t, text))); err != nil {
			t.Fatal(err)
		}
		w := s.Weights()
		want := [2]int64{s.Tree().Total(0, 0), s.Tree().Total(0, 1)}
		s.Tree().Reset()
		for c := range want { // one by one, the second without the first
			if err := s.Tree().Add(w, 1-c); err != nil {
				t.Fatal(err)
			}
		}
		if got := [2]int64{s.Tree().Total(0, 0), s.Tree().Total(0, 1)}; got != want {
			t.Errorf("%s: the weights are %v, want %v", text, got, want)
		}
		return len(w)
	}
	const types = "types: samples/count cpu/nanoseconds\n"
	like := size(types + "main.main:1;main.f:2 2 20000000\nmain.main:1;main.g:3 3 30000000")
	unlike := size(types + "main.main:1;main.f:2 2 20000000\nmain.main:1;main.g:3 3 40000000")
	if like+5 != unlike {
		t.Errorf("%d bytes, and %d if every type has entries: want 5 fewer", like, unlike)
	}
}

func TestSumAllocatesNothingForWhatItKnows(t *testing.T) {
	var b bytes.Buffer
	if err := profiletest.Synthetic(profiletest.Shape{Samples: 2000, Functions: 300, MaxDepth: 30, Seed: 1}).Write(&b); err != nil {
		t.Fatal(err)
	}
	s := newSum(t, profile.Limits{}, profile.Filter{})
	add := func() {
		if err := s.Add(bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
	add()
	if n := testing.AllocsPerRun(20, add); n > 20 {
		t.Errorf("%v allocations for a profile that was summed before", n)
	}
}

func FuzzSum(f *testing.F) {
	for _, text := range []string{"types: n/count\nmain.main:1;main.f:2 {user=ann} 1", "types: n/count\nmain.main:1;main.f:2 {user=ann} 1\nmain.main:4 -7"} {
		raw, err := profile.Decompress(bytes.NewReader(encode(f, text)), profile.Limits{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, []byte{5, 1, 0, 1, 1, 2})
	}
	f.Fuzz(func(t *testing.T, in, weights []byte) {
		s := newSum(t, profile.Limits{DecompressedBytes: 1 << 20, MemoryBytes: 16 << 20}, profile.Filter{})
		p, readErr := profile.Read(bytes.NewReader(in), profile.Limits{DecompressedBytes: 1 << 20, MemoryBytes: 16 << 20})
		for range 2 {
			if err := s.Add(bytes.NewReader(in)); (err == nil) != (readErr == nil) || err != nil && ops.KindOf(err) == ops.Internal {
				t.Fatalf("%v, and Read said %v", err, readErr)
			}
		}
		if readErr != nil {
			return
		}
		for typ := range p.Types {
			v, err := p.View(profile.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			tree, err := v.Tree(typ, profile.TreeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Tree().Total(0, typ); got != 2*tree.Total(0, 0) {
				t.Fatalf("two times %d are %d", tree.Total(0, 0), got)
			}
			s.Tree().Flame(profile.FlameOptions{Nodes: 3})
		}
		if err := s.Tree().Add(weights); err != nil && ops.KindOf(err) != ops.Corrupt {
			t.Fatal(err)
		}
	})
}

// boxes draws the columns of a flame graph as text.
func boxes(f profile.Flame) (out []string) {
	for i := range f.Boxes {
		line := strings.Repeat(". ", int(binary.LittleEndian.Uint16(f.Depth[2*i:]))) + f.Names[binary.LittleEndian.Uint32(f.Name[4*i:])]
		if n := binary.LittleEndian.Uint32(f.Line[4*i:]); n != 0 {
			line += fmt.Sprintf(":%d", n)
		}
		for c := range f.Value {
			line += fmt.Sprintf(" %v/%v", math.Float64frombits(binary.LittleEndian.Uint64(f.Value[c][8*i:])), math.Float64frombits(binary.LittleEndian.Uint64(f.Self[c][8*i:])))
		}
		out = append(out, line)
	}
	return out
}

func TestFlameIsTheTreeInPreorder(t *testing.T) {
	p := read(t, `types: n/count
		main.main:1;main.b:2;main.c:3 30
		main.main:1;main.b:2 5
		main.main:1;main.a:2 60
		main.main:1;main.a:2;main.tiny:9 1
		main.main:1;main.shrunk:9 -4
	`)
	v, err := p.View(profile.Filter{Lines: true})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := v.Tree(0, profile.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := tree.Flame(profile.FlameOptions{})
	if diff := cmp.Diff([]string{" 96/0", ". main.main:1 96/0", ". . main.a:2 61/60", ". . . main.tiny:9 1/1", ". . main.b:2 35/5", ". . . main.c:3 30/30"}, boxes(f)); diff != "" {
		t.Error(diff)
	}
	if f.Negative[0] != -4 || f.Hidden[0] != 0 || f.Dropped != 1 || f.Files[1] != "/src/main.main.go" || f.Starts[1] != 1 {
		t.Errorf("negative %v hidden %v dropped %d files %v starts %v", f.Negative, f.Hidden, f.Dropped, f.Files, f.Starts)
	}
	for _, o := range []profile.FlameOptions{{Nodes: 5}, {Share: 0.05}} {
		f := tree.Flame(o)
		if diff := cmp.Diff([]string{" 96/0", ". main.main:1 96/0", ". . main.a:2 61/60", ". . main.b:2 35/5", ". . . main.c:3 30/30"}, boxes(f)); diff != "" {
			t.Errorf("%+v\n%s", o, diff)
		}
		if f.Hidden[0] != 1 || f.Dropped != 2 || f.Share <= 0.0104 {
			t.Errorf("hidden %v dropped %d share %v", f.Hidden, f.Dropped, f.Share)
		}
	}
}

func TestPrunedFlameStaysConnectedAndStatesWhatIsHidden(t *testing.T) {
	s := newSum(t, profile.Limits{}, profile.Filter{})
	var b bytes.Buffer
	if err := profiletest.Synthetic(profiletest.Shape{Samples: 20_000, Functions: 400, MaxDepth: 30, Seed: 9}).Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(&b); err != nil {
		t.Fatal(err)
	}
	f := s.Tree().Flame(profile.FlameOptions{Nodes: 500})
	if f.Boxes > 500 || f.Boxes < 300 || f.Boxes+f.Dropped != s.Tree().Len() {
		t.Fatalf("%d boxes and %d dropped of %d", f.Boxes, f.Dropped, s.Tree().Len())
	}
	depth, shown := -1, int64(0)
	for i := range f.Boxes {
		d := int(binary.LittleEndian.Uint16(f.Depth[2*i:]))
		if d > depth+1 {
			t.Fatalf("box %d is %d below the one before", i, d-depth)
		}
		depth = d
		shown += int64(math.Float64frombits(binary.LittleEndian.Uint64(f.Self[0][8*i:])))
	}
	if shown+f.Hidden[0] != s.Tree().Total(0, 0) {
		t.Errorf("shown %d and hidden %d are not %d", shown, f.Hidden[0], s.Tree().Total(0, 0))
	}
}
